"""The functions of a source file, and which of its lines run when one of them is called.

From the source, not from code objects: Python 3.10 has no qualified names in those.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_tracetriage.model.coverage import Function

if TYPE_CHECKING:
    from collections.abc import Iterator

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
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of escapes and the like: the project's business, and told when it was compiled
            tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise ValueError(f"{file}: {type(error).__name__}: {error}") from None
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
