"""The search for polluters asks as little as it may, and names what there is."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from pytest_tracetriage.diagnose.rerun import causes_among


def found_by(search, effect):
    """Return what a search finds where `effect(tests)` tells whether the effect is there, and how often it asked."""
    asked = 0
    answers = None
    while True:
        try:
            several = next(search) if answers is None else search.send(answers)
        except StopIteration as end:
            return end.value, asked
        asked += len(several)
        answers = [effect(tests) for tests in several]


@given(st.integers(1, 500).flatmap(lambda size: st.tuples(st.just(size), st.integers(0, size - 1))))
def test_one_polluter_is_found_in_no_more_runs_than_halving_takes(drawn):
    size, place = drawn
    before = [f"test_{number}" for number in range(size)]
    found, asked = found_by(causes_among(before), lambda tests: before[place] in tests)
    assert found == (before[place],)
    assert asked <= 2 * math.log2(size) + 2


@given(
    st.integers(2, 200).flatmap(
        lambda size: st.tuples(st.just(size), st.sets(st.integers(0, size - 1), min_size=2, max_size=3))
    )
)
def test_tests_that_pollute_together_only_are_found_in_their_order(drawn):
    size, places = drawn
    before = [f"test_{number}" for number in range(size)]
    wanted = tuple(before[place] for place in sorted(places))
    found, _ = found_by(causes_among(before), lambda tests: set(wanted) <= set(tests))
    assert found == wanted


def test_a_second_polluter_does_not_confuse_the_search():
    before = [f"test_{number}" for number in range(64)]
    found, _ = found_by(causes_among(before), lambda tests: bool({"test_5", "test_40"} & set(tests)))
    assert found in {("test_5",), ("test_40",)}


def test_what_comes_and_goes_has_no_cause():
    assert found_by(causes_among(["a", "b", "c"]), lambda _: False)[0] == ()
    assert found_by(causes_among([]), lambda _: True) == ((), 0)
