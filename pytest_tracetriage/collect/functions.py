"""The functions of source files, and maps of them: as one, and without what no longer holds.

From the source, not from code objects: Python 3.10 has no qualified names in those.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import itertools
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_tracetriage.model.execution import CoverageMap, Element, Function

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence


_Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
_DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
_BLOCKS = ("body", "orelse", "finalbody", "handlers", "cases")
"""Where statements stand in a statement: nothing else can hold a definition."""


@dataclass(frozen=True)
class Body:
    """A function, and the lines that belong to its body and to no function within, as a set: bit n stands for line n.

    Decorators, defaults and the line of `def` run where the function is made, so they belong to what stands around it: to the
    enclosing function, or to none. So do lambdas and the bodies of classes.
    """

    function: Function
    lines: int


def bodies_of(file: str, source: bytes) -> list[Body]:
    """Return the functions of a source file in order of their first lines. Raises ValueError where it is no Python source."""
    try:
        text = importlib.util.decode_source(source)
        tree = parsed(text)
    except (SyntaxError, ValueError) as error:
        raise ValueError(f"{file}: {error}") from None
    written = text.split("\n")
    found: list[Body] = []
    waiting: list[tuple[str, ast.AST]] = [("", tree)]
    while waiting:
        prefix, node = waiting.pop()
        for name, inner in _defined(node, prefix):
            waiting.append((f"{name}." if isinstance(inner, ast.ClassDef) else f"{name}.<locals>.", inner))
            if not isinstance(inner, ast.ClassDef):
                line, end = _first(inner), _last(inner)
                function = Function(file, name, line, end, _digest(written[line - 1 : end]))
                found.append(Body(function, _lines(_first(inner.body[0]), end) & ~_within(inner)))
    return sorted(found, key=lambda body: (body.function.line, body.function.end, body.function.name))


def parsed(source: str | bytes) -> ast.Module:
    """Return the syntax tree of a source, without a warning. Raises ValueError where it is no Python source."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of escapes and the like: the project's business, and told when it was compiled
            return ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise ValueError(f"{type(error).__name__}: {error}") from None


def _defined(node: ast.AST, prefix: str) -> Iterator[tuple[str, _Definition]]:
    """Yield the functions and classes whose definitions stand in a block, however deep in ifs, loops and the like."""
    waiting = [node]
    while waiting:
        for child in _statements(waiting.pop()):
            if isinstance(child, _DEFINITIONS):
                yield prefix + child.name, child
            else:
                waiting.append(child)


def _statements(node: ast.AST) -> Iterator[ast.AST]:
    for block in _BLOCKS:
        yield from getattr(node, block, ())


def _within(node: ast.AST) -> int:
    """Return the lines of the bodies of functions that stand in another, in classes in it too."""
    lines = 0
    for _, inner in _defined(node, ""):
        lines |= _within(inner) if isinstance(inner, ast.ClassDef) else _lines(_first(inner.body[0]), _last(inner))
    return lines


def _first(node: ast.stmt) -> int:
    """Return the first line of a statement, its decorators included."""
    decorators: list[ast.expr] = getattr(node, "decorator_list", [])
    return min([node.lineno, *(decorator.lineno for decorator in decorators)])


def _last(node: ast.stmt) -> int:
    return node.end_lineno or node.lineno


def _lines(first: int, last: int) -> int:
    return ((1 << (last - first + 1)) - 1) << first


def _digest(lines: list[str]) -> str:
    indent = lines[0][: len(lines[0]) - len(lines[0].lstrip())]
    text = "\n".join(line.removeprefix(indent).rstrip() for line in lines)
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=4).hexdigest()


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
