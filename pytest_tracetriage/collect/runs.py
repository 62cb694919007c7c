"""Run folders of our own: their files, tests in the order in which they ran, spans, and what ran when a process died."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

import msgspec

from pytest_tracetriage.collect.formats import Format, lines, open_source
from pytest_tracetriage.model.analysis import Problem
from pytest_tracetriage.model.trace import Error, Failure, Metric, Source, Span, Start, Trace
from pytest_tracetriage.store.runs import StoreError, is_alive, read_run
from pytest_tracetriage.store.writer import SLOT_SUFFIX, read_slot, tail, was_finished

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence
    from pathlib import Path

    from pytest_tracetriage.collect.formats import Item
    from pytest_tracetriage.model.run import Run


_decode = msgspec.json.Decoder(Trace).decode


@dataclass(frozen=True)
class RunFiles:
    """A run folder: its run (None where `run.json` cannot be read), its trace files, and what was wrong."""

    folder: Path
    run: Run | None
    traces: tuple[Path, ...]
    problems: tuple[Problem, ...]


def is_run_folder(path: Path) -> bool:
    """Return whether a folder holds a run."""
    return (path / "run.json").is_file() or (path / "traces").is_dir()


def open_run(folder: Path) -> RunFiles:
    """Return what a run folder holds."""
    problems = []
    run = None
    try:
        run = read_run(folder)
    except StoreError as error:
        problems.append(Problem(str(folder / "run.json"), 0, str(error).partition(": ")[2] or str(error)))
    traces = tuple(sorted((folder / "traces").glob("*.jsonl*")))
    return RunFiles(folder, run, traces, tuple(problems))


def run_name(files: RunFiles) -> str:
    """Return what the ids of a run's traces are unique in."""
    return files.run.id if files.run is not None else files.folder.name


def unfinished(files: RunFiles) -> list[Trace]:
    """Return a trace for each test that a dead process of the run left unfinished, with outcome crashed or timeout."""
    if files.run is not None and is_alive(files.run):
        return []
    found = []
    for slot in sorted((files.folder / "traces").glob(f"*{SLOT_SUFFIX}")):
        start = read_slot(slot)
        records = slot.with_suffix(".jsonl")
        if start is None:  # a node id too long for the slot was written as a record
            start = next(_starts(records), None)
        if start is not None and not was_finished(records, start.id):
            stack = next((late.stack for late in _starts(records) if late.stack is not None and late.id == start.id), None)
            found.append(_ended(start, stack))
    return found


def _ended(start: Start, stack: Failure | None) -> Trace:
    if stack is not None:
        return Trace(
            id=start.id,
            nodeid=start.nodeid,
            outcome="timeout",
            start=start.start,
            failure=stack,
            reason="ended by its timeout",
        )
    failure = Failure(phase="call", errors=(Error(type="ProcessCrash", message="the process died while this test ran"),))
    return Trace(
        id=start.id,
        nodeid=start.nodeid,
        outcome="crashed",
        start=start.start,
        failure=failure,
        reason="the process died",
    )


def _starts(path: Path) -> Iterator[Start]:
    """Yield the start records near the end of a file, the last first."""
    for line in reversed(tail(path)):
        if b'"record":"start"' in line:
            try:
                yield msgspec.json.decode(line, type=Start)
            except (msgspec.MsgspecError, RecursionError):
                continue


def sniff(head: bytes) -> bool:
    """Return whether a file holds records of a run."""
    return head.lstrip()[:11].replace(b" ", b"").startswith(b'{"record":')


def read(file: BinaryIO, name: str) -> Iterator[Item]:
    """Yield the traces of a file of records, whole. `triage.stream` reads the same faster where only clusters are asked."""
    for number, line in lines(file):
        if line is None or not line.strip():
            if line is None:
                yield Problem(name, number, "the line is too long and was skipped")
            continue
        if b'"record":"trace"' not in line[:32]:
            continue
        try:
            yield _decode(line)
        except (msgspec.MsgspecError, RecursionError) as error:
            yield Problem(name, number, f"not a trace: {error}")


def read_function_sources(path: str | Path) -> Iterator[Source]:
    """Yield the function sources that a file of records keeps. Raises OSError."""
    with open_source(path) as file:
        for _, line in lines(file):
            if line is not None and b'"record":"source"' in line[:40]:
                try:
                    yield msgspec.json.decode(line, type=Source)
                except (msgspec.MsgspecError, RecursionError):
                    continue


FORMAT = Format("tracetriage", sniff, read)


class Attempt(msgspec.Struct, frozen=True, gc=False):
    """The last attempt at a test. `process` is `main` or the name of an xdist worker."""

    nodeid: str
    outcome: str
    start: float
    seconds: float
    process: str


class _Head(msgspec.Struct, gc=False):
    """As much of a trace as matters here."""

    nodeid: str
    outcome: str
    start: float = 0.0
    phases: dict[str, float] = {}
    rerun: bool = False
    subtest: str = ""


def attempts_of(folder: Path) -> list[Attempt]:
    """Return the tests of a run's folder by the time at which they began, those of one process in its order.

    What cannot be read is left out.
    """
    found: dict[str, Attempt] = {}
    for path in open_run(folder).traces:
        process = path.name.partition(".")[0]
        for head in _heads(path):
            if not head.rerun and not head.subtest and "::" in head.nodeid:
                found.pop(head.nodeid, None)
                found[head.nodeid] = Attempt(head.nodeid, head.outcome, head.start, sum(head.phases.values()), process)
    return sorted(found.values(), key=lambda attempt: attempt.start)


def before(nodeid: str, attempts: Sequence[Attempt]) -> tuple[str, ...]:
    """Return what had run before a test in its process, in that order; nothing for a test that did not run."""
    place = next((number for number, attempt in enumerate(attempts) if attempt.nodeid == nodeid), 0)
    return tuple(one.nodeid for one in attempts[:place] if one.process == attempts[place].process)


def _heads(path: Path) -> Iterator[_Head]:
    decode = msgspec.json.Decoder(_Head).decode
    try:
        with open_source(path) as file:
            for _, line in lines(file):
                if line is not None and line.startswith(b'{"record":"trace"'):
                    try:
                        yield decode(line)
                    except (msgspec.MsgspecError, RecursionError):
                        continue
    except (OSError, EOFError):
        return


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
