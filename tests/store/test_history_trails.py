"""What patterns are looked for in: the course of tests and clusters, and what tests took."""

from __future__ import annotations

import msgspec
import pytest
from remembered import cluster, item, open_at

from pytest_tracetriage.model.diagnosis import Mode, Retried
from pytest_tracetriage.model.history import TestSpent
from pytest_tracetriage.store.history.tables import read_run

A = "A" * 26


@pytest.fixture(params=["loose", "packed"])
def remember(request, tmp_path):
    """Return a function that makes a history of runs, once in loose pieces and once in a pack."""

    def make(*runs):
        history = open_at(tmp_path)
        history.add(runs)
        if request.param == "packed":
            history.compact()
        return open_at(tmp_path)

    return make


def courses(trails):
    """What became of each subject, by line and commit, as `passed/failed`."""
    return {
        trail.subject: [
            f"{trails.places[place].line}:{trails.places[place].commit} {passed}/{failed}"
            for place, passed, failed in zip(trail.places, trail.passed, trail.failed, strict=True)
        ]
        for trail in (*trails.tests, *trails.clusters)
    }


def red(when, tests=("a",), fine=(), **more):
    return item(when, [*fine, *((test, "failed") for test in tests)], [(cluster("A"), tests, [])], **more)


def test_attempts_of_one_commit_and_environment_share_a_place(remember):
    history = remember(
        item(100, ["a", "b"]),
        red(200, fine=["b"]),
        item(300, [("a", "passed", 2), "b"], commit="c2"),
        item(400, ["b"], commit="c3"),
    )
    found = history.trails()
    assert courses(found)["a"] == ["0:c1 1/1", "0:c2 1/2"]
    assert [trail.subject for trail in found.tests] == ["a"]
    assert (found.untouched, found.traces) == (1, 4)
    assert found.tests[0].causes == (A, "")


def test_dirty_trees_other_environments_and_unknown_commits_are_places_of_their_own(remember):
    history = remember(
        red(100),
        item(200, ["a"], dirty=True),
        item(300, ["a"], environment="e2"),
        item(400, ["a"], commit=""),
        item(500, ["a"]),
    )
    assert courses(history.trails())["a"] == ["0:c1 1/1", "0:c1 1/0", "0:c1 1/0", "0: 1/0"]


def test_branches_pull_requests_and_legs_are_lines_of_their_own(remember):
    history = remember(
        red(100, leg="3.10"),
        item(200, ["a"], leg="3.14"),
        red(300, branch="topic", pull_request="7", commit="c2", leg="3.10"),
        item(400, ["a"], commit="c3", leg="3.10"),
    )
    assert courses(history.trails())["a"] == ["0:c1 0/1", "0:c3 1/0", "1:c1 1/0", "2:c2 0/1"]
    assert courses(history.trails("main"))["a"] == ["0:c1 0/1", "0:c3 1/0", "1:c1 1/0"]
    assert courses(history.trails(since=350)) == {}


def test_a_failure_that_many_tests_share_says_nothing_of_one(remember):
    many = [f"t{number}" for number in range(10)]
    history = remember(
        item(100, [*many, "a"]), red(200, [*many], commit="c2", fine=["a"]), red(300, ["a"], commit="c3", fine=many)
    )
    found = history.trails()
    assert [trail.subject for trail in found.tests] == ["a"]
    assert courses(found)[A] == ["1:c1 1/0", "1:c2 0/1", "1:c3 0/1"]


def test_a_cluster_is_red_in_a_workflow_run_where_any_leg_was(remember):
    ci = {"ci_run": "1", "workflow": "CI"}
    history = remember(
        item(100, ["a"], group="g1", job="x", **ci),
        red(110, ["b"], group="g1", job="y", **ci),
        item(200, ["a", "b"], group="g2", job="x", commit="c2", ci_run="2", workflow="CI"),
        item(300, ["a"], group="g3", job="x", commit="c3", ci_run="3", workflow="CI", finished=0.0),
    )
    found = history.trails()
    assert courses(found)[A] == ["2:c1 0/1", "2:c2 1/0"]  # of the third nobody knows: it did not come to its end
    assert (found.clusters[0].name, found.clusters[0].tests) == ("cluster A", {"b"})


def test_an_attempt_that_was_run_again_fails_and_passes(remember):
    history = remember(item(100, [("a", "passed", 1)], [(cluster("A"), [], ["a"])]))
    assert courses(history.trails())[A] == ["1:c1 1/1"]
    assert courses(history.trails())["a"] == ["0:c1 1/1"]


def test_costs(remember):
    spent = (TestSpent("a", 3, 900, 0.5), TestSpent("", 1, 10))
    runs = [item(100 * number, ["b", ("a", "passed", 2)], commit=f"c{number}", spent=spent) for number in range(1, 4)]
    found = remember(*runs, red(900, ["b"], fine=["a"], spent=(TestSpent("a", 1, 100),))).costs(limit=5)
    assert (found.runs, found.groups) == (4, 4)
    assert found.retried == (Retried("a", 6, 4),)
    assert found.modes == (Mode("ASSERTION", "product", 1, 1),)
    assert found.spent == (("", 3, 3, 30, None), ("a", 4, 10, 2800, None))
    assert [(timed.nodeid, timed.runs) for timed in found.timed] == [("a", 4), ("b", 4)]
    assert found.timed[0].seconds == pytest.approx(0.1 * 10, rel=0.06)  # each of ten attempts took as long
    assert found.seconds == pytest.approx(0.1 * 14, rel=0.06)
    assert [row[0] for row in found.slow] == ["a", "b"]


def test_nothing_is_asked_of_an_empty_history(tmp_path):
    history = open_at(tmp_path)
    assert (history.trails().places, history.costs().runs) == ((), 0)


def test_a_run_of_an_older_version_has_spent_nothing():
    record = msgspec.to_builtins(item(100, ["a"]).run)
    del record["spent"]
    assert read_run(msgspec.json.encode(record).decode()).spent == ()
