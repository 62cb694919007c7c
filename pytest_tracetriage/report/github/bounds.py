"""What GitHub's limits leave of a text: clusters made small, whatever their tests hold, and what may go until it fits."""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING

from msgspec import Struct
from msgspec.structs import replace

from pytest_tracetriage.report.show import render_short
from pytest_tracetriage.report.text import plural, shorten

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pytest_tracetriage.model.analysis import Cluster
    from pytest_tracetriage.model.trace import Error, Failure, Frame
    from pytest_tracetriage.report.github.headline import Cause


NAME = 120
NODEID = 300
"""A longer id cannot be typed nor pasted: it is shown shortened, and in no command."""
TEXT = 400
LINES = 40
_ERRORS, _FRAMES, _NOTES, _MESSAGE_LINES = 6, 40, 5, 20


def bounded(cluster: Cluster) -> Cluster:
    """Return a cluster whose every text is short. Its tests stay as they are."""
    exemplar = cluster.exemplar
    return replace(
        cluster,
        name=shorten(" ".join(cluster.name[: 4 * NAME].split()), NAME),
        codeowners=tuple(shorten(owner, 60) for owner in cluster.codeowners[:3]),
        signatures=tuple(
            replace(
                signature,
                type=shorten(signature.type, NAME),
                file=shorten(signature.file, NODEID),
                function=shorten(signature.function, NAME),
                message=shorten(signature.message, TEXT),
            )
            for signature in cluster.signatures[:5]
        ),
        why=tuple(
            replace(why, evidence=shorten(why.evidence, TEXT), detail=shorten(why.detail, TEXT)) for why in cluster.why[:5]
        ),
        suspects=tuple(
            replace(
                suspect,
                file=shorten(suspect.file, NODEID),
                function=shorten(suspect.function, NAME),
                evidence=shorten(suspect.evidence, TEXT),
            )
            for suspect in cluster.suspects[:3]
        ),
        exemplar=None
        if exemplar is None
        else replace(exemplar, failure=_failure(exemplar.failure), reason=shorten(exemplar.reason, TEXT)),
        classified=shorten(cluster.classified, TEXT),
        fix=shorten(cluster.fix, TEXT),
        status_evidence=shorten(cluster.status_evidence, TEXT),
    )


def traceback(cluster: Cluster) -> str:
    """Return the exemplar's short traceback: its last lines, and how many are missing above them."""
    if cluster.exemplar is None:
        return ""
    lines = render_short(cluster.exemplar.failure).split("\n")
    if (missing := len(lines) - LINES) > 0:
        lines = [f"... {plural(missing, 'line')} left out ...", *lines[-LINES:]]
    return "\n".join(lines).strip("\n")


def runnable(tests: tuple[str, ...]) -> tuple[str, ...]:
    """Return the tests that a command can name."""
    return tuple(test for test in tests if len(test) <= NODEID and test.isprintable())


def _failure(failure: Failure) -> Failure:
    return replace(
        failure,
        errors=tuple(_error(error) for error in failure.errors[:_ERRORS] if error.parent < _ERRORS),
        text=_lines(failure.text[-LINES * TEXT :], LINES, last=True),
        fixture=shorten(failure.fixture, NODEID),
    )


def _error(error: Error) -> Error:
    return replace(
        error,
        type=shorten(error.type, NAME),
        message=_lines(error.message[: _MESSAGE_LINES * TEXT], _MESSAGE_LINES),
        frames=tuple(_frame(frame) for frame in error.frames[-_FRAMES:]),
        notes=tuple(_lines(note[: _NOTES * TEXT], _NOTES) for note in error.notes[:_NOTES]),
    )


def _frame(frame: Frame) -> Frame:
    return replace(
        frame,
        file=shorten(frame.file, NODEID),
        function=shorten(frame.function, NAME),
        qualname=shorten(frame.qualname, NAME),
        code=shorten(frame.code, TEXT),
        printed="",
    )


def _lines(text: str, limit: int, *, last: bool = False) -> str:
    lines = text.splitlines()
    return "\n".join(shorten(line, TEXT) for line in (lines[-limit:] if last else lines[:limit]))


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
