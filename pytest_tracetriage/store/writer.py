"""One process's records: a file opened with O_APPEND, one `os.write` a record.

A record that has been written survives the death of the process without fsync, since it is in the kernel's hands. The
running test is named by a slot in a small shared mapping, which costs no system call and which a SIGKILL does not lose.
"""

from __future__ import annotations

import errno
import mmap
import os
import struct
from typing import TYPE_CHECKING

import msgspec

from pytest_tracetriage.model.trace import Record, Start, Trace

if TYPE_CHECKING:
    from pathlib import Path

SLOT_SIZE = 4096
SLOT_SUFFIX = ".running"
_SLOT_HEAD = struct.Struct("<Id")
"""Length of what follows, and when the test was begun."""
_pack = _SLOT_HEAD.pack

_write = os.write
_encode = msgspec.json.Encoder(enc_hook=str).encode


class _Passed(msgspec.Struct, tag_field="record", tag="trace", gc=False):
    """A `Trace` of which nothing else is known."""

    id: str
    nodeid: str
    outcome: str
    start: float
    phases: dict[str, float]


class Writer:
    """Appends records to `traces/<worker>.jsonl`. Never raises: what cannot be written is counted in `lost`.

    `broken` holds the reason of the first loss, in words, until someone has told it.
    """

    def __init__(self, folder: Path, worker: str) -> None:
        self.lost = 0
        self.broken = ""
        self._fd = -1
        self._torn = False
        self._slot: mmap.mmap | None = None
        self._slot_path = folder / f"{worker}{SLOT_SUFFIX}"
        self.path = folder / f"{worker}.jsonl"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._fd = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | getattr(os, "O_CLOEXEC", 0), 0o644)
        except OSError as error:
            self._fail(error)
            return
        self._slot = _open_slot(self._slot_path)

    def write(self, record: Record) -> None:
        """Write one record as one line."""
        try:
            self._append(_encode(record) + b"\n")
        except (ValueError, TypeError) as error:
            self._write_printable(record, error)

    def write_passed(self, trace: str, nodeid: str, start: float, phases: dict[str, float]) -> None:
        """Write the trace of a test of which nothing is known but its phases: `write` of a `Trace`, at half its cost."""
        try:
            line = _encode(_Passed(trace, nodeid, "passed", start, phases)) + b"\n"
        except ValueError:
            self.write(Trace(trace, nodeid, "passed", start, phases))
        else:
            self._append(line)

    def _append(self, line: bytes) -> None:
        try:
            if self._torn:
                line = b"\n" + line
                self._torn = False
            if _write(self._fd, line) < len(line):
                self._torn = True
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            self._fail(error)

    def _write_printable(self, record: Record, error: Exception) -> None:
        # Lone surrogates reach us from file names and test output; JSON cannot hold them.
        try:
            record = msgspec.convert(_printable(msgspec.to_builtins(record)), type(record))
            _encode(record)
        except Exception:
            self._fail(error)
        else:
            self.write(record)

    def begin(self, trace: str, nodeid: str, start: float) -> None:
        """Name the running test: in the slot, or as a record where it does not fit.

        The name stays until the next one. Whether the test was finished is told by its trace.
        """
        slot = self._slot
        name = f"{trace}\n{nodeid}".encode("utf-8", "backslashreplace")
        line = _pack(len(name), start) + name
        if slot is None or len(line) > SLOT_SIZE:
            self.write(Start(trace, nodeid, start))
        else:
            slot[: len(line)] = line

    def holds(self, trace: str) -> bool:
        """Return whether the trace of this id was written, by this process or a child of it."""
        return was_finished(self.path, trace)

    def close(self) -> None:
        """Close the file and remove the slot: this process ended as it should."""
        if self._slot is not None:
            self._slot.close()
            self._slot = None
            self._slot_path.unlink(missing_ok=True)
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _fail(self, error: Exception) -> None:
        self.lost += 1
        if not self.broken:
            self.broken = f"{self.path}: {getattr(error, 'strerror', None) or error}"


def _open_slot(path: Path) -> mmap.mmap | None:
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o644)
    except OSError:
        return None
    try:
        # Written, not truncated to size: touching a hole on a full disk would be a SIGBUS.
        if os.write(fd, bytes(SLOT_SIZE)) < SLOT_SIZE:
            return None
        return mmap.mmap(fd, SLOT_SIZE)
    except (OSError, ValueError):
        return None
    finally:
        os.close(fd)


def tail(path: Path, size: int = 1 << 20) -> list[bytes]:
    """Return the last lines of a file, at most about `size` bytes of them."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - size))
            return file.read().splitlines()
    except OSError:
        return []


def was_finished(path: Path, trace: str) -> bool:
    """Return whether the end of a file of records holds the trace of this id."""
    needle = b'"record":"trace","id":' + msgspec.json.encode(trace)
    return any(needle in line for line in tail(path))


def read_slot(path: Path) -> Start | None:
    """Return the test that a dead process had begun last, or None."""
    try:
        raw = path.read_bytes()
        size, start = _SLOT_HEAD.unpack_from(raw)
    except (OSError, struct.error):
        return None
    trace, _, nodeid = raw[_SLOT_HEAD.size : _SLOT_HEAD.size + size].decode("utf-8", "replace").partition("\n")
    return Start(trace, nodeid, start) if trace else None


def _printable(value: object) -> object:
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, dict):
        return {_printable(key): _printable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_printable(item) for item in value]
    return value
