"""Clusters against the base branch: new or known, fixed or not, flaky or real."""

from __future__ import annotations

import msgspec
import pytest
from making import analysis_of, error, fails, passes

from pytest_tracetriage.model.analysis import Frequency
from pytest_tracetriage.model.history import ClusterRecord, Condensed, Evidence, RunRecord, Seen, TestRecord
from pytest_tracetriage.model.run import Totals
from pytest_tracetriage.triage.standing import evidence_in, known_clusters, retried_only, with_standing

TESTS = tuple(f"tests/test_a.py::t[{number}]" for number in range(4))
RED = [fails(nodeid, error("ValueError", "bad a", "shop/a.py:a")) for nodeid in TESTS]
FOUND = analysis_of(*RED)
CLUSTER = FOUND.clusters[0]


def seen(*, is_open=True, episodes=1, branches=("main",), **changes):
    cluster = msgspec.structs.replace(CLUSTER, **changes)
    signatures = frozenset(signature.id for signature in cluster.signatures)
    return Seen(
        cluster, signatures, frozenset(TESTS),
        "20261101T000000Z-000000", "c" * 40, 1.0, "20261102T000000Z-000000", "d" * 40, 2.0,
        4, episodes, is_open, frozenset(branches),
    )  # fmt: skip


def now(everywhere, base, *traces, branch="topic"):
    known = known_clusters(everywhere, base, branch)
    watch = {test for cluster in known if cluster.open for test in cluster.tests}
    return analysis_of(*traces, known=known, watch=watch)


def test_what_is_open_on_the_base_is_known():
    (cluster,) = now([seen()], [seen()], *RED).clusters
    assert (cluster.seen, cluster.since, cluster.runs) == ("known", "c" * 8, 4)


def test_what_only_this_branch_has_shown_is_new_and_keeps_its_id():
    (cluster,) = now([seen(branches=("topic",))], [], *RED).clusters
    assert (cluster.id, cluster.seen) == (CLUSTER.id, "new")


@pytest.mark.parametrize(("episodes", "expected"), [(1, "new"), (2, "known")])
def test_what_the_base_had_and_fixed_is_a_regression_unless_it_comes_and_goes(episodes, expected):
    before = seen(is_open=False, episodes=episodes)
    assert now([before], [before], *RED).clusters[0].seen == expected


GREEN = [passes(nodeid) for nodeid in TESTS]


@pytest.mark.parametrize(
    ("everywhere", "base", "fixed"),
    [
        ([seen()], [seen()], True),  # open on the base
        ([seen(branches=("topic",))], [], True),  # open on this branch: the history wants to know
        ([seen(branches=("other",))], [], False),  # another pull request's
        ([seen(is_open=False)], [seen(is_open=False)], False),
        ([seen(branches=("topic",), is_open=False)], [], False),
    ],
)
def test_what_can_be_fixed(everywhere, base, fixed):
    assert [cluster.seen for cluster in now(everywhere, base, *GREEN).clusters] == ["fixed"] * fixed


def test_only_what_the_base_had_is_told_as_fixed():
    found = now([seen(branches=("topic",))], [], *GREEN)
    assert with_standing(found, [], [], {}, compared=True).clusters == ()
    found = now([seen()], [seen()], *GREEN)
    assert len(with_standing(found, [seen()], [], {}, compared=True).clusters) == 1


def proofs(count):
    return [Evidence(CLUSTER.id, nodeid, "e" * 40, 2, 1) for nodeid in TESTS[:count]]


@pytest.mark.parametrize(("flaky", "status"), [(0, "real"), (1, "real"), (2, "flaky"), (4, "flaky")])
def test_half_of_the_tests_have_to_be_flaky(flaky, status):
    (cluster,) = with_standing(FOUND, [], proofs(flaky), {CLUSTER.id: Frequency(3, 20)}, compared=True).clusters
    assert cluster.status == status
    assert cluster.frequency == Frequency(3, 20)
    if status == "flaky":
        assert cluster.status_evidence == "on eeeeeeee it failed 2 times and passed once"
    assert ("only 1 of its 4" in cluster.status_evidence) == (flaky == 1)


def test_evidence_of_tests_that_pass_now_is_none():
    other = [Evidence(CLUSTER.id, "tests/test_z.py::t", "e" * 40, 2, 1)] * 4
    assert with_standing(FOUND, [], other, {}, compared=True).clusters[0].status == "real"


def test_infrastructure():
    refused = analysis_of(fails("t.py::a", error("ConnectionRefusedError", "[Errno 111] Connection refused", "shop/a.py:a")))
    (cluster,) = with_standing(refused, [], [], {}, compared=True).clusters
    assert (cluster.owner, cluster.status) == ("infrastructure", "infrastructure")


def test_without_a_run_of_the_base_nothing_is_called_new():
    found = now([seen(branches=("topic",))], [], *RED)
    assert with_standing(found, [], [], {}, compared=False).clusters[0].seen == "first-run"


def test_causes_that_went_away_when_run_again():
    (kept,) = retried_only([CLUSTER], analysis_of(*GREEN), {CLUSTER.id: Frequency(1, 9)})
    assert (kept.status, kept.frequency) == ("flaky", Frequency(1, 9))
    assert retried_only([CLUSTER], FOUND, {}) == ()  # it still fails elsewhere


# what the runs of one group prove by themselves


def condensed(number, outcome, *, commit="a" * 40, environment="e1", dirty=False, retried=(), cluster=CLUSTER):
    run = RunRecord(f"run{number}", "g", 0, 0, Totals(), commit=commit, environment=environment, dirty=dirty)
    tests = (TestRecord(TESTS[0], outcome, 0.1, retried=int(bool(retried))),)
    red = (TESTS[0],) if outcome == "failed" else ()
    records = (ClusterRecord(run.id, cluster, red, retried),) if red or retried else ()
    return Condensed(run, tests, records)


def test_passed_and_failed_on_one_commit():
    asked = {CLUSTER.id: TESTS}
    found = evidence_in(asked, [condensed(1, "failed"), condensed(2, "passed"), condensed(3, "failed")])
    assert found == [Evidence(CLUSTER.id, TESTS[0], "a" * 40, 2, 1)]
    assert evidence_in(asked, [condensed(1, "passed", retried=(TESTS[0],))]) == [Evidence(CLUSTER.id, TESTS[0], "a" * 40, 1, 1)]
    assert evidence_in({"other": TESTS}, [condensed(1, "failed"), condensed(2, "passed")]) == []


class Searched(tuple):
    """Tests that are looked through one by one: 50,000 of one cause took half a minute."""

    __slots__ = ()

    def __contains__(self, item):
        raise AssertionError(f"all tests were searched for {item}")


def test_the_tests_of_a_cause_are_not_searched_for_each_of_them():
    runs = [condensed(1, "failed"), condensed(2, "passed")]
    assert len(evidence_in({CLUSTER.id: Searched(TESTS)}, runs)) == 1


@pytest.mark.parametrize("other", [{"commit": "b" * 40}, {"environment": "e2"}, {"dirty": True}, {"commit": ""}])
def test_another_commit_or_environment_proves_nothing(other):
    assert evidence_in({CLUSTER.id: TESTS}, [condensed(1, "failed"), condensed(2, "passed", **other)]) == []


def test_a_cluster_shown_fixed_did_not_fail():
    fixed = msgspec.structs.replace(CLUSTER, seen="fixed")
    assert evidence_in({CLUSTER.id: TESTS}, [condensed(1, "failed", cluster=fixed), condensed(2, "passed")]) == []
