"""Where a history lies: from what a person writes to the place; a folder of this machine; one process at a time in it."""

from __future__ import annotations

import hashlib
import os
import re
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from pytest_tracetriage.store.history import HistoryError
from pytest_tracetriage.store.runs import write_atomically

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pytest_tracetriage.model.history import Location


_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]*(?:::[^:]+)*://")


def open_location(text: str, folder: Path, rootdir: Path, token: str = "") -> Location:
    """Return where the history lies.

    "" is `<folder>/history`; `git:BRANCH` a branch of the repository at `rootdir`, `token` being what a push needs; anything
    with `://` is a URL for fsspec; all else is a path, relative to `rootdir`, `~` being the home. `folder` is the
    .tracetriage folder, which also holds local copies (`history-cache/`). Raises HistoryError.
    """
    text = text.strip()
    if not text:
        return FolderLocation(folder / "history")
    cache = folder / "history-cache" / hashlib.blake2b(text.encode("utf-8", "surrogateescape"), digest_size=8).hexdigest()
    if text.startswith("git:"):
        branch = text.removeprefix("git:").strip()
        if not branch:
            raise HistoryError("the history's location 'git:' names no branch: write git:BRANCH, say git:tracetriage-history")
        from pytest_tracetriage.store.history.git import GitLocation  # noqa: PLC0415

        return GitLocation(branch, rootdir, cache, token)
    if _URL.match(text):
        from pytest_tracetriage.store.history.remote import FsspecLocation  # noqa: PLC0415

        return FsspecLocation(text, cache)
    if "://" in text:
        raise HistoryError(f"the history's location {text!r} is neither a path nor a URL")
    return FolderLocation(rootdir / os.path.expanduser(text))  # noqa: PTH111 - a name of nobody stays what it is


RUN_FILE = ".run.parquet"
_LISTINGS = 20  # one listing may miss a new pack and what it replaced: two that agree do not


class FolderLocation:
    """Files side by side in one folder, each written under a passing name and then renamed."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.name = str(path)

    def names(self) -> frozenset[str]:
        """Return the names of all files there now; none where there is no folder yet. Raises HistoryError."""
        listed = self._list()
        for _ in range(_LISTINGS):
            before, listed = listed, self._list()
            if listed == before:
                break
        return listed

    def _list(self) -> frozenset[str]:
        try:
            return frozenset(path.name for path in self.path.iterdir() if path.is_file())
        except FileNotFoundError:
            return frozenset()
        except OSError as error:
            raise HistoryError(f"the history at {self.name} cannot be read: {error.strerror}") from None

    def fetch(self, names: frozenset[str]) -> dict[str, str]:
        """Return the path of each of these files. Raises HistoryError where one is missing."""
        paths = {name: self.path / name for name in sorted(names)}
        for path in paths.values():
            if not path.is_file():
                raise HistoryError(f"{path}: no such file in the history")
        return {name: str(path) for name, path in paths.items()}

    def put(self, files: dict[str, bytes], remove: frozenset[str] = frozenset(), message: str = "") -> None:
        """Write files in the order given, then remove others. Raises HistoryError."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            for name, data in files.items():
                write_atomically(self.path / name, data)
        except OSError as error:
            raise HistoryError(f"the history at {self.name} cannot be written: {error.strerror}") from None
        for name in removal_order(remove):
            try:
                (self.path / name).unlink(missing_ok=True)
            except OSError:  # Windows, while someone reads it: what replaced it is chosen, and the next one removes it
                continue


def removal_order(names: frozenset[str]) -> list[str]:
    """Return names so that what makes a piece visible goes first: whoever is killed in between leaves no half piece."""
    return sorted(names, key=lambda name: (not name.endswith(RUN_FILE), name))


@contextmanager
def locked(path: Path, seconds: float) -> Iterator[None]:
    """Hold the lock file `path` (made where need be). Raises HistoryError when others hold it for `seconds`, and OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        deadline = time.monotonic() + seconds
        while not _take(handle):
            if time.monotonic() > deadline:
                raise HistoryError(f"{path}: another process has held this lock for {seconds:.0f} s: wait for it, or end it")
            time.sleep(0.02)
        try:
            yield
        finally:
            _give(handle)
    finally:
        os.close(handle)


if sys.platform == "win32":
    import msvcrt

    def _take(handle: int) -> bool:
        try:
            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True

    def _give(handle: int) -> None:
        os.lseek(handle, 0, os.SEEK_SET)
        msvcrt.locking(handle, msvcrt.LK_UNLCK, 1)

else:
    import fcntl

    def _take(handle: int) -> bool:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def _give(handle: int) -> None:
        # Said outright, since a child that was forked meanwhile has this handle too.
        fcntl.flock(handle, fcntl.LOCK_UN)
