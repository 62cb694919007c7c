"""Summaries of shards: the laws that let shards arrive in any order, grouping and number."""

from __future__ import annotations

from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from making import error, fails, failure, findings, merged, passes, same, summary_of, traces

from pytest_tracetriage.model.analysis import Problem
from pytest_tracetriage.model.trace import Trace
from pytest_tracetriage.triage.summary import EXEMPLARS, merge, resolve_later, totals

_some = st.lists(traces(), max_size=6)
_unshrunk = (Phase.explicit, Phase.generate)  # what fails is small as it is, and shrinking takes minutes
_few = settings(max_examples=30, deadline=None, derandomize=True, phases=_unshrunk)


def _shards(*parts):
    return [summary_of(part, f"shard{number}") for number, part in enumerate(parts)]


@_few
@given(_some, _some, _some)
def test_merge_is_associative(one, two, three):
    a, b, c = _shards(one, two, three)
    assert same(merge(merge(a, b), c), merge(a, merge(b, c)), merge(a, b, c))


@_few
@given(_some, _some)
def test_merge_is_commutative(one, two):
    a, b = _shards(one, two)
    assert same(merge(a, b), merge(b, a))


@_few
@given(_some, _some)
def test_merge_is_idempotent(one, two):
    a, b = _shards(one, two)
    assert same(merge(a, b), merge(a, b, a, b), merge(merge(a, b), b))
    assert same(merge(a), a)


@_few
@given(_some, _some)
def test_merge_changes_no_argument(one, two):
    a, b = _shards(one, two)
    merge(a, b)
    assert same(a, summary_of(one, "shard0"))
    assert same(b, summary_of(two, "shard1"))


@settings(max_examples=80, deadline=None, derandomize=True, phases=_unshrunk)
@given(st.lists(traces(), max_size=10), st.integers(1, 5), st.randoms(use_true_random=False))
def test_no_partition_and_no_order_of_traces_matters(some, number, random):
    whole = summary_of(some)
    shuffled = list(some)
    random.shuffle(shuffled)
    assert findings(summary_of(shuffled)) == findings(whole)
    dealt = [[] for _ in range(number)]
    for trace in shuffled:
        dealt[random.randrange(number)].append(trace)
    assert findings(merged(dealt)) == findings(whole)


@_few
@given(st.lists(traces(), max_size=10))
def test_samples_are_the_few_smallest_of_all(some):
    for found in summary_of(some).signatures.values():
        assert 1 <= len(found.samples) <= EXEMPLARS
        assert list(found.samples) == sorted(set(found.samples))
        assert {sample.member for sample in found.samples} <= found.members | found.later


def test_a_thousand_failures_keep_three_exemplars():
    found = summary_of([fails(f"t.py::t[{number}]", error("KeyError", "'sku'")) for number in range(1000)])
    (one,) = found.signatures.values()
    assert len(one.members) == 1000
    assert len(one.samples) == EXEMPLARS
    again = summary_of([fails(f"t.py::t[{number}]", error("KeyError", "'sku'")) for number in reversed(range(1000))])
    assert [sample.member for sample in again.signatures.popitem()[1].samples] == [sample.member for sample in one.samples]


def test_a_teardown_that_fails_after_the_call_is_no_second_failure():
    late = failure(error("OSError", "close failed"), phase="teardown")
    summary = summary_of([fails("t.py::a", error("KeyError", "'sku'"), later=(late,)), passes("t.py::b")])
    assert totals(summary).failures == 1
    assert list(resolve_later(summary).values()) == [{"t.py::a"}]


def test_a_teardown_reported_by_itself_counts_only_when_the_call_passed():
    late = error("OSError", "close failed")
    both = [fails("t.py::a", error("KeyError", "'sku'")), fails("t.py::a", late, phase="teardown")]
    alone = [passes("t.py::b"), fails("t.py::b", late, phase="teardown")]
    summary = summary_of(both + alone)
    assert totals(summary).failures == 2
    assert {"t.py::b"} in resolve_later(summary).values()
    assert not any("t.py::a" in members for members in resolve_later(summary).values() if "t.py::b" in members)


def test_an_attempt_that_was_run_again_is_no_failure():
    again = fails("t.py::a", error("KeyError", "'sku'"), rerun=True)
    summary = summary_of([again, passes("t.py::a", attempt=2)])
    counted = totals(summary)
    assert (counted.tests, counted.passed, counted.failures, counted.flaky) == (1, 1, 0, 1)
    assert not summary.signatures


def test_the_last_attempt_counts_where_all_failed():
    tries = [fails("t.py::a", error("KeyError", "'sku'"), attempt=n, rerun=n < 3) for n in (1, 2, 3)]
    counted = totals(summary_of(tries))
    assert (counted.tests, counted.failed, counted.failures, counted.flaky) == (1, 1, 1, 2)


def test_subtests_are_failures_of_their_own_but_no_tests():
    wrong = error("AssertionError", "no")
    some = [fails("t.py::a", wrong, subtest="[one]"), fails("t.py::a", wrong, subtest="[two]"), passes("t.py::a")]
    counted = totals(summary_of(some))
    assert (counted.tests, counted.failures, counted.failed) == (1, 2, 2)


def test_a_module_that_every_worker_failed_to_collect_counts_once():
    broken = [fails("t.py", error("ImportError", "no"), phase="collect") for _ in range(3)]
    counted = totals(summary_of(broken))
    assert (counted.errors, counted.failures) == (1, 1)


def test_a_module_that_workers_with_files_of_their_own_failed_to_collect_counts_once():
    broken = [[fails("t.py", error("ImportError", "no"), phase="collect")] for _ in range(3)]
    assert totals(merged(broken)).failures == 1


def test_two_ways_to_fail_collection_are_both_kept_in_any_order():
    one = fails("t.py", error("ImportError", "no redis"), phase="collect")
    other = fails("t.py", error("SyntaxError", "invalid syntax"), phase="collect")
    assert findings(summary_of([one, other])) == findings(summary_of([other, one])) == findings(merged([[one], [other]]))
    assert totals(summary_of([one, other])).errors == 1


def test_first_and_last_seen_are_kept():
    some = [fails(f"t.py::{n}", error("KeyError", "'sku'"), start=float(n)) for n in (5, 3, 9)]
    (found,) = summary_of(some).signatures.values()
    assert (found.first, found.last) == (3.0, 9.0)


def test_only_watched_tests_that_pass_are_remembered():
    some = [passes("t.py::a"), passes("t.py::b"), fails("t.py::c", error("KeyError"))]
    assert summary_of(some, watch={"t.py::a", "t.py::c"}).passed == {"t.py::a"}


def test_problems_are_kept_beside_traces():
    problem = Problem("log.jsonl", 3, "not JSON")
    summary = summary_of([problem, passes("t.py::a")])
    assert summary.problems == {("log.jsonl", 3, "not JSON")}
    assert totals(summary).tests == 1


def test_a_failing_trace_without_a_failure_is_counted_all_the_same():
    summary = summary_of([Trace(id="1", nodeid="t.py::a", outcome="crashed")])
    assert totals(summary).crashed == 1
