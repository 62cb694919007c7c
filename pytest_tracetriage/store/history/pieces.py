"""What counts, as pure functions: which files make the history, which of them where they overlap; which runs belong together.

Pieces are of one run, packs of many.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from msgspec import Struct

from pytest_tracetriage.model.history import RunRecord  # msgspec resolves it
from pytest_tracetriage.store.history import HistoryError
from pytest_tracetriage.store.history.tables import run_key
from pytest_tracetriage.store.runs import RUN_ID

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from pytest_tracetriage.model.history import RunRecord, Word


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


_PULL_EVENTS = {"pull_request", "pull_request_target", "merge_group"}
_UNFINISHED = {2, 3, 4}
"""pytest's exit statuses of a run that did not get through: interrupted, internal error, usage error."""


class Spell(Struct, frozen=True):
    """A cluster over groups, numbered in order of time."""

    red: int
    """Groups in which it ended red."""
    episodes: int
    open: bool
    last_red: int
    """The newest of those groups, -1 without any."""


def group_of(run: RunRecord) -> str:
    """Return the name of a run's group: a lone run is a group of its own."""
    return run.group or run.id


def on_branch(run: RunRecord, branch: str | None) -> bool:
    """Return whether a run counts for a branch; all do for None. One of a pull request is on its way to a branch, not on it."""
    return branch is None or (run.branch == branch and not run.pull_request and run.event not in _PULL_EVENTS)


def groups(entries: Iterable[Entry]) -> list[list[Entry]]:
    """Return runs by group, in order of the earliest start of their workflow run, then of their own; runs likewise.

    A job that is run again next week speaks of its old commit: what was mended since is not broken again by that.
    """
    found: dict[str, list[Entry]] = {}
    begun: dict[str, int] = {}
    for entry in sorted(entries, key=lambda entry: (entry.run.started, entry.key)):
        found.setdefault(group_of(entry.run), []).append(entry)
        begun.setdefault(_workflow_run(entry.run), len(begun))
    return sorted(found.values(), key=lambda group: begun[_workflow_run(group[0].run)])


def last_words(entries: Iterable[Entry]) -> list[list[Entry]]:
    """Return runs by workflow run, in order of their earliest start; of each job and leg only the newest attempt."""
    found: dict[str, list[Entry]] = {}
    for entry in sorted(entries, key=lambda entry: (entry.run.started, entry.key)):
        found.setdefault(_workflow_run(entry.run), []).append(entry)
    return [_newest_attempts(together) for together in found.values()]


def _workflow_run(run: RunRecord) -> str:
    return f"{run.repository} {run.workflow} {run.ci_run}" if run.ci_run else group_of(run)


def _newest_attempts(together: Sequence[Entry]) -> list[Entry]:
    newest: dict[tuple[str, str], int] = {}
    for entry in together:
        newest[leg_of(entry.run)] = max(newest.get(leg_of(entry.run), 0), entry.run.attempt)
    return [entry for entry in together if entry.run.attempt == newest[leg_of(entry.run)]]


def leg_of(run: RunRecord) -> tuple[str, str]:
    """Return which job and leg of its workflow a run is."""
    return run.job, run.leg


def numbered(entries: Iterable[Entry]) -> dict[int, int]:
    """Return the number of the group of each run, by the run's key."""
    return {entry.key: number for number, group in enumerate(groups(entries)) for entry in group}


def complete(group: Sequence[Entry]) -> bool:
    """Return whether all runs of a group came to their end."""
    return all(entry.run.finished > 0 and entry.run.exit_status not in _UNFINISHED for entry in group)


def spell(words: Collection[tuple[int, Word]]) -> Spell:
    """Return what groups together say of a cluster, from (group, word) pairs in any order. In one group red wins over fixed."""
    said: dict[int, Word] = {}
    for number, word in words:
        if word == "red" or (word == "fixed" and said.get(number) != "red"):
            said[number] = word
    episodes, before = 0, "fixed"
    for _, word in sorted(said.items()):
        episodes += word == "red" != before
        before = word
    red = [number for number, word in said.items() if word == "red"]
    return Spell(len(red), episodes, before == "red", max(red, default=-1))
