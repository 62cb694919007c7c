"""One check run of a name and an external id on a commit, with all its annotations, once each; or a commit status instead.

GitHub takes 50 annotations a request and appends those of every update to what is there (its reference, "Update a check run").
So a run with more is created `in_progress` and completed by its last batch, and whoever goes on, after an answer that was lost
or a process that was killed, first reads which annotations have arrived and sends only the others. Nothing is repeated blindly.

What cannot be had: GitHub deletes neither check runs nor annotations. Two jobs that create the same run in the same moment
leave two equal ones; GitHub shows the newer, and a later update goes to the newer. Annotations of an earlier attempt stay,
unless the external id tells attempts apart. No token can ask which app it belongs to: a run that another app made is passed
over when GitHub refuses to update it, and one that already says the same counts as ours.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import Struct

from pytest_tracetriage.govern.forge.api import Act, Api
from pytest_tracetriage.govern.forge.errors import RefusedError, TroubleError, one_line

if TYPE_CHECKING:
    from pytest_tracetriage.govern.forge.errors import Patience


BATCH = 50


class CheckAnnotation(Struct, frozen=True, omit_defaults=True):
    """A remark on lines of a file of the commit, in GitHub's words."""

    path: str
    start_line: int
    end_line: int
    annotation_level: str
    """`notice`, `warning` or `failure`."""
    message: str
    title: str = ""
    raw_details: str = ""


class CheckRun(Struct, frozen=True):
    """What a check run shall be."""

    name: str
    head_sha: str
    external_id: str
    title: str
    summary: str
    text: str
    conclusion: str
    details_url: str = ""
    annotations: tuple[CheckAnnotation, ...] = ()


class _Output(Struct):
    title: str | None = None
    summary: str | None = None
    text: str | None = None


class _Found(Struct):
    id: int
    name: str
    status: str
    output: _Output
    conclusion: str | None = None
    external_id: str | None = None
    details_url: str | None = None


class _List(Struct):
    check_runs: list[_Found]


class _Annotation(Struct):
    path: str
    start_line: int
    end_line: int
    annotation_level: str | None = None
    message: str | None = None
    title: str | None = None
    raw_details: str | None = None


def put(api: Api, patience: Patience, wanted: CheckRun) -> str:
    """See that the commit has this check run; return `created`, `updated` or `unchanged`. Raises ForgeError."""
    act = Act(f"set the check run of {wanted.head_sha[:7]}", "checks: write")
    writer = _Writer(api, act, wanted)
    foreign: set[int] = set()
    while True:
        found = _look(api, patience, wanted, writer.created, foreign)
        missing = _missing(api, patience, wanted, found)
        try:
            return writer.write(found, missing)
        except TroubleError as trouble:
            patience.wait(act.doing, trouble)
        except RefusedError as refused:
            if found is None or refused.status != 403 or "app_id" not in refused.said:
                raise
            foreign.add(found.id)  # only the app that created a run may update it


class _Writer:
    """The steps of one `put`, and what they have come to."""

    def __init__(self, api: Api, act: Act, wanted: CheckRun) -> None:
        self._api = api
        self._act = act
        self._wanted = wanted
        self._outcome = "unchanged"
        self.created = 0
        """The id of the run that we know to have created: the list may lag behind."""

    def write(self, found: _Found | None, missing: list[CheckAnnotation]) -> str:
        """Take all steps from what was found. Raises TroubleError where the next step needs another look, else ForgeError."""
        if found is not None and not missing and _stands(found, self._wanted):
            return self._outcome
        batches = [missing[start : start + BATCH] for start in range(0, len(missing), BATCH)] or [[]]
        if found is None:
            self._outcome = "created"
            first, *batches = batches
            body = {"status": "in_progress", **self._body(first, last=not batches)}
            body |= {"head_sha": self._wanted.head_sha, "external_id": self._wanted.external_id}
            found = self._api.once(self._act, "POST", "/check-runs", _Found, body)
            self.created = found.id
        elif self._outcome == "unchanged":
            self._outcome = "updated"
        for number, batch in enumerate(batches, start=1):
            body = self._body(batch, last=number == len(batches))
            self._api.once(self._act, "PATCH", f"/check-runs/{found.id}", _Found, body)
        return self._outcome

    def _body(self, batch: list[CheckAnnotation], *, last: bool) -> dict[str, Any]:
        wanted = self._wanted
        output = {"title": wanted.title, "summary": wanted.summary, "text": wanted.text}
        if batch:
            output["annotations"] = msgspec.to_builtins(batch)
        body: dict[str, Any] = {"name": wanted.name, "output": output}
        if wanted.details_url:
            body["details_url"] = wanted.details_url
        return {**body, "status": "completed", "conclusion": wanted.conclusion} if last else body


def _look(api: Api, patience: Patience, wanted: CheckRun, created: int, foreign: set[int]) -> _Found | None:
    """Return our run, the newest where there are several."""
    act = Act(f"read the check runs of {wanted.head_sha[:7]}", "checks: read")
    if created:
        return api.steadily(act, patience, "GET", f"/check-runs/{created}", _Found)
    parameters = {"check_name": wanted.name, "filter": "all"}
    pages = api.pages(act, patience, f"/commits/{wanted.head_sha}/check-runs", _List, parameters)
    found = [
        run
        for page in pages
        for run in page.check_runs
        if run.name == wanted.name and (run.external_id or "") == wanted.external_id and run.id not in foreign
    ]
    return max(found, key=lambda run: run.id, default=None)


def _missing(api: Api, patience: Patience, wanted: CheckRun, found: _Found | None) -> list[CheckAnnotation]:
    """Return the annotations that have not arrived, in their order. Equal ones count."""
    if found is None or not wanted.annotations:
        return list(wanted.annotations)
    act = Act(f"read the annotations of {wanted.head_sha[:7]}", "checks: read")
    pages = api.pages(act, patience, f"/check-runs/{found.id}/annotations", list[_Annotation])
    there = Counter(_key(item) for page in pages for item in page)
    missing = []
    for item in wanted.annotations:
        key = _key(item)
        if there[key]:
            there[key] -= 1
        else:
            missing.append(item)
    return missing


def _key(item: CheckAnnotation | _Annotation) -> tuple[object, ...]:
    texts = (item.annotation_level, item.message, item.title, item.raw_details)
    return (item.path, item.start_line, item.end_line, *(_plain(text) for text in texts))


def _stands(found: _Found, wanted: CheckRun) -> bool:
    texts = [(found.output.title, wanted.title), (found.output.summary, wanted.summary), (found.output.text, wanted.text)]
    return (
        found.status == "completed"
        and found.conclusion == wanted.conclusion
        and (not wanted.details_url or found.details_url == wanted.details_url)
        and all(_plain(there) == _plain(here) for there, here in texts)
    )


def _plain(text: str | None) -> str:
    """Return a text without what GitHub may change when it stores it."""
    return (text or "").replace("\r\n", "\n").strip()


_LONGEST = 140


class _Status(Struct):
    state: str
    context: str
    description: str | None = None
    target_url: str | None = None


def put_status(api: Api, patience: Patience, head_sha: str, context: str, state: str, description: str, target_url: str) -> str:
    """See that the newest status of a context says this; return `created` or `unchanged`. Raises ForgeError."""
    act = Act(f"set the status of {head_sha[:7]}", "statuses: write")
    wanted = _Status(state, context, one_line(description, limit=_LONGEST), target_url)
    body = {"state": state, "context": context, "description": wanted.description}
    if target_url:
        body["target_url"] = target_url
    outcome = "unchanged"
    while not _status_stands(api, patience, head_sha, wanted):
        outcome = "created"
        try:
            api.once(act, "POST", f"/statuses/{head_sha}", _Status, body)
            break
        except TroubleError as trouble:
            patience.wait(act.doing, trouble)
    return outcome


def _status_stands(api: Api, patience: Patience, head_sha: str, wanted: _Status) -> bool:
    act = Act(f"read the statuses of {head_sha[:7]}", "statuses: read")
    for page in api.pages(act, patience, f"/commits/{head_sha}/statuses", list[_Status]):
        for status in page:  # the newest first
            if status.context.lower() == wanted.context.lower():  # GitHub's contexts know no case
                said = (status.state, status.description or "", status.target_url or "")
                return said == (wanted.state, wanted.description, wanted.target_url)
    return False
