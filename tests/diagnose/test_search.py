"""The search as a pure function of what was observed: right, sparing, and silent where nothing is proven."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_tracetriage.diagnose.search import Line, Observation, Prior, answer, gains, next_step, posterior, rates

CONFIDENCE = 0.95


def line(commits, **prior):
    return Line(Prior((1.0,) * commits, **prior))


def seen(before, *observations):
    return Line(before.prior, tuple(Observation(position, word) for position, word in observations))


def run(lines, truth, limit=400):
    """Search until nothing is left to ask; `truth` says what a process at a position shows of a cluster."""
    steps = []
    while (step := next_step(lines, CONFIDENCE)) is not None:
        steps.append(step)
        assert len(steps) < limit
        for name in step.clusters:
            before = lines[name]
            word = truth(name, step.position)
            lines[name] = Line(before.prior, (*before.observations, Observation(step.position, word)))
    return steps, {name: answer(found, CONFIDENCE) for name, found in lines.items()}


def broken_at(culprits, blocked=()):
    return lambda name, position: "blocked" if position in blocked else "failed" if position >= culprits[name] else "passed"


@settings(max_examples=40, deadline=None)
@given(st.data(), st.integers(1, 200))
def test_a_deterministic_culprit_is_found_in_about_a_bisection(data, commits):
    culprit = data.draw(st.integers(1, commits))
    steps, answers = run({"a": line(commits)}, broken_at({"a": culprit}))
    assert (answers["a"].finding, answers["a"].positions) == ("commit", (culprit,))
    assert answers["a"].confidence >= CONFIDENCE
    assert len(steps) <= math.log2(commits) + 8


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(1, 63), min_size=5, max_size=5))
def test_clusters_share_their_processes(culprits):
    truth = broken_at(dict(enumerate(culprits)))
    steps, answers = run({number: line(63) for number in range(5)}, truth)
    assert [answers[number].positions for number in range(5)] == [(culprit,) for culprit in culprits]
    alone = sum(len(run({number: line(63)}, truth)[0]) for number in range(5))
    assert len(steps) <= 0.9 * alone


def test_all_clusters_are_tried_at_the_bad_end_first():
    step = next_step({"a": line(20), "b": line(20)}, CONFIDENCE)
    assert (step.position, step.clusters) == (20, ("a", "b"))


def test_a_cluster_that_fails_at_the_good_end_is_older():
    steps, answers = run({"a": line(30)}, broken_at({"a": 0}))
    assert (answers["a"].finding, answers["a"].positions) == ("older", ())
    assert len(steps) <= 9


def test_a_cluster_that_never_fails_is_not_reproduced_and_costs_few_processes():
    steps, answers = run({"a": line(30)}, broken_at({"a": 31}))
    assert answers["a"].finding == "not reproduced"
    assert len(steps) <= 25


@pytest.mark.parametrize("blocked", [{7}, {5, 6, 7}, {1, 2, 3, 4, 5, 6, 7}])
def test_commits_that_tell_nothing_right_before_the_culprit_share_the_blame(blocked):
    _, answers = run({"a": line(20)}, broken_at({"a": 8}, blocked))
    assert answers["a"].finding == "commits"
    assert set(answers["a"].positions) == {*blocked, 8}


@pytest.mark.parametrize("blocked", [{3}, {10, 11, 12}, set(range(2, 7))])
def test_commits_that_tell_nothing_elsewhere_are_passed_over(blocked):
    steps, answers = run({"a": line(20)}, broken_at({"a": 8}, blocked))
    assert answers["a"].positions == (8,)
    assert sum(step.position in blocked for step in steps) <= 3


def test_where_nothing_but_the_bad_end_can_be_tested_nothing_is_decided():
    _, answers = run({"a": line(6)}, broken_at({"a": 3}, set(range(6))))
    assert answers["a"].finding == "undecided"


def test_where_nothing_but_the_good_end_can_be_tested_nothing_is_decided():
    _, answers = run({"a": line(6)}, broken_at({"a": 3}, set(range(1, 7))))
    assert answers["a"].finding == "undecided"


def test_a_failure_that_came_with_the_hour_is_not_blamed_on_a_commit():
    # All passes were before all failures: it may have been a service that went away.
    found = seen(line(4), *[(2, "passed")] * 5, *[(3, "failed")] * 5)
    assert posterior(found).answers[3] > CONFIDENCE
    assert answer(found, CONFIDENCE).finding == "undecided"
    assert next_step({"a": found}, CONFIDENCE).position == 2
    again = seen(line(4), *[(2, "passed")] * 5, *[(3, "failed")] * 5, (2, "passed"))
    assert answer(again, CONFIDENCE).finding == "commit"


def test_what_is_believed_beforehand_proves_nothing():
    likely = Line(Prior((1.0, 1.0, 10_000.0, 1.0, 1.0)))
    found = seen(likely, (5, "failed"), (1, "passed"), (5, "failed"), (1, "passed"))
    assert posterior(found).answers[3] > CONFIDENCE
    assert answer(found, CONFIDENCE).finding == "undecided"
    steps, answers = run({"a": likely}, broken_at({"a": 3}))
    assert answers["a"].positions == (3,)
    assert {step.position for step in steps} >= {2, 3}


def test_a_wrong_belief_costs_processes_and_not_the_truth():
    _, answers = run({"a": Line(Prior((20.0, 20.0, 0.02, 20.0, 1.0, 1.0)))}, broken_at({"a": 3}))
    assert answers["a"].positions == (3,)


def test_a_traceback_that_points_elsewhere_does_not_decide_of_a_flaky_cluster():
    pointed = (1.0, 1.0, 1.0, 20.0, 1.0)
    observations = [(5, "failed"), (5, "passed"), (4, "failed"), *[(3, "passed")] * 7, (4, "failed"), (3, "passed")]
    lucky = seen(Line(Prior(pointed, rates=rates(flaky=(0.3,)))), *observations)
    assert posterior(lucky).answers[4] > CONFIDENCE
    assert answer(lucky, CONFIDENCE).finding == "undecided"
    assert next_step({"a": lucky}, CONFIDENCE) is not None
    enough = seen(lucky, *observations, *[(3, "passed")] * 4)
    assert answer(enough, CONFIDENCE).positions == (4,)
    assert CONFIDENCE <= answer(enough, CONFIDENCE).confidence < posterior(enough).answers[4]


@pytest.mark.parametrize("pointed", [1.0, 20.0])
def test_flaky_culprits_are_right_as_often_as_is_said_where_the_changes_mislead(pointed):
    named = right = 0
    for seed in range(40):
        chance = random.Random(seed)
        culprit = chance.randint(1, 20)
        weights = [1.0] * 20
        weights[chance.choice([place for place in range(20) if place != culprit - 1])] = pointed

        def truth(_, position, chance=chance, culprit=culprit):
            return "failed" if position >= culprit and chance.random() < 0.3 else "passed"

        _, answers = run({"a": Line(Prior(tuple(weights), rates=rates(flaky=(0.3,))))}, truth)
        named += answers["a"].finding == "commit"
        right += answers["a"].positions == (culprit,)
    assert named >= 38
    assert right >= 0.92 * named


def test_a_commit_that_both_passes_and_fails_makes_the_cluster_flaky_and_is_no_culprit_by_that():
    found = seen(line(8), (8, "failed"), (8, "passed"), (4, "failed"), (4, "passed"))
    now = posterior(found)
    assert sum(now.answers[5:]) < 0.01
    assert max(now.answers) < CONFIDENCE
    assert answer(found, CONFIDENCE).rate < 0.9


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 12), st.sampled_from(["failed", "passed"])), max_size=30), st.integers(0, 12))
def test_a_posterior_is_one_whatever_was_seen_and_what_was_blocked_adds_nothing(observations, position):
    before = seen(line(12), *observations)
    now = posterior(before)
    assert math.isclose(sum(now.answers), 1, rel_tol=1e-9)
    assert all(0 <= value <= 1 for value in (*now.answers, *now.rates))
    assert all(-1e-9 <= bits <= 1 for bits in gains(now))
    assert posterior(seen(before, *observations, (position, "blocked"))) == now
    assert posterior(seen(before, *reversed(observations))).answers == pytest.approx(now.answers)


def test_flaky_culprits_are_named_right_as_often_as_is_promised():
    named = right = processes = 0
    for seed in range(30):
        chance = random.Random(seed)
        culprits = {"a": chance.randint(1, 20), "b": chance.randint(1, 20)}
        share = {"a": 0.3, "b": 1.0}

        def truth(name, position, chance=chance, culprits=culprits, share=share):
            return "failed" if position >= culprits[name] and chance.random() < share[name] else "passed"

        steps, answers = run({name: line(20) for name in culprits}, truth)
        processes += len(steps)
        for name, found in answers.items():
            named += found.finding == "commit"
            right += found.positions == (culprits[name],)
    assert named >= 57
    assert right >= 0.9 * named
    assert processes / 30 < 45


def test_a_cluster_that_mostly_fails_by_something_else_is_given_up():
    steps, answers = run({"a": line(60)}, lambda _, position: "failed" if position == 60 else "blocked")
    assert answers["a"].finding == "undecided"
    assert len(steps) <= 25


def test_a_cluster_that_failed_once_and_never_again_is_given_up():
    words = iter(["failed"])
    steps, answers = run({"a": line(60)}, lambda _, position: next(words, "passed"))
    assert answers["a"].finding in {"undecided", "not reproduced"}
    assert len(steps) <= 80


def test_a_rate_that_is_known_spares_processes():
    def flaky(seed):
        chance = random.Random(seed)
        return lambda _, position: "failed" if position >= 5 and chance.random() < 0.3 else "passed"

    unknown = sum(len(run({"a": line(20)}, flaky(seed))[0]) for seed in range(15))
    known = sum(len(run({"a": line(20, rates=rates(6, 14))}, flaky(seed))[0]) for seed in range(15))
    given = sum(len(run({"a": line(20, rates=rates(flaky=(0.3,)))}, flaky(seed))[0]) for seed in range(15))
    assert known < unknown
    assert given < unknown


def test_that_it_was_seen_once_does_not_speak_against_a_flaky_fault():
    assert dict(rates(flaky=(0.3,)))[0.3] == pytest.approx(0.5)
    assert dict(rates(2, 0, flaky=(0.3,)))[0.3] < 0.3
    assert dict(rates(1, 1, flaky=(0.3,)))[0.3] > 0.99


def test_rates_of_what_ran_very_often():
    found = dict(rates(30_000, 30_000))
    assert max(found, key=found.get) == 0.5
    assert sum(found.values()) == pytest.approx(1)
