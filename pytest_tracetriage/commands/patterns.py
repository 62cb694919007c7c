"""Patterns of the history: found for `tracetriage history`, for a review, and kept for the end of the next pytest run."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import msgspec

from pytest_tracetriage.diagnose.patterns import patterns
from pytest_tracetriage.diagnose.sinks import issues, too_little
from pytest_tracetriage.model.diagnosis import Patterns, Window
from pytest_tracetriage.store.runs import write_patterns

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_tracetriage.config import Settings
    from pytest_tracetriage.model.diagnosis import Pattern
    from pytest_tracetriage.model.history import Condensed
    from pytest_tracetriage.model.review import Review
    from pytest_tracetriage.store.history.history import History

DAY = 86_400
PAST = 90
"""Days by which it is judged how something fails, however short the window is that is told of."""
_KEPT = 1000


def found_patterns(
    store: History, settings: Settings, branch: str | None = None, days: int = 0, top: int = 0, past: int = PAST
) -> Patterns:
    """Return the patterns and issues of the last `days` (0: as the settings say), judged by the last `past` days."""
    now = time.time()
    days, top = days or settings.pattern_window, top or settings.pattern_top
    past = max(past, days)
    window, least = now - days * DAY, settings.pattern_min_frequency
    trails, costs = store.trails(branch, now - past * DAY), store.costs(branch, window, top)
    found = patterns(trails, window, least, top)
    return Patterns(
        window=Window(days, past, branch or "", costs.runs, least, top),
        patterns=found,
        issues=issues(costs, found, least, top),
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
    since = time.time() - PAST * DAY
    return patterns(store.trails(None, since), since, settings.pattern_min_frequency, _KEPT)
