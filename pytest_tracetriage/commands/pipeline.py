"""From sources to an analysis: read, summarise (on all cores where it pays), merge, triage."""

from __future__ import annotations

import gc
import itertools
import os
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, cast

import msgspec

from pytest_tracetriage.collect import junit, reportlog, runs
from pytest_tracetriage.collect.formats import HEAD, Format, complaint, lines, open_source, sniff
from pytest_tracetriage.commands.project import given, read_history
from pytest_tracetriage.model.analysis import Problem, Source
from pytest_tracetriage.triage.analyze import analyze
from pytest_tracetriage.triage.stream import summarize_lines
from pytest_tracetriage.triage.summary import Summary, absorb, merge, summarize

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from pytest_tracetriage.collect.formats import Item
    from pytest_tracetriage.config import Settings
    from pytest_tracetriage.model.analysis import Analysis

BUILT_IN: tuple[Format, ...] = (runs.FORMAT, reportlog.FORMAT, junit.FORMAT)
CHUNK = 32 * 1024 * 1024
"""Bytes below which a second process is not worth its start."""


@dataclass(frozen=True)
class Part:
    """A piece of work: bytes `start` to `end` (0: to its end) of one file. Ids of traces are unique in `run`."""

    path: str
    format: str
    shard: str
    source: Source
    start: int = 0
    end: int = 0
    run: str = ""


@dataclass(frozen=True)
class Plan:
    """What is to be read, and what is known before reading."""

    parts: tuple[Part, ...]
    ready: Summary
    runs: tuple[str, ...]
    """Ids of the runs among the sources."""


def analyse_run(settings: Settings, folder: Path, hooks: Any) -> Analysis:
    """Return the analysis of one finished run, in the light of the runs before it."""
    history = read_history(settings.folder, before=folder.name)
    notes: list[str] = []
    told = given(settings, history.known(), hooks, notes)
    summary = read(plan([folder], BUILT_IN, running=True), BUILT_IN, history.watch())
    return with_notes(analyze(summary, told), notes)


BESIDE = "tracetriage"
"""What stands as the file of a problem that lies beside the traces: decisions that cannot be read, a plugin's fault."""


def with_notes(analysis: Analysis, notes: list[str]) -> Analysis:
    """Return the analysis with what went wrong beside the traces among its problems."""
    problems = tuple(Problem(BESIDE, 0, note) for note in notes)
    return msgspec.structs.replace(analysis, problems=(*analysis.problems, *problems)) if notes else analysis


def notify(hooks: Any, analysis: Analysis) -> str:
    """Tell the plugins of an analysis; return in one line what one of them raised, "" when none did."""
    try:
        hooks.pytest_tracetriage_notify(analysis=analysis)
    except Exception as error:
        return f"pytest_tracetriage_notify raised {type(error).__name__}: {error}"
    return ""


def plan(paths: Sequence[Path], formats: Sequence[Format], forced: str = "", *, running: bool = False) -> Plan:
    """Return the pieces of work that the sources fall into. What cannot be read is a problem of `ready`.

    `running` says that the run is this very process's: its `run.json` still says so.
    """
    parts: list[Part] = []
    ready = Summary()
    ids: list[str] = []
    for path in paths:
        if path.is_dir():
            folders = [path] if runs.is_run_folder(path) else sorted({found.parent for found in path.rglob("run.json")})
            if not folders:
                _problem(ready, path, "no run in this folder (expected run.json and traces/)")
            for folder in folders:
                ids += _plan_run(folder, parts, ready, running=running)
        else:
            _plan_file(path, formats, forced, parts, ready)
    return Plan(tuple(parts), ready, tuple(ids))


def _problem(summary: Summary, path: Path, message: str) -> None:
    summary.problems.add((str(path), 0, message))


def _plan_run(folder: Path, parts: list[Part], ready: Summary, *, running: bool) -> list[str]:
    files = runs.open_run(folder)
    ready.problems.update((problem.file, problem.line, problem.message) for problem in files.problems)
    run = files.run
    identity = runs.run_name(files)
    source = Source(
        id=identity,
        format="tracetriage",
        path=str(folder),
        started=run.started if run is not None else 0.0,
        commit=run.context.git.commit if run is not None else "",
        group=run.group if run is not None else "",
    )
    ready.sources[f"{folder.resolve()}"] = source
    for trace_file in files.traces:
        _split(trace_file, "tracetriage", source, identity, parts)
    dead = [] if running else runs.unfinished(files)
    if dead:
        shard = f"{folder.resolve()}#unfinished"
        late = merge(ready, summarize(dead, shard, source, run=identity))
        late.sources.pop(shard)
        ready.signatures, ready.totals, ready.sources, ready.red = late.signatures, late.totals, late.sources, late.red
    return [identity]


def _plan_file(path: Path, formats: Sequence[Format], forced: str, parts: list[Part], ready: Summary) -> None:
    try:
        with open_source(path) as file:
            head = file.read(HEAD)
    except FileNotFoundError:
        return _problem(ready, path, "no such file or folder")
    except (OSError, EOFError) as error:
        return _problem(ready, path, getattr(error, "strerror", None) or str(error))
    if not head.strip():
        return _problem(ready, path, "empty: no test was recorded")
    found = next((item for item in formats if item.name == forced), None) if forced else sniff(head, formats)
    if found is None:
        names = ", ".join(item.name for item in formats)
        return _problem(ready, path, f"of no known format ({names}); say which with --from FORMAT")
    source = Source(id=path.name, format=found.name, path=str(path))
    ready.sources[str(path.resolve())] = source
    _split(path, found.name, source, str(path), parts)
    return None


def _split(path: Path, format_name: str, source: Source, run: str, parts: list[Part]) -> None:
    """Add a file as parts: plain files of our own in pieces that end with a line, others whole."""
    resolved = str(path.resolve())
    try:
        stat = path.stat()
        with path.open("rb") as file:
            own = format_name == "tracetriage" and file.read(1) in {b"{", b"\n"}
    except OSError:
        own = False
        stat = None
    etag = f"{stat.st_size}-{stat.st_mtime_ns}" if stat is not None else ""
    if not own or stat is None or stat.st_size <= CHUNK:
        parts.append(Part(str(path), format_name, f"{resolved}@{etag}", source, run=run))
        return
    # As few parts as there are processes: each part keeps exemplars of its own, which must be decoded.
    number = min(os.cpu_count() or 1, stat.st_size // CHUNK + 1)
    bounds = [stat.st_size * index // number for index in range(number + 1)]
    parts += [
        Part(str(path), format_name, f"{resolved}@{etag}:{start}", source, start, end, run)
        for start, end in itertools.pairwise(bounds)
    ]


def read(
    todo: Plan,
    formats: Sequence[Format],
    watch: frozenset[str] = frozenset(),
    progress: Callable[[int], None] | None = None,
) -> Summary:
    """Return the summary of all parts. `progress` is told the bytes of each part that is done."""
    summaries: Iterable[Summary]
    custom = {item.name for item in formats} - {item.name for item in BUILT_IN}
    large = sum(size(part) for part in todo.parts) > CHUNK // 2 and len(todo.parts) > 1
    processes = min(os.cpu_count() or 1, len(todo.parts))
    if large and processes > 1 and not custom:
        with ProcessPoolExecutor(processes) as pool:
            summaries = _told(pool.map(_read_built_in, todo.parts, [watch] * len(todo.parts)), todo.parts, progress)
            merged: Summary | None = None
            for summary in summaries:  # each is ours alone: taken in without a copy of the first
                if merged is None:
                    merged = summary
                else:
                    absorb(merged, summary)
                    summary.signatures.clear()
            absorb(merged or Summary(), todo.ready)
        return _one_source_each(merged or Summary(), todo)
    summaries = _told((read_part(part, formats, watch) for part in todo.parts), todo.parts, progress)
    return _one_source_each(merge(todo.ready, *summaries), todo)


def _told(summaries: Iterable[Summary], parts: Sequence[Part], progress: Callable[[int], None] | None) -> Iterator[Summary]:
    for part, summary in zip(parts, summaries, strict=True):
        if progress is not None:
            progress(size(part))
        yield summary


def size(part: Part) -> int:
    """Return how many bytes a part has on disk."""
    try:
        return (part.end - part.start) if part.end else Path(part.path).stat().st_size
    except OSError:
        return 0


def _one_source_each(summary: Summary, todo: Plan) -> Summary:
    """Name each source once, however many parts it had."""
    summary.sources = dict(todo.ready.sources)
    return summary


def _read_built_in(part: Part, watch: frozenset[str]) -> Summary:
    gc.disable()  # millions of records and not one cycle among them: looking for cycles would double the time
    return read_part(part, BUILT_IN, watch)


def read_part(part: Part, formats: Sequence[Format], watch: frozenset[str] = frozenset()) -> Summary:
    """Return the summary of one part. A stream that breaks keeps what came before, and becomes a problem."""
    try:
        with open_source(part.path) as file:
            if part.format == "tracetriage":
                return _read_own(file, part, watch)
            reader = next(item for item in formats if item.name == part.format)
            return summarize(_whole(reader, file, part.path), part.shard, part.source, watch, part.run)
    except (OSError, EOFError) as error:
        message = getattr(error, "strerror", None) or str(error)
        return Summary(sources={part.shard: part.source}, problems={(part.path, 0, message)})


def _read_own(file: BinaryIO, part: Part, watch: frozenset[str]) -> Summary:
    broken: list[str] = []
    numbered = _unbroken(_lines_of(file, part) if part.end else lines(file), broken)
    summary = summarize_lines(numbered, part.path, part.shard, part.source, watch, complaint, part.run)
    if part.start and summary.problems:
        before = _newlines(part.path, part.start)
        summary.problems = {(name, line + before, message) for name, line, message in summary.problems}
    summary.problems.update((part.path, 0, f"{message}; what came before was kept") for message in broken)
    return summary


def _newlines(path: str, end: int) -> int:
    """Return how many lines end before byte `end`, the line that runs across it included."""
    found = 1
    with open(path, "rb") as file:
        while (left := end - file.tell()) > 0 and (chunk := file.read(min(left, 1 << 20))):
            found += chunk.count(b"\n")
        file.seek(end - 1)
        return found - (file.read(1) == b"\n")


def _whole(reader: Format, file: BinaryIO, name: str) -> Iterator[Item]:
    try:
        yield from reader.read(file, name)
    except (OSError, EOFError) as error:
        yield Problem(name, 0, f"{error}; what came before was kept")


def _unbroken(numbered: Iterator[tuple[int, bytes | None]], broken: list[str]) -> Iterator[tuple[int, bytes | None]]:
    try:
        yield from numbered
    except (OSError, EOFError) as error:
        broken.append(str(error))


def _lines_of(file: BinaryIO, part: Part) -> Iterator[tuple[int, bytes | None]]:
    """Yield the lines that begin in the part. Numbers are counted from the part's first line where it starts late."""
    file.seek(part.start)
    if part.start:
        file.seek(part.start - 1)
        file.readline()  # the line that the part before finishes
    yield from lines(cast("BinaryIO", _Until(file, part.end)))


class _Until:
    """A view of a file that ends with the line that holds byte `end - 1`."""

    def __init__(self, file: BinaryIO, end: int) -> None:
        self._file = file
        self._end = end

    def read(self, size: int) -> bytes:
        position = self._file.tell()
        if position >= self._end:
            return b""
        data = self._file.read(min(size, self._end - position))
        if self._file.tell() >= self._end and not data.endswith(b"\n"):
            data += self._file.readline()
        return data
