"""The model of flaking and breaking, against the same model worked out point by point, and against what must hold of any."""

from __future__ import annotations

import math

import pytest
from courses import points
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_tracetriage.diagnose import changepoints
from pytest_tracetriage.diagnose.changepoints import GRID, PRIOR, Point, Rates, credible, learned, segments

COUNTS = st.tuples(st.integers(0, 3), st.integers(0, 3)).filter(any)
COURSES = st.lists(COUNTS, min_size=1, max_size=60).map(lambda rows: [Point(*row) for row in rows])
MOSTLY = st.text("....................F", min_size=1, max_size=120)


def kinds(text, rates=PRIOR):
    return [(segment.kind, segment.end - segment.start) for segment in segments(points(text), rates)]


def flaky(text):
    """How likely the surest flaky segment is, 0 without any."""
    return max((segment.probability for segment in segments(points(text)) if segment.kind == "flaky"), default=0.0)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("." * 50, [("sound", 50)]),
        ("F" * 20, [("broken", 20)]),
        ("." * 30 + "F" * 5 + "." * 30, [("sound", 30), ("broken", 5), ("sound", 30)]),
        (
            "." * 30 + "FF" + "." * 30 + "F" * 4 + "...",
            [("sound", 30), ("broken", 2), ("sound", 30), ("broken", 4), ("sound", 3)],
        ),
        (".F..F...F....F..F" * 3, [("flaky", 51)]),
        ("." * 20 + "x" + "." * 20, [("flaky", 41)]),
        ("." * 200 + "F.FF..F.F..FF.F..F.F" * 2, [("sound", 200), ("flaky", 40)]),
        ("...F....F..F.....F..." + "F" * 12 + "...F....F....F", [("flaky", 21), ("broken", 12), ("flaky", 14)]),
        ("." * 30 + "|FF|" + "." * 30, [("sound", 30), ("broken", 2), ("sound", 30)]),
        ("." * 30 + "FFFF|FFFF" + "." * 30, [("sound", 30), ("broken", 4), ("broken", 4), ("sound", 30)]),
    ],
)
def test_regimes(text, expected):
    assert kinds(text) == expected


@pytest.mark.parametrize(("passes", "fails", "kind"), [(3_000, 3_000, "flaky"), (0, 9_000, "broken"), (20_000, 9_000, "flaky")])
def test_any_number_of_attempts_at_one_commit(passes, fails, kind):
    course = [Point(1, 0, first=True), *[Point(1, 0)] * 19, Point(passes, fails), *[Point(1, 0)] * 20]
    assert [(one.kind, one.start, one.end) for one in segments(course)] == [
        ("sound", 0, 20), (kind, 20, 21), ("sound", 21, 41),
    ]  # fmt: skip


def test_no_points_are_no_segments():
    assert segments([]) == ()


@given(COURSES)
def test_segments_cover_all_points_once_and_hold_their_attempts(course):
    found = segments(course)
    assert [segment.start for segment in found] == [0, *[segment.end for segment in found[:-1]]]
    assert found[-1].end == len(course)
    for segment in found:
        inside = course[segment.start : segment.end]
        assert (segment.passes, segment.fails) == (sum(p.passes for p in inside), sum(p.fails for p in inside))
        assert 1 / 3 <= segment.probability <= 1


@given(st.lists(st.lists(st.booleans(), min_size=1, max_size=5), min_size=1, max_size=30), st.randoms())
def test_the_order_of_attempts_at_one_commit_says_nothing(commits, chance):
    def course(attempts):
        return [Point(sum(each), len(each) - sum(each)) for each in attempts]

    shuffled = [chance.sample(each, len(each)) for each in commits]
    assert segments(course(commits)) == segments(course(shuffled))


@given(st.integers(5, 80), st.integers(5, 80), st.integers(1, 3))
def test_a_commit_that_passed_too_speaks_for_flaky(before, after, more):
    lone = "." * before + "F" + "." * after
    both = "." * before + "x" + "." * after
    assert flaky(lone) < flaky(both) <= flaky(both + "x" * more) + 1e-9


@given(st.integers(20, 60), st.integers(2, 12))
def test_the_longer_a_row_of_failures_the_surer_it_is_broken(before, length):
    def broken(text):
        return max(segment.probability for segment in segments(points(text)) if segment.kind == "broken")

    row = "." * before + "F" * length
    assert broken(row + "." * 20) <= broken(row + "F" + "." * 20) + 1e-9


@settings(max_examples=40, deadline=None)
@given(MOSTLY)
def test_rows_of_passes_taken_at_once_are_as_point_by_point(text):
    course = points(text)
    expected = _point_by_point(course, PRIOR)
    for segment in segments(course):
        for index in range(segment.start, segment.end):
            if course[index].fails:
                assert expected[index][segment.kind] == pytest.approx(segment.probability, abs=0.05) or (
                    expected[index][segment.kind] <= segment.probability
                )
                assert max(expected[index].values()) - expected[index][segment.kind] < 0.05


def _point_by_point(course, rates):
    """Forward and backward over every point and state, with no shortcut: how likely each kind is at each point."""
    grid = (rates.stray, *GRID)
    names = [(state, g) for state in ("never", "broken", "fixed") for g in range(len(grid))]
    begins, ends = changepoints._BEGINS, changepoints._ENDS

    def move(old, new, first):
        (was, g), (now, h) = old, new
        r = {"never": rates.breaks, "fixed": rates.again}.get(was, 0)
        r = rates.broken if first else r
        if was == "broken":
            to = {"broken": rates.broken if first else 1 - rates.fixed, "fixed": 1 - rates.broken if first else rates.fixed}
        else:
            to = {was: 1 - r, "broken": r}
        chance = to.get(now, 0.0)
        if was == "broken" or now == "broken":
            return chance * (g == h)
        if g == 0:
            return chance * ((1 - begins) if h == 0 else begins / len(GRID))
        return chance * ((1 - ends) if h == g else ends if h == 0 else 0.0)

    def emit(new, point):
        if new[0] == "broken":
            return (1 - changepoints._PASSES) ** point.fails * changepoints._PASSES**point.passes
        return grid[new[1]] ** point.fails * (1 - grid[new[1]]) ** point.passes

    start = dict.fromkeys(names, 0.0)
    start["never", 0] = 1 - rates.flaky
    for g in range(1, len(grid)):
        start["never", g] = rates.flaky / len(GRID)
    ahead, states = start, []
    for index, point in enumerate(course):
        ahead = {
            new: emit(new, point) * sum(ahead[old] * move(old, new, not index) for old in names if ahead[old]) for new in names
        }
        whole = sum(ahead.values())
        ahead = {name: value / whole for name, value in ahead.items()}
        states.append(ahead)
    behind, found = dict.fromkeys(names, 1.0), []
    for index in range(len(course) - 1, -1, -1):
        both = {name: states[index][name] * behind[name] for name in names}
        whole = sum(both.values())
        shares = {"sound": 0.0, "flaky": 0.0, "broken": 0.0}
        for (state, g), value in both.items():
            shares["broken" if state == "broken" else "flaky" if g else "sound"] += value / whole
        found.append(shares)
        if index:
            point = course[index]
            behind = {old: sum(move(old, new, False) * emit(new, point) * behind[new] for new in names) for old in names}
            whole = max(behind.values())
            behind = {name: value / whole for name, value in behind.items()}
    return found[::-1]


def test_what_breaks_often_is_learned():
    """Where things break often and are fixed at once, lone failures are breakages; where they hardly ever do, flakes."""
    breaking = [points("." * at + "F" + "." * (99 - at)) for at in range(1, 99)] * 2
    flaking = [points(("." * 9 + "F") * 10)] * 20
    rates, others = learned(breaking, 800), learned(flaking, 800)
    assert rates.breaks > 4 * others.breaks
    assert others.flaky > 1.5 * rates.flaky / (1 + rates.flaky)
    assert learned([], 0) == PRIOR
    assert learned([], 100) == PRIOR


@settings(deadline=None, max_examples=30)
@given(st.lists(COURSES, max_size=5), st.integers(0, 1000))
def test_learned_rates_are_probabilities(courses, untouched):
    rates = learned(courses, untouched)
    assert all(0 < getattr(rates, name) < 1 for name in Rates.__struct_fields__)


@pytest.mark.parametrize(
    ("fails", "passes", "low", "high"),  # quantiles of Beta(fails + .5, passes + .5), from R's qbeta
    [(6, 37, 0.0604073, 0.2651890), (150, 850, 0.1288930, 0.1733294), (1, 0, 0.1467463, 1.0), (0, 20, 0.0, 0.1164)],
)
def test_credible_intervals(fails, passes, low, high):
    mean, *ends = credible(fails, passes)
    assert mean == pytest.approx((fails + 0.5) / (fails + passes + 1))
    assert ends == pytest.approx([low, high], abs=2e-3)


@given(st.integers(0, 10_000), st.integers(0, 10_000))
def test_intervals_hold_their_mean_and_narrow_with_more_trials(fails, passes):
    mean, low, high = credible(fails, passes)
    assert 0 <= low <= mean <= high <= 1
    _, lower, higher = credible(2 * fails, 2 * passes)
    assert not fails + passes or higher - lower <= high - low + 1e-6
    assert math.isfinite(mean)
