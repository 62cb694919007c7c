"""What costs most: tests by money, tokens and time, needless calls, what is run again or slow, and the ways things fail."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from pytest_tracetriage.diagnose.changepoints import credible
from pytest_tracetriage.diagnose.patterns import TRACES, percent
from pytest_tracetriage.model.diagnosis import Issue, Share

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pytest_tracetriage.model.diagnosis import Costs, IssueKind, Pattern
    from pytest_tracetriage.model.hypotheses import Waste

SLOW = 0.1
"""Seconds below which no test is worth naming."""


def issues(
    costs: Costs,
    found: Sequence[Pattern],
    min_frequency: float,
    top: int,
    wasted: tuple[Sequence[Waste], int] = ((), 0),
) -> tuple[Issue, ...]:
    """Return the worst of each kind, ranked, at most `top` of each; of a cost, `top` by each unit. Flaky tests are those found.

    `wasted` are calls that need not have been made, and in how many runs they were looked for.
    What is about a share of attempts or runs is told from 20 of them on, where the share is `min_frequency` or more.
    """
    flaky = [
        Issue("FLAKY_TEST", pattern.id, pattern.subject, pattern.frequency.hits, "attempts", pattern.frequency,
              pattern.points, pattern.words)
        for pattern in found
        if pattern.kind == "FLAKY" and pattern.of == "test"
    ]  # fmt: skip
    sinks = [*_money(costs)[:top], *_tokens(costs)[:top], *_needless(*wasted)[:top], *_time(costs)[:top]]
    often = {
        "RETRY_PATTERN": _retries(costs), "FAILURE_MODE": _modes(costs),
    }  # fmt: skip
    ranked = [*flaky, *_numbered("COST_SINK", sinks)]
    for kind, rows in often.items():
        kept = [row for row in rows if row.share is not None and row.share.mean >= min_frequency]
        ranked += _numbered(kind, kept[:top])
    return (*ranked, *_numbered("SLOW_TEST", _slow(costs)[:top]))


def too_little(traces: int, runs: int) -> tuple[str, ...]:
    """Return what there are too few traces for: of the test that ran most in the past looked at, and runs in the window."""
    notes = []
    if traces < TRACES:
        notes.append(f"flaky tests: insufficient traces: {traces} of {TRACES}")
    if runs < TRACES:
        notes.append(f"retry patterns and failure modes: insufficient traces: {runs} of {TRACES}")
    return tuple(notes)


def _numbered(kind: str, rows: Iterable[Issue]) -> list[Issue]:
    return [replace(row, id=f"{kind.replace('_', '-')}-{number}") for number, row in enumerate(rows, 1)]


def _issue(kind: IssueKind, subject: str, amount: float, unit: str, runs: int, words: str, share: Share | None = None) -> Issue:
    return Issue(kind, "", subject, amount, unit, share, runs, words)


def _money(costs: Costs) -> list[Issue]:
    whole = sum(cost or 0.0 for *_, cost in costs.spent)
    rows = [
        _issue("COST_SINK", nodeid, cost, "US dollars", runs,
               f"${cost:,.2f} in {runs_text(runs)}, {_of(cost, whole)} of all; {calls:,} calls, {tokens:,} tokens")
        for nodeid, runs, calls, tokens, cost in costs.spent if nodeid and cost
    ]  # fmt: skip
    return sorted(rows, key=_worst)


def _tokens(costs: Costs) -> list[Issue]:
    """Return the tests with most tokens among those of no known price."""
    whole = sum(tokens for _, _, _, tokens, _ in costs.spent)
    rows = [
        _issue("COST_SINK", nodeid, tokens, "tokens", runs,
               f"{tokens:,} tokens in {runs_text(runs)}, {_of(tokens, whole)} of all; {calls:,} calls, no price known")
        for nodeid, runs, calls, tokens, cost in costs.spent if nodeid and tokens and not cost
    ]  # fmt: skip
    return sorted(rows, key=_worst)


def _time(costs: Costs) -> list[Issue]:
    return [
        _issue("COST_SINK", test.nodeid, round(test.seconds, 3), "seconds", test.runs,
               f"{_duration(test.seconds)} in {runs_text(test.runs)}, {_of(test.seconds, costs.seconds)} of all tests' time")
        for test in costs.timed if test.seconds >= SLOW
    ]  # fmt: skip


def _needless(wastes: Sequence[Waste], runs: int) -> list[Issue]:
    """Return needless calls by what they cost in money, else tokens, else time."""
    rows = []
    for waste in wastes:
        took = [
            (waste.cost or 0.0, "US dollars", f"${waste.cost or 0.0:,.2f}"),
            (waste.tokens, "tokens", f"{waste.tokens:,} tokens"),
            (waste.seconds, "seconds", _duration(waste.seconds)),
        ]
        known = [one for one in took if one[0]]
        if not known or (known[0][1] == "seconds" and waste.seconds < SLOW):
            continue
        amount, unit, _ = known[0]
        name = " ".join(part for part in (waste.component, waste.name) if part)
        calls = f"{waste.times:,} call{'' if waste.times == 1 else 's'} too many"
        words = f"{calls}, {', '.join(text for _, _, text in known)}; of {runs_text(runs)} kept here"
        rows.append(_issue("COST_SINK", f"{waste.kind}: {name}", amount, unit, runs, words))
    return rows


def _retries(costs: Costs) -> list[Issue]:
    rows = []
    for test in costs.retried:
        if test.again + test.traces >= TRACES:
            share = Share(test.again, test.again + test.traces, *credible(test.again, test.traces))
            words = f"{test.again:,} attempts run again in {runs_text(test.traces)}: {percent(share)} of attempts"
            rows.append(_issue("RETRY_PATTERN", test.nodeid, test.again, "attempts", test.traces, words, share))
    return rows


def _modes(costs: Costs) -> list[Issue]:
    rows = []
    for mode in costs.modes if costs.groups >= TRACES else ():
        share = Share(mode.runs, costs.groups, *credible(mode.runs, costs.groups - mode.runs))
        clusters = f"{mode.clusters:,} cluster{'' if mode.clusters == 1 else 's'}"
        words = f"in {mode.runs:,} of {runs_text(costs.groups)}, {percent(share)}, by {clusters}; owner {mode.owner}"
        rows.append(_issue("FAILURE_MODE", mode.category, mode.runs, "runs", mode.runs, words, share))
    return rows


def _slow(costs: Costs) -> list[Issue]:
    return [
        _issue("SLOW_TEST", nodeid, round(median, 3), "seconds", runs,
               f"median {_duration(median)}, 95 % below {_duration(p95)}, over {runs_text(runs)}")
        for nodeid, median, p95, runs in costs.slow if median >= SLOW
    ]  # fmt: skip


def _worst(issue: Issue) -> tuple[float, str]:
    return -issue.amount, issue.subject


def runs_text(count: int) -> str:
    """Return `1 run`, `52 runs`."""
    return f"{count:,} run{'' if count == 1 else 's'}"


def _of(part: float, whole: float) -> str:
    return f"{100 * part / whole:.0f} %" if whole > 0 else "0 %"


def _duration(seconds: float) -> str:
    if seconds < 99.95:
        return f"{seconds:.2g} s" if seconds < 9.95 else f"{seconds:.0f} s"
    return f"{seconds / 60:,.0f} min" if seconds < 7200 else f"{seconds / 3600:,.1f} h"
