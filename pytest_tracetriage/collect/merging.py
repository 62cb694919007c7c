"""Maps of shards and legs as one, and what of a map no longer holds: pure functions."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from pytest_tracetriage.collect.functions import bodies_of
from pytest_tracetriage.model.coverage import CoverageMap, Element, Function

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

_Key = tuple[str, str, str, int]


def merge_maps(maps: Iterable[CoverageMap]) -> CoverageMap:
    """Return what all of these maps say together: in any order, any grouping, and with repetitions, the same.

    A function that only moved is the same one, and stands where it stands first; one that changed is another. `commit`, `run`
    and `source` are kept where the maps agree.
    """
    maps = list(maps)
    tests = sorted({nodeid for coverage in maps for nodeid in coverage.tests})
    bit = {nodeid: number for number, nodeid in enumerate(tests)}
    places: dict[_Key, Function] = {}
    lines: dict[_Key, dict[int, int]] = {}
    for coverage in maps:
        keys = _keys(coverage.functions)
        for key, function in zip(keys, coverage.functions, strict=True):
            known = places.setdefault(key, function)
            places[key] = min(known, function, key=lambda one: (one.line, one.end))
        bits = [bit[nodeid] for nodeid in coverage.tests]
        for element in coverage.elements:
            by = _moved(element.tests, bits)
            run = lines.setdefault(keys[element.function], {})
            for line in element.lines:
                offset = line - coverage.functions[element.function].line
                run[offset] = run.get(offset, 0) | by
    order = sorted(places, key=lambda key: (key[0], places[key].line, places[key].end, key))
    size = (len(tests) + 7) // 8
    elements = []
    for index, key in enumerate(order):
        together: dict[int, list[int]] = {}
        for offset, by in sorted(lines.get(key, {}).items()):
            together.setdefault(by, []).append(places[key].line + offset)
        elements += [Element(index, tuple(held), by.to_bytes(size, "little")) for by, held in together.items()]
    said = {name: {getattr(coverage, name) for coverage in maps} for name in ("commit", "run", "source")}
    agreed = {name: next(iter(words)) if len(words) == 1 else "" for name, words in said.items()}
    return CoverageMap(tuple(tests), tuple(places[key] for key in order), tuple(elements), **agreed)


def stale_functions(coverage: CoverageMap, sources: Mapping[str, bytes]) -> frozenset[int]:
    """Return the places of those functions that the present sources (by file) no longer hold as they were recorded.

    A file that is not among them is gone; one that is no Python source any more holds no function.
    """
    present: dict[str, set[tuple[str, str]]] = {}
    for file in {function.file for function in coverage.functions} & sources.keys():
        try:
            present[file] = {(body.function.name, body.function.digest) for body in bodies_of(file, sources[file])}
        except ValueError:
            continue
    return frozenset(
        index
        for index, function in enumerate(coverage.functions)
        if (function.name, function.digest) not in present.get(function.file, ())
    )


def _keys(functions: Sequence[Function]) -> list[_Key]:
    """Return what a function is known by. Equal ones of one name are told apart by their order."""
    counts: dict[tuple[str, str, str], int] = {}
    numbers = {}
    for index in sorted(range(len(functions)), key=lambda index: (functions[index].line, functions[index].end)):
        function = functions[index]
        alike = (function.file, function.name, function.digest)
        counts[alike] = numbers[index] = counts.get(alike, 0) + 1
    return [(one.file, one.name, one.digest, numbers[index]) for index, one in enumerate(functions)]


def _moved(tests: bytes, bits: Sequence[int]) -> int:
    """Return a set of tests in another numbering."""
    held = int.from_bytes(tests, "little")
    if not held:
        return 0
    if bits[-1] - bits[0] == len(bits) - 1:  # numbered without gaps, as before
        return held << bits[0]
    moved = bytearray(max(bits) // 8 + 1)
    for number in itertools.compress(bits, map(int, reversed(f"{held:b}"))):
        moved[number // 8] |= 1 << number % 8
    return int.from_bytes(moved, "little")
