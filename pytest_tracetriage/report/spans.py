"""The spans of one trace as a tree: what stood in what, how long it took, what it cost, where it broke."""

from __future__ import annotations

import math
from itertools import zip_longest
from typing import TYPE_CHECKING

from pytest_tracetriage.model.run import Spent
from pytest_tracetriage.report.text import Line, money, plural, printable, shorten, spent_text, tokens

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pytest_tracetriage.model.trace import Span

SHOWN = 200
"""Spans of one trace that are drawn."""
MAX_DEPTH = 20
"""Levels that are drawn one inside the other; what stands deeper is drawn at this one."""
_TEXT_LINES = 3
_NARROW = 40


class _Branch:
    """A span with what stands in it: `tokens` and `cost` (NaN where a call has no price) are those of all of it."""

    def __init__(self, span: Span) -> None:
        self.span = span
        self.below: list[_Branch] = []
        self.tokens = 0
        self.cost = 0.0


def span_lines(
    spans: Sequence[Span],
    costs: Mapping[str, Sequence[float | None]],
    width: int,
    note: str = "",
    bad: int = 0,
    broke_at: str = "",
) -> list[Line]:
    """Return the tree of a trace's spans with a line of totals above it, for a terminal of `width` characters.

    `costs` are US dollars by span id, one for each usage of it, None or absent where there is no price; `note` says why. `bad`
    lines of the run could not be read. The span `broke_at` is marked. At most 200 spans are drawn: that one, then those that
    broke and what they stand in before all others.
    """
    if not spans:
        return []
    roots = _tree(spans, costs)
    chosen = _chosen(roots, broke_at)
    lines: list[Line] = [((f"  {'spans':<9} ", "dim"), (_totals(spans, costs, note), ""))]
    paid = any(branch.tokens for branch in roots)
    todo = [(branch, 0) for branch in reversed(roots)]
    while todo:
        branch, depth = todo.pop()
        if branch.span.id in chosen:
            lines += _span(branch, depth, width, paid=paid, broke=branch.span.id == broke_at)
            todo += [(below, min(depth + 1, MAX_DEPTH)) for below in reversed(branch.below)]
    if len(spans) > len(chosen):
        lines.append(((f"    … and {plural(len(spans) - len(chosen), 'more span')}", "dim"),))
    if bad:
        lines.append(((f"    {plural(bad, 'line')} of this run could not be read", "yellow"),))
    return lines


def _tree(spans: Sequence[Span], costs: Mapping[str, Sequence[float | None]]) -> list[_Branch]:
    """Return the roots, what began first above. A span whose parent is not known, or stands in itself, is a root."""
    branches = {span.id: _Branch(span) for span in sorted(spans, key=lambda span: (span.start, span.id))}
    circling = _circling(branches)
    roots = []
    for branch in branches.values():
        parent = branches.get(branch.span.parent)
        if parent is None or branch.span.id in circling:
            roots.append(branch)
        else:
            parent.below.append(branch)
    for branch in reversed(_all(roots)):
        paid = _paid(branch.span, costs)
        branch.tokens = sum(tokens(each.usage) for each in paid) + sum(below.tokens for below in branch.below)
        branch.cost = math.fsum(
            [*(math.nan if each.cost is None else each.cost for each in paid), *(below.cost for below in branch.below)]
        )
    return roots


def _paid(span: Span, costs: Mapping[str, Sequence[float | None]]) -> list[Spent]:
    prices = costs.get(span.id, ())
    return [Spent(usage, price) for usage, price in zip_longest(span.usages, prices[: len(span.usages)])]


def _circling(branches: Mapping[str, _Branch]) -> set[str]:
    """Return the ids of the spans that stand in themselves, by whatever way."""
    found: set[str] = set()
    known: set[str] = set()
    for identity in branches:
        path: dict[str, None] = {}
        at = identity
        while at in branches and at not in known and at not in path:
            path[at] = None
            at = branches[at].span.parent
        if at in path:
            members = list(path)
            found.update(members[members.index(at) :])
        known.update(path)
    return found


def _all(roots: Sequence[_Branch]) -> list[_Branch]:
    """Return all branches, each before what stands in it."""
    found = list(roots)
    for branch in found:
        found += branch.below
    return found


def _chosen(roots: Sequence[_Branch], broke_at: str) -> set[str]:
    """Return the ids of the spans to draw: never one without what it stands in."""
    every = _all(roots)
    if len(every) <= SHOWN:
        return {branch.span.id for branch in every}
    parents = {below.span.id: branch for branch in every for below in branch.below}
    chosen: set[str] = set()
    for branch in sorted(
        every, key=lambda branch: (branch.span.id != broke_at, branch.span.outcome == "success")
    ):  # stable: what is higher up comes first
        path: list[str] = []
        above: _Branch | None = branch
        while above is not None and above.span.id not in chosen and len(chosen) + len(path) <= SHOWN:
            path.append(above.span.id)
            above = parents.get(above.span.id)
        if len(chosen) + len(path) <= SHOWN:
            chosen.update(path)
    return chosen


def _totals(spans: Sequence[Span], costs: Mapping[str, Sequence[float | None]], note: str) -> str:
    paid = [each for span in spans for each in _paid(span, costs)]
    if not paid:
        return plural(len(spans), "span")
    text = spent_text(paid, note)
    parts = [
        f"{count:,} {word}"
        for word, count in (
            ("cached", sum(each.usage.cache_read for each in paid)),
            ("to the cache", sum(each.usage.cache_creation for each in paid)),
            ("reasoning", sum(each.usage.reasoning for each in paid)),
        )
        if count
    ]
    return f"{plural(len(spans), 'span')}, LLM: {text}{' · ' + ', '.join(parts) if parts else ''}"


def _span(branch: _Branch, depth: int, width: int, *, paid: bool, broke: bool) -> list[Line]:
    span = branch.span
    indent = "    " + "  " * depth
    right = _measures(branch, paid=paid)
    left = " ".join(part for part in (span.component if span.component not in span.name else "", span.name) if part)
    model = ", ".join(usage.model for usage in span.usages if usage.model not in span.name)
    kind = span.kind if span.kind not in {"span", "step", "op"} else ""
    tail = " ".join(printable(part) for part in (kind, model) if part)
    room = max(_NARROW // 2, width - len(indent) - len(right) - 4)
    tail = shorten(tail, max(0, room - min(len(left), room // 2) - 2))
    name = shorten(printable(left), max(8, room - len(tail) - 2 if tail else room))
    pad = max(0, room - len(name) - (len(tail) + 2 if tail else 0))
    failed = span.outcome != "success"
    mark = "✗ " if failed else "  "
    lines: list[Line] = [
        (
            (indent + mark, "red bold" if failed else ""),
            (name, "red bold" if failed else "bold" if depth == 0 else ""),
            (f"  {tail}" if tail else "", "cyan"),
            ((" " * pad + "  " + right).rstrip(), "dim"),
        )
    ]
    below = indent + "    "
    if broke:
        lines.append(((f"{below}↑ it broke here", "red bold"),))
    for label, text, style in (
        ("ended", _ending(span), "yellow"),
        ("error", "" if any(other.span.error == span.error for other in branch.below) else span.error, "red"),
        ("in", span.inputs, ""),
        ("out", span.output, ""),
    ):
        lines += _wrapped(below, label, text, style, width)
    return lines


def _measures(branch: _Branch, *, paid: bool) -> str:
    seconds = _seconds(branch.span.duration)
    if not paid:
        return f"{seconds:>8}"
    count = f"{branch.tokens:,} tok" if branch.tokens else ""
    cost = money(branch.cost) if branch.tokens and not math.isnan(branch.cost) else ""
    return f"{seconds:>8}  {count:>11}  {cost:>8}"


def _seconds(duration: float) -> str:
    return f"{duration * 1000:.0f} ms" if duration < 0.9995 else f"{duration:,.2f} s"


def _ending(span: Span) -> str:
    outcome = span.outcome if span.outcome not in {"success", "failed"} else ""
    reason = span.stop_reason if span.outcome != "success" else ""
    return ": ".join(part for part in (outcome, reason, span.rationale) if part)


def _wrapped(indent: str, label: str, text: str, style: str, width: int) -> list[Line]:
    """Return a text under its label in at most three lines."""
    if not text:
        return []
    room = max(_NARROW, width - len(indent) - 7)
    text = shorten(printable(text[: 4 * _TEXT_LINES * room]), _TEXT_LINES * room)
    pieces = [text[start : start + room] for start in range(0, len(text), room)]
    return [((f"{indent}{label if not index else '':<6} ", "dim"), (piece, style)) for index, piece in enumerate(pieces)]
