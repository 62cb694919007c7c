"""A commit status: what a check run is for those who may not have one. GitHub shows the newest of each context."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct

from pytest_tracetriage.govern.forge.api import Act, Api
from pytest_tracetriage.govern.forge.errors import one_line
from pytest_tracetriage.govern.forge.retrying import TroubleError

if TYPE_CHECKING:
    from pytest_tracetriage.govern.forge.retrying import Patience

_LONGEST = 140


class _Status(Struct):
    state: str
    context: str
    description: str | None = None
    target_url: str | None = None


def put(api: Api, patience: Patience, head_sha: str, context: str, state: str, description: str, target_url: str) -> str:
    """See that the newest status of a context says this; return `created` or `unchanged`. Raises ForgeError."""
    act = Act(f"set the status of {head_sha[:7]}", "statuses: write")
    wanted = _Status(state, context, one_line(description, limit=_LONGEST), target_url)
    body = {"state": state, "context": context, "description": wanted.description}
    if target_url:
        body["target_url"] = target_url
    outcome = "unchanged"
    while not _stands(api, patience, head_sha, wanted):
        outcome = "created"
        try:
            api.once(act, "POST", f"/statuses/{head_sha}", _Status, body)
            break
        except TroubleError as trouble:
            patience.wait(act.doing, trouble)
    return outcome


def _stands(api: Api, patience: Patience, head_sha: str, wanted: _Status) -> bool:
    act = Act(f"read the statuses of {head_sha[:7]}", "statuses: read")
    for page in api.pages(act, patience, f"/commits/{head_sha}/statuses", list[_Status]):
        for status in page:  # the newest first
            if status.context.lower() == wanted.context.lower():  # GitHub's contexts know no case
                said = (status.state, status.description or "", status.target_url or "")
                return said == (wanted.state, wanted.description, wanted.target_url)
    return False
