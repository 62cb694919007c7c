"""Spans and metrics of a run's folder, one after the other: memory does not grow with the files."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from pytest_tracetriage.collect.opening import lines, open_source
from pytest_tracetriage.collect.runs import open_run, unfinished
from pytest_tracetriage.model.analysis import Problem
from pytest_tracetriage.model.trace import Metric, Span

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from pathlib import Path

MAX_SHOWN = 20_000
"""Spans of one trace that are held at once."""
_HEAD = 32
_SPAN, _METRIC, _TRACE = b'"record":"span"', b'"record":"metric"', b'"record":"trace"'
_decode_span = msgspec.json.Decoder(Span).decode
_decode_metric = msgspec.json.Decoder(Metric).decode


class _Named(msgspec.Struct, gc=False):
    id: str
    nodeid: str


def read_spans(folder: Path) -> Iterator[Span | Metric | Problem]:
    """Yield the spans and metrics of a run in the order of its files, and a problem for each that cannot be read."""
    for path in open_run(folder).traces:
        yield from spans_in(path)


def spans_in(path: Path) -> Iterator[Span | Metric | Problem]:
    """Yield the spans and metrics of one file of records, and a problem for each that cannot be read."""
    try:
        with open_source(path) as file:
            for number, line in lines(file):
                if line is None:
                    yield Problem(str(path), number, "the line is too long and was skipped")
                    continue
                head = line[:_HEAD]
                try:
                    if _SPAN in head:
                        yield _decode_span(line)
                    elif _METRIC in head:
                        yield _decode_metric(line)
                except (msgspec.MsgspecError, RecursionError) as error:
                    yield Problem(str(path), number, f"neither a span nor a metric: {error}")
    except (OSError, EOFError) as error:
        yield Problem(str(path), 0, getattr(error, "strerror", None) or str(error))


def spans_of(folder: Path, traces: Collection[str]) -> tuple[dict[str, list[Span]], int]:
    """Return the spans of these traces by trace id, at most 20,000 each, and how many lines could not be read.

    Of a trace with more, those that ended first are left out: what failed at last, and what is around it, is there.
    """
    found: dict[str, list[Span]] = {}
    bad = 0
    for item in read_spans(folder):
        if isinstance(item, Problem):
            bad += 1
        elif isinstance(item, Span) and item.trace in traces:
            held = found.setdefault(item.trace, [])
            held.append(item)
            if len(held) >= 2 * MAX_SHOWN:
                del held[:-MAX_SHOWN]
    return {trace: held[-MAX_SHOWN:] for trace, held in found.items()}, bad


def node_ids(folder: Path, traces: Collection[str]) -> dict[str, str]:
    """Return the node ids of these traces by trace id, those included that a dead process left unfinished."""
    decode = msgspec.json.Decoder(_Named).decode
    files = open_run(folder)
    found = {trace.id: trace.nodeid for trace in unfinished(files) if trace.id in traces}
    for path in files.traces:
        try:
            with open_source(path) as file:
                for _, line in lines(file):
                    if line is not None and _TRACE in line[:_HEAD]:
                        try:
                            named = decode(line)
                        except msgspec.MsgspecError:
                            continue  # told by whoever analyses the run
                        if named.id in traces:
                            found[named.id] = named.nodeid
        except (OSError, EOFError):
            continue
    return found
