"""Proportions in words, and their intervals."""

from __future__ import annotations

from math import sqrt

Z95 = 1.959964
"""The normal quantile of a two-sided 95 % interval."""


def wilson(hits: int, trials: int, z: float = Z95) -> tuple[float, float]:
    """Return the Wilson score interval of a proportion, both ends in [0, 1]; (0, 1) without a trial.

    E. B. Wilson, Probable inference, the law of succession, and statistical inference, JASA 22 (1927): unlike the normal
    approximation it is right for few trials and for proportions near 0 and 1.
    """
    if trials <= 0:
        return 0.0, 1.0
    share = min(max(hits / trials, 0.0), 1.0)
    scale = 1 + z * z / trials
    middle = (share + z * z / (2 * trials)) / scale
    half = z / scale * sqrt(share * (1 - share) / trials + z * z / (4 * trials * trials))
    return max(0.0, middle - half), min(1.0, middle + half)


def percent(part: int, whole: int) -> str:
    """Return `96.2 %`; `100 %` and `0 %` only where it is all or nothing, `-` of nothing."""
    if whole <= 0:
        return "-"
    if part >= whole:
        return "100 %"
    if part <= 0:
        return "0 %"
    return f"{min(max(100 * part / whole, 0.1), 99.9):.1f} %"
