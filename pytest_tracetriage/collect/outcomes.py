"""What a report of pytest means beyond failed or skipped, and the failure that it holds."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Literal

from pytest_tracetriage.collect.bounds import MESSAGE, clip
from pytest_tracetriage.model.trace import Error, Failure, FailurePhase, Outcome

if TYPE_CHECKING:
    from collections.abc import Sequence

Red = Literal["failed", "error", "timeout", "crashed"]

_CRASHED = re.compile(r"worker '[^'\n]*' crashed while running ")
_TIMEOUT = re.compile(r"Timeout \(?>\s*[\d.]+\s*s?\)?")
_SUBTESTS = re.compile(r"contains \d+ failed subtests?\s*$")
TEXT_ONLY = (_CRASHED, _SUBTESTS)
"""What pytest and xdist say instead of an exception."""


def red_outcome(phase: FailurePhase, errors: Sequence[Error], text: str) -> Red:
    """Return the outcome of a failed report of one phase: what was raised, or, without that, the `text` printed."""
    if not errors and _CRASHED.match(text):
        return "crashed"
    if errors and errors[0].type.rpartition(".")[2] == "Failed" and _TIMEOUT.match(errors[0].message):
        return "timeout"
    return "failed" if phase == "call" else "error"


def failure_of(phase: FailurePhase, errors: Sequence[Error], text: str) -> Failure | None:
    """Return the failure of one report; its text is kept only where no exception could be had.

    `None` for a test that failed by its subtests alone: those have reports of their own.
    """
    if errors:
        return Failure(phase=phase, errors=tuple(errors))
    if not text.strip() or _SUBTESTS.match(text):
        return None
    return Failure(phase=phase, errors=(), text=clip(text, MESSAGE))


def reason_of(outcome: Outcome, text: str) -> str:
    """Return why a red test ended where no exception says so: the text printed."""
    return clip(text.strip(), MESSAGE) if outcome == "crashed" or _SUBTESTS.match(text) else ""
