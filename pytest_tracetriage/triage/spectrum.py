"""The spectrum: which elements of the code the failing tests run, and how many passing tests run them too.

What a failing test runs is what it ran when it was green: in a red run the lines that handle the error are run by failing
tests alone and look guilty. A map of the failing run is the weaker witness: functions that a failing test no longer reaches
are dropped, what it reaches only now is not added. But it tells where a test goes astray: in which functions it takes other
lines than when it was green.

Sets are ints: bit i of a set of elements is element i, in the order of `Executed.elements`; bit i of a set of tests is the i-th
failing test of the map.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple, TypeVar

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

    from pytest_tracetriage.model.execution import CoverageMap, Function

Key = TypeVar("Key")
Place = tuple[str, str]
"""File and qualified name of a function."""

_NOTHING: Mapping[Place, tuple[str, ...]] = MappingProxyType({})


@dataclass(frozen=True)
class Spectrum:
    """What triage is told of coverage. `green` is the map of a run in which all was well, `red` that of the failing tests.

    `changes` are the functions changed since the green run, with the commits or dependencies that changed them; empty where
    nobody knows or nobody may say. `gone` are functions of the green map that no longer exist.
    """

    green: CoverageMap | None = None
    red: CoverageMap | None = None
    changes: Mapping[Place, tuple[str, ...]] = field(default_factory=lambda: _NOTHING)
    gone: frozenset[Place] = frozenset()


class Ran(NamedTuple):
    """Lines of one function that the same tests run: by which failing tests (a bit set), by how many passing ones."""

    function: Function
    lines: tuple[int, ...]
    failing: int
    passing: int


@dataclass(frozen=True)
class Executed:
    """What the failing tests of one analysis run."""

    elements: tuple[Ran, ...]
    """Those that few passing tests run come first."""
    by_test: dict[str, int]
    """The elements that each failing test runs, of those that stand in the map."""
    bits: dict[str, int]
    """Each of these tests as a set of one."""
    passing: int
    """How many tests of the map pass."""
    named: dict[tuple[str, str], tuple[Function, ...]]
    """All functions of the map by file and bare name, as a traceback names them."""
    astray: Mapping[Function, int] = field(default_factory=dict)
    """The failing tests that still reach a function and take other lines of it than when they were green."""
    watched: int = 0
    """The failing tests of which that is known."""

    def tests(self, some: Collection[str]) -> int:
        """Return tests as a bit set. Those that do not stand in the map are left out."""
        found = 0
        for test in some:
            found |= self.bits.get(test, 0)
        return found


def executed(spectrum: Spectrum | None, failing: Collection[str]) -> Executed | None:
    """Return what these failing tests run, None where no map knows any of them."""
    green = spectrum.green if spectrum is not None else None
    if spectrum is None or green is None:
        return None
    wanted = set(failing)
    index = {test: number for number, test in enumerate(green.tests) if test in wanted}
    if not index:
        return None
    mask = sum(1 << number for number in index.values())
    met = []
    for element in green.elements:
        tests = int.from_bytes(element.tests, "little")
        if hit := tests & mask:
            met.append((Ran(green.functions[element.function], element.lines, hit, (tests ^ hit).bit_count()), element.tests))
    met.sort(key=lambda pair: (pair[0].passing, pair[0].function.file, pair[0].function.name, pair[0].lines))
    by_test = columns([tests for _, tests in met], index)
    elements = [ran for ran, _ in met]
    astray: dict[Function, int] = {}
    watched = 0
    if spectrum.red is not None:
        reached = columns([one.tests for one in spectrum.red.elements], _places(spectrum.red.tests, by_test))
        astray = _astray(elements, by_test, spectrum.red, reached, spectrum.changes)
        watched = sum(1 << number for number, test in enumerate(by_test) if test in reached)
        by_test = _still_reached(elements, by_test, spectrum.red, reached)
    failing_of = _runners(by_test.values(), len(elements))
    return Executed(
        elements=tuple(ran._replace(failing=failing_of[number]) for number, ran in enumerate(elements)),
        by_test=by_test,
        bits={test: 1 << number for number, test in enumerate(by_test)},
        passing=len(green.tests) - len(index),
        named=_by_name(green.functions),
        astray=astray,
        watched=watched,
    )


def _places(tests: Sequence[str], wanted: Collection[str]) -> dict[str, int]:
    return {test: number for number, test in enumerate(tests) if test in wanted}


def _runners(runs: Iterable[int], many: int) -> dict[int, int]:
    """Return for each of so many elements who runs it, as a set of positions: `runs` are the elements that each test runs."""
    width = (many + 7) // 8
    return columns([run.to_bytes(width, "little") for run in runs], {number: number for number in range(many)})


def columns(rows: Sequence[bytes], wanted: Mapping[Key, int]) -> dict[Key, int]:
    """Return columns of a matrix of bits, each as the set of the rows in which it is set. `rows` are little-endian sets.

    Slices and translations of bytes transpose it: a loop over the bits takes a hundred times as long.
    """
    width = max((len(row) for row in rows), default=0)
    table = b"".join([row.ljust(width, b"\0") for row in reversed(rows)])
    found = {}
    for name, index in wanted.items():
        byte, bit = divmod(index, 8)
        column = table[byte::width] if byte < width else b""
        found[name] = int(column.translate(_BIT[bit]), 2) if column else 0
    return found


_BIT = tuple(bytes(48 + (byte >> bit & 1) for byte in range(256)) for bit in range(8))


def _astray(
    elements: Sequence[Ran],
    by_test: Mapping[str, int],
    red: CoverageMap,
    reached: Mapping[str, int],
    changes: Collection[Place],
) -> dict[Function, int]:
    """Return where failing tests take other lines than when they were green, as a set of the tests for each function.

    Lines can be compared where the function is the same, or was edited and is as long as it was. Of another length, its lines
    are other lines, if what changed is evidence.
    """
    then = _by_line([(ran.function, ran.lines) for ran in elements], _runners(by_test.values(), len(elements)))
    now = _by_line(
        [(red.functions[element.function], element.lines) for element in red.elements],
        _runners([reached.get(test, 0) for test in by_test], len(red.elements)),
    )
    same = {(function.file, function.name, function.digest): function for function in now}
    only = {(function.file, function.name): function for function in now}
    several = Counter((function.file, function.name) for function in red.functions)  # the getter and the setter of a property
    several |= Counter((function.file, function.name) for function in then)
    found = {}
    for function, lines in then.items():
        place = (function.file, function.name)
        other = same.get((*place, function.digest)) or (only.get(place) if several[place] == 1 else None)
        if other is None:
            continue
        parted = _union(lines.values()) & _union(now[other].values())
        if other.end - other.line == function.end - function.line:
            parted &= _union(lines.get(line, 0) ^ now[other].get(line, 0) for line in lines.keys() | now[other].keys())
        elif place not in changes:
            continue
        if parted:
            found[function] = parted
    return found


def _by_line(
    elements: Iterable[tuple[Function, tuple[int, ...]]], runners: Mapping[int, int]
) -> dict[Function, dict[int, int]]:
    """Return who runs each line of each function, lines counted from its first."""
    found: dict[Function, dict[int, int]] = {}
    for number, (function, lines) in enumerate(elements):
        of = found.setdefault(function, {})
        for line in lines:
            of[line - function.line] = of.get(line - function.line, 0) | runners[number]
    return found


def _union(some: Iterable[int]) -> int:
    found = 0
    for one in some:
        found |= one
    return found


def _still_reached(
    elements: Sequence[Ran], by_test: Mapping[str, int], red: CoverageMap, reached: Mapping[str, int]
) -> dict[str, int]:
    """Return the elements by test without those of functions that the failing run did not reach.

    Lines that a test no longer runs in a function that it reaches stay: to leave them out may be the fault. A test of which
    the failing run knows nothing keeps all.
    """
    green: dict[Place, int] = {}
    for number, ran in enumerate(elements):
        place = (ran.function.file, ran.function.name)
        green[place] = green.get(place, 0) | 1 << number
    shown = [green.get((of.file, of.name), 0) for of in (red.functions[element.function] for element in red.elements)]
    kept = dict(by_test)
    for test, numbers in reached.items():
        kept[test] = kept[test] & _union(shown[number] for number in ones(numbers)) or kept[test]
    return kept


def ones(number: int) -> Iterator[int]:
    """Yield the positions of the bits that are set, lowest first."""
    for byte, value in enumerate(number.to_bytes((number.bit_length() + 7) // 8, "little")):
        if value:
            for bit in _POSITIONS[value]:
                yield 8 * byte + bit


_POSITIONS = tuple(tuple(bit for bit in range(8) if value >> bit & 1) for value in range(256))


def _by_name(functions: Sequence[Function]) -> dict[tuple[str, str], tuple[Function, ...]]:
    found: dict[tuple[str, str], list[Function]] = {}
    for function in sorted(functions, key=lambda one: (one.file, one.line, one.name)):
        found.setdefault((function.file, function.name.rpartition(".")[2]), []).append(function)
    return {name: tuple(some) for name, some in found.items()}
