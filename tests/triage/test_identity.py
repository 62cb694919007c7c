"""Ids of clusters over runs: who founds, who survives, what is fixed."""

from __future__ import annotations

from dataclasses import replace

import pytest
from making import analysis_of, error, fails, passes

from pytest_tracetriage.model.analysis import Aliases, Join, Mute, Split
from pytest_tracetriage.triage.analyze import KnownCluster
from pytest_tracetriage.triage.signature import signature_id


def refused(name, tests, start=0):
    """Tests that fail with one signature; all of these share a refused port, so they are one cluster."""
    return [
        fails(f"tests/test_{name}.py::t[{n}]", error("ConnectionRefusedError", "no 127.0.0.1:6379", f"shop/{name}.py:{name}"))
        for n in range(start, start + tests)
    ]


def alone(name, tests):
    return [
        fails(f"tests/test_{name}.py::t[{n}]", error("ValueError", f"{name * 3} broke", f"shop/{name}.py:{name}"))
        for n in range(tests)
    ]


def sign(name, make=refused):
    return signature_id(make(name, 1)[0].failure)


def remember(*analyses):
    """What history knows after these analyses, oldest first."""
    known = {}
    for number, analysis in enumerate(analyses, 1):
        for cluster in analysis.clusters:
            before = known.get(cluster.id)
            known[cluster.id] = KnownCluster(
                cluster.id,
                cluster.name,
                frozenset(signature.id for signature in cluster.signatures) | (before.signatures if before else frozenset()),
                frozenset(cluster.tests),
                before.since if before else f"run{number}",
                (before.runs if before else 0) + 1,
                cluster,
                (before.episodes if before else 1) + (before is not None and cluster.seen != "fixed" and not before.open),
            )
    return tuple(known.values())


def only(analysis):
    (cluster,) = analysis.clusters
    return cluster


def test_the_signature_with_the_most_tests_founds_a_cluster():
    few, many = refused("a", 2), refused("b", 5)
    assert only(analysis_of(*few, *many)).id == sign("b")
    assert only(analysis_of(*refused("a", 6), *many)).id == sign("a")


def test_ties_are_broken_by_the_id():
    assert only(analysis_of(*refused("a", 2), *refused("b", 2))).id == min(sign("a"), sign("b"))


def test_without_history_it_is_the_first_run():
    assert only(analysis_of(*refused("a", 1))).seen == "first-run"


def test_with_a_history_that_does_not_know_it_it_is_new():
    assert only(analysis_of(*refused("a", 1), known=())).seen == "new"


def test_a_known_cluster_keeps_its_id_and_says_since_when():
    known = remember(analysis_of(*refused("a", 3)), analysis_of(*refused("a", 3)))
    now = only(analysis_of(*refused("a", 1), known=known))
    assert (now.id, now.seen, now.since, now.runs) == (sign("a"), "known", "run1", 2)


def test_a_known_id_survives_when_another_signature_becomes_larger():
    known = remember(analysis_of(*refused("a", 3), *refused("b", 1)))
    now = only(analysis_of(*refused("a", 1), *refused("b", 9), known=known))
    assert now.id == sign("a")
    assert now.signatures[0].id == sign("b")


def test_a_known_id_survives_when_its_founder_is_gone():
    known = remember(analysis_of(*refused("a", 3), *refused("b", 1)))
    assert only(analysis_of(*refused("b", 2), known=known)).id == sign("a")


def test_the_oldest_of_several_known_ids_survives():
    apart = Aliases(splits=(Split((sign("a"), sign("b"))),))
    first = analysis_of(*refused("a", 1), aliases=apart)
    second = analysis_of(*refused("a", 1), *refused("b", 8), aliases=apart)
    known = remember(first, second)
    assert [cluster.id for cluster in known] == [sign("a"), sign("b")]
    assert only(analysis_of(*refused("a", 1), *refused("b", 8), known=known)).id == sign("a")


def test_of_what_a_cluster_falls_apart_into_the_largest_keeps_the_id_and_no_id_is_given_twice():
    before = only(analysis_of(*refused("a", 3), *refused("b", 1)))
    elsewhere = [fails(f"u.py::{n}", error("ValueError", "other", "shop/b.py:b")) for n in range(5)]
    strange = KnownCluster(
        before.id, "", frozenset({sign("a"), signature_id(elsewhere[0].failure)}), frozenset(), "run1", 1, before
    )
    found = analysis_of(*refused("a", 3), *elsewhere, known=(strange,))
    ids = [cluster.id for cluster in found.clusters]
    assert len(set(ids)) == len(ids) == 2
    assert sign("a") in ids


@pytest.mark.parametrize("larger", ["a", "b"])
def test_a_join_by_people_keeps_the_id_they_named_first(larger):
    both = alone("a", 1 + 4 * (larger == "a")) + alone("b", 1 + 4 * (larger == "b"))
    known = remember(analysis_of(*both))
    joined = Aliases(joins=(Join((sign("b", alone), sign("a", alone))),))
    assert only(analysis_of(*both, known=known, aliases=joined)).id == sign("b", alone)
    assert only(analysis_of(*both, aliases=joined)).id == sign("b", alone), "a fresh clone knows only the aliases"


def test_a_join_holds_when_only_the_absorbed_fails():
    known = remember(analysis_of(*alone("a", 2), *alone("b", 2)))
    joined = Aliases(joins=(Join((sign("b", alone), sign("a", alone))),))
    now = only(analysis_of(*alone("a", 2), known=known, aliases=joined))
    assert (now.id, now.seen) == (sign("b", alone), "known")


def test_joins_can_be_joined():
    some = alone("a", 1) + alone("b", 2) + alone("c", 3)
    known = remember(analysis_of(*some))
    a, b, c = (sign(name, alone) for name in "abc")
    assert only(analysis_of(*some, known=known, aliases=Aliases(joins=(Join((a, b)), Join((c, a)))))).id == c


def test_after_a_split_each_signature_founds_its_own():
    both = refused("a", 3) + refused("b", 2)
    known = remember(analysis_of(*both))
    found = analysis_of(*both, known=known, aliases=Aliases(splits=(Split((sign("a"), sign("b"))),)))
    assert {cluster.id: cluster.seen for cluster in found.clusters} == {sign("a"): "known", sign("b"): "new"}


SPLIT = Aliases(splits=(Split((sign("a"), sign("b"))),))


def test_what_was_split_off_does_not_join_what_history_knows_of_the_other_part():
    """c was of the cluster a in an earlier run; today a passes, and b is not a again by way of c."""
    known = remember(analysis_of(*refused("a", 3), *refused("c", 1)), analysis_of(*refused("a", 3), *refused("b", 2)))
    found = analysis_of(*refused("b", 2), *refused("c", 1), known=known, aliases=SPLIT)
    assert {cluster.id: len(cluster.tests) for cluster in found.clusters} == {sign("a"): 1, sign("b"): 2}


def test_what_was_split_may_still_join_what_is_new():
    known = remember(analysis_of(*refused("a", 3), *refused("b", 2)))
    found = analysis_of(*refused("a", 3), *refused("b", 2), *refused("n", 1), known=known, aliases=SPLIT)
    assert sorted(len(cluster.tests) for cluster in found.clusters) in ([2, 4], [3, 3])


def test_a_join_after_a_split_holds():
    known = remember(analysis_of(*refused("a", 3), *refused("b", 2), *alone("c", 1)))
    third = sign("c", alone)
    join = Join((third, sign("b")), signatures=(third, sign("b")))
    aliases = Aliases(joins=(join,), splits=SPLIT.splits)
    found = analysis_of(*refused("a", 3), *refused("b", 2), *alone("c", 1), known=known, aliases=aliases)
    assert {cluster.id: len(cluster.tests) for cluster in found.clusters} == {sign("a"): 3, third: 3}


# tests that were not run


def test_the_tests_of_a_part_do_not_replace_those_of_the_whole():
    known = remember(analysis_of(*refused("a", 4)))
    part = only(analysis_of(*refused("a", 1), passes("tests/test_a.py::t[1]"), known=known, watch=known[0].tests))
    assert (part.count, part.tests) == (1, ("tests/test_a.py::t[0]",))
    assert part.waiting == ("tests/test_a.py::t[2]", "tests/test_a.py::t[3]"), "one passed"


def test_what_fails_of_another_cause_now_waits_no_longer():
    known = remember(analysis_of(*refused("a", 2)))
    found = analysis_of(*refused("a", 1), fails("tests/test_a.py::t[1]", error("KeyError", "'x'", "shop/x.py:x")), known=known)
    assert {cluster.waiting for cluster in found.clusters} == {()}


def test_a_part_that_passes_leaves_the_rest_waiting():
    known = remember(analysis_of(*refused("a", 2)))
    fixed = only(analysis_of(passes("tests/test_a.py::t[0]"), known=known, watch=known[0].tests))
    assert (fixed.seen, fixed.tests, fixed.waiting) == ("fixed", ("tests/test_a.py::t[0]",), ("tests/test_a.py::t[1]",))


# interrupted


def interrupted(nodeid="tests/test_a.py::t[0]"):
    return fails(nodeid, error("KeyboardInterrupt", "", "shop/a.py:a"), outcome="stuck")


def test_what_was_interrupted_is_no_failure():
    found = analysis_of(*refused("a", 2, 1), interrupted())
    assert found.totals.failures == 2
    assert [len(bucket.clusters) for bucket in found.buckets] == [1]
    assert {cluster.category for cluster in found.clusters} == {"NETWORK", "INTERRUPTED"}


def test_what_was_interrupted_is_not_fixed_when_it_passes():
    known = remember(analysis_of(interrupted()))
    assert analysis_of(passes("tests/test_a.py::t[0]"), known=known, watch=known[0].tests).clusters == ()


# fixed


def test_a_cluster_whose_tests_pass_now_is_fixed():
    known = remember(analysis_of(*alone("a", 2)))
    now = only(analysis_of(passes("tests/test_a.py::t[0]"), passes("tests/test_a.py::t[1]"), known=known, watch=known[0].tests))
    assert (now.id, now.seen, now.count) == (sign("a", alone), "fixed", 0)
    assert now.tests == ("tests/test_a.py::t[0]", "tests/test_a.py::t[1]")
    assert now.since == "run1"


def test_a_cluster_whose_tests_did_not_run_is_not_fixed():
    known = remember(analysis_of(*alone("a", 2)))
    assert analysis_of(passes("tests/test_z.py::t"), known=known, watch=known[0].tests).clusters == ()


def test_a_cluster_whose_tests_fail_otherwise_is_not_fixed():
    known = remember(analysis_of(*alone("a", 1)))
    other = fails("tests/test_a.py::t[0]", error("TypeError", "no", "shop/z.py:z"))
    assert [cluster.seen for cluster in analysis_of(other, known=known, watch=known[0].tests).clusters] == ["new"]


def test_a_cluster_is_reported_fixed_once():
    known = remember(analysis_of(*alone("a", 1)))
    green = passes("tests/test_a.py::t[0]")
    fixed = analysis_of(green, known=known, watch=known[0].tests)
    again = remember(analysis_of(*alone("a", 1)), fixed)
    assert analysis_of(green, known=again, watch={"tests/test_a.py::t[0]"}).clusters == ()


def test_a_fixed_cluster_that_fails_again_is_new_once():
    red = analysis_of(*alone("a", 1))
    fixed = analysis_of(passes("tests/test_a.py::t[0]"), known=remember(red), watch={"tests/test_a.py::t[0]"})
    back = only(analysis_of(*alone("a", 1), known=remember(red, fixed)))
    assert (back.seen, back.since, back.id) == ("new", "run1", sign("a", alone))
    assert only(analysis_of(*alone("a", 1), known=remember(red, fixed, red, fixed))).seen == "known"  # it comes and goes


def test_a_cluster_that_only_other_branches_showed_is_new_under_its_own_id():
    (known,) = remember(analysis_of(*alone("a", 1)))
    found = only(analysis_of(*alone("a", 1), known=(replace(known, elsewhere=True),)))
    assert (found.seen, found.id, found.since) == ("new", known.id, "run1")


# muted


@pytest.mark.parametrize(
    ("until", "today", "holds"),
    [
        ("", "2026-01-31", True),
        ("2026-01-31", "2026-01-31", True),
        ("2026-01-31", "2026-02-01", False),
        ("2026-12-31", "2026-02-01", True),
    ],
)
def test_a_mute_holds_until_its_last_day(until, today, holds):
    mutes = Aliases(mutes=(Mute(sign("a", alone), "ann", "ticket 7", until),))
    cluster = only(analysis_of(*alone("a", 1), aliases=mutes, today=today))
    assert (cluster.muted is not None) == holds
    if holds:
        assert (cluster.muted.owner, cluster.muted.reason) == ("ann", "ticket 7")
