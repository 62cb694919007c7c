"""Makes condensed runs, and histories of them in folders."""

from __future__ import annotations

from pytest_tracetriage.model.analysis import Cluster, Signature
from pytest_tracetriage.model.history import ClusterRecord, Condensed, RunRecord, TestRecord
from pytest_tracetriage.model.run import Totals
from pytest_tracetriage.store.history.history import open_history
from pytest_tracetriage.store.history.locations import FolderLocation
from pytest_tracetriage.store.runs import new_run_id


def cluster(letter, seen="new", signatures=("A",), name=""):
    """Return a cluster whose id is 26 times `letter`."""
    made = tuple(Signature(one * 26, "KeyError", "shop/cart.py", "total", "missing", 1) for one in signatures)
    return Cluster(letter * 26, name or f"cluster {letter}", "ASSERTION", "product", (), seen, None, 1, (), made, (), (), None)


def item(when, outcomes=(), clusters=(), **more):
    """Return a run that started at `when`.

    `outcomes` are (node id, outcome, retried) or just node ids that passed; `clusters` (cluster, tests, retried).
    """
    identity = new_run_id(when)
    given = [(one, "passed", 0) if isinstance(one, str) else (*one, 0)[:3] for one in outcomes]
    tests = tuple(TestRecord(nodeid, outcome, 0.1, retried) for nodeid, outcome, retried in given)
    passed = sum(test.outcome == "passed" for test in tests)
    settings = {
        "group": "", "finished": when + 10.0, "totals": Totals(tests=len(tests), passed=passed), "branch": "main",
        "commit": "c1", "environment": "e1", "exit_status": 0, **more,
    }  # fmt: skip
    records = tuple(ClusterRecord(identity, shown, tuple(ended), tuple(again)) for shown, ended, again in clusters)
    return Condensed(RunRecord(id=identity, started=float(when), **settings), tests, records)


def open_at(path):
    """Return the history in a folder."""
    return open_history(FolderLocation(path))


def ids(history, **how):
    """Return the ids of all runs of a history, oldest first."""
    return [run.id for run in reversed(history.runs(limit=10**6, **how))]


def in_short(history):
    """Return what a history holds of runs, clusters and tests."""
    return history.runs(limit=10**6), history.seen(), history.slow_tests(10**6)


def everything(history):
    """Return what a history answers to every question, to compare two of them."""
    shown = history.seen()
    clusters = {seen.cluster.id: sorted(seen.tests | {"a", "b", "c"}) for seen in shown}
    return (
        history.runs(limit=10**6), shown, history.seen("main"), history.frequencies(clusters), history.evidence(clusters),
        history.baseline("main"), history.pass_rate(), history.slow_tests(10**6), history.flaky_tests(10**6),
        [history.cluster_history(one) for one in clusters], history.trails(), history.costs(limit=10**6),
    )  # fmt: skip
