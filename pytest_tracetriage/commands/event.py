"""The event that started a GitHub workflow: the facts that may be trusted, whatever an artifact claims."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from pytest_tracetriage.capture.context import base_branch, github_event

if TYPE_CHECKING:
    from collections.abc import Mapping

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
