"""What a run's folder says: of tokens, cost and metrics; of the traits of its tests, for correlation and sequences."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import msgspec

from pytest_tracetriage.collect import condense
from pytest_tracetriage.collect.formats import lines, open_source
from pytest_tracetriage.collect.runs import node_ids, open_run, read_spans, unfinished
from pytest_tracetriage.collect.totals import holds_spans, pass_rate
from pytest_tracetriage.model.analysis import Problem
from pytest_tracetriage.model.history import TestSpent
from pytest_tracetriage.model.run import Totals
from pytest_tracetriage.model.trace import FAILING, Metric, Span, Trace, Use
from pytest_tracetriage.triage.spending import INSTALL, Account, Calls, Figures, Prices

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from pathlib import Path

    from pytest_tracetriage.diagnose.correlation import Key, Observed
    from pytest_tracetriage.model.analysis import Analysis
    from pytest_tracetriage.model.hypotheses import Prompt, Shared, Waste
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


MAX_TESTS = 50_000
"""Passing tests that are compared with; of more, the first in the order of their node ids."""
_UNTOLD = frozenset({"usefixtures", "asyncio", "flaky", "timeout", "xdist_group"})
"""Markers that say how a test is run, or what stands among its traits already."""


@dataclass
class Inputs:
    """What runs say of inputs: `shared` by cluster, the prompts that go with failures, and work that need not have been."""

    shared: tuple[Shared, ...] = ()
    prompts: tuple[Prompt, ...] = ()
    wastes: tuple[Waste, ...] = ()


@dataclass
class _Test:
    """The last word on a test."""

    failed: bool
    trace: str
    worker: str
    traits: set[Key] = field(default_factory=set)


def inputs_of(folders: Iterable[Path], analysis: Analysis) -> Inputs:
    """Return what inputs have to do with the clusters of an analysis of these runs. Raises OSError."""
    from pytest_tracetriage.diagnose.correlation import shared  # noqa: PLC0415 - most ask for accounts only
    from pytest_tracetriage.diagnose.sequences import prompts_of, wastes  # noqa: PLC0415

    cluster = {test: one.id for one in analysis.clusters if one.seen != "fixed" for test in one.tests}
    tests: dict[str, _Test] = {}
    spans: dict[str, list[Span]] = defaultdict(list)
    workers: set[str] = set()
    for number, folder in enumerate(folders):
        named = _read(folder, f"{number}:", tests, workers)
        _take_spans(folder, f"{number}:", spans)
        for use in named:
            for nodeid in use.tests:
                if nodeid in tests:
                    tests[nodeid].traits.add(("fixture", use.fixture, ""))
    texts: dict[str, str] = {}
    observed = list(_observed(tests, cluster, spans, texts, several=len(workers) > 1))
    found = shared(observed)
    broke_at = {f"0:{place.id}": place.step for place in analysis.traces if place.step}
    return Inputs(found, prompts_of(found, observed, texts), wastes(spans, broke_at, _costs()) if spans else ())


def wastes_of(runs: Iterable[tuple[Path, Analysis | None]]) -> tuple[tuple[Waste, ...], int]:
    """Return the work in these runs that need not have been done, over all of them, and how many have spans. Raises OSError."""
    from pytest_tracetriage.diagnose.sequences import wastes  # noqa: PLC0415

    spans: dict[str, list[Span]] = defaultdict(list)
    broke_at: dict[str, str] = {}
    read = 0
    for number, (folder, analysis) in enumerate(runs):
        read += _take_spans(folder, f"{number}:", spans)
        places = analysis.traces if analysis is not None else ()
        broke_at |= {f"{number}:{place.id}": place.step for place in places if place.step}
    return wastes(spans, broke_at, _costs()) if spans else (), read


def _take_spans(folder: Path, prefix: str, spans: dict[str, list[Span]]) -> bool:
    """Take the spans of a run, by trace; return whether it has any."""
    from pytest_tracetriage.diagnose.sequences import MAX_SPANS  # noqa: PLC0415

    if not holds_spans(folder):
        return False
    for item in read_spans(folder):
        if isinstance(item, Span) and len(spans[f"{prefix}{item.trace}"]) < 2 * MAX_SPANS:
            spans[f"{prefix}{item.trace}"].append(item)
    return True


def _costs() -> Callable[[Span], float | None]:
    prices: Prices | None = None

    def cost(span: Span) -> float | None:
        nonlocal prices
        if span.usage is None:
            return None
        prices = prices or Prices()
        price = prices.cost(span.usage, span.start)
        return None if price is None else float(price)

    return cost


def _observed(
    tests: Mapping[str, _Test],
    cluster: Mapping[str, str],
    spans: Mapping[str, list[Span]],
    texts: dict[str, str],
    *,
    several: bool,
) -> Iterator[Observed]:
    from pytest_tracetriage.diagnose.correlation import Observed  # noqa: PLC0415
    from pytest_tracetriage.diagnose.sequences import traits  # noqa: PLC0415

    passing = 0
    for nodeid in sorted(tests):
        test = tests[nodeid]
        if test.failed and nodeid not in cluster:
            continue
        passing += not test.failed
        if not test.failed and passing > MAX_TESTS:
            continue
        own = set(test.traits)
        if several:
            own.add(("worker", "", test.worker))
        if test.trace in spans:
            own |= traits(spans[test.trace], texts)
        yield Observed(nodeid, cluster[nodeid] if test.failed else "", frozenset(own))


def _read(folder: Path, prefix: str, tests: dict[str, _Test], workers: set[str]) -> list[Use]:
    """Take the tests of a run, its last word on each; return who shares which fixtures."""
    trace, use = msgspec.json.Decoder(Trace).decode, msgspec.json.Decoder(Use).decode
    uses: list[Use] = []
    files = open_run(folder)
    for path in files.traces:
        worker = path.name.partition(".")[0]
        with open_source(path) as file:
            for _, line in lines(file):
                head = b"" if line is None else line[:40]
                try:
                    if line is not None and b'"record":"trace"' in head:
                        if _take(trace(line), worker, prefix, tests):
                            workers.add(worker)
                    elif line is not None and b'"record":"use"' in head:
                        uses.append(use(line))
                except (msgspec.MsgspecError, RecursionError):
                    continue  # told by whoever analyses the run
    for one in unfinished(files):
        _take(one, "", prefix, tests)
    return uses


def _take(trace: Trace, worker: str, prefix: str, tests: dict[str, _Test]) -> bool:
    failed = trace.outcome in FAILING
    if trace.rerun or trace.subtest or not (failed or trace.outcome in {"passed", "xpassed"}):
        return False
    before = tests.get(trace.nodeid)
    if before is not None and before.failed and not failed:
        return True
    own: set[Key] = {("parameter", name, value) for name, value in trace.params.items()}
    own |= {("fixture", name, "") for name in trace.fixtures if name not in trace.params}
    own |= {
        ("marker", one.name, ", ".join([*one.args, *(f"{key}={value}" for key, value in one.kwargs.items())]))
        for one in trace.markers
        if one.name not in _UNTOLD
    }
    tests[trace.nodeid] = _Test(failed, f"{prefix}{trace.id}", worker, own)
    return True
