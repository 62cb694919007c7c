"""An environment for a set of dependencies that differs from what is installed: a venv that borrows all the rest."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_tracetriage.config import read_pyproject
from pytest_tracetriage.store.runs import write_atomically

if TYPE_CHECKING:
    from collections.abc import Mapping

LIMIT = 900.0
"""Seconds that an installation may take."""
GROUPS = ("test", "tests", "testing", "dev")
"""Extras and dependency groups that a project's tests may need."""
_READY = "ready"


class InstallError(Exception):
    """Dependencies could not be installed; the text is for people."""


def install(project: Path, needs: str, cache: Path, problems: dict[str, None]) -> Path | None:
    """Return the folder of programs of an environment with what the project at `project` needs, made where there is none.

    None where nothing says what it needs. `needs` names the state of the files that do. Raises InstallError.
    """
    asked, files, unread = _asked(project)
    for name in unread:
        problems[f"{name}: not installed from; only requirements*.txt and [project] of pyproject.toml are"] = None
    if not asked and not files:
        return None
    name = blake2b(f"{needs}\n{sys.version}\n{sys.prefix}".encode(), digest_size=8).hexdigest()
    folder = cache / "environments" / name
    programs = folder / ("Scripts" if os.name == "nt" else "bin")
    if (folder / _READY).exists():
        return programs
    shutil.rmtree(folder, ignore_errors=True)
    _call([sys.executable, "-m", "venv", str(folder)], project)
    # What is installed here comes after: the tools, and what did not change.
    python = str(programs / ("python.exe" if os.name == "nt" else "python"))
    borrowed = dict.fromkeys(sysconfig.get_paths()[key] for key in ("purelib", "platlib"))
    here = [path for path in sys.path if path and Path(path).is_dir() and "site-packages" in path] or list(borrowed)
    own = _call([python, "-c", "import sysconfig; print(sysconfig.get_paths()['purelib'])"], project).strip()
    Path(own, "tracetriage_borrowed.pth").write_text(
        "".join(f"import site; site.addsitedir({path!r})\n" for path in here), encoding="utf-8"
    )
    listed = folder / "asked.txt"
    listed.write_text("".join(f"{text}\n" for text in asked), encoding="utf-8")
    options = ["--disable-pip-version-check", "--no-input", "--quiet"]
    wanted = [part for file in (str(listed), *files) for part in ("-r", file)]
    _call([python, "-m", "pip", "install", *options, *wanted], project)
    write_atomically(folder / _READY, b"")
    return programs


def _asked(project: Path) -> tuple[list[str], list[str], list[str]]:
    """Return requirements, files of them, and the names of files that say it in a way that is not read."""
    files = sorted(path.name for path in project.glob("requirements*.txt"))
    declared: Mapping[str, Any] = read_pyproject(project)
    table = declared.get("project", {})
    asked = [*table.get("dependencies", ())]
    for place in (table.get("optional-dependencies", {}), declared.get("dependency-groups", {})):
        for group in GROUPS:
            asked += [text for text in place.get(group, ()) if isinstance(text, str)]
    unread = [name for name in ("setup.py", "setup.cfg", "Pipfile") if (project / name).is_file() and not asked]
    return list(dict.fromkeys(asked)), files, unread


def _call(command: list[str], folder: Path) -> str:
    try:
        done = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, timeout=LIMIT, check=False, stdin=subprocess.DEVNULL
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise InstallError(f"dependencies were not installed: {error}") from None
    if done.returncode:
        said = [line for line in (done.stderr or done.stdout).splitlines() if line.strip()]
        raise InstallError(f"dependencies were not installed: {said[-1] if said else f'status {done.returncode}'}")
    return done.stdout
