"""One comment of ours on a pull request, whatever happens on the way.

GitHub has no "create unless it is there": a POST whose answer was lost may have worked, and two jobs may post at once. So each
round looks first, then takes one step towards the end: our oldest comment with the marker, alone, with the newest text. A step
that went wrong is followed by another look, never by a blind repetition.

What cannot be had: GitHub edits without a condition, so of two jobs that edit in the same moment the later one wins, even with
the older text. Its workflows' `concurrency:` is there for that.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from msgspec import Struct

from pytest_tracetriage.govern.forge.api import Act, Api
from pytest_tracetriage.govern.forge.errors import ForgeError, RefusedError, TroubleError

if TYPE_CHECKING:
    from pytest_tracetriage.govern.forge.errors import Patience

Order = tuple[int, int]
"""The CI run and its attempt: the greater is the newer."""
ReadOrder = Callable[[str], "Order | None"]
_LOSSES = 5
"""How often the comment may be deleted between a look and an edit."""


class _Author(Struct):
    login: str
    type: str = "User"


class _Comment(Struct):
    id: int
    body: str | None = None
    user: _Author | None = None


def upsert(api: Api, patience: Patience, number: int, marker: str, body: str, order: Order, read_order: ReadOrder) -> str:
    """See that the pull request has our comment; return `created`, `updated`, `unchanged` or `stale`. Raises ForgeError."""
    act = Act(f"comment on #{number}", "pull-requests: write")
    login = api.login(patience)
    tried, losses = False, 0
    posted: dict[int, _Comment] = {}
    while losses < _LOSSES:
        listed = {comment.id: comment for comment in _look(api, patience, number, marker, login)}
        mine = posted | listed  # the list may lag behind what we were told
        if not mine:
            tried = True
            try:
                comment = api.once(act, "POST", f"/issues/{number}/comments", _Comment, {"body": body})
                posted[comment.id] = comment
            except TroubleError as trouble:
                patience.wait(act.doing, trouble)
            continue
        outcome = _settle(api, act, patience, [mine[key] for key in sorted(mine)], body, order, read_order)
        if outcome != "gone":
            return "created" if tried and outcome == "unchanged" else outcome
        losses += 1
        posted.clear()
    raise ForgeError(
        f"the comment on #{number} of {api.repository} keeps disappearing while it is written: is a bot deleting it?"
    )


def _look(api: Api, patience: Patience, number: int, marker: str, login: str) -> list[_Comment]:
    act = Act(f"read the comments on #{number}", "pull-requests: read")
    return [
        comment
        for page in api.pages(act, patience, f"/issues/{number}/comments", list[_Comment])
        for comment in page
        if (comment.body or "").lstrip().startswith(marker) and _is_ours(comment, login)
    ]


def _is_ours(comment: _Comment, login: str) -> bool:
    """Return whether we wrote a comment: anybody may paste our marker. A token without a user speaks as a bot."""
    if comment.user is None:
        return False
    return comment.user.login.lower() == login.lower() if login else comment.user.type == "Bot"


def _settle(
    api: Api, act: Act, patience: Patience, mine: list[_Comment], body: str, order: Order, read_order: ReadOrder
) -> str:
    """Give the oldest of our comments the newest text, then delete the others. Returns `gone` where it is there no more."""
    kept, *others = (comment for comment in mine if comment.user == mine[0].user)  # other bots may have quoted us
    newest, text = order, body
    for comment in (kept, *others):
        other = read_order(comment.body or "")
        if other is not None and other > newest:
            newest, text = other, comment.body or ""
    changed = not _same(kept.body or "", text)
    if changed:  # before anything is deleted: whoever is killed between the two leaves no gap
        try:
            api.steadily(act, patience, "PATCH", f"/issues/comments/{kept.id}", _Comment, {"body": text})
        except RefusedError as refused:
            if refused.status == 404:
                return "gone"
            raise
    for comment in others:
        _delete(api, act, patience, comment.id)
    if newest > order:
        return "stale"
    return "updated" if changed else "unchanged"


def _delete(api: Api, act: Act, patience: Patience, number: int) -> None:
    try:
        api.steadily(act, patience, "DELETE", f"/issues/comments/{number}", type(None))
    except RefusedError as refused:
        if refused.status != 404:  # somebody else, or we ourselves in an answer that was lost
            raise


def _same(one: str, other: str) -> bool:
    """Return whether two texts differ in nothing but what GitHub may change when it stores them: line ends, outer space."""
    return one.replace("\r\n", "\n").strip() == other.replace("\r\n", "\n").strip()
