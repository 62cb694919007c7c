"""GitHub: the pull request of a run, our comment on it, and the check run or commit status of its head.

Everything here may be called again at any time, also after a kill at any point: it looks at what is there and does the rest.
"""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING

from msgspec import Struct

from pytest_tracetriage.govern.forge import checks, comments
from pytest_tracetriage.govern.forge.api import Act, Api
from pytest_tracetriage.govern.forge.checks import CheckAnnotation, CheckRun
from pytest_tracetriage.govern.forge.errors import ForgeError, Patience, RefusedError, Sleep, one_line

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pytest_tracetriage.govern.forge.comments import Order, ReadOrder


_REPOSITORY = re.compile(r"[A-Za-z0-9_.-]{1,100}/(?!\.{1,2}$)[A-Za-z0-9_.-]{1,100}")
_SHA = re.compile(r"[0-9a-f]{40}([0-9a-f]{24})?")
_GREEN = {"success", "neutral", "skipped"}


class GitHubForge:
    """One repository on GitHub, seen with one token. Every method raises ForgeError and nothing else.

    `repository` is `OWNER/NAME`. `budget` is how many seconds one call of a method may go on trying, waits included;
    `timeout` is how many seconds one request may take. `sleep` is for those who must not wait. The environment is not read.
    """

    def __init__(
        self,
        repository: str,
        token: str,
        api_url: str = "https://api.github.com",
        budget: float = 120.0,
        *,
        timeout: int = 20,
        sleep: Sleep = time.sleep,
    ) -> None:
        self._api = Api(_checked(_REPOSITORY, repository, "a repository as OWNER/NAME"), token, api_url, timeout)
        self._budget = budget
        self._sleep = sleep

    def find_pull(self, head_repository: str, head_sha: str, hint: int = 0, head_branch: str = "") -> int:
        """Return the one open pull request whose head is this commit of that repository; 0 for none or several.

        `hint` may come from anywhere: it is asked about, never believed. `head_branch` shortens the search in a fork.
        """
        _checked(_REPOSITORY, head_repository, "a repository as OWNER/NAME")
        _checked(_SHA, head_sha, "a full commit SHA")
        return find_pull(self._api, self._patience(), head_repository, head_sha, hint, head_branch)

    def base_branch(self, number: int) -> str:
        """Return the branch that a pull request would merge into."""
        return base_branch(self._api, self._patience(), number)

    def upsert_comment(self, number: int, marker: str, body: str, order: Order, read_order: ReadOrder) -> str:
        """See that a pull request holds exactly one comment of ours that begins with `marker`; return what it took.

        `created`, `updated`, `unchanged`, or `stale`: a newer (CI run, attempt) than `order` has spoken, and its word stays.
        `read_order` returns the order that a comment's text tells of, None where it tells none.
        """
        if not body.startswith(marker) or not marker.strip():
            raise ForgeError(f"the comment on #{number} does not begin with its marker, so it would not be found again")
        return comments.upsert(self._api, self._patience(), number, marker, body, order, read_order)

    def set_check(
        self,
        name: str,
        head_sha: str,
        *,
        title: str,
        summary: str,
        conclusion: str,
        text: str = "",
        annotations: Sequence[CheckAnnotation] = (),
        details_url: str = "",
        external_id: str = "",
    ) -> str:
        """See that a commit holds one check run of this name and external id; return `created`, `updated` or `unchanged`.

        A personal access token may not have check runs: then the commit status `name` says the title, and `status` is returned.
        """
        _checked(_SHA, head_sha, "a full commit SHA")
        wanted = CheckRun(name, head_sha, external_id, title, summary, text, conclusion, details_url, tuple(annotations))
        try:
            return checks.put(self._api, self._patience(), wanted)
        except RefusedError as refused:
            if refused.status != 403 or self._api.installation:
                raise
        self.set_status(head_sha, name, "success" if conclusion in _GREEN else "failure", title, details_url)
        return "status"

    def set_status(self, head_sha: str, context: str, state: str, description: str, target_url: str = "") -> str:
        """See that the newest commit status of `context` says this; return `created` or `unchanged`.

        `state` is `success`, `failure`, `error` or `pending`; the description is cut at GitHub's 140 characters.
        """
        _checked(_SHA, head_sha, "a full commit SHA")
        return checks.put_status(self._api, self._patience(), head_sha, context, state, description, target_url)

    def _patience(self) -> Patience:
        return Patience(self._budget, self._sleep)


def _checked(pattern: re.Pattern[str], text: str, expected: str) -> str:
    """Return a text that may stand in a path of the API. Raises ForgeError."""
    if not pattern.fullmatch(text):
        raise ForgeError(f"{one_line(text, limit=80)!r}: expected {expected}")
    return text


_ACT = Act("find the pull request", "pull-requests: read")


class _Repository(Struct):
    full_name: str


class _Head(Struct):
    sha: str
    repo: _Repository | None = None
    """None where the fork has been deleted."""


class _Base(Struct):
    ref: str


class _Pull(Struct):
    number: int
    state: str
    head: _Head
    base: _Base


def find_pull(api: Api, patience: Patience, head_repository: str, head_sha: str, hint: int, head_branch: str) -> int:
    """Return the number of the one open pull request with this head repository and this head commit; else 0.

    GitHub ties a commit to the pull requests of its own repository only, so a fork's is looked up in the list of open ones.
    A hint adds one candidate to be asked about, and wins nothing.
    """

    def matching(pulls: Iterable[_Pull]) -> set[int]:
        return {
            pull.number
            for pull in pulls
            if pull.state == "open"
            and pull.head.sha == head_sha
            and pull.head.repo is not None
            and pull.head.repo.full_name.lower() == head_repository.lower()
        }

    found = matching(_hinted(api, patience, hint))
    if head_repository.lower() == api.repository.lower():
        found |= matching(_of_commit(api, patience, head_sha))
    else:
        found |= matching(_open(api, patience, head_repository, head_branch))
    return found.pop() if len(found) == 1 else 0


def base_branch(api: Api, patience: Patience, number: int) -> str:
    """Return the branch that a pull request would merge into."""
    return api.steadily(_ACT, patience, "GET", f"/pulls/{number}", _Pull).base.ref


def _hinted(api: Api, patience: Patience, hint: int) -> list[_Pull]:
    if hint <= 0:
        return []
    try:
        return [api.steadily(_ACT, patience, "GET", f"/pulls/{hint}", _Pull)]
    except RefusedError as refused:
        if refused.status == 404:
            return []
        raise


def _of_commit(api: Api, patience: Patience, head_sha: str) -> list[_Pull]:
    try:
        return [pull for page in api.pages(_ACT, patience, f"/commits/{head_sha}/pulls", list[_Pull]) for pull in page]
    except RefusedError as refused:
        if refused.status == 422:  # no such commit here
            return []
        raise


def _open(api: Api, patience: Patience, head_repository: str, head_branch: str) -> Iterable[_Pull]:
    parameters: dict[str, str | int] = {"state": "open", "sort": "updated", "direction": "desc"}
    if head_branch:
        parameters["head"] = f"{head_repository.partition('/')[0]}:{head_branch}"
    for page in api.pages(_ACT, patience, "/pulls", list[_Pull], parameters):
        yield from page
