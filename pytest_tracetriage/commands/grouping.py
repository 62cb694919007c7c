"""The runs that one review is about: the shards and legs of a workflow run, each job's newest attempt."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from pytest_tracetriage.collect.condense import run_record
from pytest_tracetriage.collect.runs import is_run_folder, open_run
from pytest_tracetriage.commands.accounts import with_account
from pytest_tracetriage.model.analysis import Problem
from pytest_tracetriage.model.review import Leg
from pytest_tracetriage.report.github.words import matrix
from pytest_tracetriage.store.history.pieces import is_run

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence
    from pathlib import Path

    from pytest_tracetriage.model.history import Baseline
    from pytest_tracetriage.model.run import Run, Totals


LISTED = 5
_LATEST = 253_402_300_800
"""The year 10000: no run id says so late."""
_MOST = 10**12
"""More tests than any run has."""


@dataclass(frozen=True)
class Group:
    """Runs with their folders: `current` are the last word, `superseded` those that a later attempt of a job replaced."""

    current: tuple[tuple[Path, Run], ...]
    superseded: tuple[tuple[Path, Run], ...] = ()
    problems: tuple[Problem, ...] = ()

    @property
    def runs(self) -> tuple[tuple[Path, Run], ...]:
        """Return all of them."""
        return self.current + self.superseded


def run_folders_in(sources: Iterable[Path]) -> list[Path]:
    """Return the run folders among and below the sources, each once."""
    found: dict[Path, None] = {}
    for source in sources:
        folders = [source] if is_run_folder(source) else sorted({path.parent for path in source.rglob("run.json")})
        found.update(dict.fromkeys(folder.resolve() for folder in folders))
    return list(found)


def group_of(folders: Iterable[Path]) -> Group:
    """Return the runs of these folders, each job's newest attempt apart from its older ones."""
    runs: dict[str, tuple[Path, Run]] = {}
    problems: list[Problem] = []
    for folder in sorted(folders, key=lambda path: (path.name, str(path))):
        files = open_run(folder)
        problems += files.problems
        if files.run is None:
            continue
        if odd := _cannot_be(files.run):
            problems.append(Problem(str(folder / "run.json"), 0, odd))
            continue
        if files.run.id in runs:
            problems.append(Problem(str(folder), 0, f"run {files.run.id} is also in {runs[files.run.id][0]}, which was read"))
            continue
        runs[files.run.id] = (folder, with_account(folder, files.run))
    newest: dict[tuple[str, ...], int] = {}
    for _, run in runs.values():
        newest[_job(run)] = max(newest.get(_job(run), 0), _attempt(run))
    current = tuple(pair for pair in runs.values() if _attempt(pair[1]) == newest[_job(pair[1])])
    older = tuple(pair for pair in runs.values() if _attempt(pair[1]) < newest[_job(pair[1])])
    return Group(current, older, tuple(problems))


def _cannot_be(run: Run) -> str:
    """Return why no recorder has written this, "" where one may have. What is refused here need not be feared further on."""
    if not is_run(run.id):
        return f"{run.id[:80]!r} is not a run id such as 20261120T043000Z-7f3a9c"
    if not (0 <= run.started < _LATEST and 0 <= run.finished < _LATEST):
        return "its times are none that a run could have"
    if not all(0 <= count < _MOST for count in msgspec.structs.astuple(run.totals)):
        return "its totals are none that a run could have"
    return ""


def _job(run: Run) -> tuple[str, ...]:
    ci = run.context.ci
    return (ci.provider, ci.run_id, ci.job, ci.leg) if ci.run_id else (run.id,)


def _attempt(run: Run) -> int:
    return run_record(run).attempt


def worst_exit(group: Group) -> int | None:
    """Return what the worst of the suites ended with, as their runs say; None where no run says it."""
    return max((run.exit_status for _, run in group.current if run.exit_status >= 0), default=None)


def workflow_run(group: Group) -> str:
    """Return how the groups of all attempts of this workflow run begin, a lone run's id; "" for no run."""
    for _, run in group.current:
        return run.group.rpartition(":")[0] + ":" if run.group else run.id
    return ""


def legs(runs: Sequence[tuple[Path, Run]], totals: dict[str, Totals]) -> tuple[Leg, ...]:
    """Return the runs as legs, in the order of job, matrix and start. `totals` are by run id."""
    found = [
        Leg(
            run=run.id,
            job=run.context.ci.job,
            leg=run.context.ci.leg,
            python=run.context.python,
            platform=run.context.platform,
            totals=totals.get(run.id, run.totals),
            duration=max(0.0, run.finished - run.started) if run.finished else 0.0,
            finished=run.status == "finished",
        )
        for _, run in runs
    ]
    return tuple(sorted(found, key=lambda leg: (leg.job, leg.leg, leg.run)))


def missing_legs(group: Group, baseline: Baseline, job: str = "") -> list[str]:
    """Return a note for each job and leg of the base branch that is not among these runs: nothing speaks for its tests.

    A `job` that reports for itself misses its own legs only.
    """
    here = {(run.context.ci.job, run.context.ci.leg) for _, run in group.current}
    missing = [" ".join(filter(None, (leg[0], matrix(leg[1])))) for leg in baseline.legs if _missed(leg, here, job)]
    more = [f"and {len(missing) - LISTED} more"] if len(missing) > LISTED else []
    return [f"no run of {leg} was found, which {baseline.branch} has" for leg in missing[:LISTED]] + more


def _missed(leg: tuple[str, str], here: Collection[tuple[str, str]], job: str) -> bool:
    return leg not in here and any(leg) and job in {"", leg[0]}
