"""Pure functions over runs: which belong together, which count for a branch, and what groups say of a cluster."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from pytest_tracetriage.model.history import RunRecord, Word
    from pytest_tracetriage.store.history.pieces import Entry

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
