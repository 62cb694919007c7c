"""What one review is about: the event of the workflow, and its runs: shards and legs, each job's newest attempt.

The event is what GitHub says of itself: it may be trusted, whatever an artifact claims.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import msgspec

from pytest_tracetriage.capture.context import base_branch, github_event
from pytest_tracetriage.collect.condense import run_record
from pytest_tracetriage.collect.runs import is_run_folder, open_run
from pytest_tracetriage.commands.accounts import with_account
from pytest_tracetriage.model.analysis import Problem
from pytest_tracetriage.model.review import Leg
from pytest_tracetriage.report.github.words import matrix
from pytest_tracetriage.store.history.pieces import is_run

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence
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


PULLS = frozenset({"pull_request", "pull_request_target"})


@dataclass(frozen=True)
class Event:
    """What is reported on. Under `workflow_run` these are the facts of the run that triggered it."""

    name: str
    """The event of the workflow that ran the tests: push, pull_request, schedule ..."""
    repository: str
    """`owner/name` that the workflow belongs to."""
    head_repository: str
    """Where the commit comes from: another repository for a fork's pull request."""
    sha: str
    """The commit that a check belongs to: the head of a pull request, not its merge."""
    branch: str
    base: str
    pull_request: int
    """0 where there is none, or where it has to be looked for by `head_repository` and `sha`."""
    workflow: str
    ci_run: int
    attempt: int
    url: str
    triggered: bool = False
    """Whether the tests ran in another workflow run, which triggered this one."""
    job: str = ""
    """The job that reports runs of its own, "" where it reports those of others."""

    @property
    def title(self) -> str:
        """Return what tells this report from others: of two jobs that report for themselves each has a report of its own."""
        return f"{self.workflow} / {self.job}" if self.job else self.workflow

    @property
    def from_fork(self) -> bool:
        """Return whether strangers decide what ran: their token cannot write, and their artifacts are not to be believed."""
        return bool(self.head_repository) and self.head_repository.lower() != self.repository.lower()

    @property
    def group(self) -> str:
        """Return how the groups of all attempts of the workflow run begin."""
        return f"github:{self.repository}:{self.ci_run}:"

    @property
    def searched(self) -> bool:
        """Return whether a pull request is to be looked for."""
        return not self.pull_request and self.name in PULLS


def read_event(environ: Mapping[str, str]) -> Event | None:
    """Return the event of this GitHub workflow, None outside of one."""
    if environ.get("GITHUB_ACTIONS") != "true":
        return None
    payload = github_event(environ)
    repository = environ.get("GITHUB_REPOSITORY", "")
    server = environ.get("GITHUB_SERVER_URL", "https://github.com")
    event = Event(
        name=environ.get("GITHUB_EVENT_NAME", ""),
        repository=repository,
        head_repository=repository,
        sha=environ.get("GITHUB_SHA", ""),
        branch=environ.get("GITHUB_HEAD_REF") or environ.get("GITHUB_REF_NAME", ""),
        base=base_branch(environ),
        pull_request=0,
        workflow=environ.get("GITHUB_WORKFLOW", ""),
        ci_run=_number(environ.get("GITHUB_RUN_ID")),
        attempt=_number(environ.get("GITHUB_RUN_ATTEMPT")) or 1,
        url=f"{server}/{repository}/actions/runs/{environ.get('GITHUB_RUN_ID', '')}",
        job=environ.get("GITHUB_JOB", ""),
    )
    if event.name == "workflow_run":
        return _triggering(event, _table(payload.get("workflow_run")))
    if pull := _table(payload.get("pull_request")):
        head = _table(pull.get("head"))
        return replace(
            event,
            head_repository=_text(_table(head.get("repo")).get("full_name")) or "(deleted)",
            sha=_text(head.get("sha")) or event.sha,
            pull_request=_number(pull.get("number")),
        )
    return event


def _triggering(event: Event, run: Mapping[str, Any]) -> Event:
    """Return the facts of the workflow run that triggered this one."""
    name = _text(run.get("event"))
    pulls = _own_pulls(event, run) if name in PULLS else []
    base = _text(_table(pulls[0].get("base")).get("ref")) if len(pulls) == 1 else ""
    return replace(
        event,
        name=name,
        head_repository=_text(_table(run.get("head_repository")).get("full_name")) or "(deleted)",
        sha=_text(run.get("head_sha")),
        branch=_text(run.get("head_branch")),
        base=base or event.base,
        pull_request=_number(pulls[0].get("number")) if len(pulls) == 1 else 0,
        workflow=_text(run.get("name")),
        ci_run=_number(run.get("id")),
        attempt=_number(run.get("run_attempt")) or 1,
        url=_text(run.get("html_url")) or event.url,
        triggered=True,
        job="",
    )


def _own_pulls(event: Event, run: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the listed pull requests whose branch lies in this repository, and that would merge into it.

    GitHub lists those with the run's head branch or commit, "not necessarily" the one that triggered it: a push to a branch
    has some, and a fork's may be requests within the fork, whose numbers mean others here.
    """
    listed, source = run.get("pull_requests"), _text(_table(run.get("head_repository")).get("full_name"))
    if not isinstance(listed, list) or source.lower() != event.repository.lower():
        return []
    branch = _text(run.get("head_branch"))
    pulls = [pull for pull in listed if isinstance(pull, dict)]
    here = [pull for pull in pulls if _text(_table(pull.get("head")).get("ref")) in {"", branch}]
    # A fork that brings itself up to date has a pull request of its own from our branch.
    return [pull for pull in here if not _target(pull) or _target(pull).endswith(f"/repos/{event.repository}".lower())]


def _target(pull: Mapping[str, Any]) -> str:
    return _text(_table(_table(pull.get("base")).get("repo")).get("url")).lower()


def _table(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _number(value: object) -> int:
    text = str(value)
    return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else 0
