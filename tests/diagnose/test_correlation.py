"""What inputs have to do with a cluster: planted causes are found, chance and neighbourhood are not."""

from __future__ import annotations

import itertools
import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_tracetriage.diagnose.correlation import Observed, Stratum, exact, shared, tarone


def test_one_stratum_is_fishers_test():
    # Fisher's tea: 3 of 4 right, 17 of 70 ways are as good or better.
    assert exact([Stratum(8, 4, 4, 3)]) == pytest.approx((17 / 70, 1 / 70))


def test_strata_are_convolved():
    # Two functions of two tests, one failing each, both with the trait: one chance in four.
    assert exact([Stratum(2, 1, 1, 1)] * 2) == pytest.approx((0.25, 0.25))
    assert exact([Stratum(2, 2, 1, 1)]) == (1.0, 1.0), "nothing to compare"


@st.composite
def strata(draw):
    result = []
    for _ in range(draw(st.integers(1, 3))):
        units = draw(st.integers(1, 6))
        failing, having = draw(st.integers(0, units)), draw(st.integers(0, units))
        both = draw(st.integers(max(0, failing + having - units), min(failing, having)))
        result.append(Stratum(units, failing, having, both))
    return result


@given(strata())
def test_the_p_value_is_the_share_of_all_ways_to_fail(rows):
    whole = math.prod(math.comb(row.units, row.failing) for row in rows)
    as_many = sum(
        math.prod(
            math.comb(row.having, k) * math.comb(row.units - row.having, row.failing - k)
            for row, k in zip(rows, ks, strict=True)
        )
        for ks in itertools.product(*(range(min(row.failing, row.having) + 1) for row in rows))
        if sum(ks) >= sum(row.both for row in rows)
    )
    p, least = exact(rows)
    assert p == pytest.approx(as_many / whole)
    assert least <= p + 1e-12


def test_what_cannot_be_found_costs_nothing():
    assert tarone([0.001, 0.001, 0.5, 0.6, 1.0], 0.05) == 0.025
    assert tarone([], 0.05) == 0.05


def of_one_function(function, cluster, traits):
    """20 tests of one function, of which the first 4 fail. Each trait is one of 6 tests, of which so many fail."""
    having = [
        {*range(failing), *(4 + (place + step) % 16 for step in range(6 - failing))} for place, failing in enumerate(traits)
    ]
    return [
        Observed(
            f"test_shop.py::{function}[{number}]",
            cluster if number < 4 else "",
            frozenset(("parameter", f"{function}{name}", "1") for name, tests in enumerate(having) if number in tests),
        )
        for number in range(20)
    ]


@pytest.mark.parametrize(
    ("more", "names"),
    [
        ([], ["total0"]),
        (of_one_function("other", "b", [2] * 3), ["total0"]),
        (of_one_function("other", "b", [2] * 30), []),  # asked about in another cluster: asked nevertheless
    ],
    ids=["alone", "among few", "among many"],
)
def test_the_more_is_asked_the_more_it_takes(more, names):
    first, *_ = shared([*of_one_function("total", "a", [4]), *more])
    assert [one.name for one in first.associations] == names
    assert exact([Stratum(20, 4, 6, 4)])[0] == pytest.approx(15 / 4845)


def test_a_trait_among_many_of_its_own_cluster_takes_more_too():
    (few,) = shared(of_one_function("total", "a", [4, 2, 2]))
    (many,) = shared(of_one_function("total", "a", [4, *[2] * 30]))
    assert [one.name for one in few.associations] == ["total0"]
    assert many.associations == ()


class Counted(float):
    """A p-value that counts how often it is compared with another number."""

    asked = 0

    def __lt__(self, other):
        Counted.asked += 1
        return float(self) < other

    def __gt__(self, other):
        Counted.asked += 1
        return float(self) > other

    def __le__(self, other):
        Counted.asked += 1
        return float(self) <= other


def test_a_level_for_very_many_hypotheses_costs_no_square_of_them():
    assert tarone([Counted(1e-9)] * 1_000, 0.05) == 0.05 / 1_000
    assert Counted.asked < 20 * 1_000


# whole suites


def suite(rng):
    """Return [node id, cluster, traits]: modules with fixtures of their own, parametrised functions, four workers."""
    tests = []
    for module in range(rng.randint(5, 12)):
        own = [f"fx{number}" for number in rng.sample(range(8), 2)]
        for function in range(rng.randint(5, 15)):
            used = set(rng.sample(own, rng.randint(0, 2))) | ({f"fx{rng.randrange(8)}"} if rng.random() < 0.3 else set())
            axes = [axis for axis in (("season", "abcd"), ("n", "123")) if rng.random() < 0.3]
            for values in itertools.product(*(axis[1] for axis in axes)):
                traits = {("fixture", name, "") for name in used}
                traits |= {("parameter", axis[0], value) for axis, value in zip(axes, values, strict=True)}
                traits |= {("worker", "", f"gw{rng.randrange(4)}"), ("prompt", "Fixer", rng.choice("xy"))}
                name = f"tests/test_{module}.py::test_{function}" + (f"[{'-'.join(values)}]" if axes else "")
                tests.append([name, "", frozenset(traits)])
    return tests


def told(tests):
    found = shared([Observed(*test) for test in tests])
    return [(one.trait, one.name, one.value) for cluster in found for one in cluster.associations]


@pytest.mark.parametrize("trait", ["parameter", "worker", "prompt", "fixture"])
def test_a_planted_cause_is_found_in_nine_of_ten_suites(trait):
    found = 0
    for seed in range(40):
        rng = random.Random(seed)
        tests = suite(rng)
        at_home = {}
        for nodeid, _, traits in tests:
            for key in traits:
                at_home.setdefault(key, set()).add(nodeid.partition("[")[0])
        key = rng.choice(sorted(key for key, functions in at_home.items() if key[0] == trait and len(functions) >= 4))
        for test in tests:
            if key in test[2] and rng.random() < 0.9:
                test[1] = "C"
        found += told(tests) == [key]
    assert found >= 36


def test_nothing_is_invented_where_failures_come_by_chance_by_function_or_by_module():
    invented = 0
    for seed in range(120):
        rng = random.Random(seed)
        tests = suite(rng)
        functions = sorted({test[0].partition("[")[0] for test in tests})
        if seed % 3 == 0:
            bad = {test[0] for test in tests if rng.random() < 0.1}
        elif seed % 3 == 1:
            broken = set(rng.sample(functions, len(functions) // 10 + 1))
            bad = {test[0] for test in tests if test[0].partition("[")[0] in broken}
        else:
            module = rng.choice(functions).partition("::")[0]
            bad = {test[0] for test in tests if test[0].startswith(module + "::")}
        for test in tests:
            test[1] = "C" if test[0] in bad else ""
        invented += bool(told(tests))
    assert invented <= 6


def rows_of(*rows):
    return [[nodeid, cluster, frozenset(traits)] for nodeid, cluster, traits in rows]


CART, DB = ("fixture", "cart", ""), ("fixture", "db", "")


def test_a_fixture_of_a_module_in_which_everything_fails_is_not_named():
    rows = [(f"tests/test_cart.py::test_{n}", "C", {CART}) for n in range(9)]
    rows += [(f"tests/test_{m}.py::test_{n}", "", set()) for m in range(5) for n in range(9)]
    assert told(rows_of(*rows)) == []


def test_the_same_fixture_across_modules_is():
    rows = [
        (f"tests/test_{m}.py::test_{n}", "C" if n < 2 else "", {CART} if n < 2 else set()) for m in range(5) for n in range(9)
    ]
    assert told(rows_of(*rows)) == [CART]


def test_many_parametrisations_of_one_broken_function_are_one_piece_of_evidence():
    rows = [(f"t.py::test_a[{n}]", "C", {CART}) for n in range(50)]
    rows += [(f"t.py::test_{n}", "", {CART} if n == 1 else set()) for n in range(9)]
    assert told(rows_of(*rows)) == []


def test_traits_of_the_same_tests_are_told_together():
    rows = [(f"t.py::test_{n}", "C" if n < 6 else "", {CART, DB} if n < 6 else set()) for n in range(30)]
    (one,) = shared([Observed(*row) for row in rows_of(*rows)])[0].associations
    assert (one.text, one.alike) == ("fixture cart", ("fixture db",))
    assert (one.failing, one.of_failing, one.passing, one.of_passing) == (6, 6, 0, 24)


def test_what_a_stronger_trait_explains_is_not_told_too():
    season = ("parameter", "season", "'winter'")
    rows = []
    for function, n in itertools.product(range(6), range(6)):
        for value in ("'winter'", "'summer'"):
            traits = {("parameter", "season", value), *([CART] if function < 5 else [])}
            failed = value == "'winter'" and function < 5
            rows.append((f"t.py::test_{function}[{n}-{value}]", "C" if failed else "", traits))
    rows += [(f"t.py::other_{n}", "", set()) for n in range(20)]
    assert told(rows_of(*rows))[0] == season
    assert len(told(rows_of(*rows))) <= 2


def test_what_failed_by_another_cause_is_no_evidence():
    rows = [(f"t.py::test_{n}", "C" if n < 5 else "D", {CART} if n < 5 else set()) for n in range(40)]
    assert told(rows_of(*rows)) == []


def test_what_does_not_matter_is_said_only_where_it_would_have_been_seen():
    many = [
        (
            f"t.py::test_a[{season}-{n}]",
            "C" if season == "winter" else "",
            {("parameter", "season", season), ("parameter", "n", str(n))},
        )
        for season in ("winter", "summer", "spring")
        for n in range(8)
    ]
    assert shared([Observed(*row) for row in rows_of(*many)])[0].indifferent == ("n",)
    few = [row for row in many if row[0].endswith(("-0]", "-1]")) and "spring" not in row[0]]
    assert shared([Observed(*row) for row in rows_of(*few)])[0].indifferent == ()


@settings(max_examples=30)
@given(st.randoms(use_true_random=False))
def test_the_order_of_tests_does_not_matter(rng):
    tests = suite(random.Random(3))
    for test in tests:
        test[1] = "C" if ("parameter", "season", "a") in test[2] else ""
    expected = shared([Observed(*test) for test in tests])
    rng.shuffle(tests)
    assert shared([Observed(*test) for test in tests]) == expected
