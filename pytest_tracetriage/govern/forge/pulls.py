"""Which pull request a run belongs to."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct

from pytest_tracetriage.govern.forge.api import Act, Api
from pytest_tracetriage.govern.forge.errors import RefusedError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pytest_tracetriage.govern.forge.retrying import Patience

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


def find(api: Api, patience: Patience, head_repository: str, head_sha: str, hint: int, head_branch: str) -> int:
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
