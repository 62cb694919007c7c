"""Folders in the cache that belong to a living process, or are whole; what a dead one left is removed by the next.

Each folder has a lock file beside it that the system gives up when its holder dies. Whoever claims a folder first removes those
that nobody holds, and ends what still runs in them: every process that was started there carries the folder in its environment.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import stat
import sys
import tempfile
import time
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_tracetriage.store.history import HistoryError
from pytest_tracetriage.store.history.locations import locked

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


MARK = "TRACETRIAGE_WORKTREE"
"""The environment variable by which processes of a claimed folder are known."""
READY = "ready"
"""In a folder that was built to stay, the file that says that it is whole."""
LOCK_LIMIT = 120.0
"""Seconds to wait for another process that claims or sweeps."""
_BUILDING = ".building"


def cache_folder(environ: Mapping[str, str] = os.environ) -> Path:
    """Return where worktrees lie: the user's cache folder, never inside of a project."""
    if sys.platform == "win32":
        base = Path(environ.get("LOCALAPPDATA") or tempfile.gettempdir())
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        set_to = environ.get("XDG_CACHE_HOME", "")
        base = Path(set_to) if set_to.startswith("/") else Path.home() / ".cache"
    folder = base / "tracetriage"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if os.access(folder, os.W_OK):
            return folder
    except OSError:
        pass
    return Path(tempfile.gettempdir()) / f"tracetriage-{getattr(os, 'getuid', int)()}"


@contextmanager
def claimed(cache: Path) -> Iterator[Path]:
    """Yield an empty folder of ours in `cache`, and remove it with all processes in it. Raises ExecuteError."""
    base = cache / "worktrees"
    with ExitStack() as held:
        try:
            _make_private(base)
            with locked(base / ".claiming", LOCK_LIMIT):
                sweep(base)
                sweep_unfinished(cache / "environments")
                folder = base / secrets.token_hex(4)
                lock = folder.with_suffix(".lock")
                held.callback(_unlink, lock)  # after it was given up: Windows removes no file that is open
                held.enter_context(locked(lock, 0))
                folder.mkdir(mode=0o700)
                (folder / "owner").write_text(f"pid {os.getpid()} since {time.time():.0f}\n", encoding="utf-8")
        except HistoryError as error:
            raise ExecuteError(str(error)) from None
        except OSError as error:
            raise ExecuteError(f"{error.filename or base}: no worktree can be made there: {error.strerror}") from None
        try:
            yield folder
        finally:
            remove(folder)


def tidy(cache: Path) -> None:
    """Remove what dead processes left in a cache, where nobody else does so at the moment, or may."""
    base = cache / "worktrees"
    with suppress(HistoryError, OSError):
        if base.is_dir():
            with locked(base / ".claiming", 0):
                sweep(base)
        sweep_unfinished(cache / "environments")


def sweep(base: Path) -> None:
    """Remove the folders in `base` whose owners are dead. The caller holds the lock for claiming."""
    for folder in [path for path in base.iterdir() if path.is_dir() and not path.is_symlink()]:
        lock = folder.with_suffix(".lock")
        try:
            with locked(lock, 0):
                remove(folder)
        except HistoryError:
            continue
        _unlink(lock)
    for lock in base.glob("*.lock"):
        if not lock.with_suffix("").exists():
            _unlink(lock)


def _unlink(lock: Path) -> None:
    with suppress(OSError):  # whoever comes next removes it
        lock.unlink(missing_ok=True)


@contextmanager
def building(folder: Path, seconds: float) -> Iterator[bool]:
    """Build a folder of the cache that stays: yield whether that is to be done, into nothing, by processes that have its mark.

    One at a time builds in a cache, and others wait for `seconds`. Where the block fails, nothing stays. Raises ExecuteError.
    """
    try:
        _make_private(folder.parent)
        with locked(folder.parent / _BUILDING, seconds):
            if (folder / READY).exists():
                yield False
                return
            _remove_unfinished(folder.parent)
            try:
                yield True
                (folder / READY).touch()
            except BaseException:
                remove(folder)
                raise
    except HistoryError as error:
        raise ExecuteError(str(error)) from None
    except OSError as error:
        raise ExecuteError(f"{error.filename or folder}: cannot be built: {error.strerror}") from None


def sweep_unfinished(base: Path) -> None:
    """Remove what a dead process left half built in `base`, and what still runs for it."""
    if base.is_dir():
        with suppress(HistoryError), locked(base / _BUILDING, 0):  # else somebody builds, and has swept
            _remove_unfinished(base)


def _remove_unfinished(base: Path) -> None:
    for folder in base.iterdir():
        if folder.is_dir() and not folder.is_symlink() and not (folder / READY).exists():
            remove(folder)


def remove(folder: Path) -> None:
    """Remove a claimed folder, and end every process that was started for it."""
    end_processes(folder)
    shutil.rmtree(folder, ignore_errors=True)
    if folder.exists():  # a test took away the permission to remove
        for path, _, _ in os.walk(folder):
            with suppress(OSError):
                Path(path).chmod(0o700)
        shutil.rmtree(folder, ignore_errors=True)


def end_processes(folder: Path) -> None:
    """Kill the processes that carry the mark of `folder`, until there are none. Linux only: elsewhere nobody shows them."""
    if sys.platform != "linux":
        return
    mark = f"{MARK}={folder}".encode("utf-8", "surrogateescape")
    for _ in range(200):
        found = [pid for pid in _processes() if mark in _environment(pid)]
        for pid in found:
            try:
                os.kill(pid, signal.SIGKILL)
            except OSError:
                continue
        if not found:
            return
        time.sleep(0.01)


def _processes() -> list[int]:
    own = os.getpid()
    return [int(name) for name in os.listdir("/proc") if name.isdecimal() and int(name) != own]


def _environment(pid: int) -> list[bytes]:
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            return file.read().split(b"\0")
    except OSError:
        return []


def _make_private(folder: Path) -> None:
    """Make a folder that nobody else may write: what lies in it is executed."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if os.name == "posix":
        for path in (folder, folder.parent):
            found = path.lstat()
            if stat.S_ISLNK(found.st_mode) and path == folder:
                raise ExecuteError(f"{path}: is a symbolic link: remove it")
            if path.stat().st_uid != os.getuid():
                raise ExecuteError(f"{path}: belongs to somebody else: remove it, or set XDG_CACHE_HOME")
        folder.chmod(0o700)


class ExecuteError(Exception):
    """No worktree could be made, or its preparation failed; the text is for people: what, where, what to do."""
