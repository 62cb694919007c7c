"""From what a person types (a cluster's prefix, a node id) to what it means."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_tracetriage.commands.project import find_cluster
from pytest_tracetriage.config import ConfigError
from pytest_tracetriage.report.text import short_ids
from pytest_tracetriage.store.runs import StoreError, read_analysis, run_folders

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from pytest_tracetriage.config import Settings
    from pytest_tracetriage.model.analysis import Analysis, Cluster


def recent_analyses(folder: Path) -> list[tuple[Path, Analysis]]:
    """Return the kept runs that have an analysis, newest first."""
    found = []
    for path in reversed(run_folders(folder)):
        try:
            found.append((path, read_analysis(path)))
        except StoreError:
            continue
    return found


def cluster_of(settings: Settings, prefix: str) -> Cluster:
    """Return the cluster that a prefix names in the kept runs. Raises ConfigError when none or several do."""
    analyses = [analysis for _, analysis in recent_analyses(settings.folder)]
    if not analyses:
        raise ConfigError(f"{settings.folder}: no run with an analysis; run `pytest --tracetriage` first")
    return only(find_cluster(analyses, prefix), prefix, analyses)


def only(found: Sequence[Cluster], prefix: str, analyses: Sequence[Analysis]) -> Cluster:
    """Return the one cluster found. Raises ConfigError that names the choices."""
    if len(found) == 1:
        return found[0]
    if found:
        names = short_ids(cluster.id for cluster in found)
        choices = "; ".join(f"{names[cluster.id]} {cluster.name}" for cluster in found[:5])
        raise ConfigError(f"cluster {prefix!r} is ambiguous: {choices}")
    latest = analyses[0].clusters
    names = short_ids(cluster.id for cluster in latest)
    choices = ", ".join(names[cluster.id] for cluster in latest[:10]) or "none"
    raise ConfigError(f"no cluster {prefix!r} in the kept runs; the latest has: {choices}")


def tests_of(settings: Settings, prefix: str) -> tuple[str, ...]:
    """Return the node ids of a cluster's tests, those included that the newest run with it left out. Raises ConfigError."""
    cluster = cluster_of(settings, prefix)
    return cluster.tests + cluster.waiting
