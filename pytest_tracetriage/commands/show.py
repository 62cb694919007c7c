"""`tracetriage show NODEID|CLUSTER`: one failure from its record, or one cluster."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec

from pytest_tracetriage.collect import runs
from pytest_tracetriage.collect.formats import lines, open_source
from pytest_tracetriage.collect.runs import spans_of
from pytest_tracetriage.collect.totals import holds_spans
from pytest_tracetriage.commands.output import emit, styled, wants_colour, width
from pytest_tracetriage.commands.project import find_cluster, open_project, recent_analyses
from pytest_tracetriage.model.trace import FAILING, Source, Trace, Warned
from pytest_tracetriage.report.markdown import cluster_prompt
from pytest_tracetriage.report.show import cluster_lines, trace_lines
from pytest_tracetriage.report.terminal import component_of, components_by_test
from pytest_tracetriage.report.text import short_ids
from pytest_tracetriage.store.runs import run_folders

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pytest_tracetriage.config import Settings
    from pytest_tracetriage.model.analysis import Analysis, Cluster, FailingTrace
    from pytest_tracetriage.model.hypotheses import Shared
    from pytest_tracetriage.report.text import Line

WIDE = 160
"""Characters of a line that is written to a file."""


@click.command("show")
@click.argument("what", metavar="NODEID|CLUSTER")
@click.option("--run", "run_id", metavar="RUN", help="look in this run (its id or folder) instead of the latest that has it")
@click.option("--format", "style", type=click.Choice(["terminal", "prompt"]), default="terminal", show_default=True)
@click.option("--output", type=click.Path(path_type=Path, dir_okay=False), help="write to a file instead of the terminal")
def command(what: str, run_id: str | None, style: str, output: Path | None) -> int:
    """Show a test's failures as pytest would, or a cluster with its evidence, suspects and first traceback.

    `--format prompt` gives a text to paste into a coding agent.
    """
    settings = open_project()
    folders = _folders(settings, run_id)
    analyses = [(path, analysis) for path, analysis in recent_analyses(settings.folder) if path in folders]
    clusters = find_cluster([analysis for _, analysis in analyses], what) if "::" not in what and "/" not in what else []
    if len(clusters) > 1:
        names = short_ids(cluster.id for cluster in clusters)
        choices = "; ".join(f"{names[cluster.id]} {cluster.name}" for cluster in clusters[:5])
        raise click.UsageError(f"cluster {what!r} is ambiguous: {choices}")
    if clusters:
        return _show_cluster(settings, clusters[0], analyses, style, output)
    for folder in folders:
        traces, warnings = read_test(folder, what)
        if traces:
            if style == "prompt":
                cluster = _cluster_of(analyses, what)
                if cluster is None:
                    raise click.UsageError(f"{what!r} stands in no cluster: it did not fail in a kept run")
                return _show_cluster(settings, cluster, analyses, style, output)
            broken = {place.id: place for path, a in analyses if path == folder for place in a.traces if place.nodeid == what}
            shown = trace_lines(
                traces, read_sources(folder), folder.name, warnings, trees_of(folder, traces, output, broken), broken
            )
            emit(styled(shown, colour=output is None and wants_colour()), output)
            return 0
    raise click.UsageError(f"{what!r}: no such test or cluster in the kept runs of {settings.folder}")


def _folders(settings: Settings, run_id: str | None) -> list[Path]:
    if run_id is None:
        found = list(reversed(run_folders(settings.folder)))
        if not found:
            raise click.UsageError(f"no run in {settings.folder}: run `pytest --tracetriage` first")
        return found
    for folder in (Path(run_id), settings.folder / "runs" / run_id):
        if runs.is_run_folder(folder):
            return [folder]
    raise click.BadParameter(f"{run_id!r}: no such run in {settings.folder}", param_hint="--run")


def _cluster_of(analyses: list[tuple[Path, Analysis]], nodeid: str) -> Cluster | None:
    return next((c for _, analysis in analyses for c in analysis.clusters if nodeid in c.tests and c.seen != "fixed"), None)


def _show_cluster(
    settings: Settings, cluster: Cluster, analyses: list[tuple[Path, Analysis]], style: str, output: Path | None
) -> int:
    folder, analysis = next((path, a) for path, a in analyses if any(c.id == cluster.id for c in a.clusters))
    name = short_ids(c.id for c in analysis.clusters)[cluster.id]
    if style == "prompt":
        emit(cluster_prompt(cluster, name, settings.folder / "policy" / "templates"), output)
        return 0
    sources = read_sources(folder)
    colour = output is None and wants_colour()
    component = component_of(cluster, components_by_test(analysis))
    shared = _shared(folder, analysis, cluster.id)
    emit(styled(cluster_lines(cluster, name, sources, folder.name, component, shared), colour=colour), output)
    return 0


def _shared(folder: Path, analysis: Analysis, cluster: str) -> Shared | None:
    from pytest_tracetriage.commands.accounts import inputs_of  # noqa: PLC0415 - nothing else here looks at passing tests

    try:
        return next((one for one in inputs_of([folder], analysis).shared if one.cluster == cluster), None)
    except (OSError, EOFError):
        return None


def read_test(folder: Path, nodeid: str) -> tuple[list[Trace], dict[str, list[Warned]]]:
    """Return the traces of one test in a run, failing ones first, and their warnings by trace."""
    needle = msgspec.json.encode(nodeid)
    found: list[Trace] = []
    warnings: dict[str, list[Warned]] = {}
    files = runs.open_run(folder)
    for path in files.traces:
        with open_source(path) as file:
            for _, line in lines(file):
                head = b"" if line is None else line[:40]
                try:
                    if line is not None and needle in line and b'"record":"trace"' in head:
                        trace = msgspec.json.decode(line, type=Trace)
                        if trace.nodeid == nodeid:
                            found.append(trace)
                    elif line is not None and b'"record":"warning"' in head:
                        warned = msgspec.json.decode(line, type=Warned)
                        warnings.setdefault(warned.trace, []).append(warned)
                except (msgspec.MsgspecError, RecursionError):
                    continue
    found += [trace for trace in runs.unfinished(files) if trace.nodeid == nodeid]
    found.sort(key=lambda trace: (trace.outcome not in FAILING, trace.attempt))
    return found, warnings


def trees_of(
    folder: Path, traces: Sequence[Trace], output: Path | None, broken: Mapping[str, FailingTrace]
) -> dict[str, list[Line]]:
    """Return the tree of the spans of each of these traces that has any, by trace id."""
    if not holds_spans(folder):
        return {}
    from pytest_tracetriage.report.spans import span_lines  # noqa: PLC0415
    from pytest_tracetriage.triage.spending import INSTALL, Prices  # noqa: PLC0415

    found, bad = spans_of(folder, {trace.id for trace in traces})
    columns = width() if output is None else WIDE
    prices = Prices() if any(span.usage is not None for spans in found.values() for span in spans) else None
    trees = {}
    for trace, spans in found.items():
        costs = {
            span.id: [None if cost is None else float(cost) for cost in asked]
            for span in spans
            if prices is not None
            for asked in [[prices.cost(usage, span.start) for usage in span.usages]]
        }
        broke_at = broken[trace].step if trace in broken else ""
        trees[trace] = span_lines(spans, costs, columns, INSTALL if prices and prices.missing else "", bad, broke_at)
    return trees


def read_sources(folder: Path) -> dict[str, Source]:
    """Return the function sources that a run keeps, by content hash."""
    return {source.id: source for path in runs.open_run(folder).traces for source in runs.read_function_sources(path)}
