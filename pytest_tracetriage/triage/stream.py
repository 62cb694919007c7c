"""A summary straight from the lines of a run: only what a signature needs is decoded.

The frames of repeated failures are the same bytes again and again; they are looked up by those bytes instead of being
decoded. A whole record is decoded only when it becomes an exemplar.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import msgspec

from pytest_tracetriage.collect.totals import count
from pytest_tracetriage.model.trace import FAILING, Frame, Trace
from pytest_tracetriage.model.trace import Source as FunctionSource
from pytest_tracetriage.triage import summary as summaries
from pytest_tracetriage.triage.signature import Key, Landmarks, identify, key_of, landmarks, shape
from pytest_tracetriage.triage.steps import Step, Waiting, smallest
from pytest_tracetriage.triage.summary import EXEMPLARS, MANY, MAX_RED, SUBTEST, Occurrences, Red, Summary, TraceKey

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from pytest_tracetriage.model.analysis import Source

MAX_REMEMBERED = 20_000


_NO_LATER = b"[]"


class _Error(msgspec.Struct, gc=False):
    type: str
    message: msgspec.Raw = msgspec.Raw(b'""')
    frames: msgspec.Raw = msgspec.Raw(b"[]")
    link: str = "raised"
    parent: int = -1


class _Named(msgspec.Struct, gc=False):
    """What a signature reads of an error beside its frames."""

    type: str
    message: str
    link: str
    parent: int


class _Failure(msgspec.Struct, gc=False):
    phase: str
    errors: tuple[_Error, ...] = ()
    text: str = ""


class _Head(msgspec.Struct, gc=False):
    record: str
    nodeid: str = ""
    outcome: str = ""
    start: float = 0.0
    rerun: bool = False
    subtest: str = ""
    failure: _Failure | None = None
    later: msgspec.Raw = msgspec.Raw(_NO_LATER)


class _Ids(msgspec.Struct, gc=False):
    """The id of a record, and that of the trace that a span is of."""

    id: str = ""
    trace: str = ""


_decode_text = msgspec.json.Decoder(str).decode
_decode_head = msgspec.json.Decoder(_Head).decode
_decode_ids = msgspec.json.Decoder(_Ids).decode
_decode_frames = msgspec.json.Decoder(tuple[Frame, ...]).decode
_decode_trace = msgspec.json.Decoder(Trace).decode
_decode_source = msgspec.json.Decoder(FunctionSource).decode
_RECORDS = {"start", "metric", "warning", "use"}
_HIGHEST = b"\xff" * 9
_TRACE = b'{"record":"trace","id":"'
"""How the record of a trace begins, as we write it: its id need not be looked for in the whole line."""


def summarize_lines(
    lines: Iterable[tuple[int, bytes | None]],
    name: str,
    shard: str,
    source: Source,
    watch: frozenset[str] = frozenset(),
    explain: Callable[[bytes | None], str] = lambda _line: "",
    run: str = "",
) -> Summary:
    """Return the summary of numbered lines of a run's records. A line that cannot be read becomes a problem.

    `explain(line)` says in words why a line is no text at all; `name` is the file's, for problems; `run` is what the
    traces' ids are unique in, the source's id where it is not given.
    """
    reader = _Reader(Summary(sources={shard: source}), watch, run or source.id)
    problems = reader.summary.problems
    for number, line in lines:
        if line is not None and not line.strip():
            continue
        try:
            if line is None:
                raise ValueError("the line is too long")
            reader.add(line, number)
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            problems.add((name, number, explain(line) or f"not a record of a run: {error}"))
    reader.summary.totals[shard] = reader.counts
    return reader.finish(name)


def _id_of(line: bytes) -> str:
    """Return the id of a trace's record."""
    if line.startswith(_TRACE):
        identity, quote, _ = line[len(_TRACE) : len(_TRACE) + 64].partition(b'"')
        if quote and b"\\" not in identity and identity.isascii():
            return identity.decode()
    return _decode_ids(line).id


_Kept = dict[bytes, list[tuple[int, bytes]]]
"""Numbered lines of the lowest ranks: decoded only at the end, when most have been displaced."""


class _Place(NamedTuple):
    """Where the failures of one signature are kept."""

    found: Occurrences
    kept: _Kept
    signature: str


class _Reader:
    """What is remembered while the lines of one shard go by."""

    def __init__(self, summary: Summary, watch: frozenset[str], run: str) -> None:
        self.summary = summary
        self._run = run
        self._waiting = Waiting()
        self._open = self._waiting.traces
        self._highest = _HIGHEST
        """Red traces of a higher rank are not among those that are kept."""
        self.counts: dict[str, int] = {}
        self._watch = watch
        self._ids: dict[Key, str] = {}
        self._marks: dict[bytes, tuple[int, Landmarks]] = {}
        """Landmarks of frames by their bytes, numbered."""
        self._numbered = 0
        self._alike: dict[tuple[int, str, str, bytes], _Place] = {}
        """Where a failure goes by what is cheap to compare: its frames' number, phase, type and the shape of its message."""
        self._kept: dict[str, _Kept] = {}
        self._exemplars = EXEMPLARS

    def add(self, line: bytes, number: int) -> None:
        """Take in one record. Raises msgspec.MsgspecError, ValueError, RecursionError."""
        head = _decode_head(line)
        if head.record != "trace":
            if head.record == "span":
                self._waiting.add(_decode_ids(line).trace, number, line)
            elif head.record == "source":
                summaries.keep_text(self.summary, _decode_source(line))
            elif head.record not in _RECORDS:
                raise ValueError(f"no such record: {head.record[:40]!r}")
            return
        failure = head.failure
        if failure is not None and head.outcome in FAILING and not head.rerun:
            self._add_failure(head, failure, line, number)
        if failure is not None and failure.phase == "collect":
            self.summary.uncollected.add(head.nodeid)
        else:
            count(self.counts, head.outcome, rerun=head.rerun, subtest=bool(head.subtest))
        if self._open:
            self._ended(head, line)
        if self._watch and head.outcome == "passed":
            self.summary.passed |= summaries.watched(head.nodeid, self._watch)

    def _add_failure(self, head: _Head, failure: _Failure, line: bytes, number: int) -> None:
        if len(head.later) > len(_NO_LATER):
            summaries.add_trace(self.summary, _decode_trace(line), self._run)
            return
        place = self._place(failure)
        member = f"{head.nodeid}{SUBTEST}{head.subtest}" if head.subtest else head.nodeid
        summaries.seen(place.found, member, head.start, later=failure.phase == "teardown")
        kept = place.kept
        rank = summaries.sample_rank(member)
        if rank <= self._highest:
            self._note_red(line, Red(rank, member, place.signature, head.outcome))
        if rank in kept:
            kept[rank].append((number, line))
        elif len(kept) < self._exemplars:
            kept[rank] = [(number, line)]
        elif rank < (highest := max(kept)):
            del kept[highest]
            kept[rank] = [(number, line)]

    def _note_red(self, line: bytes, red: Red) -> None:
        summaries.note_red(self.summary, (self._run, _id_of(line)), red)
        if len(self.summary.red) == MAX_RED:  # some were dropped, or the next to come may be
            self._highest = max(red.rank for red in self.summary.red.values())

    def _ended(self, head: _Head, line: bytes) -> None:
        """Keep the spans of a trace whose record has come if it is red, drop them if not."""
        trace = _id_of(line)
        if head.rerun or head.outcome not in FAILING:
            self._waiting.forget(trace)
            return
        key = (self._run, trace)
        if head.failure is None:
            member = f"{head.nodeid}{SUBTEST}{head.subtest}" if head.subtest else head.nodeid
            summaries.note_red(self.summary, key, Red(summaries.sample_rank(member), member, "", head.outcome))
        if (steps := self._waiting.take(trace)) and key in self.summary.red:
            self._keep(key, steps)

    def _keep(self, key: TraceKey, steps: frozenset[Step]) -> None:
        kept = self.summary.steps
        kept[key] = smallest(steps | kept[key]) if key in kept else steps

    def _place(self, failure: _Failure) -> _Place:
        errors = failure.errors
        if len(errors) != 1:
            return self._place_by_key(failure, [self._landmarks(error.frames)[1] for error in errors])
        error = errors[0]
        number, marks = self._landmarks(error.frames)
        alike = (number, failure.phase, error.type, shape(bytes(error.message)))
        place = self._alike.get(alike)
        if place is None:
            place = self._place_by_key(failure, [marks])
            # The shape does not tell one port from another, and a signature may name one.
            if b"onnect" not in bytes(error.message):
                if len(self._alike) > MAX_REMEMBERED:
                    self._alike.clear()
                self._alike[alike] = place
        return place

    def _place_by_key(self, failure: _Failure, marks: list[Landmarks]) -> _Place:
        errors = [_Named(error.type, _decode_text(error.message), error.link, error.parent) for error in failure.errors]
        parts = key_of(failure.phase, errors, marks, failure.text)
        signature = self._ids.get(parts)
        if signature is None:
            signature = self._ids[parts] = identify(parts)
        found = summaries.occurrences(self.summary, signature, parts)
        kept = self._kept.setdefault(signature, {})
        if len(self._kept) > MANY and self._exemplars > 1:
            self._exemplars = 1
            for lines in self._kept.values():
                for rank in sorted(lines)[1:]:
                    del lines[rank]
        return _Place(found, kept, signature)

    def _landmarks(self, raw: msgspec.Raw) -> tuple[int, Landmarks]:
        data = bytes(raw)
        found = self._marks.get(data)
        if found is None:
            if len(self._marks) > MAX_REMEMBERED:
                self._marks.clear()
            self._numbered += 1
            found = self._marks[data] = self._numbered, landmarks(_decode_frames(data))
        return found

    def finish(self, name: str) -> Summary:
        """Return the summary, with its exemplars decoded."""
        for trace_id, steps in self._waiting.rest().items():
            self._keep((self._run, trace_id), steps)
        summaries.few_red(self.summary)
        self.summary.problems.update((name, number, message) for number, message in self._waiting.problems)
        for signature, kept in self._kept.items():
            found = self.summary.signatures[signature]
            for rank, lines in kept.items():
                for number, line in lines:
                    try:
                        trace = _decode_trace(line)
                    except (msgspec.MsgspecError, RecursionError) as error:
                        self.summary.problems.add((name, number, f"not a whole trace: {error}"))
                        continue
                    if trace.failure is not None:
                        summaries.offer(found, summaries.sample_of(trace, trace.failure, rank))
        return self.summary
