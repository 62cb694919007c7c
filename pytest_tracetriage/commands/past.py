"""The history that a command works on: opened where there is one to open."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_tracetriage.config import Settings
    from pytest_tracetriage.store.history.history import History

TOKENS = ("TRACETRIAGE_GITHUB_TOKEN", "GITHUB_TOKEN")


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
