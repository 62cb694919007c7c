"""Triage with a coverage map: what is split, what is joined, who is suspected, and in which words."""

from __future__ import annotations

import random
from dataclasses import replace

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st
from making import NODEIDS, analysis_of, error, fails, grouped, summary_of, traces, whys

from pytest_tracetriage.model.analysis import Aliases, Join
from pytest_tracetriage.model.execution import CoverageMap, Element, Function
from pytest_tracetriage.triage.analyze import Given, KnownCluster, analyze
from pytest_tracetriage.triage.signature import signature_id
from pytest_tracetriage.triage.spectrum import Spectrum, columns, executed, ones

PASSING = tuple(f"tests/test_ok.py::test_{n}" for n in range(20))


def coverage(runs, digest="same"):
    """The map of `{"file:function": tests}`; ":n" behind the function is the line that they run of its ten."""
    tests = sorted({test for some in runs.values() for test in some} | set(PASSING))
    places = sorted({place.rsplit("@", 1)[0] for place in runs})
    functions = [Function(*place.split(":"), 10 * n + 1, 10 * n + 9, digest) for n, place in enumerate(places)]
    elements = []
    for place, some in runs.items():
        name, _, line = place.partition("@")
        number = places.index(name)
        bits = sum(1 << tests.index(test) for test in some)
        lines = (functions[number].line + int(line or 1),)
        elements.append(Element(number, lines, bits.to_bytes((len(tests) + 7) // 8, "little")))
    return CoverageMap(tuple(tests), tuple(functions), tuple(elements))


def wrong(name, message="assert 1 == 2"):
    """A test that fails on a wrong value: no frame of the application says where it came from."""
    return fails(f"tests/test_shop.py::test_{name}", error("AssertionError", message, "tests/test_shop.py:test_it"))


def raised(name, place="shop/cart.py:total", type_="KeyError", message="'sku'"):
    return fails(f"tests/test_shop.py::test_{name}", error(type_, message, "tests/test_shop.py:test_it", place))


def ids(some):
    return {trace.nodeid for trace in some}


TAX, RATE = [wrong(f"tax{n}") for n in range(3)], [wrong(f"rate{n}") for n in range(5)]
TWO = {"shop/tax.py:add": ids(TAX), "shop/rate.py:convert": ids(RATE), "shop/core.py:run": ids(TAX + RATE) | set(PASSING)}


def test_one_signature_is_split_where_its_tests_run_different_code():
    together = analysis_of(*TAX, *RATE)
    assert grouped(together) == {frozenset(ids(TAX + RATE))}
    found = analysis_of(*TAX, *RATE, coverage=Spectrum(coverage(TWO)))
    assert grouped(found) == {frozenset(ids(TAX)), frozenset(ids(RATE))}
    assert [cluster.suspects[0].function for cluster in found.clusters] == ["convert", "add"]
    assert [cluster.count for cluster in found.clusters] == [5, 3]
    assert all(cluster.exemplar.nodeid in cluster.tests for cluster in found.clusters)


def test_the_larger_part_keeps_the_id_and_the_other_has_one_of_signature_and_suspect():
    found = analysis_of(*TAX, *RATE, coverage=Spectrum(coverage(TWO)))
    large, small = found.clusters
    assert large.id == signature_id(TAX[0].failure)
    assert small.id != large.id
    assert len(small.id) == 26
    assert "split by spectrum" in {why.evidence for why in small.why}
    fewer = analysis_of(*TAX[:2], *RATE, coverage=Spectrum(coverage(TWO)))
    assert {cluster.id for cluster in fewer.clusters} == {large.id, small.id}


def remember(analysis):
    return tuple(
        KnownCluster(c.id, c.name, frozenset(s.id for s in c.signatures), frozenset(c.tests), "run1", 1, c)
        for c in reversed(analysis.clusters)
    )


def test_a_part_keeps_its_id_when_the_rest_of_its_signature_is_fixed():
    told = {"coverage": Spectrum(coverage(TWO))}
    first = analysis_of(*TAX, *RATE, **told)
    large, small = first.clusters
    second = analysis_of(*TAX, *RATE, known=remember(first), **told)
    assert {(c.id, c.seen) for c in second.clusters} == {(large.id, "known"), (small.id, "known")}
    third = analysis_of(*TAX, known=remember(first), **told)
    assert {c.id for c in third.clusters if c.seen == "known"} == {small.id}


def test_different_errors_of_one_place_that_no_passing_test_runs_are_joined():
    some = [raised("a"), raised("b", "shop/report.py:show", "TypeError", "'sku' is no number"), wrong("c")]
    apart = analysis_of(*some)
    runs = {"shop/cart.py:price": ids(some), "shop/core.py:run": ids(some) | set(PASSING)}
    found = analysis_of(*some, coverage=Spectrum(coverage(runs)))
    assert len(grouped(apart)) > 1
    assert grouped(found) == {frozenset(ids(some))}
    assert {"shared suspect", "executed code"} <= whys(found)
    assert "price: run by" in " ".join(why.detail for why in found.clusters[0].why)


def test_what_all_tests_run_joins_nothing():
    some = [raised("a"), raised("b", "shop/report.py:show", "TypeError", "no number here")]
    runs = {"shop/core.py:run": ids(some) | set(PASSING), "shop/a.py:f": ids(some[:1]), "shop/b.py:g": ids(some[1:])}
    assert len(grouped(analysis_of(*some, coverage=Spectrum(coverage(runs))))) == 2


def test_a_suspect_says_who_runs_it_and_which_tracebacks_end_in_it():
    some = [raised(f"n{n}") for n in range(4)]
    runs = {"shop/cart.py:Cart.total": ids(some) | set(PASSING[:2]), "shop/core.py:run": ids(some) | set(PASSING)}
    (cluster,) = analysis_of(*some, coverage=Spectrum(coverage(runs))).clusters
    first, second = cluster.suspects
    assert (first.file, first.function, first.line) == ("shop/cart.py", "Cart.total", 10)  # where the tracebacks stood
    assert first.evidence == "4 of 4 failing tests run it, 2 of 20 passing; last frame of 4 tracebacks"
    assert second.evidence == "4 of 4 failing tests run it, 20 of 20 passing"
    assert 1 >= first.score > second.score >= 0


def test_a_constructor_is_suspected_of_what_its_objects_lack():
    some = [raised(f"n{n}", "shop/cart.py:total", "AttributeError", "'Cart' object has no attribute 'sum'") for n in range(2)]
    both = ids(some) | set(PASSING[:1])
    runs = {"shop/cart.py:Cart.__init__": both, "shop/cart.py:Cart.total": both, "shop/cart.py:Cart.other": both}
    (cluster,) = analysis_of(*some, coverage=Spectrum(coverage(runs))).clusters
    assert cluster.suspects[0].function == "Cart.__init__"
    assert cluster.suspects[0].evidence.endswith("2 miss an attribute of its class")


def test_what_changed_breaks_ties_and_is_said():
    some = [wrong(f"n{n}") for n in range(3)]
    runs = {f"shop/{name}.py:{name}": ids(some) | set(PASSING[:1]) for name in "abcd"}
    plain = analysis_of(*some, coverage=Spectrum(coverage(runs))).clusters[0].suspects
    told = Spectrum(coverage(runs), changes={("shop/c.py", "c"): ("9f31c07", "b" * 7), ("shop/x.py", "x"): ("0000000",)})
    changed = analysis_of(*some, coverage=told).clusters[0].suspects
    assert len({one.score for one in plain}) == 1
    assert (changed[0].function, changed[0].evidence.rpartition("; ")[2]) == ("c", "changed in 9f31c07, bbbbbbb")
    gone = analysis_of(*some, coverage=Spectrum(coverage(runs), gone=frozenset({("shop/a.py", "a")}))).clusters[0].suspects
    assert (gone[-1].function, gone[-1].evidence.rpartition("; ")[2]) == ("a", "no longer there")


def test_a_function_that_the_map_does_not_know_is_a_suspect_by_its_tracebacks():
    some = [raised(f"n{n}", "shop/new.py:fresh") for n in range(3)]
    runs = {"shop/core.py:run": ids(some) | set(PASSING)}
    (cluster,) = analysis_of(*some, coverage=Spectrum(coverage(runs))).clusters
    assert cluster.suspects[0].function == "fresh"
    assert "not in the coverage of the green run" in cluster.suspects[0].evidence


def test_tests_that_are_not_in_the_map_go_by_their_text():
    known, new = [raised(f"n{n}") for n in range(3)], [raised("new[1]"), raised("new[2]")]
    runs = {"shop/cart.py:total": ids(known), "shop/core.py:run": ids(known) | set(PASSING)}
    (cluster,) = analysis_of(*known, *new, coverage=Spectrum(coverage(runs))).clusters
    assert set(cluster.tests) == ids(known + new)
    assert cluster.suspects[0].evidence == "3 of 3 failing tests run it, 0 of 20 passing; last frame of 5 tracebacks"


def test_the_red_map_drops_functions_that_are_no_longer_reached_and_adds_nothing():
    some = [wrong(f"n{n}") for n in range(2)]
    green = coverage({"shop/a.py:f@1": ids(some), "shop/a.py:f@2": ids(some), "shop/b.py:g": ids(some)})
    red = coverage({"shop/a.py:f@1": ids(some), "shop/errors.py:handle": ids(some)})
    ran = executed(Spectrum(green, red), ids(some))
    both = ran.tests(ids(some))
    assert [(one.function.name, one.lines, one.failing == both) for one in ran.elements] == [
        ("f", (2,), True),
        ("f", (3,), True),  # that it is left out now may be the fault
        ("g", (12,), False),
    ]
    # A test that the failing run knows nothing of keeps all.
    first = {some[0].nodeid}
    partly = executed(Spectrum(green, coverage({"shop/a.py:f@1": first})), ids(some))
    assert [one.failing.bit_count() for one in partly.elements] == [2, 2, 1]


def astray(green, red, some, digest="same"):
    ran = executed(Spectrum(coverage(green), coverage(red, digest)), ids(some))
    return {function.name: tests.bit_count() for function, tests in ran.astray.items()}, ran.watched.bit_count()


def test_a_test_is_astray_where_it_takes_other_lines_of_a_function_that_it_still_reaches():
    some = [wrong(f"n{n}") for n in range(3)]
    of, first = ids(some), ids(some[:1])
    green = {"shop/a.py:f@1": of, "shop/a.py:f@2": of, "shop/b.py:g@1": of, "shop/c.py:h@1": of}
    assert astray(green, green, some) == ({}, 3)
    # Of f a line is left out, of g one is new; h is not reached: that follows from where the test went astray.
    red = {"shop/a.py:f@1": of, "shop/a.py:f@2": of - first, "shop/b.py:g@1": of, "shop/b.py:g@3": first}
    assert astray(green, red, some) == ({"f": 1, "g": 1}, 3)
    assert astray(green, red, some, "edited") == ({"f": 1, "g": 1}, 3)
    assert astray(green, {"shop/a.py:f@1": first}, some) == ({"f": 1}, 1)


def test_lines_are_not_compared_where_they_tell_nothing():
    some = [wrong("n")]
    green, red = coverage({"shop/a.py:f@1": ids(some)}), coverage({"shop/a.py:f@2": ids(some)}, "edited")
    longer = msgspec.structs.replace(red.functions[0], end=red.functions[0].end + 1)
    edited = msgspec.structs.replace(red, functions=(longer,))
    assert len(executed(Spectrum(green, red), ids(some)).astray) == 1
    assert executed(Spectrum(green, edited), ids(some)).astray == {}
    told = Spectrum(green, edited, changes={("shop/a.py", "f"): ("9f31c07",)})
    assert len(executed(told, ids(some)).astray) == 1  # what was edited to another length has other lines
    # The getter of a property and its setter have one name: each is compared with itself, an edited one with none.
    getter = red.functions[0]
    setter = msgspec.structs.replace(getter, line=getter.line + 20, end=getter.end + 20, digest="setter")
    both = msgspec.structs.replace(red, functions=(getter, setter))
    assert executed(Spectrum(green, both), ids(some)).astray == {}
    same = msgspec.structs.replace(getter, digest="same")
    both = msgspec.structs.replace(red, functions=(same, setter))
    assert len(executed(Spectrum(green, both), ids(some)).astray) == 1


def test_where_tests_go_astray_breaks_ties_and_is_said():
    some = [wrong(f"n{n}") for n in range(3)]
    runs = {f"shop/{name}.py:{name}": ids(some) | set(PASSING[:1]) for name in "abcd"}
    plain = analysis_of(*some, coverage=Spectrum(coverage(runs), coverage(runs))).clusters[0].suspects
    assert len({one.score for one in plain}) == 1
    red = {**runs, "shop/c.py:c@4": ids(some[:2])}
    first, second, *_ = analysis_of(*some, coverage=Spectrum(coverage(runs), coverage(red))).clusters[0].suspects
    assert (first.function, first.evidence.rpartition("; ")[2]) == ("c", "2 of 3 take other lines of it than when green")
    assert first.score > second.score
    # Where they are astray everywhere it says little.
    everywhere = {**red, **{f"shop/{name}.py:{name}@5": ids(some) for name in "abd"}}
    less = analysis_of(*some, coverage=Spectrum(coverage(runs), coverage(everywhere))).clusters[0].suspects
    assert max(one.score for one in less) < first.score


def test_hard_evidence_and_people_stay_whatever_the_tests_run():
    port = [fails(t.nodeid, error("ConnectionRefusedError", "no 127.0.0.1:6379", "shop/db.py:ping")) for t in TAX + RATE]
    assert len(grouped(analysis_of(*port, coverage=Spectrum(coverage(TWO))))) == 1
    joined = Aliases(joins=(Join((signature_id(TAX[0].failure),), (signature_id(TAX[0].failure),)),))
    assert len(grouped(analysis_of(*TAX, *RATE, aliases=joined, coverage=Spectrum(coverage(TWO))))) == 1


def test_many_atoms_are_joined_without_looking_at_every_pair(monkeypatch):
    from pytest_tracetriage.triage import joint

    monkeypatch.setattr(joint, "ALL_PAIRS", 1)
    found = analysis_of(*TAX, *RATE, coverage=Spectrum(coverage({**TWO, "shop/x.py:x": {TAX[2].nodeid, RATE[4].nodeid}})))
    assert {cluster.suspects[0].function for cluster in found.clusters} == {"add", "convert"}


def maps(draw):
    tests = [*NODEIDS, *PASSING[:3]]
    places = ["shop/cart.py:total", "shop/price.py:add", "shop/price.py:Price.__init__", "shop/x.py:x@2", "shop/x.py:x@3"]
    return coverage({place: set(draw(st.lists(st.sampled_from(tests), max_size=6))) for place in places})


def shuffled(green, order):
    """The same map with functions and elements in another order."""
    functions = list(range(len(green.functions)))
    order.shuffle(functions)
    elements = [Element(functions.index(one.function), one.lines, one.tests) for one in green.elements]
    order.shuffle(elements)
    return msgspec.structs.replace(green, functions=tuple(green.functions[n] for n in functions), elements=tuple(elements))


@settings(max_examples=60, deadline=None)
@given(st.data(), st.lists(traces(), max_size=12, unique_by=lambda trace: trace.id))
def test_order_changes_nothing_and_a_map_that_knows_no_test_neither(data, some):
    green = maps(data.draw)
    order = random.Random(data.draw(st.integers(0, 99)))
    mixed = list(some)
    order.shuffle(mixed)
    one, other = (analyze(summary_of(each), Given(coverage=Spectrum(use))) for each, use in
                  ((some, green), (mixed, shuffled(green, order))))  # fmt: skip
    assert msgspec.json.encode(one) == msgspec.json.encode(other)
    tests = {test for cluster in one.clusters for test in cluster.tests}
    assert tests == {test for cluster in analyze(summary_of(some), Given()).clusters for test in cluster.tests}
    assert all(cluster.exemplar.nodeid in cluster.tests for cluster in one.clusters)
    assert len({cluster.id for cluster in one.clusters}) == len(one.clusters)
    plain = msgspec.json.encode(analyze(summary_of(some), Given()))
    unknown = Spectrum(coverage({"shop/cart.py:total": set(PASSING)}))
    for coverage_ in (None, Spectrum(), replace(unknown, changes={("shop/cart.py", "total"): ("1",)})):
        assert msgspec.json.encode(analyze(summary_of(some), Given(coverage=coverage_))) == plain


@given(st.lists(st.binary(max_size=4), max_size=12))
def test_columns_are_the_bits_of_the_rows(rows):
    found = columns(rows, {number: number for number in range(40)})
    for number, column in found.items():
        assert list(ones(column)) == [n for n, row in enumerate(rows) if int.from_bytes(row, "little") >> number & 1]
