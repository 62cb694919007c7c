"""`tracetriage history`: what is remembered of earlier runs; added to, packed, forgotten."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec

from pytest_tracetriage.commands.grouping import group_of, run_folders_in
from pytest_tracetriage.commands.kept import DAY, PAST, found_patterns, keep_patterns, open_place, remember_maps
from pytest_tracetriage.commands.output import emit, styled, wants_colour, width
from pytest_tracetriage.commands.project import load_extensions, open_project
from pytest_tracetriage.commands.reviewing import review_group
from pytest_tracetriage.model.history import Overview
from pytest_tracetriage.report.history import cluster_lines, overview_lines, pattern_lines
from pytest_tracetriage.report.text import plural
from pytest_tracetriage.store.history import extra
from pytest_tracetriage.store.runs import run_folders

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pytest_tracetriage.report.text import Line
    from pytest_tracetriage.store.history.history import History as Store


@click.group("history", invoke_without_command=True)
@click.option("--history", "location", metavar="LOCATION", help="where it lies (default: the setting `history`)")
@click.option("--branch", metavar="BRANCH", help="only runs of this branch, without pull requests")
@click.option("--days", metavar="N", type=click.IntRange(min=1), default=PAST, show_default=True, help="how far back")
@click.option("--limit", metavar="N", type=click.IntRange(min=1), default=10, show_default=True, help="rows of each table")
@click.option("--cluster", metavar="CLUSTER", help="every run of one cluster")
@click.option("--format", "style", type=click.Choice(["terminal", "json"]), default="terminal", show_default=True)
@click.pass_context
def command(
    ctx: click.Context, location: str | None, branch: str | None, days: int, limit: int, cluster: str | None, style: str
) -> int:
    """Show the history of runs: the latest, their clusters, the pass rate, slow and flaky tests.

    LOCATION is a folder, `git:BRANCH` for an orphan branch of this repository's remote, or a URL that fsspec opens.
    """
    settings = open_project()
    store = open_place(settings, settings.history if location is None else location)
    ctx.obj = store
    if ctx.invoked_subcommand is not None:
        return 0
    extra("duckdb")  # who cannot ask must not hear that there is nothing
    since = time.time() - days * DAY
    if cluster is not None:
        found = store.cluster_history(cluster.upper(), branch, since)
        if found is None:
            raise click.UsageError(f"no cluster {cluster!r} in the history of {plural(days, 'day')}")
        return _shown(store, msgspec.json.encode(found), cluster_lines(found, width()), style)
    asked = Overview(
        branch=branch or "",
        days=days,
        runs=tuple(store.runs(branch, limit, since)),
        clusters=tuple(seen for seen in store.seen(branch, since=since) if seen.runs),
        rates=tuple(store.pass_rate(branch, since)),
        slow=tuple(store.slow_tests(limit, since, branch)),
        flaky=tuple(store.flaky_tests(limit, since)),
        patterns=found_patterns(store, settings, branch, past=days),
    )
    return _shown(store, msgspec.json.encode(asked), overview_lines(asked, width(), limit), style)


def _shown(store: Store, encoded: bytes, lines: Iterable[Line], style: str) -> int:
    text = msgspec.json.format(encoded) + b"\n" if style == "json" else styled(lines, colour=wants_colour())
    emit(text, None)
    _tell(store)
    return 0


def _tell(store: Store) -> None:
    for problem in store.problems:
        click.echo(f"tracetriage: {problem}", err=True)


@command.command("patterns", short_help="what is flaky, comes back, or costs most")
@click.option("--branch", metavar="BRANCH", help="only runs of this branch, without pull requests")
@click.option("--days", metavar="N", type=click.IntRange(min=1), help="the window (default: the setting `pattern_window`)")
@click.option("--top", metavar="N", type=click.IntRange(min=1), help="so many of each kind (default: `pattern_top`)")
@click.option("--format", "style", type=click.Choice(["terminal", "json", "markdown"]), default="terminal", show_default=True)
@click.pass_obj
def patterns(store: Store, branch: str | None, days: int | None, top: int | None, style: str) -> int:
    """Show patterns: what is flaky, fails again and again, came back, is fixed to and fro; and what costs most.

    What happened within the window is told; how often something fails is judged by the last 90 days.
    """
    settings = open_project()
    extra("duckdb")
    found = found_patterns(store, settings, branch, days or 0, top or 0)
    if style == "markdown":
        from pytest_tracetriage.report.markdown import patterns_markdown  # noqa: PLC0415

        emit(patterns_markdown(found, settings.folder / "policy" / "templates"), None)
        _tell(store)
        return 0
    return _shown(store, msgspec.json.encode(found), pattern_lines(found, width()), style)


@command.command("add", short_help="add runs, or the latest one")
@click.argument("sources", nargs=-1, metavar="[SOURCE]…", type=click.Path(path_type=Path, exists=True))
@click.option("--base", metavar="BRANCH", default="", help="the branch to compare with (default: the one the runs name)")
@click.pass_obj
def add(store: Store, sources: tuple[Path, ...], base: str) -> int:
    """Add runs: a run's folder, or folders of such folders, as one group. Without SOURCE: the latest run of this project."""
    settings = open_project()
    folders = run_folders_in(sources) if sources else run_folders(settings.folder)[-1:]
    if not folders:
        raise click.UsageError(f"no run in {', '.join(map(str, sources)) or settings.folder}")
    reviewed = review_group(settings, group_of(folders), store, None, load_extensions(settings), base)
    done = store.add(reviewed.condensed)
    remember_maps(store, folders, reviewed.condensed)
    if done.added:
        keep_patterns(store, settings, reviewed.condensed)
    known = f", {len(done.present)} were there already" if done.present else ""
    click.echo(f"added {plural(len(done.added), 'run')} ({done.bytes:,} bytes){known}")
    _tell(store)
    return 0


@command.command("compact", short_help="pack runs that lie loose into few files")
@click.pass_obj
def compact(store: Store) -> int:
    """Pack runs that lie loose into few files: a fifth of the size, and quicker to ask."""
    done = store.compact()
    click.echo(f"packed {plural(done.runs, 'run')} into {plural(done.packs, 'file group')} ({done.bytes:,} bytes)")
    _tell(store)
    return 0


@command.command("prune", short_help="forget old runs")
@click.option("--days", metavar="N", type=click.IntRange(min=1), required=True, help="forget runs that are older")
@click.pass_obj
def prune(store: Store, days: int) -> int:
    """Forget old runs."""
    done = store.prune(time.time() - days * DAY)
    click.echo(f"forgot {plural(len(done.runs), 'run')}")
    _tell(store)
    return 0
