"""The runs that are kept here, and which of them a command is about."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from pytest_tracetriage.store.runs import StoreError, read_analysis, read_run, run_folders

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from pytest_tracetriage.model.analysis import Analysis, Cluster
    from pytest_tracetriage.model.run import Run


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
