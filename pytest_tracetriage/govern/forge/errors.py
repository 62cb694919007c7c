"""What a forge would not do, in one line for people: what was wrong, and what to do about it."""

from __future__ import annotations

import re


class ForgeError(Exception):
    """Something that could not be done on the forge; the text is one line and never holds the token."""


class RefusedError(ForgeError):
    """A refusal that no repetition would change. `status` is HTTP's, `said` is the forge's own message."""

    def __init__(self, text: str, status: int, said: str) -> None:
        super().__init__(text)
        self.status = status
        self.said = said


def refusal(doing: str, permission: str, repository: str, status: int, said: str) -> RefusedError:
    """Return the error for an answer of GitHub's.

    `doing` completes "GitHub refuses to ...": `comment on #5`; `permission` is the line a workflow's job needs for it:
    `pull-requests: write`.
    """
    return RefusedError(
        f"GitHub refuses to {doing} in {repository} ({status}): {_advice(permission, status, said)}", status, said
    )


def _advice(permission: str, status: int, said: str) -> str:
    lower = said.lower()
    if status == 401:
        return "it does not accept the token: mistyped, expired or revoked; pass a valid one"
    if "not accessible by integration" in lower:
        return (
            f"the token lacks `permissions: {permission}`: add it to the job; for a pull request from a fork the token is "
            "read-only whatever the job says: report from a workflow_run workflow"
        )
    if "not accessible by personal access token" in lower:
        return f"the personal access token lacks the permission `{permission}`: grant it in the token's settings"
    if status == 404:
        return (
            "not found: check the repository and the number, or the token may not see them "
            f"(it needs `{permission}`, and for a private repository `contents: read`)"
        )
    if "too long" in lower:
        return f"{said}: shorten it"
    if "no commit found" in lower:
        return f"{said}: the commit is not in this repository; push it, or name the head commit of the pull request"
    return said or "it gives no reason"


def one_line(text: str, secret: str = "", limit: int = 300) -> str:
    """Return foreign text as one line without control characters and without the secret, cut at `limit` characters."""
    hidden = text.replace(secret, "***") if secret else text
    line = " ".join(re.sub(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]", " ", hidden).split())
    return line if len(line) <= limit else f"{line[: limit - 1]}…"
