"""`history_after_run`: each run is added to the history when it ends."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytest_tracetriage.commands.grouping import group_of
from pytest_tracetriage.commands.past import open_place
from pytest_tracetriage.commands.patterns import keep_patterns
from pytest_tracetriage.commands.reviewing import review_group

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from pytest_tracetriage.config import Settings
    from pytest_tracetriage.model.history import Condensed
    from pytest_tracetriage.store.history.history import History


def remember_run(settings: Settings, folder: Path, hooks: Any) -> str:
    """Add a finished run to the history of the settings; return in a line why that was not possible, "" when it was."""
    try:
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
