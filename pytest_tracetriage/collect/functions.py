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

_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


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
    found = []
    for name, node in _functions(tree):
        line, end = _first(node), node.end_lineno or node.lineno
        own = _lines(_first(node.body[0]), end)
        for inner in _inner(node):
            own &= ~_lines(_first(inner.body[0]), inner.end_lineno or inner.lineno)
        found.append(Body(Function(file, name, line, end, _digest(written[line - 1 : end])), own))
    return sorted(found, key=lambda body: (body.function.line, body.function.end, body.function.name))


def _functions(tree: ast.AST) -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    waiting: list[tuple[str, ast.AST]] = [("", tree)]
    while waiting:
        prefix, node = waiting.pop()
        for child in ast.iter_child_nodes(node):
            if isinstance(child, _FUNCTIONS):
                yield prefix + child.name, child
                waiting.append((f"{prefix}{child.name}.<locals>.", child))
            elif isinstance(child, ast.ClassDef):
                waiting.append((f"{prefix}{child.name}.", child))
            elif not isinstance(child, ast.expr):  # an expression holds lambdas at most
                waiting.append((prefix, child))


def _inner(node: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """Yield the functions that stand in another, but not in a function within it."""
    waiting = [node]
    while waiting:
        for child in ast.iter_child_nodes(waiting.pop()):
            if isinstance(child, _FUNCTIONS):
                yield child
            elif not isinstance(child, ast.expr):
                waiting.append(child)


def _first(node: ast.stmt) -> int:
    """Return the first line of a statement, its decorators included."""
    decorators: list[ast.expr] = getattr(node, "decorator_list", [])
    return min([node.lineno, *(decorator.lineno for decorator in decorators)])


def _lines(first: int, last: int) -> int:
    return ((1 << (last - first + 1)) - 1) << first


def _digest(lines: list[str]) -> str:
    indent = lines[0][: len(lines[0]) - len(lines[0].lstrip())]
    text = "\n".join(line.removeprefix(indent).rstrip() for line in lines)
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=4).hexdigest()
