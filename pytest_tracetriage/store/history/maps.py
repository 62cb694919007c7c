"""Coverage maps in the history: which are kept, and which one is the newest for a commit.

A map is many times what else is kept of a run, so only the newest are: of each line (branch, workflow, job and leg) those of
two commits. Its file's name says what it is of, so that finding one reads none.
"""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING

from msgspec import Struct

from pytest_tracetriage.store.history.pieces import is_run
from pytest_tracetriage.store.history.tables import run_key
from pytest_tracetriage.store.runs import RUN_ID

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pytest_tracetriage.model.history import RunRecord

KEPT = 2
"""Commits of a line whose maps are kept."""
PAUSE = 86_400
"""Seconds between two maps of a line where the place never forgets what was put there, as a git branch does."""
SUFFIX = ".coverage"
_FILE = re.compile(
    rf"map-(?P<line>[0-9a-f]{{8}})-(?P<run>{RUN_ID.pattern})-(?P<commit>[0-9a-f]{{1,64}}){re.escape(SUFFIX)}", re.ASCII
)


class MapFile(Struct, frozen=True):
    """What the name of a map's file says."""

    name: str
    line: str
    run: str
    commit: str
    """"0" where the run knew none."""

    @property
    def started(self) -> int:
        """When its run began, in seconds since the epoch."""
        return run_key(self.run) >> 24


def file_of(run: RunRecord) -> MapFile | None:
    """Return the file for the map of a run, None for a run whose map is not kept.

    That is one of a pull request, one with uncommitted changes, and one that did not end green: it lacks the tests that failed.
    """
    if run.pull_request or run.dirty or run.exit_status != 0:
        return None
    stands = f"{run.branch}\0{run.workflow}\0{run.job}\0{run.leg}".encode("utf-8", "backslashreplace")
    line = hashlib.blake2b(stands, digest_size=4).hexdigest()
    return map_file(f"map-{line}-{run.id}-{run.commit.lower() or '0'}{SUFFIX}")


def map_file(name: str) -> MapFile | None:
    """Return what the name of a file says, None where it is none of a map."""
    found = _FILE.fullmatch(name)
    return MapFile(name, found["line"], found["run"], found["commit"]) if found and is_run(found["run"]) else None


def map_files(names: Iterable[str]) -> list[MapFile]:
    """Return the maps among files, newest first."""
    found = [file for name in names if (file := map_file(name)) is not None]
    return sorted(found, key=lambda file: (file.run, file.name), reverse=True)


def is_due(new: MapFile, files: Sequence[MapFile]) -> bool:
    """Return whether a line lacks a map of the last `PAUSE` seconds."""
    return not any(
        file.line == new.line and file.commit != new.commit and abs(new.started - file.started) < PAUSE for file in files
    )


def superseded(files: Iterable[MapFile]) -> frozenset[str]:
    """Return the names of maps, given newest first, that make room: all but those of the newest commits of each line."""
    commits: dict[str, set[str]] = {}
    gone = set()
    for file in files:
        kept = commits.setdefault(file.line, set())
        if file.commit in kept or len(kept) == KEPT:  # a commit that ran again has a newer one
            gone.add(file.name)
        else:
            kept.add(file.commit)
    return frozenset(gone)


def newest(files: Iterable[MapFile], commits: Sequence[str] | None) -> list[MapFile]:
    """Return of each line the map of the first of these commits that has one; None asks about all, newest first."""
    files = list(files)
    order = {commit: number for number, commit in enumerate(commits)} if commits is not None else {}
    wanted = [file for file in files if commits is None or file.commit in order]
    chosen: dict[str, MapFile] = {}
    for file in sorted(wanted, key=lambda file: order.get(file.commit, 0)):
        chosen.setdefault(file.line, file)
    return [chosen[line] for line in sorted(chosen)]


def outdated(names: Iterable[str], before: float) -> frozenset[str]:
    """Return the names of maps whose runs started before a time, in seconds since the epoch."""
    return frozenset(file.name for file in map_files(names) if file.started < before)
