"""Which earlier tests make a later one fail (polluters), or pass (what a brittle test needs): by bisection.

The search asks for lists of tests to run before the one in question and is told, of each, whether the effect was there. It runs
nothing itself. In quarters, three of which are asked about at once and the fourth is inferred: as many runs as halving takes at
most, in half as many rounds.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    Tests = tuple[str, ...]
    Search = Generator[list[Tests], list[bool], Tests]
    """Yields lists to run before the test, gets for each whether the effect was there, returns the tests that cause it."""

WAYS = 4
MOST = 3
"""Tests that may be needed together; a cause of more is not named."""


def causes_among(before: Sequence[str]) -> Search:
    """Search for the tests without which the effect is not there. It must be there after all of `before`.

    Returns them in their order, usually one; none where the effect comes and goes, or needs more than three together.
    """
    left = tuple(before)
    while len(left) > 1:
        parts = _parts(left)
        answers = yield parts[:-1]
        left = next((part for part, there in zip(parts, answers, strict=False) if there), parts[-1])
    if not left:
        return ()
    (alone,) = yield [left]
    if alone:
        return left
    return (yield from _together(tuple(before)))


def _together(before: Tests) -> Search:
    """Search for tests that have the effect together only: of the shortest beginning that has it, the last is needed."""
    needed: Tests = ()
    while len(needed) < MOST:
        low, high = 0, len(before)
        while high - low > 1:
            cuts = sorted({low + (high - low) * part // WAYS for part in range(1, WAYS)} - {low})
            answers = yield [before[:cut] + needed for cut in cuts]
            first = next((cut for cut, there in zip(cuts, answers, strict=True) if there), high)
            low = max([low, *(cut for cut in cuts if cut < first)])
            high = first
        if not high:
            return ()
        needed, before = (before[high - 1], *needed), before[: high - 1]
        (enough,) = yield [needed]
        if enough:
            return needed
    return ()


def _parts(tests: Tests) -> list[Tests]:
    number = min(WAYS, len(tests))
    bounds = [len(tests) * part // number for part in range(number + 1)]
    return [tests[start:end] for start, end in itertools.pairwise(bounds)]
