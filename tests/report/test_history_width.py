"""`tracetriage history` in terminals of different widths."""

from __future__ import annotations

import pytest
from samples import CLUSTER

from pytest_tracetriage.model.history import ClusterHistory, ClusterRun, Overview, RunRecord, Seen
from pytest_tracetriage.model.run import Totals
from pytest_tracetriage.report.history import cluster_lines, overview_lines
from pytest_tracetriage.report.text import width_of

DAY = 1_795_000_000.0


def run(number, branch="main", **more):
    totals = Totals(tests=10_108, passed=10_000, failures=108 if number else 0)
    return RunRecord(
        id=f"r{number}",
        group="",
        started=DAY + number,
        finished=0.0,
        commit="e6eb90f9" * 5,
        branch=branch,
        totals=totals,
        **more,
    )


RUNS = {
    "plain": (run(0), run(1)),
    "long": (run(0), run(1, "feature/a-branch-with-a-name-that-goes-on", pull_request="12345")),
    "legs": (run(0, job="test", leg="3.12 ubuntu-latest"), run(1, job="test", leg="3.13 windows-latest")),
}
"""By what makes their lines long."""


def text_of(lines):
    return "\n".join("".join(text for text, _ in line) for line in lines)


@pytest.mark.parametrize("width", [60, 80, 120])
@pytest.mark.parametrize("runs", RUNS.values(), ids=RUNS)
def test_lines_fit_the_terminal(runs, width):
    none = frozenset()
    seen = Seen(CLUSTER, none, none, "r0", "e6eb90f9", DAY, "r1", "e6eb90f9", DAY, 1_000, episodes=12, open=True)
    lines = overview_lines(Overview("", 90, runs, (seen,), (), (), ()), width, 10)
    words = [ClusterRun(one, word, 1_000) for one in runs for word in ("red", "retried", "fixed")]
    lines += cluster_lines(ClusterHistory(CLUSTER, tuple(words)), width)
    assert max(map(width_of, lines)) <= width, text_of(lines)
    assert "main" in text_of(lines)
    assert ("e6eb90f9" in text_of(lines)) == (width >= 80)


def test_a_leg_has_the_room_that_a_short_branch_leaves():
    assert "test 3.12" in text_of(overview_lines(Overview("", 90, RUNS["legs"], (), (), (), ()), 80, 10))
