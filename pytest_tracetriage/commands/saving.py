"""`--save`: what other tools recorded, kept as a run of this project."""

from __future__ import annotations

import itertools
import os
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from pytest_tracetriage.collect.formats import open_source
from pytest_tracetriage.collect.runs import FORMAT, open_run, read_function_sources, run_name, spans_in, unfinished
from pytest_tracetriage.collect.totals import pass_rate
from pytest_tracetriage.commands import pipeline
from pytest_tracetriage.commands.accounts import accounts_of
from pytest_tracetriage.commands.grouping import run_folders_in
from pytest_tracetriage.model.analysis import Analysis
from pytest_tracetriage.model.run import RUN_SCHEMA, Run
from pytest_tracetriage.model.trace import Metric, Source, Span, Trace
from pytest_tracetriage.redact import Redactor, environment_secrets, folder_key, redact_by
from pytest_tracetriage.store import runs
from pytest_tracetriage.store.writer import Writer

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from pytest_tracetriage.collect.formats import Format, Item
    from pytest_tracetriage.config import Settings
    from pytest_tracetriage.model.analysis import FailingTrace


def save_sources(
    settings: Settings, sources: Sequence[Path], formats: Sequence[Format], forced: str, analysis: Analysis, hooks: Any
) -> str:
    """Write the traces of all sources, redacted, as one run with its analysis; return the run's id. Raises OSError."""
    runs.prepare_folder(settings.folder)
    redactor = Redactor(folder_key(settings.folder), environment_secrets(os.environ), redact_by(hooks))
    identity = runs.new_run_id(time.time())
    folder = settings.folder / "runs" / identity
    writer = Writer(folder / "traces", "main")
    readers = {item.name: item for item in (*formats, FORMAT)}
    parts = {part.path: part for part in pipeline.plan(sources, formats, forced).parts}  # one of each file's
    named = _Names(parts.values(), analysis.traces)
    first = last = 0.0
    for part in parts.values():
        for trace in _traces(part, readers[part.format]):
            first, last = min(first or trace.start, trace.start), max(last, trace.start)
            writer.write(redactor.struct(named.trace(trace, part.format, part.run), Trace))
        if part.format == FORMAT.name:
            for function in read_function_sources(part.path):
                writer.write(redactor.struct(function, Source))
            for item in spans_in(Path(part.path)):
                if isinstance(item, Span):
                    writer.write(redactor.struct(named.span(item, part.run), Span))
                elif isinstance(item, Metric):
                    writer.write(redactor.struct(named.metric(item, part.run), Metric))
    folders = run_folders_in(source for source in sources if source.is_dir())
    for files in map(open_run, folders):
        for trace in unfinished(files):
            writer.write(redactor.struct(named.trace(trace, FORMAT.name, run_name(files)), Trace))
    writer.close()
    if writer.lost:  # half a run would pass for the whole
        shutil.rmtree(folder, ignore_errors=True)
        raise OSError(writer.broken)
    run = Run(
        schema=RUN_SCHEMA,
        id=identity,
        status="finished",
        started=first,
        finished=last,
        rootdir=str(settings.rootdir),
        totals=analysis.totals,
        metrics={**accounts_of(folders).metrics, **pass_rate(analysis.totals)},
        spent=analysis.spent,
    )
    runs.write_run(folder, run)
    kept = msgspec.structs.replace(analysis, traces=tuple(named.place(one, identity) for one in analysis.traces), problems=())
    runs.write_analysis(folder, redactor.struct(kept, Analysis))
    runs.forget_runs(settings.folder, settings.keep_runs, identity)
    return identity


class _Names:
    """Ids that are unique over several sources: those of our own runs as they are where there is one, else numbered."""

    def __init__(self, parts: Iterable[pipeline.Part], places: Iterable[FailingTrace]) -> None:
        own = dict.fromkeys(part.run for part in parts if part.format == FORMAT.name)
        self._prefixes = {run: f"{number}." if len(own) > 1 else "" for number, run in enumerate(own, 1)}
        self._placed = dict.fromkeys(((place.run, place.id) for place in places), "")
        self._numbers = itertools.count(1)

    def trace(self, trace: Trace, style: str, run: str) -> Trace:
        """Return a trace under its new id."""
        if style == FORMAT.name:
            return msgspec.structs.replace(trace, id=self._own(trace.id, run))
        name = f"other.{next(self._numbers)}"
        if (run, trace.id) in self._placed:
            self._placed[run, trace.id] = name
        return msgspec.structs.replace(trace, id=name)

    def span(self, span: Span, run: str) -> Span:
        """Return a span under its new id, in its trace."""
        parent = self._own(span.parent, run) if span.parent else ""
        return msgspec.structs.replace(span, id=self._own(span.id, run), trace=self._own(span.trace, run), parent=parent)

    def metric(self, metric: Metric, run: str) -> Metric:
        """Return a metric in its trace."""
        return msgspec.structs.replace(metric, trace=self._own(metric.trace, run) if metric.trace else "")

    def place(self, place: FailingTrace, identity: str) -> FailingTrace:
        """Return where a trace broke, by its new ids in the run `identity`."""
        name = self._placed[place.run, place.id] or self._own(place.id, place.run)
        step = self._own(place.step, place.run) if place.step else ""
        return msgspec.structs.replace(place, id=name, step=step, run=identity)

    def _own(self, name: str, run: str) -> str:
        return f"{self._prefixes.get(run, '')}{name}"


def _traces(part: pipeline.Part, reader: Format) -> Iterator[Trace]:
    try:
        with open_source(part.path) as file:
            items: Iterator[Item] = reader.read(file, part.path)
            for item in items:
                if isinstance(item, Trace):
                    yield item
    except (OSError, EOFError):
        return  # the analysis has told it
