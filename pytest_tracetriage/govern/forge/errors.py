"""What a forge would not do: in one line for people, and when it is worth asking again.

GitHub's own advice (docs.github.com, "Rate limits for the REST API"): wait for Retry-After where it is sent; else until
x-ratelimit-reset where nothing remains; else at least a minute after a secondary limit. Anything else that may pass
(no answer, half an answer, 5xx) waits 1, 2, 4 ... seconds, with jitter, so that the jobs of a matrix do not return together.
"""

from __future__ import annotations

import random
import re
import time
from collections.abc import Callable, Mapping


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


Sleep = Callable[[float], None]

_LIMITS = ("rate limit", "please retry your request again later", "please wait a few minutes before you try again")
_LONGEST_BACKOFF = 60.0
_SECONDARY = 60.0


class TroubleError(Exception):
    """A call that may work when it is repeated; whether it took effect is unknown.

    `wait` is how many seconds GitHub wants to be left alone.
    """

    def __init__(self, reason: str, wait: float | None = None) -> None:
        super().__init__(reason)
        self.wait = wait


class Patience:
    """The seconds that one job on the forge may take, all its calls and waits together."""

    def __init__(self, budget: float, sleep: Sleep = time.sleep) -> None:
        self._budget = budget
        self._sleep = sleep
        self._started = time.monotonic()
        self._skipped = 0.0  # what `sleep` was asked for and did not sleep: it counts as if it had
        self._troubles = 0

    def wait(self, doing: str, trouble: TroubleError) -> None:
        """Sleep until a repetition makes sense. Raises ForgeError where the budget does not allow it."""
        backoff = min(_LONGEST_BACKOFF, 2.0**self._troubles) * random.uniform(0.5, 1)  # noqa: S311
        self._troubles += 1
        pause = backoff if trouble.wait is None else trouble.wait
        left = self._budget - (time.monotonic() - self._started) - self._skipped
        if pause > left:
            if trouble.wait is not None:
                asked = f"GitHub wants {pause:.0f} s of rest ({trouble})"
                raise ForgeError(f"{asked}, and only {max(0, left):.0f} s are left to {doing}: try later")
            raise ForgeError(f"GitHub could not be brought to {doing} within {self._budget:.0f} s: {trouble}; try later")
        before = time.monotonic()
        self._sleep(pause)
        self._skipped += max(0.0, pause - (time.monotonic() - before))


def trouble_of(status: int, said: str, headers: Mapping[str, str], now: float) -> TroubleError | None:
    """Return what makes an answer worth repeating, or None where it is final. `now` is in seconds since the epoch."""
    limited = status == 429 or (
        status == 403
        and (
            any(words in said.lower() for words in _LIMITS)
            or headers.get("x-ratelimit-remaining") == "0"
            or "retry-after" in headers
        )
    )
    if not limited and status != 408 and status < 500:
        return None
    return TroubleError(f"{status} {said}".strip(), _demanded(headers, now, limited))


def _demanded(headers: Mapping[str, str], now: float, limited: bool) -> float | None:
    after, reset = headers.get("retry-after", ""), headers.get("x-ratelimit-reset", "")
    if after.isdecimal():
        return float(after)
    if limited and headers.get("x-ratelimit-remaining") == "0" and reset.isdecimal():
        return max(0.0, float(reset) - now) + 1  # nobody says when in that second
    return _SECONDARY if limited else None
