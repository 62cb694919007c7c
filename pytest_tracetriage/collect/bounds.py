"""How much of what a test controls is kept. Whatever exceeds it is left out and said so."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, TypeVar

from msgspec.structs import replace

from pytest_tracetriage.model.analysis import Problem
from pytest_tracetriage.model.trace import Error, Frame

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from pytest_tracetriage.collect.formats import Item

MESSAGE = 20_000
SECTION = 10_000
SECTIONS = 20
FRAMES = 50
ERRORS = 20
CODE = 500
PRINTED = 8_000
NAME = 4_000
PROBLEMS = 20
"""How many problems of one file are reported one by one."""

# pytest colours the differences inside an assertion's message; its JUnit writer spells the escape character out.
_COLOUR = re.compile(r"(?:\x1b|#x1B)\[[0-9;]*m")
_T = TypeVar("_T")


def clip(text: str, limit: int) -> str:
    """Return `text` with at most `limit` characters, and how many are missing."""
    if len(text) <= limit:
        return text
    return f"{text[:limit]}… [{len(text) - limit} more characters]"


def plain(text: str) -> str:
    """Return `text` without terminal colours."""
    return _COLOUR.sub("", text) if "[" in text else text


def ends(items: Sequence[_T], limit: int) -> tuple[tuple[_T, ...], int]:
    """Return the first and last of `items`, at most `limit` of them, and how many were left out between."""
    if len(items) <= limit:
        return tuple(items), 0
    first = limit // 2
    return (*items[:first], *items[len(items) - (limit - first) :]), len(items) - limit


def bounded_error(type_: str, message: str, frames: Sequence[Frame]) -> Error:
    """Return one raised error with its frames, type and message within the bounds."""
    kept, omitted = ends(frames, FRAMES)
    return Error(type=clip(type_, CODE), message=clip(message, MESSAGE), frames=kept, omitted=omitted)


def bounded_frame(file: str, function: str, line: int, code: str, printed: str = "") -> Frame:
    """Return a frame as printed: `file` is not yet located, so its origin says nothing."""
    return Frame(
        file=clip(file, NAME),
        function=clip(function, CODE),
        line=line,
        origin="app",
        code=clip(code.strip(), CODE),
        printed=printed[-PRINTED:],
    )


def bounded_chain(errors: Sequence[Error]) -> tuple[Error, ...]:
    """Return at most `ERRORS` errors. An error stands after its parent, so none loses it."""
    return tuple(errors[:ERRORS])


def sections(captured: Iterable[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
    """Return captured output by name, each part within the bounds."""
    kept = [(name, content) for name, content in captured if content.strip()]
    return tuple((clip(name, CODE), clip(content, SECTION)) for name, content in kept[:SECTIONS])


def few_problems(items: Iterable[Item], name: str) -> Iterator[Item]:
    """Yield `items`, but of the problems only the first `PROBLEMS`, and at the end how many more there were."""
    seen = 0
    for item in items:
        if isinstance(item, Problem):
            seen += 1
            if seen > PROBLEMS:
                continue
        yield item
    if seen > PROBLEMS:
        yield Problem(name, 0, f"{seen - PROBLEMS} more lines could not be read")


def chained(parts: Sequence[Sequence[Error]], links: Sequence[str]) -> list[Error]:
    """Return the errors of a chain, the last raised first.

    `parts` stand as they are printed, the oldest first, each a list whose first error is its raised one; `links[i]` is
    what part `i` was to the next, "cause" or "context".
    """
    errors: list[Error] = []
    newer = -1
    for index in range(len(parts) - 1, -1, -1):
        if not parts[index]:
            continue
        offset = len(errors)
        for number, error in enumerate(parts[index]):
            if number:
                errors.append(replace(error, parent=error.parent + offset))
            elif newer < 0:
                errors.append(error)
            else:
                errors.append(replace(error, link=links[index], parent=newer))
        newer = offset
    return errors
