"""Run folders of our own: their files, and the tests that were running when a process died."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

import msgspec

from pytest_tracetriage.collect.formats import Format
from pytest_tracetriage.collect.opening import lines, open_source
from pytest_tracetriage.model.analysis import Problem
from pytest_tracetriage.model.trace import Error, Failure, Source, Start, Trace
from pytest_tracetriage.store.runs import StoreError, is_alive, read_run
from pytest_tracetriage.store.writer import SLOT_SUFFIX, read_slot, tail, was_finished

if TYPE_CHECKING:
    from collections.abc import Iterator
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
