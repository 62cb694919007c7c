"""Loops: the same call again and again with the same result, or a short cycle of calls.

Calls are the same when their digests (name and inputs) are equal, and so are their results. What is called again because the
last try met a rate limit or a time-out is a retry; what gives another result each time (polling) or gets other inputs
(a batch) is work. Calls that overlap in time (sampling, a pool of threads) are not in a row.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from pytest_tracetriage.triage.steps import Step

TIMES = 3
LONGEST = 4
SLACK = 0.001
"""Seconds by which what follows may seem to begin too early: starts and durations come from two clocks."""


@dataclass(frozen=True)
class Loop:
    """`steps` are the first round; it was gone round `times` times. `open`: the trace ended in it."""

    steps: tuple[Step, ...]
    times: int
    open: bool
    retries: str = ""
    """The categories of the errors that made these calls retries, not a loop."""

    @property
    def words(self) -> str:
        """Return what was repeated, and how often."""
        names = " -> ".join(step.name for step in self.steps)
        if self.retries:
            return f"{names} was retried {self.times - 1} times after {self.retries}"
        what = "with the same inputs and result" if len(self.steps) == 1 else "with the same inputs and results"
        return f"{names}: {self.times} times {what}"


def loops(steps: Sequence[Step], transient: Callable[[Step], str]) -> list[Loop]:
    """Return the loops and retries of a trace, the open ones first, then those of most rounds.

    `transient(step)` names the category of an error after which one tries again, "" for any other.
    """
    found: dict[frozenset[str], Loop] = {}
    ordered = sorted(steps, key=lambda step: (step.start, step.id))
    parents = {step.parent for step in ordered}
    starts = [step.start for step in ordered if step.id not in parents]
    for row in _rows(ordered, parents):
        calls = row.calls
        for first, length, times in _repeats(row):
            members = calls[first : first + length * times]
            rest = len(calls) - first - length * times
            late = sum(start >= members[-1].end for start in starts) - rest
            kinds = sorted({transient(step) for step in members})
            loop = Loop(
                steps=tuple(members[:length]),
                times=times,
                open=rest < length and late <= row.spare,
                retries=" and ".join(kinds) if "" not in kinds else "",
            )
            found.setdefault(frozenset(step.id for step in members), loop)
    return sorted(found.values(), key=lambda loop: (not loop.open, -loop.times, len(loop.steps), loop.steps[0]))


def overlap(earlier: Step, later: Step) -> bool:
    """Return whether a step began before an earlier one had ended."""
    return later.start < earlier.end - SLACK


@dataclass(frozen=True)
class _Row:
    """Calls in the order of their start. `broken` do not follow on the one before; `spare` other calls may follow the last."""

    calls: list[Step]
    broken: frozenset[str]
    spare: int = 0


def _rows(ordered: Sequence[Step], parents: set[str]) -> Iterator[_Row]:
    """Yield what is looked at: the calls under each parent, all that call nothing else, and all of tools."""
    below: dict[str, list[Step]] = {}
    for step in ordered:
        below.setdefault(step.parent, []).append(step)
    for calls in (*below.values(), [step for step in ordered if step.id not in parents]):
        yield _Row(calls, frozenset(later.id for earlier, later in itertools.pairwise(calls) if overlap(earlier, later)))
    yield _tools(ordered)


def _tools(ordered: Sequence[Step]) -> _Row:
    """Return the calls of tools in a row: between them only the model is asked, perhaps once more after the last.

    What a span around the next call does not count; any other work between two calls may have changed something.
    """
    by_id = {step.id: step for step in ordered}
    calls: list[Step] = []
    broken: set[str] = set()
    work: list[Step] = []
    for step in ordered:
        if step.kind == "tool":
            around: set[str] = set()
            parent = by_id.get(step.parent)
            while parent is not None and parent.id not in around:
                around.add(parent.id)
                parent = by_id.get(parent.parent)
            if any(other.id not in around for other in work) or (calls and overlap(calls[-1], step)):
                broken.add(step.id)
            calls.append(step)
            work = []
        elif step.kind not in {"llm", "embedding"}:
            work.append(step)
    return _Row(calls, frozenset(broken), spare=1)


def _repeats(row: _Row) -> Iterator[tuple[int, int, int]]:
    """Yield (first, length, times) of each cycle that is gone round at least three times."""
    calls = row.calls
    keys = [(step.digest, step.result) if step.digest and step.result else None for step in calls]
    covered = 0
    for first in range(len(calls)):
        if first < covered:
            continue
        for length in range(1, LONGEST + 1):
            end = first + 1
            while (
                end < len(calls)
                and calls[end].id not in row.broken
                and (end < first + length or keys[end] == keys[end - length])
            ):
                end += 1
            times = (end - first) // length
            if times >= TIMES and None not in keys[first : first + length]:
                covered = end
                yield first, length, times
                break
