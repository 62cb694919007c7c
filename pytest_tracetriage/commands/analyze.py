"""`tracetriage analyze [SOURCE…]`: root causes of recorded runs."""

from __future__ import annotations

import gc
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pytest_tracetriage.commands import pipeline
from pytest_tracetriage.commands.accounts import accounts_of
from pytest_tracetriage.commands.grouping import run_folders_in
from pytest_tracetriage.commands.output import emit, terminal_text
from pytest_tracetriage.commands.project import given, load_extensions, open_project, read_history
from pytest_tracetriage.report.markdown import analysis_markdown
from pytest_tracetriage.store.runs import encode_analysis, run_folders
from pytest_tracetriage.triage.analyze import analyze
from pytest_tracetriage.triage.spending import with_spending

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pytest_tracetriage.collect.formats import Format
    from pytest_tracetriage.config import Settings
    from pytest_tracetriage.model.analysis import Analysis

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
        from pytest_tracetriage.commands.saving import save_sources  # noqa: PLC0415

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
