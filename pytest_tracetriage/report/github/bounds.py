"""A cluster made small enough to print, whatever its tests put into it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from pytest_tracetriage.report.text import plural, shorten
from pytest_tracetriage.report.traceback import render_short

if TYPE_CHECKING:
    from pytest_tracetriage.model.analysis import Cluster
    from pytest_tracetriage.model.trace import Error, Failure, Frame

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
