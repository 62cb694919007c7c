"""Buckets: the fewest headings that cover what hurts."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from making import analysis_of, error, fails

from pytest_tracetriage.model.analysis import Cluster, Muted
from pytest_tracetriage.triage.names import COVERAGE, MAX_BUCKETS, MAX_NAME, buckets, impact, order

CATEGORIES = ["ASSERTION", "NETWORK", "TYPE_MISMATCH", "DATA_SHAPE", "CRASH", "TIMEOUT", "DISK", "A_CATEGORY_OF_ITS_OWN"]


def cluster(number, count, category="ASSERTION", owner="product", **more):
    empty = {
        "codeowners": (),
        "seen": "new",
        "muted": None,
        "tests": (),
        "signatures": (),
        "why": (),
        "suspects": (),
        "exemplar": None,
    }
    return Cluster(
        **{**empty, "id": f"{number:026d}", "name": "", "category": category, "owner": owner, "count": count, **more}
    )


def sizes(*counts):
    return [cluster(number, count, CATEGORIES[number]) for number, count in enumerate(counts)]


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ((), 0),
        ((1,), 1),
        ((80, 20), 1),
        ((79, 21), 2),
        ((1, 1), 2),
        ((40, 40, 10, 10), 2),
        ((30, 30, 19, 21), 3),
        ((1, 1, 1, 1, 1), 4),
        ((1, 1, 1, 1, 1, 1, 1, 1), 5),
        ((100, 1, 1, 1), 1),
    ],
)
def test_as_few_headings_as_cover_four_fifths_and_never_more_than_five(counts, expected):
    assert len(buckets(sizes(*counts))) == expected


@settings(max_examples=100, deadline=None, derandomize=True)
@given(
    st.lists(st.tuples(st.integers(1, 50), st.sampled_from(CATEGORIES), st.sampled_from(["product", "test"])), max_size=14),
    st.randoms(use_true_random=False),
)
def test_no_smaller_number_would_do(kinds, random):
    some = [cluster(number, count, category, owner) for number, (count, category, owner) in enumerate(kinds)]
    found = buckets(some)
    total = sum(map(impact, some))
    by_kind = {}
    for one in some:
        by_kind[one.owner, one.category] = by_kind.get((one.owner, one.category), 0) + impact(one)
    weights = sorted(by_kind.values(), reverse=True)
    assert len(found) <= MAX_BUCKETS
    if found:
        assert sum(weights[: len(found) - 1]) < COVERAGE * total
        assert len(found) == MAX_BUCKETS or sum(weights[: len(found)]) >= COVERAGE * total
    random.shuffle(some)
    assert buckets(some) == found


def test_a_bucket_holds_one_category_of_one_owner():
    some = [cluster(1, 5), cluster(2, 4), cluster(3, 5, owner="test"), cluster(4, 5, "NETWORK", "infrastructure")]
    found = {bucket.name: (bucket.count, [int(i) for i in bucket.clusters]) for bucket in buckets(some)}
    assert found == {
        "product: wrong results": (9, [1, 2]),
        "infrastructure: network": (5, [4]),
        "test: wrong results": (5, [3]),
    }


def test_a_category_of_the_project_names_its_bucket():
    assert buckets([cluster(1, 1, "SLOW_DATABASE", "infrastructure")])[0].name == "infrastructure: slow database"


@pytest.mark.parametrize("quiet", [{"muted": Muted("ann", "known")}, {"seen": "fixed"}], ids=["muted", "fixed"])
def test_what_needs_no_look_opens_no_report_and_stands_last(quiet):
    loud, silent = cluster(1, 1, "NETWORK"), cluster(2, 100, **quiet)
    assert [bucket.clusters for bucket in buckets([silent, loud])] == [(loud.id,)]
    assert order([silent, loud]) == (loud, silent)
    assert buckets([silent]) == ()


def test_what_has_blocked_more_runs_weighs_more():
    stubborn, fresh = cluster(1, 2, "NETWORK", runs=9, seen="known"), cluster(2, 3)
    assert [bucket.clusters[0] for bucket in buckets([fresh, stubborn])] == [stubborn.id]


def test_clusters_stand_by_falling_number_of_tests():
    assert [one.count for one in order(sizes(3, 9, 1, 9))] == [9, 9, 3, 1]


# names


def name_of(*errors, **more):
    (found,) = analysis_of(fails("tests/test_a.py::test_a", *errors, **more)).clusters
    return found.name


def test_a_name_says_what_where_and_with_what():
    assert (
        name_of(error("KeyError", "'sku'", "tests/test_a.py:test_a", "shop/cart.py:total"))
        == "KeyError in total: missing 'sku'"
    )


def test_a_name_uses_the_qualified_name_where_it_is_known():
    from making import frame

    where = frame("shop/cart.py:total", 88, qualname="Cart.total")
    assert name_of(error("KeyError", "'sku'", where)) == "KeyError in Cart.total: missing 'sku'"


def test_a_name_says_the_value_where_it_never_varies_and_masks_it_where_it_does():
    same = [fails(f"t.py::{n}", error("ValueError", "got 3", "shop/a.py:f")) for n in range(3)]
    varied = [fails(f"t.py::{n}", error("ValueError", f"got {n}", "shop/a.py:f")) for n in range(3)]
    assert analysis_of(*same).clusters[0].name == "ValueError in f: got 3"
    assert analysis_of(*varied).clusters[0].name == "ValueError in f: got #"


def test_module_level_code_is_named_by_its_file():
    assert name_of(error("ImportError", "no", "shop/cart.py:<module>"), phase="collect") == "ImportError in shop/cart.py: no"


def test_a_name_shows_no_stand_in_of_a_secret():
    assert "3f9a1c2e" not in name_of(error("ValueError", "key [redacted 3f9a1c2e]", "shop/a.py:f"))


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.text(st.characters(codec="utf-8"), max_size=300), st.text(st.characters(codec="utf-8"), min_size=1, max_size=200))
def test_names_are_bounded_and_without_control_characters(message, function):
    name = name_of(error("ValueError", message, "shop/a.py:" + function))
    assert len(name) <= MAX_NAME
    assert name.isprintable()
    assert name.startswith("ValueError")


def test_the_majority_of_tests_decides_the_category_of_a_cluster():
    network = [fails(f"t.py::{n}", error("ConnectionRefusedError", "no 127.0.0.1:6379", "shop/a.py:f")) for n in range(3)]
    slow = fails("t.py::slow", error("TimeoutError", "no answer of 127.0.0.1:6379", "shop/b.py:g"))
    (found,) = analysis_of(*network, slow).clusters
    assert (found.category, found.owner, found.count) == ("NETWORK", "infrastructure", 4)
    assert msgspec.json.encode(found) == msgspec.json.encode(analysis_of(slow, *network).clusters[0])
