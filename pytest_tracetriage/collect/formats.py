"""What a format is: how it is recognised, and how it is read as a stream, whatever its file was packed or encoded with."""

from __future__ import annotations

import codecs
import gzip
import importlib
import io
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO, cast

from pytest_tracetriage.model.analysis import Problem
from pytest_tracetriage.model.trace import Trace

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable, Iterator


HEAD = 65_536
"""How many bytes of a file `sniff` is shown."""

Item = Trace | Problem


@dataclass(frozen=True)
class Format:
    """One format of recorded tests.

    `sniff(head)` says from the first bytes (decompressed) whether a file is of this format. `read(file, name)` yields
    its traces and what could not be read, in the order of the file, holding no more than one record at a time; it may
    raise `EOFError` or `OSError` where the stream itself breaks, which the caller reports. `name` is for problems.
    """

    name: str
    sniff: Callable[[bytes], bool]
    read: Callable[[BinaryIO, str], Iterator[Item]]


LINE_LIMIT = 32 * 1024 * 1024
"""The longest line, in bytes, that is held in memory."""

_CHUNK = 256 * 1024
_GZIP = b"\x1f\x8b"
_ZSTD = b"\x28\xb5\x2f\xfd"
_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


class MissingZstd(OSError):  # noqa: N818 - it names what is missing
    """A file is packed with zstd and nothing here can unpack it. The text says what to install."""

    def __init__(self) -> None:
        super().__init__('packed with zstd: pip install "pytest-tracetriage[zstd]"')


class _Unpacked(io.RawIOBase):
    """A decompressing stream that owns the file below it, and whose faults are `OSError`s."""

    def __init__(self, stream: Any, below: BinaryIO, faults: tuple[type[Exception], ...]) -> None:
        self._stream = stream
        self._below = below
        self._faults = faults

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        try:
            data: bytes = self._stream.read(len(buffer))
        except self._faults as fault:
            raise OSError(f"the packed data is damaged: {fault}") from fault
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        if not self.closed:
            try:
                self._stream.close()
            finally:
                self._below.close()
        super().close()


def open_source(path: str | os.PathLike[str]) -> BinaryIO:
    """Return the bytes of a file as a stream, unpacked when its first bytes say gzip or zstd.

    Raises `OSError` when it cannot be opened, `MissingZstd` (an `OSError`) when only an extra could unpack it. A stream
    that turns out to be damaged or cut raises `OSError` or `EOFError` where it is read.
    """
    file = open(path, "rb")  # noqa: SIM115 - handed to the caller, who closes it
    try:
        magic = file.peek(4)[:4]
        if magic.startswith(_GZIP):
            unpacked = _Unpacked(gzip.GzipFile(fileobj=file, mode="rb"), file, (zlib.error,))
        elif magic == _ZSTD:
            open_zstd, fault = _zstd()
            unpacked = _Unpacked(open_zstd(file), file, (fault,))
        else:
            return file
    except BaseException:
        file.close()
        raise
    return cast("BinaryIO", io.BufferedReader(unpacked, _CHUNK))


def _zstd() -> tuple[Callable[[BinaryIO], Any], type[Exception]]:
    for name in ("compression.zstd", "backports.zstd"):  # Python 3.14 and later; an extra
        try:
            module: Any = importlib.import_module(name)
        except ImportError:
            continue
        return module.ZstdFile, module.ZstdError
    raise MissingZstd


def as_utf8(head: bytes) -> bytes:
    """Return the beginning of a text as UTF-8 without a byte order mark, decoding UTF-16 that carries one."""
    if head.startswith(_UTF16):
        return codecs.getincrementaldecoder("utf-16")("replace").decode(head).encode("utf-8", "replace")
    return head.removeprefix(codecs.BOM_UTF8)


def sniff(head: bytes, formats: Iterable[Format]) -> Format | None:
    """Return the first of `formats` that recognises the first (unpacked) bytes of a file, `None` when none does."""
    text = as_utf8(head)
    return next((format_ for format_ in formats if format_.sniff(text)), None)


def lines(file: BinaryIO, limit: int = LINE_LIMIT) -> Iterator[tuple[int, bytes | None]]:
    r"""Yield the lines of a stream as UTF-8, numbered from 1, without `\n` or `\r\n` at their end.

    A line of more than `limit` bytes is given as `None`; no more than about `limit` bytes are held at a time. UTF-16
    with a byte order mark is decoded, a UTF-8 byte order mark dropped.
    """
    number = 1
    held: list[bytes] = []
    size = 0
    for chunk in _utf8_chunks(file):
        *whole, rest = chunk.split(b"\n")
        for piece in whole:
            size += len(piece)
            yield number, _line([*held, piece]) if size <= limit else None
            number += 1
            held.clear()
            size = 0
        size += len(rest)
        if size > limit:
            held.clear()
        elif rest:
            held.append(rest)
    if size:
        yield number, _line(held) if size <= limit else None


def _line(pieces: list[bytes]) -> bytes:
    line = pieces[0] if len(pieces) == 1 else b"".join(pieces)
    return line[:-1] if line.endswith(b"\r") else line


def _utf8_chunks(file: BinaryIO) -> Iterator[bytes]:
    first = file.read(_CHUNK)
    if not first.startswith(_UTF16):
        yield first.removeprefix(codecs.BOM_UTF8)
        while chunk := file.read(_CHUNK):
            yield chunk
        return
    decoder = codecs.getincrementaldecoder("utf-16")("replace")
    while first:
        yield decoder.decode(first).encode("utf-8", "replace")
        first = file.read(_CHUNK)
    yield decoder.decode(b"", final=True).encode("utf-8", "replace")


def complaint(line: bytes | None, limit: int = LINE_LIMIT) -> str:
    """Return in words why a line is no text, "" when it is. `None` is a line of more than `limit` bytes."""
    if line is None:
        return f"the line is longer than {limit} bytes and was skipped"
    if b"\0" in line:
        return "binary content or UTF-16 without a byte order mark: expected UTF-8 text"
    try:
        line.decode("utf-8")
    except UnicodeDecodeError as error:
        return f"not UTF-8 text (byte {line[error.start]:#04x} at column {error.start + 1})"
    return ""
