"""Calls, tokens and cost in words."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from pytest_tracetriage.report.text import plural, printable, shorten

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_tracetriage.model.run import Figure, Spent
    from pytest_tracetriage.model.trace import Usage

_NAMED = 3


def spent_text(spent: Sequence[Spent], note: str = "") -> str:
    """Return `42 calls, 31,204 tokens, $0.18`, with the models that have no price. `note` says why none has one."""
    calls = sum(each.usage.requests for each in spent)
    parts = [plural(calls, "call"), plural(sum(tokens(each.usage) for each in spent), "token")]
    priced = [each.cost for each in spent if each.cost is not None]
    if priced:
        parts.append(money(math.fsum(priced)))
    unknown = sorted({printable(each.usage.model) or "a nameless model" for each in spent if each.cost is None})
    if note and not priced:
        return f"{', '.join(parts)} ({note})"
    if unknown:
        more = f" and {len(unknown) - _NAMED} more" if len(unknown) > _NAMED else ""
        parts[-1] += f" (no price for {', '.join(shorten(name, 60) for name in unknown[:_NAMED])}{more})"
    return ", ".join(parts)


def tokens(usage: Usage) -> int:
    """Return how many tokens went in and out; what a cache gave, and the reasoning, are among them."""
    return usage.input + usage.output


def money(dollars: float) -> str:
    """Return US dollars to the cent, and below ten cents to two digits more: `$0.18`, `$0.0042`, `$0.00`."""
    if 0 < abs(dollars) < 0.1:
        text = f"${dollars:,.4f}"
        return text if text.strip("$-0.") else "<$0.0001"
    return f"${dollars:,.2f}"


def figure_text(figure: Figure) -> str:
    """Return a figure with its unit: `0.83`, `1,204 ms`, `12.5 s`."""
    return f"{number_text(figure.value)} {printable(figure.unit)}".rstrip()


def number_text(value: float) -> str:
    """Return a number as people read it: `1,204`, `0.8333`, `1.2e+18`."""
    return f"{value:,.0f}" if value.is_integer() and abs(value) < 1e15 else f"{value:,.4g}"
