"""Each question to a history, against answers computed by hand."""

from __future__ import annotations

import pytest
from remembered import cluster, ids, item, open_at

from pytest_tracetriage.model.analysis import Frequency
from pytest_tracetriage.model.history import Baseline, Condensed, Evidence, TestRecord
from pytest_tracetriage.model.run import Totals
from pytest_tracetriage.store.history import HistoryError
from pytest_tracetriage.store.history.queries import FlakyTest, Rate, SlowTest

A, B = "A" * 26, "B" * 26


@pytest.fixture(params=["loose", "packed"])
def remember(request, tmp_path):
    """Return a function that makes a history of runs, once in loose pieces and once in a pack."""

    def make(*runs):
        history = open_at(tmp_path)
        history.add(runs)
        if request.param == "packed":
            history.compact()
            assert len({path.name.split(".")[0] for path in tmp_path.iterdir()}) == 1
        return open_at(tmp_path)

    return make


def red(when, letter="A", tests=("a",), **more):
    return item(when, [(test, "failed") for test in tests], [(cluster(letter), tests, [])], **more)


def fixed(when, letter="A", tests=("a",), **more):
    return item(when, tests, [(cluster(letter, "fixed"), tests, [])], **more)


# runs


def test_runs_are_newest_first_and_limited(remember):
    history = remember(item(300), item(100), item(200, branch="topic"))
    assert [run.started for run in history.runs()] == [300, 200, 100]
    assert [run.started for run in history.runs(limit=2)] == [300, 200]
    assert [run.started for run in history.runs("main", since=150)] == [300]
    assert history.runs(limit=0) == []


@pytest.mark.parametrize(
    "more", [{"pull_request": "7"}, {"event": "pull_request"}, {"event": "pull_request_target"}, {"event": "merge_group"}]
)
def test_runs_of_pull_requests_are_not_runs_of_a_branch(tmp_path, more):
    history = open_at(tmp_path)
    history.add([red(100, finished=110.0), red(200, "B", finished=210.0, **more)])
    assert [seen.cluster.id for seen in history.seen("main")] == [A]
    assert [seen.cluster.id for seen in history.seen()] == [A, B]
    assert len(history.runs("main")) == 1
    assert len(history.pass_rate("main")) == 1
    assert history.baseline("main").started == 100
    assert history.frequencies({B: ["a"]}, "main") == {B: Frequency(0, 1)}
    assert history.frequencies({B: ["a"]}) == {B: Frequency(1, 2)}


# clusters


def test_a_cluster_from_first_to_last(remember):
    history = remember(
        red(100, tests=("a", "b"), commit="c1"), item(200, ["a", "b"], commit="c2"), red(300, tests=("a",), commit="c3")
    )
    [seen] = history.seen("main")
    assert (seen.first_time, seen.first_commit, seen.last_time, seen.last_commit) == (100, "c1", 300, "c3")
    assert (seen.first_run, seen.last_run) == (ids(history)[0], ids(history)[2])
    assert (seen.runs, seen.episodes, seen.open) == (2, 1, True)
    assert seen.tests == {"a"}
    assert seen.branches == {"main"}


def test_a_fixed_cluster_is_not_open_and_may_return(remember):
    runs = [red(100), fixed(200), red(300, "B"), red(400), red(500), fixed(600)]
    history = remember(*runs)
    first, second = history.seen("main")
    assert (first.cluster.id, first.runs, first.episodes, first.open) == (A, 3, 2, False)
    assert first.cluster.seen == "new", "as the newest run that showed it, not as the one that showed it fixed"
    assert first.last_time == 500
    assert (second.cluster.id, second.open) == (B, True)
    [before] = history.seen("main", before_run=ids(history)[2])
    assert (before.runs, before.open) == (1, False)
    assert history.seen("main", since=350)[-1].runs == 2


def test_a_cluster_that_was_only_seen_fixed_is_none(remember):
    history = remember(red(100), fixed(200))
    assert history.seen("main", since=150) == []


def test_legs_of_a_group_are_one_event(remember):
    history = remember(
        red(100, tests=("a",), group="g1", leg="1", branch="main"),
        red(101, tests=("b",), group="g1", leg="2"),
        fixed(102, tests=("c",), group="g1", leg="3"),
        item(103, ["d"], group="g1", leg="4"),
    )
    [seen] = history.seen("main")
    assert (seen.runs, seen.episodes, seen.open) == (1, 1, True), "red wins over fixed"
    assert seen.tests == {"a", "b"}
    assert history.frequencies({A: ["d"]}) == {A: Frequency(1, 1)}


def test_groups_stand_in_order_of_their_earliest_start(remember):
    history = remember(
        red(100, group="g1"), fixed(150, group="g2"), red(400, tests=("b",), group="g1"), item(300, ["a"], group="g3")
    )
    [seen] = history.seen("main")
    assert not seen.open, "g2 began after g1, whose last leg was late"
    assert seen.tests == {"a", "b"}
    assert [rate.group for rate in history.pass_rate()] == ["g1", "g2", "g3"]


def test_groups_are_left_out_by_how_they_begin(remember):
    history = remember(red(100, group="ci:1:1"), red(200, "B", group="ci:12:1"), red(300, "C", group="ci:12:2"), red(400, "D"))
    shown = [seen.cluster.id[0] for seen in history.seen("main", exclude="ci:12:")]
    assert shown == ["A", "D"]
    assert [seen.cluster.id[0] for seen in history.seen("main", exclude=ids(history)[-1])] == ["A", "B", "C"]


def test_a_cluster_that_only_showed_in_attempts_is_neither_red_nor_open(remember):
    history = remember(item(100, [("a", "passed", 1)], [(cluster("A"), [], ["a"])]))
    [seen] = history.seen("main")
    assert (seen.runs, seen.episodes, seen.open, seen.tests) == (0, 0, False, frozenset())
    assert history.frequencies({A: ["a"]}) == {A: Frequency(0, 1)}


def test_a_job_of_an_old_commit_that_is_run_again_does_not_open_what_was_mended_since(remember):
    again = {"ci_run": "7", "workflow": "ci", "repository": "shop/shop", "commit": "c1"}
    history = remember(red(100, group="g:7:1", **again), fixed(200, commit="c2"), red(300, group="g:7:2", attempt=2, **again))
    [seen] = history.seen("main")
    assert (seen.open, seen.episodes, seen.runs) == (False, 1, 2)
    assert [(one.run.started, one.word) for one in history.cluster_history("A").runs] == [
        (100, "red"),
        (300, "red"),
        (200, "fixed"),
    ]


def test_signatures_are_united(remember):
    history = remember(
        item(100, [("a", "failed")], [(cluster("A", signatures=("A", "B")), ["a"], [])]),
        item(200, [("a", "failed")], [(cluster("A", signatures=("A", "C"), name="later"), ["a"], [])]),
    )
    [seen] = history.seen("main")
    assert seen.signatures == {"A" * 26, "B" * 26, "C" * 26}
    assert seen.cluster.name == "later"


def test_the_history_of_one_cluster(remember):
    history = remember(
        red(100, tests=("a", "b")),
        item(200, [("a", "passed", 1)], [(cluster("A"), [], ["a"])]),
        fixed(300),
        red(400, "AB"[1]),
    )
    found = history.cluster_history("aaaaa")
    assert found.cluster.id == A
    assert [(shown.run.started, shown.word, shown.tests) for shown in found.runs] == [
        (100, "red", 2),
        (200, "retried", 1),
        (300, "fixed", 1),
    ]
    assert history.cluster_history("Z") is None
    assert history.cluster_history("%") is None
    assert history.cluster_history("") is None


def test_a_prefix_of_two_clusters_is_refused(remember):
    twins = [cluster("A"), cluster("B")]
    from msgspec.structs import replace

    twins[1] = replace(twins[1], id="AAAB" + "B" * 22)
    history = remember(item(100, [("a", "failed")], [(one, ["a"], []) for one in twins]))
    with pytest.raises(HistoryError, match="AAA begins the ids of 2 clusters"):
        history.cluster_history("AAA")
    assert history.cluster_history("AAAB").cluster.id == twins[1].id


# frequencies


def test_how_often_a_cluster_ended_red(remember):
    history = remember(
        red(100),
        item(200, ["a"]),
        item(300, [("a", "skipped")]),
        item(400, ["b"]),
        red(500, group="g", leg="1"),
        item(501, ["a"], group="g", leg="2"),
        red(600, "B", tests=("b",)),
    )
    asked = {A: ["a"], B: ["a", "b"], "C" * 26: ["nobody"]}
    # A: groups 100, 200, 500 ran a; B: those, 400 and 600
    assert history.frequencies(asked) == {A: Frequency(2, 3), B: Frequency(1, 5), "C" * 26: Frequency(0, 0)}
    assert history.frequencies(asked, groups=2) == {A: Frequency(1, 2), B: Frequency(1, 2), "C" * 26: Frequency(0, 0)}
    assert history.frequencies({A: []}) == {A: Frequency(2, 2)}, "where it ended red, one of its tests ran"
    assert history.frequencies({}) == {}


# evidence


def test_a_test_that_failed_and_passed_on_one_commit_is_evidence(remember):
    history = remember(red(100), item(200, ["a"]), item(300, ["a"], commit="c2"), red(400, "B", commit="c3"))
    assert history.evidence({A: ["a"], B: ["a"]}) == [Evidence(A, "a", "c1", failed=1, passed=1)]
    assert history.evidence({A: ["other"]}) == history.evidence({}) == []


@pytest.mark.parametrize(
    "more", [{"dirty": True}, {"commit": ""}, {"commit": "c2"}, {"environment": "e2"}, {"branch": "topic"}],
    ids=lambda more: next(iter(more)),
)  # fmt: skip
def test_what_differs_proves_nothing(tmp_path, more):
    history = open_at(tmp_path)
    history.add([red(100), item(200, ["a"], **more)])
    found = history.evidence({A: ["a"]})
    assert bool(found) == ("branch" in more), "the branch is no difference"
    assert bool(history.flaky_tests()) == ("branch" in more)


def test_a_later_attempt_that_passed_is_evidence(remember):
    history = remember(item(100, [("a", "passed", 2)], [(cluster("A"), [], ["a"])], environment=""))
    assert history.evidence({A: ["a"]}) == [Evidence(A, "a", "c1", failed=2, passed=1)]
    assert history.flaky_tests() == [FlakyTest("a", 1, 2, 1)]


def test_runs_of_no_known_environment_share_none(remember):
    history = remember(red(100, environment=""), item(200, ["a"], environment=""))
    assert history.evidence({A: ["a"]}) == []


def test_another_failure_of_the_test_is_no_evidence(remember):
    history = remember(red(100, "B"), item(200, ["a"]))
    assert history.evidence({A: ["a"]}) == []


def test_a_fixed_cluster_is_no_failure(remember):
    history = remember(fixed(100), item(200, ["a"]))
    assert history.evidence({A: ["a"]}) == []


def test_runs_that_nobody_added_count_once(remember):
    now = item(200, ["a", "b"])
    before = red(100, tests=("a", "b"))
    history = remember(before)
    expected = [Evidence(A, test, "c1", failed=1, passed=1) for test in ("a", "b")]
    assert history.evidence({A: ["b", "a"]}, [now, now]) == expected
    history.add([now])
    assert history.evidence({A: ["a", "b"]}, [now]) == expected
    assert open_at(history._location.path.parent / "none").evidence({A: ["a", "b"]}, [before, now]) == expected


def test_the_newest_commit_is_told(remember):
    history = remember(
        red(100), item(200, ["a"]), red(300, commit="c9"), item(400, ["a"], commit="c9"), item(500, ["a"], commit="c9")
    )
    assert history.evidence({A: ["a"]}) == [Evidence(A, "a", "c9", failed=1, passed=2)]


# the rest


FIVE = [(f"t{number}", "passed") for number in range(4)] + [("t4", "failed")]


def test_the_baseline_is_the_newest_whole_workflow_run(remember):
    history = remember(
        item(100, FIVE, group="g1", commit="c1", finished=160.0, workflow="ci"),
        item(
            110, [("t4", "passed"), ("t5", "passed"), ("t6", "skipped")], group="g1", commit="c1", finished=210.0, workflow="ci"
        ),
        item(300, group="g2", commit="c2", workflow="ci"),
        item(310, group="g2", commit="c2", finished=0.0, exit_status=-1, workflow="ci"),
        item(400, commit="c3", exit_status=2, workflow="ci"),
        item(500, commit="c4", workflow="nightly"),
        item(600, branch="topic"),
    )
    # t4 failed in one leg: it did not pass.
    assert history.baseline("main", workflow="ci") == Baseline("main", "c1", 3, 7, 5, 100.0, 100.0, (("", ""),))
    assert history.baseline("main").commit == "c4"
    assert history.baseline("main", exclude=ids(history)[-2]).commit == "c1"
    assert history.baseline("main", before_group="g2").commit == "c1"
    assert history.baseline("main", before_group="g1") is None
    assert history.baseline("release") is None


def test_a_job_that_was_run_again_counts_by_its_newest_attempt(remember):
    one = {"ci_run": "7", "workflow": "ci", "job": "test", "repository": "shop/shop"}
    history = remember(
        item(100, FIVE, group="g:7:1", leg="a", totals=Totals(tests=5, passed=4), **one),
        item(101, [("x", "passed")], group="g:7:1", leg="b", totals=Totals(tests=1, passed=1), **one),
        item(
            200,
            [(name, "passed") for name, _ in FIVE],
            group="g:7:2",
            leg="a",
            attempt=2,
            totals=Totals(tests=5, passed=5),
            **one,
        ),
    )
    found = history.baseline("main")
    assert (found.groups, found.tests, found.passed, found.legs) == (1, 6, 6, (("test", "a"), ("test", "b")))
    assert [(rate.tests, rate.passed) for rate in history.pass_rate()] == [(6, 6)]


def test_what_passes_on_a_branch_passed_in_all_legs_of_its_newest_whole_run(remember):
    history = remember(
        item(100, ["old", "a"], group="g1"),
        item(200, FIVE, group="g2", leg="1", workflow="ci"),
        item(201, ["t4", "t5", ("t6", "skipped")], group="g2", leg="2", workflow="ci"),
        item(300, ["late"], finished=0.0),
    )
    asked = ["old", "a", "t0", "t4", "t5", "t6", "late"]
    assert history.passing(asked, "main") == {"t0", "t5"}
    assert history.passing(asked, "main", exclude="g2") == {"old", "a"}
    assert history.passing(asked, "main", "nightly") == history.passing([], "main") == set()


def test_the_pass_rate_is_told_by_group(remember):
    history = remember(
        item(100, group="g", totals=Totals(tests=3, passed=3)),
        item(101, group="g", totals=Totals(tests=4, passed=1), commit="late"),
        item(200, totals=Totals(tests=2, passed=2), branch="topic"),
    )
    assert history.pass_rate() == [Rate(100, "g", "c1", 7, 4), Rate(200, ids(history)[-1], "c1", 2, 2)]
    assert history.pass_rate("topic") == history.pass_rate(since=150)


def test_the_slowest_tests_by_their_median(remember):
    def timed(when, **seconds):
        return Condensed(item(when).run, tuple(TestRecord(name, "passed", took) for name, took in seconds.items()))

    runs = [timed(100 + n, fast=0.01, slow=2.0, jumpy=50.0 if n >= 18 else 1.0) for n in range(20)]
    skipped = item(300, [("skipped", "skipped"), ("slow", "skipped")])
    history = remember(*runs, skipped)
    slow, jumpy, fast = history.slow_tests()
    assert (slow.nodeid, slow.runs, jumpy.nodeid, fast.nodeid) == ("slow", 20, "jumpy", "fast")
    assert slow.median == slow.p95 == pytest.approx(2.0, rel=0.05)
    assert jumpy.median == pytest.approx(1.0, rel=0.05)
    assert jumpy.p95 == pytest.approx(50.0, rel=0.05)
    assert [type(test) for test in history.slow_tests(1)] == [SlowTest]
    assert history.slow_tests(since=1000) == []


def test_flaky_tests_by_the_commits_they_were_flaky_on(remember):
    history = remember(
        item(100, [("a", "failed"), ("b", "error"), ("c", "failed"), "d", ("e", "skipped")]),
        item(200, ["a", "b", ("c", "timeout"), "d", "e"]),
        item(300, ["a", ("b", "passed", 3), "c", "d"], commit="c2"),
    )
    assert history.flaky_tests() == [FlakyTest("b", 2, 4, 2), FlakyTest("a", 1, 1, 1)]
    assert history.flaky_tests(1) == [FlakyTest("b", 2, 4, 2)]
    assert history.flaky_tests(since=250) == [FlakyTest("b", 1, 3, 1)]
