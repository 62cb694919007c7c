"""A summary straight from the lines of a run: only what a signature needs is decoded.

The frames of repeated failures are the same bytes again and again; they are looked up by those bytes instead of being
decoded. A whole record is decoded only when it becomes an exemplar.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from pytest_tracetriage.collect.totals import count
from pytest_tracetriage.model.analysis import Source
from pytest_tracetriage.model.trace import FAILING, Frame, Trace
from pytest_tracetriage.model.trace import Source as FunctionSource
from pytest_tracetriage.triage import summary as summaries
from pytest_tracetriage.triage.signature import Key, Landmarks, identify, key_of, landmarks
from pytest_tracetriage.triage.summary import SUBTEST, Summary

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

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
_RECORDS = {"start", "span", "metric"}


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
    summary = Summary(sources={shard: source})
    counts: dict[str, int] = {}
    ids: dict[Key, str] = {}
    marks: dict[bytes, Landmarks] = {}
    collected: set[str] = set()
    for number, line in lines:
        if line is not None and not line.strip():
            continue
        try:
            if line is None:
                raise ValueError("the line is too long")
            head = _decode_head(line)
            if head.record != "trace":
                if head.record == "source":
                    summaries.keep_text(summary, _decode_source(line))
                elif head.record not in _RECORDS:
                    raise ValueError(f"no such record: {head.record[:40]!r}")
                continue
            failure = head.failure
            if failure is not None and failure.phase == "collect":
                if head.nodeid in collected:
                    continue
                collected.add(head.nodeid)
            if failure is not None and head.outcome in FAILING and not head.rerun:
                _add(summary, head, failure, line, ids, marks)
            count(counts, head.outcome, rerun=head.rerun, subtest=bool(head.subtest))
            if head.outcome == "passed" and head.nodeid in watch:
                summary.passed.add(head.nodeid)
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            summary.problems.add((name, number, explain(line) or f"not a record of a run: {error}"))
    summary.totals[shard] = counts
    return summary


def _add(
    summary: Summary, head: _Head, failure: _Failure, line: bytes, ids: dict[Key, str], marks: dict[bytes, Landmarks]
) -> None:
    if len(marks) > MAX_REMEMBERED:
        marks.clear()
    parts = key_of(failure.phase, failure.errors, [_landmarks(error.frames, marks) for error in failure.errors], failure.text)
    signature = ids.get(parts)
    if signature is None:
        signature = ids[parts] = identify(parts)
    found = summaries.occurrences(summary, signature, parts)
    member = f"{head.nodeid}{SUBTEST}{head.subtest}" if head.subtest else head.nodeid
    summaries.seen(found, member, head.start, later=failure.phase == "teardown")
    if summaries.wanted(found, summaries.sample_rank(member)) or len(head.later) > len(_NO_LATER):
        summaries.add_trace(summary, _decode_trace(line))


def _landmarks(raw: msgspec.Raw, known: dict[bytes, Landmarks]) -> Landmarks:
    data = bytes(raw)
    found = known.get(data)
    if found is None:
        found = known[data] = landmarks(_decode_frames(data))
    return found
