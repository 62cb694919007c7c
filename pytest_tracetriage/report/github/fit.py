"""Making a text fit: what may go, in order, and how much of it has to."""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING

from msgspec import Struct

from pytest_tracetriage.report.text import plural

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pytest_tracetriage.report.github.standing import Cause

FIRST_ROWS = 3
"""So many rows of the table always stay."""
_COMMAND = re.compile(r"^([ \t]*):(?=:)", re.MULTILINE)


class Cut(Struct, frozen=True):
    """One thing that may be left out: the `prompt`, `traceback`, `list of tests`, `detail` or `row` of a cause."""

    what: str
    cause: str


def cuts(rows: Sequence[Cause], detailed: Sequence[Cause]) -> list[Cut]:
    """Return all that may be left out, the most dispensable first: always from the last cause to the first."""
    last = detailed[::-1]
    known = [cause for cause in last if cause.standing not in {"new", "failing"}]
    return [
        *(Cut("prompt", cause.cluster.id) for cause in last),
        *(Cut("traceback", cause.cluster.id) for cause in known),
        *(Cut("list of tests", cause.cluster.id) for cause in last),
        *(Cut("detail", cause.cluster.id) for cause in last),
        *(Cut("row", cause.cluster.id) for cause in rows[FIRST_ROWS:][::-1]),
    ]


def fit(make: Callable[[frozenset[Cut]], str], order: Sequence[Cut], size: Callable[[str], int], limit: int) -> str | None:
    """Return `make` of as few cuts as bring its size to the limit; None where all of them do not.

    Each cut is taken to make the text no longer, so that a bisection finds how many are needed.
    """
    text = make(frozenset())
    if size(text) <= limit:
        return text
    best = make(frozenset(order))
    if size(best) > limit:
        return None
    enough, few = len(order), 0
    while enough - few > 1:
        middle = (enough + few) // 2
        text = make(frozenset(order[:middle]))
        if size(text) <= limit:
            enough, best = middle, text
        else:
            few = middle
    return best


def left_out(cut: frozenset[Cut]) -> str:
    """Return `2 details, 12 prompts, 3 tracebacks`; what went with its detail is not counted again."""
    gone = {each.cause for each in cut if each.what == "detail"}
    counts = Counter(each.what for each in cut if each.what in {"detail", "row"} or each.cause not in gone)
    many = {"list of tests": "lists of tests"}
    return ", ".join(plural(count, what, many.get(what, "")) for what, count in sorted(counts.items()))


def inert(text: str) -> str:
    """Return `text` so that a job's log, where it may be printed, takes no line of it for a workflow command."""
    return _COMMAND.sub(r"\1: ", text).replace("##[", "## [")


def characters(text: str) -> int:
    """Return the length of `text` in UTF-16 code units: never less than its characters, however they are counted."""
    return len(text.encode("utf-16-le", "replace")) // 2


def encoded(text: str) -> int:
    """Return the length of `text` in bytes."""
    return len(text.encode("utf-8", "replace"))
