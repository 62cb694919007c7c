"""`tracetriage analyze [SOURCE…]`: root causes of recorded runs; `--save` keeps what other tools recorded as a run."""

from __future__ import annotations

import gc
import itertools
import os
import shutil
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec

from pytest_tracetriage.collect.formats import open_source
from pytest_tracetriage.collect.runs import FORMAT, open_run, read_function_sources, run_name, spans_in, unfinished
from pytest_tracetriage.collect.totals import pass_rate
from pytest_tracetriage.commands import pipeline
from pytest_tracetriage.commands.accounts import accounts_of
from pytest_tracetriage.commands.grouping import run_folders_in
from pytest_tracetriage.commands.output import emit, terminal_text
from pytest_tracetriage.commands.project import given, load_extensions, open_project, read_history
from pytest_tracetriage.model.analysis import Analysis
from pytest_tracetriage.model.run import RUN_SCHEMA, Run
from pytest_tracetriage.model.trace import Metric, Source, Span, Trace
from pytest_tracetriage.redact import Redactor, environment_secrets, folder_key, redact_by
from pytest_tracetriage.report.markdown import analysis_markdown
from pytest_tracetriage.store import runs
from pytest_tracetriage.store.runs import encode_analysis, run_folders
from pytest_tracetriage.store.writer import Writer
from pytest_tracetriage.triage.analyze import analyze
from pytest_tracetriage.triage.spending import with_spending

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from pytest_tracetriage.collect.formats import Format, Item
    from pytest_tracetriage.config import Settings
    from pytest_tracetriage.model.analysis import FailingTrace


SLOW = 50_000_000
"""Bytes from which reading takes longer than a person waits without a bar."""


@click.command("analyze")
@click.argument("sources", nargs=-1, metavar="[SOURCE]…", type=click.Path(path_type=Path))
@click.option("--from", "forced", metavar="FORMAT", help="the sources' format, where it cannot be recognised")
@click.option("--format", "style", type=click.Choice(["terminal", "json", "markdown"]), default="terminal", show_default=True)
@click.option("--output", type=click.Path(path_type=Path, dir_okay=False), help="write to a file instead of the terminal")
@click.option("--save", is_flag=True, help="keep the sources as a run of this project")
@click.option("-v", "--verbose", count=True, help="show the evidence that joined each cluster")
@click.option("-q", "--quiet", count=True, help="one line a cause")
def command(
    sources: tuple[Path, ...], forced: str | None, style: str, output: Path | None, save: bool, verbose: int, quiet: int
) -> int:
    """Find the root causes of recorded test runs.

    SOURCE is a run's folder, a folder of such folders, or a file of pytest-reportlog or JUnit XML, plain or packed with gzip
    or zstd. Several sources are shards of one analysis. Without SOURCE: the latest run of this project.
    """
    gc.disable()  # a short process with much data and no cycles: looking for them would double its time
    settings = open_project()
    hooks = load_extensions(settings)
    formats = (*(item for answer in hooks.pytest_tracetriage_formats() for item in answer), *pipeline.BUILT_IN)
    if forced and forced not in {item.name for item in formats}:
        raise click.BadParameter(f"{forced!r}: expected one of {', '.join(item.name for item in formats)}", param_hint="--from")
    if not sources:
        found = run_folders(settings.folder)
        if not found:
            raise click.UsageError(f"no run in {settings.folder}: run `pytest --tracetriage` first, or name a SOURCE")
        sources = (found[-1],)
    analysis, readable = analyse_sources(settings, sources, formats, hooks, forced or "")
    if save and readable:
        click.echo(f"kept as run {save_sources(settings, sources, formats, forced or '', analysis, hooks)}", err=True)
    if style == "json":
        emit(encode_analysis(analysis), output)
    elif style == "markdown":
        emit(analysis_markdown(analysis, settings.folder / "policy" / "templates"), output)
    else:
        emit(terminal_text(analysis, verbose - quiet, output), output)
    if style != "terminal":
        for problem in analysis.problems[:20]:
            where = f"{problem.file}:{problem.line}" if problem.line else problem.file
            click.echo(f"tracetriage: {where}: {problem.message}", err=True)
    if not readable:
        return 2
    return 1 if analysis.totals.failures or analysis.totals.stuck or analysis.problems else 0


def analyse_sources(
    settings: Settings, sources: Sequence[Path], formats: Sequence[Format], hooks: Any, forced: str
) -> tuple[Analysis, bool]:
    """Return the analysis of all sources as one, and whether any of them could be read."""
    todo = pipeline.plan(sources, formats, forced)
    history = read_history(settings.folder, before=min(todo.runs, default=""), without=frozenset(todo.runs))
    notes: list[str] = []
    told = given(settings, history.known(), hooks, notes)
    summary = _with_bar(todo, lambda progress: pipeline.read(todo, formats, history.watch(), progress))
    spent = accounts_of(run_folders_in(source for source in sources if source.is_dir()))
    notes += [spent.trouble] if spent.trouble else []
    analysis = pipeline.with_notes(with_spending(analyze(summary, told), spent.spent, spent.tests), notes)
    if trouble := pipeline.notify(hooks, analysis):
        click.echo(f"tracetriage: warning: {trouble}", err=True)
    return analysis, bool(todo.parts) or bool(todo.runs)


def _with_bar(todo: pipeline.Plan, work: Callable[[Callable[[int], None] | None], Any]) -> Any:
    total = sum(pipeline.size(part) for part in todo.parts)
    if total < SLOW or not sys.stderr.isatty():
        return work(None)
    from rich.console import Console  # noqa: PLC0415
    from rich.progress import Progress  # noqa: PLC0415

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("reading", total=total)
        return work(lambda size: bar.advance(task, size))


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
