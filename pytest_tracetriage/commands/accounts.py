"""What a run's folder says of tokens, cost and metrics, read once."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import msgspec

from pytest_tracetriage.collect import condense
from pytest_tracetriage.collect.runs import node_ids, read_spans
from pytest_tracetriage.collect.totals import holds_spans, pass_rate
from pytest_tracetriage.model.analysis import Problem
from pytest_tracetriage.model.history import TestSpent
from pytest_tracetriage.model.run import Totals
from pytest_tracetriage.model.trace import FAILING, Metric
from pytest_tracetriage.triage.spending import INSTALL, Account, Calls, Figures, Prices

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from pytest_tracetriage.model.run import Figure, Run, Spent

NAMED = 20
"""Tests whose spending a history keeps by name, of each run."""


@dataclass(frozen=True)
class Accounts:
    """What runs have spent, in all (`spent`) and by test (`tests`, by node id), their metrics, and what was wrong."""

    spent: tuple[Spent, ...] = ()
    tests: dict[str, Account] = field(default_factory=dict)
    metrics: dict[str, Figure] = field(default_factory=dict)
    note: str = ""
    """Why nothing has a price, where that is so."""
    trouble: str = ""


def accounts_of(folders: Iterable[Path]) -> Accounts:
    """Return what these runs' folders hold; quickly nothing where no span and no metric was written."""
    whole, figures, tests = Account(), Figures(), dict[str, Account]()
    prices: Prices | None = None
    bad = 0
    for folder in folders:
        if not holds_spans(folder):
            continue
        traces: dict[str, Account] = {}
        calls = Calls()
        for item in read_spans(folder):
            if isinstance(item, Problem):
                bad += 1
            elif isinstance(item, Metric):
                figures.add(item.name, item.value, item.unit)
            else:
                for usage in calls.new(item):
                    prices = prices or Prices()
                    cost = prices.cost(usage, item.start)
                    whole.add(usage, cost)
                    traces.setdefault(item.trace, Account()).add(usage, cost)
        for trace, nodeid in (node_ids(folder, traces) if traces else {}).items():
            tests.setdefault(nodeid, Account()).add_all(traces[trace])
    metrics = figures.figures()
    troubles = [f"{bad} spans or metrics could not be read"] if bad else []
    if figures.left_out:
        troubles.append(f"{figures.left_out} metrics were left out: too many names, or no number")
    return Accounts(whole.spent(), tests, metrics, INSTALL if prices and prices.missing else "", "; ".join(troubles))


def with_account(folder: Path, run: Run) -> Run:
    """Return a run whose process did not live to add it up with totals, metrics and spending out of its records."""
    if run.status != "running":
        return run
    tests = condense.tests_of(folder)
    red = sum(test.outcome in FAILING for test in tests)
    totals = condense.distinct_totals([tests], Totals(failures=red, flaky=sum(test.retried for test in tests)))
    found = accounts_of([folder])
    metrics = dict(sorted({**found.metrics, **pass_rate(totals)}.items()))
    return msgspec.structs.replace(run, totals=totals, metrics=metrics, spent=found.spent)


def test_spending(tests: Mapping[str, Account]) -> tuple[TestSpent, ...]:
    """Return what the costliest tests of a run have spent, and the rest as one, for the history. `tests` are by node id."""
    found = [_spent(nodeid, account.spent()) for nodeid, account in sorted(tests.items())]
    found.sort(key=lambda test: (-(test.cost or 0.0), -test.tokens, test.nodeid))
    rest = found[NAMED:]
    if rest:
        costs = [test.cost for test in rest]
        cost = None if None in costs else math.fsum(cost for cost in costs if cost is not None)
        found[NAMED:] = [TestSpent("", sum(test.calls for test in rest), sum(test.tokens for test in rest), cost)]
    return tuple(found)


def _spent(nodeid: str, spent: Iterable[Spent]) -> TestSpent:
    spent = tuple(spent)
    costs = [each.cost for each in spent]
    return TestSpent(
        nodeid,
        sum(each.usage.requests for each in spent),
        sum(each.usage.input + each.usage.output for each in spent),
        None if None in costs else math.fsum(cost for cost in costs if cost is not None),
    )
