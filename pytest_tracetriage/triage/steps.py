"""What triage keeps of a span: enough to find where a trace broke, little enough to keep it of every red one.

Which trace is red is known only when its record comes, after its spans; in another order, or from another shard, long before.
So a summary keeps the steps of red traces, and of those whose record it has not seen. Every bound on them is a smallest k.
"""

from __future__ import annotations

import re
from hashlib import blake2b
from typing import TYPE_CHECKING

import msgspec

from pytest_tracetriage.model.trace import Span
from pytest_tracetriage.triage.calls import signal

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

MAX_STEPS = 1_000
"""Steps that are kept of one trace: those that failed, then those that began first."""
MAX_WAITING = 20_000
"""Traces without a record whose steps are kept."""
MAX_TEXT = 600
_AS_LINES = 256
_RAISED = re.compile(r"([A-Za-z_][\w.]*)(?::\s|:?$)")
_NOTHING = frozenset(["", "null", '""', "[]", "{}", '"None"'])
_WAIT = (
    r'"(?:still )?(?:pending|queued|scheduled|waiting|starting|in[ _-]?progress|processing|running'
    r'|not (?:ready|done|finished))(?: yet)?[.…]*"'
)
_NOT_YET = re.compile(rf'(?i)^{_WAIT}$|"(?:status|state|phase)"\s*:\s*{_WAIT}')
"""A state that asks for patience: who is told so calls again, and that is polling, not a loop."""

_decode_span = msgspec.json.Decoder(Span).decode


class Step(msgspec.Struct, frozen=True, order=True, gc=False):
    """One span. The order of its first fields decides which steps of a trace are kept."""

    calm: bool
    """Whether it neither failed nor was cut short."""
    start: float
    id: str
    parent: str
    name: str
    kind: str
    component: str
    duration: float
    outcome: str
    stop_reason: str
    rationale: str
    type: str
    """Qualified name of the error's type, "" where none was raised."""
    message: str
    digest: str
    """Equal for the same call with the same inputs; "" where that is not known."""
    result: str
    """A hash of what came out or was raised, "" where nothing did that could tell one result from another."""
    values: tuple[str, ...]
    """Short texts that came out, as the whole or as a field: what an assertion may have compared."""
    signal: str
    """What is wrong with the answer of a model or tool that raised nothing, as `word: detail`."""

    @property
    def end(self) -> float:
        """Return when it ended, in seconds since the epoch."""
        return self.start + self.duration

    @property
    def declared(self) -> bool:
        """Return whether it ended badly by its own word, with nothing raised."""
        return not self.type and self.outcome != "success"


def step_of(span: Span) -> Step:
    """Return what is kept of a span."""
    kind, message = split_error(span.error)
    wrong = "" if kind else signal(span)
    told = span.error or ("" if span.output in _NOTHING or _NOT_YET.search(span.output[:MAX_TEXT]) else span.output)
    return Step(
        calm=not kind and span.outcome == "success" and not wrong,
        start=span.start,
        id=span.id,
        parent=span.parent,
        name=span.name,
        kind=span.kind,
        component=span.component,
        duration=span.duration,
        outcome=span.outcome,
        stop_reason=span.stop_reason,
        rationale=span.rationale[:MAX_TEXT],
        type=kind,
        message=message[:MAX_TEXT],
        digest=span.digest,
        result=blake2b(told.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest() if told else "",
        values=_values(span.output),
        signal=wrong,
    )


def smallest(steps: Iterable[Step]) -> frozenset[Step]:
    """Return the steps that are kept of these."""
    some = frozenset(steps)
    return some if len(some) <= MAX_STEPS else frozenset(sorted(some)[:MAX_STEPS])


def split_error(text: str) -> tuple[str, str]:
    """Return (qualified type, message) of `Type: message`; of a text that names no type, `Error` and the text."""
    found = _RAISED.match(text)
    if found is None:
        return ("Error", text) if text else ("", "")
    return found[1], text[found.end() :].strip()


def _values(output: str) -> tuple[str, ...]:
    """Return the short texts of an output: itself, or its fields."""
    if not output.startswith(('"', "{", "[")):
        return ()
    try:
        value = msgspec.json.decode(output)
    except (msgspec.DecodeError, RecursionError):
        return ()
    return tuple(dict.fromkeys(text for text in _texts(value, 2) if 3 <= len(text) <= 80))[:8]


def _texts(value: object, depth: int) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, (dict, list)) and depth:
        for item in value.values() if isinstance(value, dict) else value:
            yield from _texts(item, depth - 1)


class _Lines:
    """The spans of one trace: lines, made steps only when there are many or they are wanted."""

    __slots__ = ("lines", "steps")

    def __init__(self) -> None:
        self.lines: list[tuple[int, bytes]] = []
        self.steps: frozenset[Step] = frozenset()


class Waiting:
    """The spans of traces whose record has not come. `problems` gets what cannot be read, as (line, message)."""

    def __init__(self) -> None:
        self.problems: list[tuple[int, str]] = []
        self.traces: dict[str, _Lines] = {}

    def add(self, trace: str, number: int, line: bytes) -> None:
        """Keep a line that holds a span of `trace`."""
        found = self.traces.get(trace)
        if found is None:
            found = self.traces[trace] = _Lines()
            if len(self.traces) > 2 * MAX_WAITING:
                for name in self.traces.keys() - fewest(self.traces):
                    del self.traces[name]
        found.lines.append((number, line))
        if len(found.lines) > _AS_LINES:
            self._read(found)

    def forget(self, trace: str) -> None:
        """Drop the spans of a trace that is not red."""
        self.traces.pop(trace, None)

    def take(self, trace: str) -> frozenset[Step]:
        """Return the steps of a red trace, which is no longer waited for."""
        found = self.traces.pop(trace, None)
        return self._read(found) if found is not None else frozenset()

    def rest(self) -> dict[str, frozenset[Step]]:
        """Return the steps of the traces that are still waited for: their records may stand in another shard."""
        return {trace: self._read(self.traces[trace]) for trace in fewest(self.traces)}

    def _read(self, found: _Lines) -> frozenset[Step]:
        steps = []
        for number, line in found.lines:
            try:
                steps.append(step_of(_decode_span(line)))
            except (msgspec.MsgspecError, RecursionError) as error:
                self.problems.append((number, f"not a whole span: {error}"))
        found.lines = []
        found.steps = smallest([*found.steps, *steps])
        return found.steps


def fewest(traces: Iterable[str]) -> list[str]:
    """Return at most `MAX_WAITING` of these traces: the smallest by hash."""
    names = list(traces)
    if len(names) <= MAX_WAITING:
        return names
    return sorted(names, key=lambda name: blake2b(name.encode("utf-8", "surrogatepass"), digest_size=8).digest())[:MAX_WAITING]
