"""Which files make the history: pieces of one run, packs of many, and which of them counts where they overlap."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from msgspec import Struct

from pytest_tracetriage.model.history import RunRecord  # noqa: TC001  # msgspec resolves it
from pytest_tracetriage.store.history.errors import HistoryError
from pytest_tracetriage.store.history.tables import run_key
from pytest_tracetriage.store.runs import RUN_ID

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_RUN = RUN_ID.pattern
_STEM = re.compile(rf"(?:(?P<one>{_RUN})|pack-(?P<first>{_RUN})-(?P<last>{_RUN})-[0-9a-f]{{16}})(?=\.)", re.ASCII)
_FILE = re.compile(rf"(?P<stem>{_STEM.pattern})\.(?P<kind>tests|clusters|run)\.parquet", re.ASCII)


class Piece(Struct, frozen=True):
    """Files that stand for one run, or for many. It is there once its `run` file is."""

    stem: str
    first: str
    last: str
    """The run ids that it begins and ends with."""
    kinds: frozenset[str]

    @property
    def loose(self) -> bool:
        """Whether it holds one run that nobody has packed yet."""
        return self.stem == self.first

    def file(self, kind: str) -> str:
        """Return the name of its file of one kind."""
        return f"{self.stem}.{kind}.parquet"

    @property
    def files(self) -> frozenset[str]:
        """The names of all its files."""
        return frozenset(self.file(kind) for kind in self.kinds)


class Entry(Struct, frozen=True):
    """One run as one piece holds it. `tests` and `clusters` count its rows in the tables of those names."""

    run: RunRecord
    key: int
    stem: str
    tests: int
    clusters: int


def pieces_of(names: Iterable[str]) -> list[Piece]:
    """Return the pieces that these files make, in order of name. Files of other names, and half pieces, are no pieces."""
    kinds: dict[str, set[str]] = {}
    found: dict[str, tuple[str, str]] = {}
    for name in names:
        if match := _FILE.fullmatch(name):
            first, last = match["one"] or match["first"], match["one"] or match["last"]
            if is_run(first) and is_run(last):
                kinds.setdefault(match["stem"], set()).add(match["kind"])
                found[match["stem"]] = (first, last)
    return [Piece(stem, *found[stem], frozenset(held)) for stem, held in sorted(kinds.items()) if "run" in held]


def left_behind(names: Iterable[str]) -> dict[str, str]:
    """Return files of pieces that were never finished, each with the run id that it ends with: whoever wrote them died."""
    names = set(names)
    whole = {piece.stem for piece in pieces_of(names)}
    found = {}
    for name in names:
        match = _STEM.match(name)
        if match and (match[0] not in whole or not _FILE.fullmatch(name)):
            found[name] = match["one"] or match["last"]
    return found


def is_run(identity: str) -> bool:
    """Return whether this is the id of a run that the history could hold."""
    try:
        run_key(identity)
    except HistoryError:
        return False
    return True


def choose(held: Mapping[str, list[Entry]]) -> list[Entry]:
    """Return one entry for each run, oldest first, from what all pieces hold.

    Pieces overlap where two compactions ran at once, or one died before it removed what it had packed. The piece with the
    most runs counts, the first by name among equals: a pack before a loose piece, and the same one for every reader.
    """
    chosen: dict[int, Entry] = {}
    for _, entries in sorted(held.items(), key=lambda item: (-len(item[1]), not item[0].startswith("pack-"), item[0])):
        for entry in entries:
            chosen.setdefault(entry.key, entry)
    return sorted(chosen.values(), key=lambda entry: (entry.run.started, entry.key))
