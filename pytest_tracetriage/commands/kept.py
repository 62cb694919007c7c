"""What is kept: the runs here and which of them a command is about, the history, and patterns in it."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click
import msgspec

from pytest_tracetriage.model.diagnosis import Patterns, Window
from pytest_tracetriage.store.runs import StoreError, read_analysis, read_run, run_folders, write_patterns

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from pytest_tracetriage.collect.runs import Attempt
    from pytest_tracetriage.config import Settings
    from pytest_tracetriage.model.analysis import Analysis, Cluster
    from pytest_tracetriage.model.diagnosis import Pattern
    from pytest_tracetriage.model.history import Condensed
    from pytest_tracetriage.model.review import Review
    from pytest_tracetriage.model.run import Run
    from pytest_tracetriage.store.history.history import History


TOKENS = ("TRACETRIAGE_GITHUB_TOKEN", "GITHUB_TOKEN")
DAY = 86_400
PAST = 90
"""Days by which it is judged how something fails, however short the window is that is told of."""
_KEPT = 1000
_CHOOSING = (
    "-k",
    "-m",
    "--lf",
    "--last-failed",
    "--sw",
    "--stepwise",
    "--deselect",
    "--tracetriage-rerun",
    "--tracetriage-select",
)
_SHUFFLING = frozenset({"pytest-randomly", "pytest-random-order", "pytest-reverse", "pytest-split"})


# -- runs -----------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Kept:
    """One run that is kept here; a green one need not have an analysis."""

    folder: Path
    run: Run
    analysis: Analysis | None

    def cluster(self, name: str) -> Cluster | None:
        """Return the cluster of this id that ended red in this run."""
        clusters = self.analysis.clusters if self.analysis is not None else ()
        return next((cluster for cluster in clusters if cluster.id == name and cluster.seen != "fixed"), None)

    @property
    def red(self) -> bool:
        """Return whether it ended with a cluster."""
        return self.analysis is not None and any(cluster.seen != "fixed" for cluster in self.analysis.clusters)


def kept_runs(folder: Path) -> list[Kept]:
    """Return the kept runs that ended, oldest first."""
    found = []
    for path in run_folders(folder):
        try:
            run = read_run(path)
        except StoreError:
            continue
        try:
            analysis = read_analysis(path)
        except StoreError:
            analysis = None
        if run.status == "finished" or analysis is not None:
            found.append(Kept(path, run, analysis))
    return found


def latest_red(kept: Sequence[Kept], name: str | None) -> Kept | None:
    """Return the newest run with a cluster, or the one whose id begins with `name`. Raises click.UsageError for no such run."""
    if name is None:
        return next((item for item in reversed(kept) if item.red), None)
    named = [item for item in kept if item.run.id.startswith(name)]
    if len(named) != 1:
        raise click.UsageError(f"{'no run' if not named else 'several runs'} here begin with {name!r}")
    return named[0]


def green_before(kept: Sequence[Kept], red: Kept | None) -> list[Kept]:
    """Return the runs before a red one (None: all) in which tests ran and none failed, oldest first."""
    earlier = [item for item in kept if red is None or item.run.id < red.run.id]
    return [item for item in earlier if item.run.totals.passed and not item.run.totals.failures and not item.red]


def in_part(run: Run, attempts: Sequence[Attempt]) -> bool:
    """Return whether tests ran without those that usually run before them: a part of them, shuffled, or on several workers."""
    chosen = any("::" in word or word.startswith(_CHOOSING) for word in run.args)
    return chosen or bool(_SHUFFLING & run.context.packages.keys()) or len({attempt.process for attempt in attempts}) > 1


# -- the history ----------------------------------------------------------------------------------------------------------


def github_token() -> str:
    """Return the token for GitHub's API, "" where none was given."""
    return next((os.environ[name] for name in TOKENS if os.environ.get(name)), "")


def push_token() -> str:
    """Return the token for pushing the history: one given for that, or that of the GitHub job that this is.

    A GITHUB_TOKEN that merely lies in a developer's environment is not sent to wherever the repository comes from.
    """
    if os.environ.get("GITHUB_ACTIONS") == "true":
        return github_token()
    return os.environ.get(TOKENS[0], "")


def open_past(settings: Settings, location: str | None) -> History | None:
    """Return the history at `location` (None: as the settings say), None where nothing names one and none was begun.

    Raises HistoryError.
    """
    where = settings.history if location is None else location
    if not where and location is None and not (settings.folder / "history").is_dir():
        return None
    return open_place(settings, where)


def open_place(settings: Settings, where: str) -> History:
    """Return the history at a location, "" for `history/` in the project's folder. Raises HistoryError."""
    from pytest_tracetriage.store.history.history import open_history  # noqa: PLC0415
    from pytest_tracetriage.store.history.locations import open_location  # noqa: PLC0415

    return open_history(open_location(where, settings.folder, settings.rootdir, push_token()))


def remember_run(settings: Settings, folder: Path, hooks: Any) -> str:
    """Add a finished run to the history of the settings; return in a line why that was not possible, "" when it was."""
    try:
        from pytest_tracetriage.commands.grouping import group_of  # noqa: PLC0415 - a review is more than most commands need
        from pytest_tracetriage.commands.reviewing import review_group  # noqa: PLC0415

        history = open_place(settings, settings.history)
        condensed = review_group(settings, group_of([folder]), history, None, hooks).condensed
        history.add(condensed)
        remember_maps(history, [folder], condensed)
        keep_patterns(history, settings, condensed)
    except Exception as error:
        return f"the run was not added to the history: {error}"
    return ""


def remember_maps(history: History, folders: Iterable[Path], condensed: Iterable[Condensed]) -> None:
    """Keep the coverage maps that runs have in their folders. Raises HistoryError, StoreError."""
    from pytest_tracetriage.store.coverage import read_map  # noqa: PLC0415 - few runs have one

    maps = {coverage.run: coverage for folder in folders if (coverage := read_map(folder)) is not None}
    if maps:
        history.add_maps([(item.run, maps[item.run.id]) for item in condensed if item.run.id in maps])


# -- patterns in it -------------------------------------------------------------------------------------------------------


def found_patterns(
    store: History, settings: Settings, branch: str | None = None, days: int = 0, top: int = 0, past: int = PAST
) -> Patterns:
    """Return the patterns and issues of the last `days` (0: as the settings say), judged by the last `past` days.

    Which calls of agents were needless is in no history: it is told of the runs that are kept here.
    """
    now = time.time()
    days, top = days or settings.pattern_window, top or settings.pattern_top
    past = max(past, days)
    window, least = now - days * DAY, settings.pattern_min_frequency
    trails, costs = store.trails(branch, now - past * DAY), store.costs(branch, window, top)
    from pytest_tracetriage.commands.accounts import wastes_of  # noqa: PLC0415
    from pytest_tracetriage.diagnose.patterns import patterns  # noqa: PLC0415 - who only opens the history has no use for them
    from pytest_tracetriage.diagnose.sinks import issues, too_little  # noqa: PLC0415

    found = patterns(trails, window, least, top)
    recent = [item for item in kept_runs(settings.folder) if item.run.started >= window]
    recent = [item for item in recent if not branch or item.run.context.git.branch == branch]
    wastes, read = wastes_of((item.folder, item.analysis) for item in recent)
    return Patterns(
        window=Window(days, past, branch or "", costs.runs, least, top),
        patterns=found,
        issues=issues(costs, found, least, top, (wastes, read)),
        notes=too_little(trails.traces, costs.groups),
        made=now,
    )


def with_patterns(review: Review, store: History | None, settings: Settings) -> Review:
    """Return the review with what the history says of its causes and their tests. Raises HistoryError."""
    clusters = [cluster for cluster in (*review.analysis.clusters, *review.retried) if cluster.seen != "fixed"]
    if store is None or not clusters:
        return review
    ids = {cluster.id for cluster in clusters}
    tests = {test for cluster in clusters for test in cluster.tests}
    found = [pattern for pattern in _of_all(store, settings) if pattern.subject in ids or pattern.subject in tests]
    return msgspec.structs.replace(review, patterns=tuple(found))


def keep_patterns(store: History, settings: Settings, added: Sequence[Condensed]) -> None:
    """Keep all patterns of the history where the end of the next pytest run finds them. Green runs change none of them.

    Raises HistoryError, OSError.
    """
    if not any(item.clusters for item in added):
        return
    window = Window(PAST, PAST, "", 0, settings.pattern_min_frequency, _KEPT)
    write_patterns(settings.folder, Patterns(window, _of_all(store, settings), (), (), time.time()))


def _of_all(store: History, settings: Settings) -> tuple[Pattern, ...]:
    from pytest_tracetriage.diagnose.patterns import patterns  # noqa: PLC0415

    since = time.time() - PAST * DAY
    return patterns(store.trails(None, since), since, settings.pattern_min_frequency, _KEPT)
