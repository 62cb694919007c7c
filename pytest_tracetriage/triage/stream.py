"""A summary straight from the lines of a run: only what a signature needs is decoded.

The frames of repeated failures are the same bytes again and again; they are looked up by those bytes instead of being
decoded. A whole record is decoded only when it becomes an exemplar.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from pytest_tracetriage.collect.totals import count
from pytest_tracetriage.model.trace import FAILING, Frame, Trace
from pytest_tracetriage.model.trace import Source as FunctionSource
from pytest_tracetriage.triage import summary as summaries
from pytest_tracetriage.triage.signature import Key, Landmarks, identify, key_of, landmarks
from pytest_tracetriage.triage.summary import EXEMPLARS, SUBTEST, Summary

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from pytest_tracetriage.model.analysis import Source

MAX_REMEMBERED = 20_000


_NO_LATER = b"[]"


class _Error(msgspec.Struct, gc=False):
    type: str
    message: str = ""
    frames: msgspec.Raw = msgspec.Raw(b"[]")
    link: str = "raised"
    parent: int = -1


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


_decode_head = msgspec.json.Decoder(_Head).decode
_decode_frames = msgspec.json.Decoder(tuple[Frame, ...]).decode
_decode_trace = msgspec.json.Decoder(Trace).decode
_decode_source = msgspec.json.Decoder(FunctionSource).decode
_RECORDS = {"start", "span", "metric", "warning"}


def summarize_lines(
    lines: Iterable[tuple[int, bytes | None]],
    name: str,
    shard: str,
    source: Source,
    watch: frozenset[str] = frozenset(),
    explain: Callable[[bytes | None], str] = lambda _line: "",
) -> Summary:
    """Return the summary of numbered lines of a run's records. A line that cannot be read becomes a problem.

    `explain(line)` says in words why a line is no text at all; `name` is the file's, for problems.
    """
    reader = _Reader(Summary(sources={shard: source}), watch)
    problems = reader.summary.problems
    for number, line in lines:
        if line is not None and not line.strip():
            continue
        try:
            if line is None:
                raise ValueError("the line is too long")
            reader.add(line)
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            problems.add((name, number, explain(line) or f"not a record of a run: {error}"))
    reader.summary.totals[shard] = reader.counts
    return reader.finish()


class _Reader:
    """What is remembered while the lines of one shard go by."""

    def __init__(self, summary: Summary, watch: frozenset[str]) -> None:
        self.summary = summary
        self.counts: dict[str, int] = {}
        self._watch = watch
        self._ids: dict[Key, str] = {}
        self._marks: dict[bytes, Landmarks] = {}
        self._kept: dict[str, dict[bytes, list[bytes]]] = {}
        """Lines of the lowest ranks by signature: decoded only at the end, when most have been displaced."""

    def add(self, line: bytes) -> None:
        """Take in one record. Raises msgspec.MsgspecError, ValueError, RecursionError."""
        head = _decode_head(line)
        if head.record != "trace":
            if head.record == "source":
                summaries.keep_text(self.summary, _decode_source(line))
            elif head.record not in _RECORDS:
                raise ValueError(f"no such record: {head.record[:40]!r}")
            return
        failure = head.failure
        if failure is not None and head.outcome in FAILING and not head.rerun:
            self._add_failure(head, failure, line)
        if failure is not None and failure.phase == "collect":
            self.summary.uncollected.add(head.nodeid)
        else:
            count(self.counts, head.outcome, rerun=head.rerun, subtest=bool(head.subtest))
        if self._watch and head.outcome == "passed":
            self.summary.passed |= summaries.watched(head.nodeid, self._watch)

    def _add_failure(self, head: _Head, failure: _Failure, line: bytes) -> None:
        if len(head.later) > len(_NO_LATER):
            summaries.add_trace(self.summary, _decode_trace(line))
            return
        marks = [self._landmarks(error.frames) for error in failure.errors]
        parts = key_of(failure.phase, failure.errors, marks, failure.text)
        signature = self._ids.get(parts)
        if signature is None:
            signature = self._ids[parts] = identify(parts)
        found = summaries.occurrences(self.summary, signature, parts)
        member = f"{head.nodeid}{SUBTEST}{head.subtest}" if head.subtest else head.nodeid
        summaries.seen(found, member, head.start, later=failure.phase == "teardown")
        kept = self._kept.get(signature)
        if kept is None:
            kept = self._kept[signature] = {}
        rank = summaries.sample_rank(member)
        if rank in kept:
            kept[rank].append(line)
        elif len(kept) < EXEMPLARS:
            kept[rank] = [line]
        elif rank < (highest := max(kept)):
            del kept[highest]
            kept[rank] = [line]

    def _landmarks(self, raw: msgspec.Raw) -> Landmarks:
        data = bytes(raw)
        found = self._marks.get(data)
        if found is None:
            if len(self._marks) > MAX_REMEMBERED:
                self._marks.clear()
            found = self._marks[data] = landmarks(_decode_frames(data))
        return found

    def finish(self) -> Summary:
        """Return the summary, with its exemplars decoded."""
        for signature, kept in self._kept.items():
            found = self.summary.signatures[signature]
            for rank, lines in kept.items():
                for line in dict.fromkeys(lines):
                    trace = _decode_trace(line)
                    if trace.failure is not None:
                        summaries.offer(found, summaries.sample_of(trace, trace.failure, rank))
        return self.summary
