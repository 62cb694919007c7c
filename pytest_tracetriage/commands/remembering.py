"""`history_after_run`: each run is added to the history when it ends."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytest_tracetriage.commands.grouping import group_of
from pytest_tracetriage.commands.past import open_place
from pytest_tracetriage.commands.reviewing import review_group

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_tracetriage.config import Settings


def remember_run(settings: Settings, folder: Path, hooks: Any) -> str:
    """Add a finished run to the history of the settings; return in a line why that was not possible, "" when it was."""
    try:
        history = open_place(settings, settings.history)
        history.add(review_group(settings, group_of([folder]), history, None, hooks).condensed)
    except Exception as error:
        return f"the run was not added to the history: {error}"
    return ""
