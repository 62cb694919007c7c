"""Joining: what belongs together, by which evidence, and what must not be joined."""

from __future__ import annotations

import random

import pytest
from making import analysis_of, error, fails, frame, grouped, summary_of, whys
from msgspec.structs import replace

from pytest_tracetriage.model.analysis import Aliases, Join, Split
from pytest_tracetriage.triage import join as joining
from pytest_tracetriage.triage.analyze import Given, analyze
from pytest_tracetriage.triage.signature import signature_id


def refused(port, place, host="127.0.0.1", type_="ConnectionRefusedError"):
    return error(type_, f"[Errno 111] Connection refused: {host}:{port}", place)


def ids(*some):
    return [signature_id(trace.failure) for trace in some]


ONE = fails("tests/test_a.py::test_one", error("KeyError", "'sku'", "tests/test_a.py:test_one", "shop/cart.py:total"))
OTHER = fails(
    "tests/test_b.py::test_other", error("OSError", "disc is full", "tests/test_b.py:test_other", "shop/disc.py:save")
)
THIRD = fails("tests/test_c.py::test_third", error("TypeError", "None + 1", "tests/test_c.py:test_third", "shop/price.py:add"))

HARD = {
    "same resource": [
        fails("tests/test_a.py::a", refused(6379, "shop/cache.py:get")),
        fails(
            "tests/test_b.py::b",
            error("MaxRetryError", "HTTPConnectionPool(host='127.0.0.1', port=6379) broke", "shop/q.py:pop"),
        ),
    ],
    "same resource: module": [
        fails(
            "tests/test_a.py",
            error("ModuleNotFoundError", "No module named 'redis'", "tests/test_a.py:<module>"),
            phase="collect",
        ),
        fails("tests/test_b.py::b", error("ImportError", "No module named 'redis'", "shop/lazy.py:load")),
    ],
    "same resource: path": [
        fails(
            "tests/test_a.py::a", error("FileNotFoundError", "[Errno 2] No such file or directory: 'data/x.csv'", "shop/a.py:f")
        ),
        fails(
            "tests/test_b.py::b", error("FileNotFoundError", "reading: No such file or directory: 'data/x.csv'", "shop/b.py:g")
        ),
    ],
    "shared fixture": [
        fails(
            "tests/test_a.py::a",
            error("OSError", "down", "tests/conftest.py:db"),
            phase="setup",
            fixture="db (tests/conftest.py:4)",
        ),
        fails(
            "tests/test_b.py::b",
            error("OSError", "went away", "shop/db.py:ping"),
            phase="setup",
            fixture="db (tests/conftest.py:4)",
        ),
    ],
    "setup() not called": [
        fails(
            f"tests/test_{name}.py::T::t",
            error("AttributeError", f"'T' object has no attribute '{name * 3}'", f"tests/test_{name}.py:t"),
            uncalled=frame(f"tests/test_{name}.py:setup", qualname="T.setup"),
        )
        for name in "ab"
    ],
    "same cause": [
        fails("tests/test_a.py::a", error("KeyError", "'sku'", "shop/cart.py:total")),
        fails(
            "tests/test_b.py::b",
            error("ApiError", "request could not be served", "shop/api.py:handle"),
            error("KeyError", "'sku'", "shop/cart.py:total", link="cause", parent=0),
        ),
    ],
    "exception group": [
        fails("tests/test_a.py::a", error("KeyError", "'sku'", "shop/cart.py:total")),
        fails(
            "tests/test_b.py::b",
            error("ExceptionGroup", "unhandled errors in a TaskGroup (1 sub-exception)", "shop/tasks.py:gather"),
            error("KeyError", "'sku'", "shop/cart.py:total", link="member", parent=0),
        ),
    ],
    "quoted traceback": [
        fails("tests/test_a.py::a", error("ZeroDivisionError", "division by zero", "shop/mean.py:mean")),
        fails(
            "tests/test_b.py::b",
            error(
                "CalledProcessError",
                "Command failed\nTraceback (most recent call last):\n"
                '  File "/srv/app/shop/__main__.py", line 3, in <module>\n    main()\n'
                '  File "/srv/app/shop/mean.py", line 9, in mean\n    return a / b\n'
                "ZeroDivisionError: division by zero\n",
                "tests/test_b.py:b",
            ),
        ),
    ],
}


@pytest.mark.parametrize("name", HARD)
def test_hard_evidence_joins_and_is_named(name):
    found = analysis_of(*HARD[name], OTHER)
    assert grouped(found) == {frozenset(trace.nodeid for trace in HARD[name]), frozenset({OTHER.nodeid})}
    assert name.partition(":")[0] in whys(found)


NEAR = {
    "two refused ports": [
        fails("t.py::a", refused(6379, "shop/cache.py:get")),
        fails("t.py::b", refused(5432, "shop/db.py:query")),
    ],
    "two refused ports of one helper": [
        fails("t.py::a", refused(6379, "shop/net.py:connect")),
        fails("t.py::b", refused(5432, "shop/net.py:connect")),
    ],
    "two hosts": [
        fails("t.py::a", refused(6379, "shop/cache.py:get", "cache.local")),
        fails("t.py::b", refused(6379, "shop/db.py:query", "queue.local")),
    ],
    "two modules": [
        fails("t.py::a", error("ModuleNotFoundError", "No module named 'redis'", "shop/cache.py:<module>")),
        fails("t.py::b", error("ModuleNotFoundError", "No module named 'numpy'", "shop/mean.py:<module>")),
    ],
    "same type, another message and place": [
        fails("t.py::a", error("ValueError", "price is negative", "shop/price.py:check")),
        fails("t.py::b", error("ValueError", "unknown currency zone", "shop/money.py:convert")),
    ],
    "two fixtures": [
        fails("t.py::a", error("OSError", "down", "tests/conftest.py:db"), phase="setup", fixture="db (tests/conftest.py:4)"),
        fails("t.py::b", error("OSError", "no", "tests/conftest.py:web"), phase="setup", fixture="web (tests/conftest.py:9)"),
    ],
    "two errors of one fixture": [
        fails("t.py::a", error("OSError", "disc", "shop/x.py:f"), phase="setup", fixture="db (tests/conftest.py:4)"),
        fails("t.py::b", error("KeyError", "'user'", "shop/y.py:g"), phase="setup", fixture="db (tests/conftest.py:4)"),
    ],
    "a member of another type": [
        fails("t.py::a", error("KeyError", "'sku'", "shop/cart.py:total")),
        fails(
            "t.py::b",
            error("ExceptionGroup", "unhandled errors", "shop/tasks.py:gather"),
            error("ValueError", "too low", "shop/price.py:check", link="member", parent=0),
        ),
    ],
    "plain assertions of two tests": [
        fails("tests/test_a.py::a", error("AssertionError", "assert 1 == 2", "tests/test_a.py:a")),
        fails("tests/test_b.py::b", error("AssertionError", "assert 'x' in []", "tests/test_b.py:b")),
    ],
    "a temporary path that looks alike": [
        fails(
            "t.py::a", error("FileNotFoundError", "loading prices: No such file or directory: '/tmp/a/x'", "shop/load.py:load")
        ),
        fails(
            "t.py::b", error("PermissionError", "backup of orders failed, Permission denied: '/tmp/a/x'", "shop/keep.py:keep")
        ),
    ],
}


@pytest.mark.parametrize("name", NEAR)
def test_near_misses_stay_apart(name):
    groups = grouped(analysis_of(*NEAR[name]))
    assert len(groups) == 2


def test_a_setup_that_was_not_called_is_no_missing_attribute():
    """However alike the words are: that one has a cause of its own."""
    missing = [
        fails(
            f"tests/test_a.py::t{n}", error("AttributeError", f"'T' object has no attribute 'k{'k' * n}'", "tests/test_a.py:t")
        )
        for n in range(2)
    ]
    left_out = fails(
        "tests/test_a.py::s",
        error("AttributeError", "'T' object has no attribute 'kkk'", "tests/test_a.py:t"),
        uncalled=frame("tests/test_a.py:setup", qualname="T.setup"),
    )
    assert len(grouped(analysis_of(*missing))) == 1
    assert {"tests/test_a.py::s"} in grouped(analysis_of(*missing, left_out))


def printed(kind, message, function="load"):
    return f'died:\nTraceback (most recent call last):\n  File "/srv/{function}.py", line 2, in {function}\n{kind}: {message}\n'


def test_a_quoted_error_leads_the_cluster_of_those_that_quote_it():
    direct = fails("tests/test_a.py::direct", error("KeyError", "'price'", "tests/test_a.py:direct", "shop/worker.py:load"))
    launched = [
        fails(f"tests/test_b.py::t{n}", error("sh.ErrorReturnCode_1", printed("KeyError", "'price'"), "shop/sh.py:run"))
        for n in range(3)
    ]
    (cluster,) = analysis_of(direct, *launched).clusters
    assert cluster.count == 4
    assert cluster.name == "KeyError in load: missing 'price'"
    assert (cluster.category, cluster.classified) == ("DATA_SHAPE", "type KeyError")
    assert [(found.file, found.evidence) for found in cluster.suspects] == [
        ("shop/worker.py", "in the traceback of 1 of 4 tests")
    ]
    assert cluster.exemplar.nodeid == "tests/test_a.py::direct"
    assert cluster.id == signature_id(launched[0].failure), "the signature of most tests is the founder"


def test_a_quoted_error_alone_gives_name_and_category():
    launched = fails("tests/test_b.py::t", error("sh.ErrorReturnCode_1", printed("KeyError", "'price'"), "shop/sh.py:run"))
    (cluster,) = analysis_of(launched).clusters
    assert (cluster.category, cluster.classified) == ("DATA_SHAPE", "quoted traceback: type KeyError")
    assert cluster.name == "KeyError in load: 'price', quoted by ErrorReturnCode_1"


def test_of_a_quoted_chain_the_last_error_counts():
    chain = printed("KeyError", "'price'") + "\nDuring handling of the above exception, another exception occurred:\n\n"
    launched = fails(
        "tests/test_b.py::t", error("ErrorReturnCode_1", chain + printed("TypeError", "None + 1"), "shop/sh.py:run")
    )
    (cluster,) = analysis_of(launched).clusters
    assert cluster.category == "TYPE_MISMATCH"


def test_of_several_quoted_errors_none_counts():
    both = printed("KeyError", "'price'") + printed("TypeError", "None + 1")
    (cluster,) = analysis_of(fails("tests/test_b.py::t", error("ErrorReturnCode_1", both, "shop/sh.py:run"))).clusters
    assert cluster.category == "ERROR"


def test_a_quoted_error_does_not_outdo_what_is_known():
    late = fails("tests/test_b.py::t", error("TimeoutExpired", printed("KeyError", "'price'"), "shop/sh.py:run"))
    (cluster,) = analysis_of(late).clusters
    assert cluster.category == "TIMEOUT"


def test_the_same_failure_in_many_tests_is_one_cluster_that_says_so():
    found = analysis_of(*[fails(f"t.py::t[{n}]", error("KeyError", "'sku'", "shop/cart.py:total")) for n in range(5)])
    (cluster,) = found.clusters
    assert cluster.count == 5
    assert [why.evidence for why in cluster.why] == ["same signature"]
    assert "shop/cart.py:total" in cluster.why[0].detail


def test_every_join_names_its_two_signatures():
    found = analysis_of(*HARD["same resource"])
    (cluster,) = found.clusters
    assert {signature.id for signature in cluster.signatures} == {*cluster.why[0].signatures}
    assert cluster.why[0].detail == "127.0.0.1:6379"


# soft evidence: what the words of messages, errors and tests have in common


def _test(name, body, first=1):
    return {name: (first, f"def test_{name}():\n{body}")}


def soft(name, message, place):
    body = "    cart = Cart(load('prices.json'))\n    assert cart.total(items, season='summer') == expected_total\n"
    where = frame(f"tests/test_{name}.py:test_{name}", 3, source=name)
    return fails(f"tests/test_{name}.py::test_{name}", error("PricingError", message, where, place)), _test(name, body)


def test_alike_messages_and_tests_are_joined_and_explained():
    (one, first), (other, second) = (
        soft("a", "KeyError: 'sku' while pricing the summer cart", "shop/cart.py:total"),
        soft("b", "KeyError: 'sku' while pricing the winter cart", "shop/cart.py:total"),
    )
    found = analysis_of(one, other, THIRD, texts=first | second)
    assert frozenset({one.nodeid, other.nodeid}) in grouped(found)
    (joined,) = [cluster for cluster in found.clusters if cluster.count == 2]
    said = {why.evidence: why.detail for why in joined.why}
    assert said.keys() >= {"message template", "same root frame"}
    assert said["message template"].endswith("% alike")
    assert said["same root frame"] == "total in shop/cart.py"


def test_a_missing_module_does_not_join_what_names_none():
    one, first = soft("a", "No module named '_sku' while pricing the summer cart", "shop/cart.py:total")
    other, second = soft("b", "No module named '_sku' while pricing the winter cart", "shop/cart.py:total")
    (raised,) = one.failure.errors
    missing = replace(one, failure=replace(one.failure, errors=(replace(raised, type="ModuleNotFoundError"),)))
    found = grouped(analysis_of(missing, other, THIRD, texts=first | second))
    assert frozenset({missing.nodeid}) in found
    assert frozenset({other.nodeid}) in found


# people


def split(*traces, **more):
    return Aliases(splits=(Split(tuple(sorted(ids(*traces)))),), **more)


def test_people_can_join_what_nothing_joins():
    a, b = ids(ONE, OTHER)
    found = analysis_of(ONE, OTHER, THIRD, aliases=Aliases(joins=(Join((b, a), by="ann"),)))
    assert grouped(found) == {frozenset({ONE.nodeid, OTHER.nodeid}), frozenset({THIRD.nodeid})}
    (joined,) = [cluster for cluster in found.clusters if cluster.count == 2]
    assert joined.id == b
    assert ("decision", "joined by ann") in {(why.evidence, why.detail) for why in joined.why}


@pytest.mark.parametrize("name", HARD)
def test_people_can_split_what_hard_evidence_joins(name):
    found = analysis_of(*HARD[name], aliases=split(*HARD[name]))
    assert len(grouped(found)) == 2


def test_a_split_wins_over_a_join():
    both = Aliases(joins=(Join(tuple(ids(ONE, OTHER))),), splits=(Split(tuple(ids(ONE, OTHER))),))
    assert len(grouped(analysis_of(ONE, OTHER, aliases=both))) == 2


def test_a_split_holds_through_a_third():
    """Both belong with a third by evidence: it may go with one of them only."""
    some = [
        fails(f"t.py::{n}", refused(6379, f"shop/m{n}.py:f{n}", type_=kind))
        for n, kind in enumerate(["OSError", "ConnectError", "TimeoutError"])
    ]
    found = analysis_of(*some, aliases=split(some[0], some[2]))
    assert sorted(len(group) for group in grouped(found)) == [1, 2]
    assert not any({"t.py::0", "t.py::2"} <= group for group in grouped(found))


def test_decisions_on_what_is_not_in_this_run_do_nothing():
    gone = Aliases(joins=(Join(("A" * 26, "B" * 26)),), splits=(Split(("A" * 26, "C" * 26)),))
    assert analysis_of(ONE, OTHER, aliases=gone).clusters == analysis_of(ONE, OTHER).clusters


def test_hooks_can_join():
    a, b = ids(ONE, OTHER)
    seen = []

    def joiner(signatures):
        seen.extend(signatures)
        return [(a, b, "ticket 7"), (a, "Z" * 26, "unknown"), (a, a, "itself")]

    found = analysis_of(ONE, OTHER, THIRD, joiners=(joiner,))
    assert frozenset({ONE.nodeid, OTHER.nodeid}) in grouped(found)
    assert {signature.id for signature in seen} == set(ids(ONE, OTHER, THIRD))
    assert "ticket 7" in {why.detail for cluster in found.clusters for why in cluster.why}


# order and size


def _mixed():
    some = [trace for traces in HARD.values() for trace in traces] + [ONE, OTHER, THIRD]
    for group in range(6):
        some += [
            fails(
                f"tests/test_{group}.py::t[{n}]",
                error("ValueError", f"{word} went wrong in shelf {n}x", f"shop/m{group}.py:f{n % 3}"),
            )
            for n, word in enumerate(["sorting", "sorting", "weighing", "sorting"])
        ]
    return some


def test_the_order_of_traces_does_not_matter():
    some, texts = _mixed(), {}
    expected = analysis_of(*some, texts=texts)
    for seed in range(5):
        random.Random(seed).shuffle(some)
        found = analysis_of(*some, texts=texts)
        assert found.clusters == expected.clusters
        assert found.buckets == expected.buckets


WORDS = [
    "apple",
    "bread",
    "cider",
    "dates",
    "eggs",
    "flour",
    "grape",
    "honey",
    "icing",
    "jam",
    "kale",
    "lemon",
    "mango",
    "nuts",
    "olive",
    "pasta",
    "quark",
    "rice",
    "salt",
    "tea",
]


def _separated(groups=20, each=17):
    """Twenty causes of 17 signatures each: every group has its own words, and so have its tests."""
    some, texts, truth = [], {}, {}
    for group in range(groups):
        word = WORDS[group]
        text = f"The {word} {word}ing of {word}s in the {word}ery broke: KeyError: '{word}'"
        body = f"    {word} = {word}ery.get_{word}()\n    assert {word}.weigh_{word}(scale_{word}) == {word}_weight\n"
        for n in range(each):
            name = f"{word}_{n}"
            where = frame(f"tests/test_{word}.py:test_{name}", 3, source=name)
            texts.update(_test(name, body))
            nodeid = f"tests/test_{word}.py::test_{name}"
            some.append(fails(nodeid, error("AssertionError", f"{text} ({'abcdefghijklmnopqrst'[n]})", where)))
            truth.setdefault(word, set()).add(nodeid)
    return some, texts, {frozenset(members) for members in truth.values()}


def test_more_than_300_signatures_are_joined_like_fewer(monkeypatch):
    some, texts, truth = _separated()
    assert len(summary_of(some).signatures) == 340 > joining.ALL_PAIRS
    few = analysis_of(*some, texts=texts)
    assert grouped(few) == truth
    monkeypatch.setattr(joining, "ALL_PAIRS", 10_000)
    assert grouped(analysis_of(*some, texts=texts)) == truth


def test_more_than_300_signatures_in_any_order_are_the_same():
    some, texts, _ = _separated(groups=19)
    expected = analysis_of(*some, texts=texts).clusters
    random.Random(7).shuffle(some)
    assert analysis_of(*some, texts=texts).clusters == expected


def test_people_are_heard_above_300_signatures_too():
    some, texts, _ = _separated()
    a, b = some[0], some[-1]
    found = analysis_of(*some, texts=texts, aliases=Aliases(joins=(Join(tuple(ids(a, b))),)))
    assert any({a.nodeid, b.nodeid} <= group for group in grouped(found))
    apart = analysis_of(*some, texts=texts, aliases=split(*some[:2]))
    assert not any({some[0].nodeid, some[1].nodeid} <= group for group in grouped(apart))


def test_nothing_in_is_nothing_out():
    found = analyze(summary_of([]), Given())
    assert (found.clusters, found.buckets, found.totals.tests) == ((), (), 0)
