"""One process at a time in a folder: a lock that the system gives up when its holder dies."""

from __future__ import annotations

import os
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from pytest_tracetriage.store.history.errors import HistoryError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


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
