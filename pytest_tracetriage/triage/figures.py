"""From what was logged by `metric` to one figure a name: the metrics of a run, or of the runs of a group.

Which figures are added and which averaged is told by their names and units alone, so that every run says it alike.
"""

from __future__ import annotations

import math
from fractions import Fraction
from typing import TYPE_CHECKING

from pytest_tracetriage.model.run import PASS_RATE, Figure

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

MAX_NAMES = 500
"""Names that a run keeps figures of."""
_COUNTS = frozenset({"bugs_found", "bugs_fixed", "patches_generated"})
_ENDINGS = ("_total", "_count")


def is_count(name: str, unit: str = "") -> bool:
    """Return whether the figures of this name add up; all others (rates, times, sizes) are averaged."""
    return unit == "count" or name in _COUNTS or name.endswith(_ENDINGS)


class Figures:
    """Gathers metrics by name. Exact in any order; the first unit of a name, in alphabetical order, is kept."""

    def __init__(self) -> None:
        self._held: dict[str, tuple[Fraction, int, str]] = {}
        self.left_out = 0
        """How many were of too many names, or no number."""

    def add(self, name: str, value: float, unit: str = "", count: int = 1) -> None:
        """Add what was logged `count` times: its sum, or its mean."""
        if not math.isfinite(value) or count < 1 or (name not in self._held and len(self._held) >= MAX_NAMES):
            self.left_out += 1
            return
        total, times, known = self._held.get(name, (Fraction(0), 0, unit))
        weight = 1 if is_count(name, unit) else count
        self._held[name] = (
            total + Fraction(repr(float(value))) * weight,
            times + count,
            min(known, unit) if known and unit else known or unit,
        )

    def figures(self) -> dict[str, Figure]:
        """Return the figures by name, in the order of names."""
        found = {}
        for name, (total, times, unit) in sorted(self._held.items()):
            try:
                found[name] = Figure(float(total if is_count(name, unit) else total / times), unit, times)
            except OverflowError:
                self.left_out += 1
        return found


def together(runs: Iterable[Mapping[str, Figure]]) -> dict[str, Figure]:
    """Return the figures of several runs as those of one. `pass_rate` is left out: a test of several legs counts once."""
    figures = Figures()
    for run in runs:
        for name, figure in run.items():
            if name != PASS_RATE:
                figures.add(name, figure.value, figure.unit, figure.count)
    return figures.figures()
