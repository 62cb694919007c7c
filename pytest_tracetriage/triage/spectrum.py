"""The spectrum: which elements of the code the failing tests run, and how many passing tests run them too.

What a failing test runs is what it ran when it was green: in a red run the lines that handle the error are run by failing
tests alone and look guilty. A map of the failing run is the weaker witness: what a failing test no longer reaches is dropped,
what it reaches only now is not added.

Sets are ints: bit i of a set of elements is element i, in the order of `Executed.elements`; bit i of a set of tests is the i-th
failing test of the map.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple, TypeVar

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

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
    if spectrum.red is not None:
        by_test = _still_reached(elements, by_test, spectrum.red)
    # The failing tests as bits of their own: there are few of them.
    width = (len(elements) + 7) // 8
    failing_of = columns([ran.to_bytes(width, "little") for ran in by_test.values()], {n: n for n in range(len(elements))})
    return Executed(
        elements=tuple(ran._replace(failing=failing_of[number]) for number, ran in enumerate(elements)),
        by_test=by_test,
        bits={test: 1 << number for number, test in enumerate(by_test)},
        passing=len(green.tests) - len(index),
        named=_by_name(green.functions),
    )


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


def _still_reached(elements: Sequence[Ran], by_test: Mapping[str, int], red: CoverageMap) -> dict[str, int]:
    """Return the elements by test without what the failing run did not reach.

    Lines are compared where the function is the same, else reaching the function is enough. A test of which the failing
    run knows nothing keeps all.
    """
    reached = columns([element.tests for element in red.elements], {t: n for n, t in enumerate(red.tests) if t in by_test})
    green: dict[Place, list[int]] = {}
    for number, ran in enumerate(elements):
        green.setdefault((ran.function.file, ran.function.name), []).append(number)
    shown = []
    for element in red.elements:
        function = red.functions[element.function]
        offsets = {line - function.line for line in element.lines}
        found = 0
        for number in green.get((function.file, function.name), ()):
            ran = elements[number]
            if ran.function.digest != function.digest or offsets.intersection([n - ran.function.line for n in ran.lines]):
                found |= 1 << number
        shown.append(found)
    kept = dict(by_test)
    for test, numbers in reached.items():
        still = 0
        for number in ones(numbers):
            still |= shown[number]
        kept[test] = kept[test] & still or kept[test]
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
