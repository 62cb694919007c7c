"""Small projects of a user's, on disk; what may not change of them; and how they are run again."""

from __future__ import annotations

import hashlib
import os
import stat
import subprocess
import sys
import sysconfig
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_tracetriage.execute.claims import MARK
from pytest_tracetriage.execute.run import run_orders, run_tests
from pytest_tracetriage.execute.worktree import checkout
from pytest_tracetriage.triage.signature import signature_id

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_tracetriage.execute.worktree import Worktree
    from pytest_tracetriage.model.execution import TestRun

LIMIT = 120.0


def git(folder: Path, *arguments: str) -> str:
    """Run git as the user would, with nobody's configuration."""
    environment = {name: text for name, text in os.environ.items() if not name.startswith("GIT_")}
    environment |= {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
    named = ("-c", "user.name=Ada", "-c", "user.email=ada@example.org", "-c", "protocol.file.allow=always")
    done = subprocess.run(["git", *named, *arguments], cwd=folder, env=environment, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    return os.fsdecode(done.stdout).strip()


class Tree:
    """A project of the user's. It has a repository unless `plain`."""

    def __init__(self, root: Path, files: dict[str, str], *, plain: bool = False) -> None:
        self.root = root
        root.mkdir(parents=True, exist_ok=True)
        self.write(files)
        if not plain:
            git(root, "init", "--quiet", "--initial-branch=main")
            self.commit("first")

    def write(self, files: dict[str, str]) -> None:
        for name, text in files.items():
            path = self.root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")

    def commit(self, message: str = "more") -> str:
        git(self.root, "add", "--all")
        git(self.root, "commit", "--quiet", "--allow-empty", "-m", message)
        return git(self.root, "rev-parse", "HEAD")

    def fingerprint(self) -> str:
        """Return a hash of every name, mode, time and byte below the root, `.git` included."""
        found = hashlib.sha256()
        for path in sorted([self.root, *self.root.rglob("*")]):
            facts = path.lstat()
            content = os.fsencode(os.readlink(path)) if path.is_symlink() else path.read_bytes() if path.is_file() else b""
            digest = hashlib.sha256(content).hexdigest()
            found.update(os.fsencode(f"{path}|{stat.filemode(facts.st_mode)}|{facts.st_mtime_ns}|{digest}\n"))
        return found.hexdigest()


@contextmanager
def worktree(
    tree: Tree, cache: Path, commit: str = "", *, dirty: bool = True, inside: str = "", **more: object
) -> Iterator[Worktree]:
    """Yield a worktree, and see that the user's tree is what it was."""
    before = tree.fingerprint()
    try:
        with checkout(tree.root / inside, commit, dirty=dirty, cache=cache, **more) as made:
            yield made
    finally:
        assert tree.fingerprint() == before
    assert folders(cache) == []


def again(made: Worktree, nodeids: list[str] | None = None, **more: object) -> TestRun:
    return run_tests(made, nodeids, sign=signature_id, **{"timeout": LIMIT, **more})


def orders(made: Worktree, given: list[list[str]], **more: object) -> TestRun:
    return run_orders(made, given, sign=signature_id, **{"timeout": LIMIT, **more})


def folders(cache: Path) -> list[str]:
    """Return what lies where worktrees are claimed, beside the lock for claiming."""
    return sorted(path.name for path in (cache / "worktrees").iterdir() if path.name != ".claiming")


def marked(cache: Path) -> list[int]:
    """Return the processes that were started for any worktree in a cache."""
    needle = f"{MARK}={cache}".encode()
    found = []
    for name in os.listdir("/proc"):
        if name.isdecimal() and name != str(os.getpid()):
            try:
                raw = Path(f"/proc/{name}/environ").read_bytes()
            except OSError:
                continue
            if needle in raw:
                found.append(int(name))
    return found


def virtual_python(folder: Path) -> Path:
    """Make an environment of the user's that has pytest and TraceTriage; return its Python."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    packages = subprocess.run(
        [python, "-c", "import sysconfig; print(sysconfig.get_paths()['purelib'])"],
        check=True,
        capture_output=True,
        encoding="utf-8",
    ).stdout.strip()
    here = Path(__file__).parents[2]
    Path(packages, "shared.pth").write_text(f"{sysconfig.get_paths()['purelib']}\n{here}\n", encoding="utf-8")
    return python
