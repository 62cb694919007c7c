"""Coverage maps on disk: one file a map, in a run's folder and in the history.

A set of tests is kept once, however many elements these tests run, and without the empty bytes at its ends: tests of one
file stand together. What repeats beyond that (node ids, sets that resemble each other) is left to the compressor, which finds
more of it than differences between sets would.
"""

from __future__ import annotations

import itertools
import lzma
from typing import TYPE_CHECKING

import msgspec

from pytest_tracetriage.model.execution import CoverageMap, Element, Function
from pytest_tracetriage.store.runs import StoreError, write_atomically

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

GREEN_FILE = "coverage.map"
"""What the tests of a run that passed have run."""
RED_FILE = "coverage-red.map"
"""What those have run that failed."""
MAGIC = b"tracetriage.coverage/1\n"

# Sets are bits, so what came just before in them says little, and where a byte stands in a word nothing.
_FILTERS = ({"id": lzma.FILTER_LZMA2, "preset": 6, "dict_size": 1 << 22, "lc": 0, "pb": 0},)
_LARGEST = 1 << 29
"""Bytes of a map when unpacked: beyond it, a small file could fill the memory."""
_WIDEST = 1 << 31
"""Bytes of all its sets, with the empty bytes at their ends: 200,000 tests and 80,000 sets."""


class _Columns(msgspec.Struct, frozen=True, array_like=True):
    """A map by columns: what is alike stands together. Numbers are differences from the entry before, where that is smaller."""

    commit: str
    run: str
    source: str
    tests: tuple[str, ...]
    files: tuple[str, ...]
    functions: tuple[tuple[int, ...], tuple[str, ...], tuple[int, ...], tuple[int, ...], tuple[str, ...]]
    """File (its place in `files`), name, first line, number of lines, digest."""
    elements: tuple[tuple[int, ...], tuple[tuple[int, ...], ...], tuple[int, ...]]
    """Function, lines (the first counts from that of the function), place of its tests in `sets`."""
    sets: tuple[tuple[int, ...], tuple[int, ...]]
    """How many empty bytes stand before a set, and how many bytes it has."""
    bits: bytes
    """All sets, one after the other."""


def encode(coverage: CoverageMap) -> bytes:
    """Return the bytes of a map: the same for the same map."""
    files = {function.file: 0 for function in coverage.functions}
    files = {file: number for number, file in enumerate(files)}
    sets = {element.tests: 0 for element in coverage.elements}
    sets = {tests: number for number, tests in enumerate(sets)}
    ends = [(len(tests) - len(tests.lstrip(b"\0")), len(tests.rstrip(b"\0"))) for tests in sets]
    functions, elements = coverage.functions, coverage.elements
    columns = _Columns(
        coverage.commit,
        coverage.run,
        coverage.source,
        coverage.tests,
        tuple(files),
        (
            _steps(files[function.file] for function in functions),
            tuple(function.name for function in functions),
            _steps(function.line for function in functions),
            tuple(function.end - function.line for function in functions),
            tuple(function.digest for function in functions),
        ),
        (
            _steps(element.function for element in elements),
            tuple(_steps(element.lines, functions[element.function].line) for element in elements),
            tuple(sets[element.tests] for element in elements),
        ),
        (tuple(min(start, end) for start, end in ends), tuple(max(0, end - start) for start, end in ends)),
        b"".join(tests[start:end] for tests, (start, end) in zip(sets, ends, strict=True)),
    )
    return MAGIC + lzma.compress(msgspec.msgpack.encode(columns), check=lzma.CHECK_CRC32, filters=_FILTERS)


def decode(data: bytes) -> CoverageMap:
    """Return the map of what `encode` made. Raises StoreError, whatever the bytes are."""
    if not data.startswith(MAGIC):
        known = MAGIC.decode().strip()
        raise StoreError(f"no coverage map of the form {known!r}, which this version reads")
    try:
        packed = lzma.LZMADecompressor(memlimit=1 << 27)
        unpacked = packed.decompress(data[len(MAGIC) :], _LARGEST + 1)
        if len(unpacked) > _LARGEST:
            raise StoreError(f"a coverage map larger than {_LARGEST >> 20} MiB")
        if not packed.eof:
            raise EOFError("it ends too early")
        columns = msgspec.msgpack.decode(unpacked, type=_Columns)
        return _map_of(columns)
    except (lzma.LZMAError, EOFError, msgspec.MsgspecError, ValueError, IndexError, RecursionError) as error:
        raise StoreError(f"a damaged coverage map ({type(error).__name__}: {error})") from None


def _map_of(columns: _Columns) -> CoverageMap:
    size = (len(columns.tests) + 7) // 8
    if size * len(columns.sets[0]) > _WIDEST:
        raise ValueError(f"sets of more than {_WIDEST >> 30} GiB")
    file, name, line, lines, digest = columns.functions
    functions = tuple(
        Function(columns.files[_index(number)], title, start, start + more, check)
        for number, title, start, more, check in zip(_sums(file), name, _sums(line), lines, digest, strict=True)
    )
    sets, position = [], 0
    for before, length in zip(*columns.sets, strict=True):
        tests = columns.bits[_index(position) : position + _index(length)]
        position += length
        if _index(before) + length > size:
            raise ValueError("a test that is not in it")
        sets.append(bytes(before) + tests + bytes(size - before - len(tests)))
    spare = size * 8 - len(columns.tests)
    if spare and any(tests[-1] >> (8 - spare) for tests in sets):
        raise ValueError("a test that is not in it")
    elements = tuple(
        Element(function, _sums(steps, functions[_index(function)].line), sets[_index(number)])
        for function, steps, number in zip(_sums(columns.elements[0]), *columns.elements[1:], strict=True)
    )
    return CoverageMap(columns.tests, functions, elements, columns.commit, columns.run, columns.source)


def _steps(numbers: Iterable[int], before: int = 0) -> tuple[int, ...]:
    return tuple(after - before for before, after in itertools.pairwise(itertools.chain((before,), numbers)))


def _sums(steps: Iterable[int], before: int = 0) -> tuple[int, ...]:
    return tuple(itertools.accumulate(steps, initial=before))[1:]


def _index(number: int) -> int:
    """Return a number that is a place in something: from the end does not count."""
    if number < 0:
        raise ValueError(f"{number} is no place")
    return number


def write_map(folder: Path, coverage: CoverageMap, name: str = GREEN_FILE) -> None:
    """Write a map into a run's folder. Raises OSError."""
    write_atomically(folder / name, encode(coverage))


def read_map(folder: Path, name: str = GREEN_FILE) -> CoverageMap | None:
    """Return a map of a run's folder, None where the run has none. Raises StoreError."""
    path = folder / name
    try:
        return decode(path.read_bytes())
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StoreError(f"{path}: {error.strerror}") from None
    except StoreError as error:
        raise StoreError(f"{path}: {error}") from None
