"""A project's files as they lie there now, copied: what git knows of it, what it does not know, and a plain folder.

git is only asked for names. The bytes are those that the user's tests saw, whatever filters, line ends, sparse checkouts and
`assume-unchanged` would make of them.
"""

from __future__ import annotations

import os
import shutil
import stat
from importlib.machinery import EXTENSION_SUFFIXES
from typing import TYPE_CHECKING

from pytest_tracetriage.store.history.git_plumbing import Git, git_environment

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

LIST_LIMIT = 300.0
"""Seconds that git may take to name the files of a repository."""

_LEFT_OUT = frozenset(
    {
        ".tracetriage",
        "__pycache__",
        ".git",
        ".hg",
        ".tox",
        ".nox",
        ".pytest_cache",
        ".mypy_cache",
        ".ruff_cache",
        "node_modules",
    }
)
_EXAMPLES = ".hypothesis"
"""Where Hypothesis remembers the inputs that failed: without them a failure may not come back."""


def reading(folder: Path) -> Git:
    """Return git in a repository of the user's, where it is only asked: nothing starts, refreshes, or is written."""
    settings = (("core.fsmonitor", "false"), ("core.untrackedCache", "keep"), ("core.quotePath", "false"))
    return Git(("-C", str(folder)), git_environment(settings))


def copy_work_tree(source: Path, target: Path) -> int:
    """Copy tracked and untracked files of a work tree, nested repositories included; return how many. Raises OSError."""
    git = reading(source)
    listed = git.run("ls-files", "-z", "--cached", "--others", "--exclude-standard", limit=LIST_LIMIT)
    count = 0
    nested = []
    made: set[str] = set()
    for name in dict.fromkeys(listed.split("\0")):
        path = name.rstrip("/")
        if not path or path.split("/", 1)[0] == ".tracetriage":
            continue
        if _is_folder(source / path):
            nested.append(path)
        else:
            count += _copy(source, target, path, made)
    for path in nested:  # a submodule, or a repository that nobody told git of; an empty folder is a submodule not checked out
        (target / path).mkdir(parents=True, exist_ok=True)
        if (source / path / ".git").exists():
            count += copy_work_tree(source / path, target / path)
    return count


def copy_ignored(source: Path, target: Path, *, compiled: bool) -> list[str]:
    """Copy modules that git ignores beside those it knows (generated, or `compiled`), and Hypothesis's examples; return names.

    Files that the target has are left as they are. Raises OSError, GitError.
    """
    suffixes = (".py", *EXTENSION_SUFFIXES, ".pyd") if compiled else (".py",)
    listed = reading(source).run(
        "ls-files", "-z", "--others", "--ignored", "--exclude-standard", "--directory", limit=LIST_LIMIT
    )
    made: set[str] = set()
    copied = [
        name
        for name in listed.split("\0")
        if name.endswith(suffixes) and not os.path.lexists(target / name) and _copy(source, target, name, made)
    ]
    for name in listed.split("\0"):
        if compiled and name.rstrip("/").rpartition("/")[2] == _EXAMPLES and not os.path.lexists(target / name):
            copy_folder(source / name, target / name)
            copied.append(name)
    return copied


def copy_folder(source: Path, target: Path, *, without: Iterable[Path] = ()) -> int:
    """Copy a folder that no git knows, without environments, caches and what `without` names; return how many files."""
    count = 0
    made: set[str] = set()
    left_out = {os.path.realpath(path) for path in without}
    target.mkdir(parents=True, exist_ok=True)
    for name in _walk(source, left_out):
        count += _copy(source, target, name, made)
    return count


def _walk(source: Path, left_out: set[str]) -> Iterator[str]:
    for folder, folders, files in os.walk(source):
        relative = os.path.relpath(folder, source)
        prefix = "" if relative == "." else relative + os.sep
        keep = []
        for name in folders:
            path = os.path.join(folder, name)
            if os.path.islink(path):
                yield prefix + name
            elif not (name in _LEFT_OUT or os.path.realpath(path) in left_out or os.path.exists(f"{path}/pyvenv.cfg")):
                keep.append(name)
        folders[:] = keep
        for name in files:
            yield prefix + name


def _copy(source: Path, target: Path, name: str, made: set[str]) -> int:
    """Copy one file or link; return 0 for one that is not there, or is neither."""
    begin, end = source / name, target / name
    folder = os.path.dirname(name)
    try:
        mode = begin.lstat().st_mode
        if folder not in made:
            end.parent.mkdir(parents=True, exist_ok=True)
            made.add(folder)
        if stat.S_ISLNK(mode):
            end.symlink_to(_within(os.readlink(begin), source, target))
        elif stat.S_ISREG(mode):
            shutil.copy2(begin, end)
            if not mode & stat.S_IWUSR:
                end.chmod(mode | stat.S_IWUSR)
        else:
            return 0
    except (FileNotFoundError, NotADirectoryError, FileExistsError):
        return 0  # deleted, or something else is there, or will be
    return 1


def _within(link: str, source: Path, target: Path) -> str:
    """Return where a link leads in the copy: one that names the user's tree would lead tests back into it."""
    if os.path.isabs(link):
        for root in {str(source), os.path.realpath(source)}:
            if link == root or link.startswith(root + os.sep):
                return str(target) + link[len(root) :]
    return link


def _is_folder(path: Path) -> bool:
    try:
        return stat.S_ISDIR(path.lstat().st_mode)
    except OSError:
        return False
