"""Patterns of courses made by hand, and for each kind what is nearly one."""

from __future__ import annotations

import pytest
from courses import trails

from pytest_tracetriage.diagnose.patterns import patterns

CALM = "." * 30
OFTEN = ".F...F....F..F.....F" * 2


def found(past, since=0.0, least=0.0, top=10):
    return patterns(past, since, least, top)


def kinds(past, **how):
    return {(pattern.kind, pattern.subject) for pattern in found(past, **how)}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (OFTEN, True),
        ("." * 80 + "x" + "." * 10 + "x" + CALM, True),
        (CALM + "F" + CALM + "F" + CALM + "F" + CALM, True),
        (CALM + "F" * 12 + CALM, False),  # broken, and fixed
        (CALM + "F", False),  # who knows
        (CALM + "F" + CALM, False),
        ("." * 20 + "F...FF.....", False),  # 86 %: a breakage, and another
        ("." * 20 + "FF..F.....", False),
        (".x.x.x..x", False),  # fewer than 20 attempts
        ("F" * 30, False),
    ],
)
def test_flaky(text, expected):
    assert (("FLAKY", "test_a") in kinds(trails({"test_a": text}))) is expected


def test_a_flaky_test_says_how_often_where_and_since_when():
    [pattern] = found(trails({"test_a": "." * 100 + "F..F.F...F.xF..F...F" * 2}))
    assert (pattern.id, pattern.of, pattern.name) == ("FLAKY-TEST-1", "test", "test_a")
    assert pattern.confidence > 0.9
    share = pattern.frequency
    assert (share.hits, share.trials) == (16, 42)
    assert share.low < 16 / 42 < share.high
    assert [point.commit for point in pattern.evidence][-1] == "c139"
    assert (len(pattern.evidence), pattern.points) == (10, 16)
    assert pattern.change is not None
    assert pattern.change.commit == "c100"
    assert pattern.words == "fails 38 % [25, 53] of attempts: 16 at 16 commits; it passed on 2 of them too"


def test_one_that_was_flaky_from_the_beginning_has_no_change():
    [pattern] = found(trails({"test_a": OFTEN}))
    assert (pattern.change, pattern.since) == (None, 0.0)


def test_what_only_just_began_is_measured_by_all_that_is_known():
    [young] = found(trails({"test_a": "." * 100 + "x.xx.xxx"}))
    assert (young.frequency.hits, young.frequency.trials) == (6, 114)
    [grown] = found(trails({"test_a": "." * 100 + "x.xx.xxx" * 2}))
    assert (grown.frequency.hits, grown.frequency.trials) == (12, 28)


def test_failures_of_ever_other_causes_are_breakages():
    text = CALM + "F" + CALM + "F" + CALM + "F" + CALM
    sure = {causes: found(trails({"a": text}, causes={"a": causes}))[0].confidence for causes in ("AAA", "AAB", "ABC")}
    assert 1 - sure["ABC"] > 3 * (1 - sure["AAB"]) > 9 * (1 - sure["AAA"])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (CALM + "FF" + CALM, set()),
        (CALM + "FFF" + CALM, {"REPEATED_FAILURE"}),
        (CALM + "FX", {"REPEATED_FAILURE"}),  # three times on two commits
        (CALM + "FFFFF" + CALM, {"REPEATED_FAILURE"}),  # five iterations are not yet slow
        (CALM + "FFFFFF" + CALM, {"REPEATED_FAILURE", "SLOW_CONVERGENCE"}),
        (CALM + "FFF" + CALM + "FFF" + CALM, {"REPEATED_FAILURE", "REGRESSION"}),
        (CALM + "FFF" + CALM + "FF", {"REPEATED_FAILURE", "REGRESSION"}),
        (CALM + "FFF" + CALM + "FFF" + CALM + "FFF" + CALM, {"REPEATED_FAILURE", "OSCILLATING_FIX"}),
        (CALM + "FFF|FFF" + CALM, {"REPEATED_FAILURE"}),  # on two lines: never fixed on one of them
        (OFTEN, {"FLAKY"}),
        (CALM + "F" + CALM, set()),
        (CALM * 3 + "|F|" + CALM, set()),  # once, in a pull request
    ],
)
def test_clusters(text, expected):
    assert {kind for kind, _ in kinds(trails(clusters={"A": text}))} == expected


def test_what_a_cluster_did_in_words():
    past = trails(clusters={"A": CALM + "FFF" + CALM + "FFFFFFF"})
    words = {pattern.kind: pattern for pattern in found(past)}
    assert words["REGRESSION"].words == "was fixed and came back once; still fails after 7 commits"
    assert words["REPEATED_FAILURE"].words == "failed 7 times in a row, on 7 commits, and still fails"
    assert words["SLOW_CONVERGENCE"].words == "still fails after 7 iterations"
    assert words["SLOW_CONVERGENCE"].change.commit == "c63"
    assert [point.commit for point in words["SLOW_CONVERGENCE"].evidence] == [f"c{n}" for n in range(63, 70)]
    assert [pattern.id for pattern in words.values()] == ["REGRESSION-1", "SLOW-CONVERGENCE-1", "REPEATED-FAILURE-1"]
    assert words["REGRESSION"].name == "KeyError A"


def test_only_what_the_window_bears_witness_to_is_told():
    past = trails({"a": OFTEN + "." * 5}, {"A": CALM + "FFFF" + CALM})
    assert kinds(past) == {("FLAKY", "a"), ("REPEATED_FAILURE", "A")}
    assert kinds(past, since=39.0) == {("FLAKY", "a")}
    assert kinds(past, since=40.0) == set()


def test_ranked_cut_and_only_above_a_frequency():
    tests = {f"test_{n}": ("." * n + "x") * (300 // (n + 1)) for n in (4, 9, 19, 99)}
    assert [pattern.subject for pattern in found(trails(tests))] == ["test_4", "test_9", "test_19", "test_99"]
    assert [pattern.id for pattern in found(trails(tests), top=2)] == ["FLAKY-TEST-1", "FLAKY-TEST-2"]
    assert [pattern.subject for pattern in found(trails(tests), least=0.06)] == ["test_4", "test_9"]


def test_a_flaky_cluster_is_told_where_none_of_its_tests_is():
    past = trails({"a": OFTEN}, {"A": OFTEN})
    [cluster] = past.clusters
    own = type(cluster)(
        *(getattr(cluster, name) for name in ("subject", "places", "passed", "failed", "causes", "name")), frozenset("a")
    )
    assert kinds(type(past)(past.places, past.tests, (own,), 300)) == {("FLAKY", "a")}
    assert kinds(type(past)(past.places, (), (own,), 300)) == {("FLAKY", "A")}
    [pattern] = found(type(past)(past.places, (), (own,), 300))
    assert (pattern.id, pattern.of) == ("FLAKY-CLUSTER-1", "cluster")


def test_nothing_comes_of_nothing():
    assert found(trails()) == ()
