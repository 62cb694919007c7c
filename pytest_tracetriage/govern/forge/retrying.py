"""When a call is worth repeating, and how long to wait for it.

GitHub's own advice (docs.github.com, "Rate limits for the REST API"): wait for Retry-After where it is sent; else until
x-ratelimit-reset where nothing remains; else at least a minute after a secondary limit. Anything else that may pass
(no answer, half an answer, 5xx) waits 1, 2, 4 ... seconds, with jitter, so that the jobs of a matrix do not return together.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping

from pytest_tracetriage.govern.forge.errors import ForgeError

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
