"""From what a person writes as the history's location to the place itself."""

from __future__ import annotations

import hashlib
import os
import re
from typing import TYPE_CHECKING

from pytest_tracetriage.store.history.errors import HistoryError
from pytest_tracetriage.store.history.folder import FolderLocation

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_tracetriage.model.history import Location

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]*(?:::[^:]+)*://")


def open_location(text: str, folder: Path, rootdir: Path, token: str = "") -> Location:
    """Return where the history lies.

    "" is `<folder>/history`; `git:BRANCH` a branch of the repository at `rootdir`, `token` being what a push needs; anything
    with `://` is a URL for fsspec; all else is a path, relative to `rootdir`, `~` being the home. `folder` is the
    .tracetriage folder, which also holds local copies (`history-cache/`). Raises HistoryError.
    """
    text = text.strip()
    if not text:
        return FolderLocation(folder / "history")
    cache = folder / "history-cache" / hashlib.blake2b(text.encode("utf-8", "surrogateescape"), digest_size=8).hexdigest()
    if text.startswith("git:"):
        branch = text.removeprefix("git:").strip()
        if not branch:
            raise HistoryError("the history's location 'git:' names no branch: write git:BRANCH, say git:tracetriage-history")
        from pytest_tracetriage.store.history.git import GitLocation  # noqa: PLC0415

        return GitLocation(branch, rootdir, cache, token)
    if _URL.match(text):
        from pytest_tracetriage.store.history.remote import FsspecLocation  # noqa: PLC0415

        return FsspecLocation(text, cache)
    if "://" in text:
        raise HistoryError(f"the history's location {text!r} is neither a path nor a URL")
    return FolderLocation(rootdir / os.path.expanduser(text))  # noqa: PTH111 - a name of nobody stays what it is
