"""Random histories: loose, partly packed or packed twice over, they answer as a plain list of their runs would."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st
from oracle import RED, Oracle
from remembered import cluster, open_at

from pytest_tracetriage.model.history import ClusterRecord, Condensed, RunRecord, TestRecord
from pytest_tracetriage.model.run import Totals
from pytest_tracetriage.store.runs import new_run_id

TESTS = "abcd"
BEGIN = 1_795_000_000
PLACES = [
    {"branch": "main", "event": "push"},
    {"branch": "main", "event": "schedule", "workflow": "nightly"},
    {"branch": "release"},
    {"branch": "topic", "event": "pull_request", "pull_request": "5"},
    {"branch": "main", "event": "pull_request", "pull_request": "6"},
    {"branch": "main", "event": "merge_group"},
    {"branch": ""},
]
GROUPS = [
    {"group": ""},
    *({"group": f"github:s/s:{run}:{attempt}", "ci_run": str(run), "attempt": attempt} for run in (7, 8) for attempt in (1, 2)),
]


@st.composite
def runs(draw, number):
    """One run: any commit, place, group and leg; a red test fails by one cluster, a retried one by another or the same."""
    started = BEGIN + draw(st.integers(0, 6))
    identity = new_run_id(started)[:-6] + f"{number:06x}"
    tests, ended, again = [], {}, {}
    for nodeid in draw(st.sets(st.sampled_from(TESTS))):
        outcome = draw(st.sampled_from(["passed", "passed", "passed", "failed", "failed", "error", "skipped", "xfailed"]))
        retried = draw(st.sampled_from([0, 0, 0, 1, 2]))
        tests.append(TestRecord(nodeid, outcome, draw(st.sampled_from([0.0, 0.1, 0.5, 3.0])), retried))
        letter = draw(st.sampled_from("ABC"))
        if outcome in RED:
            ended.setdefault(letter, []).append(nodeid)
        elif outcome == "passed" and retried:
            again.setdefault(letter, []).append(nodeid)
    records = []
    for letter in "ABC":
        if letter in ended or letter in again:
            shown = cluster(letter, signatures=draw(st.sampled_from(["A", "AB", "C"])), name=f"{letter}{number}")
            records.append(ClusterRecord(identity, shown, tuple(ended.get(letter, ())), tuple(again.get(letter, ()))))
        elif draw(st.booleans()):
            records.append(
                ClusterRecord(identity, cluster(letter, "fixed"), tuple(sorted(draw(st.sets(st.sampled_from(TESTS))))))
            )
    counted = Totals(tests=len(tests), passed=sum(test.outcome == "passed" for test in tests))
    run = RunRecord(
        identity,
        started=float(started),
        finished=draw(st.sampled_from([started + 10.0, started + 60.0, 0.0])),
        totals=counted,
        commit=draw(st.sampled_from(["c1", "c2", "c3", ""])),
        dirty=draw(st.sampled_from([False, False, False, True])),
        environment=draw(st.sampled_from(["e1", "e1", "e2", ""])),
        exit_status=draw(st.sampled_from([0, 1, 1, 2])),
        job=draw(st.sampled_from(["test", "lint"])),
        leg=draw(st.sampled_from(["", "1", "2"])),
        **{"workflow": "ci", **draw(st.sampled_from(PLACES)), **draw(st.sampled_from(GROUPS))},
    )
    return Condensed(run, tuple(tests), tuple(records))


@st.composite
def histories(draw):
    """Runs, which of them two packs hold, whether all lie loose as well, a run that nobody has added, and whether to pack."""
    items = [draw(runs(number)) for number in range(draw(st.integers(1, 12)))]
    later = draw(runs(99))
    parts = [draw(st.sets(st.sampled_from(range(len(items))))) for _ in range(2)]
    loose = draw(st.booleans())
    return items, parts, loose, later, draw(st.booleans())


def same(history, items, later):
    oracle = Oracle(items)
    asked = {letter * 26: set(tests) for letter, tests in zip("ABC", ("ab", "abcd", ""), strict=True)}
    for branch in (None, "main"):
        for since, exclude in ((0.0, ""), (BEGIN + 3.0, ""), (0.0, "github:s/s:7:")):
            assert history.seen(branch, since=since, exclude=exclude) == oracle.seen(branch, since, exclude)
        assert history.frequencies(asked, branch) == oracle.frequencies(asked, branch)
        assert history.pass_rate(branch) == oracle.pass_rate(branch)
        assert history.slow_tests(100, branch=branch) == oracle.slow_tests(branch)
    assert history.frequencies(asked, groups=2) == oracle.frequencies(asked, groups=2)
    assert history.evidence(asked) == oracle.evidence(asked)
    assert history.evidence(asked, [items[-1], later]) == Oracle([*items, later]).evidence(asked)
    assert history.flaky_tests(100) == oracle.flaky_tests()
    for exclude, workflow in (("", ""), ("github:s/s:8:", ""), ("", "ci")):
        assert history.baseline("main", exclude=exclude, workflow=workflow) == oracle.baseline("main", exclude, workflow)
    for letter in "ABC":
        found = history.cluster_history(letter)
        assert (found.runs if found else ()) == oracle.cluster_runs(letter * 26)
    assert history.problems == []


@settings(max_examples=5, deadline=None)
@given(histories())
def test_a_history_answers_as_a_list_of_its_runs(made):
    items, parts, loose, later, pack = made
    with tempfile.TemporaryDirectory() as place:
        whole = Path(place, "whole")
        open_at(whole).add(items if loose else [item for n, item in enumerate(items) if not any(n in part for part in parts)])
        for number, part in enumerate(parts):  # as two compactions at once leave it: packs that overlap, with loose pieces
            alone = Path(place, f"part{number}")
            open_at(alone).add([items[n] for n in sorted(part)])
            open_at(alone).compact()
            if part:
                shutil.copytree(alone, whole, dirs_exist_ok=True)
        if pack:
            open_at(whole).compact()
        same(open_at(whole), items, later)
