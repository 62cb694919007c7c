"""A run as the history keeps it: one word a test, attempts counted, durations added up."""

from __future__ import annotations

import msgspec
import pytest

from pytest_tracetriage.collect import condense
from pytest_tracetriage.model.history import TestRecord
from pytest_tracetriage.model.run import CI, RUN_SCHEMA, Context, Git, Run, Totals
from pytest_tracetriage.model.trace import Error, Failure, Trace

FAILURE = Failure("call", (Error("ValueError", "no"),))


@pytest.fixture
def run_of_traces(tmp_path):
    def make(*traces, broken=b""):
        folder = tmp_path / "20261120T043000Z-7f3a9c"
        (folder / "traces").mkdir(parents=True)
        (folder / "run.json").write_bytes(msgspec.json.encode(Run(RUN_SCHEMA, folder.name, "finished", 1.0)))
        records = [msgspec.json.encode(trace) for trace in traces]
        (folder / "traces" / "main.jsonl").write_bytes(b"\n".join([*records, broken]) + b"\n")
        return folder

    return make


def trace(nodeid, outcome, **more):
    return Trace(f"{nodeid}{outcome}{more}"[:100], nodeid, outcome, **more)


def test_each_test_has_one_record_sorted_by_id(run_of_traces):
    folder = run_of_traces(
        trace("b", "passed", phases={"setup": 0.25, "call": 0.5}), trace("a", "skipped"), broken=b'{"record":"trace",'
    )
    assert condense.tests_of(folder) == (TestRecord("a", "skipped", 0.0), TestRecord("b", "passed", 0.75))


def test_failed_attempts_are_counted_and_the_last_word_stands(run_of_traces):
    folder = run_of_traces(
        trace("a", "failed", rerun=True, failure=FAILURE), trace("a", "error", rerun=True), trace("a", "passed", attempt=3)
    )
    assert condense.tests_of(folder) == (TestRecord("a", "passed", 0.0, retried=2),)


def test_attempts_that_passed_and_were_run_again_are_no_failures(run_of_traces):
    assert condense.tests_of(run_of_traces(trace("a", "passed", rerun=True), trace("a", "passed")))[0].retried == 0


@pytest.mark.parametrize("order", [1, -1])
def test_a_red_subtest_makes_its_test_red_in_whatever_order(run_of_traces, order):
    both = [trace("a", "passed"), trace("a", "failed", subtest="(i=1)", failure=FAILURE)]
    assert [test.outcome for test in condense.tests_of(run_of_traces(*both[::order]))] == ["failed"]


def test_a_green_subtest_says_nothing_of_its_test(run_of_traces):
    folder = run_of_traces(trace("a", "passed", subtest="(i=1)"), trace("a", "skipped"))
    assert [test.outcome for test in condense.tests_of(folder)] == ["skipped"]


def test_retried_traces_are_those_whose_test_passed_in_the_end(run_of_traces):
    folder = run_of_traces(
        trace("a", "failed", rerun=True, failure=FAILURE),
        trace("a", "passed"),
        trace("b", "failed", rerun=True, failure=FAILURE),
        trace("b", "failed", failure=FAILURE),
    )
    assert [(found.nodeid, found.rerun) for found in condense.retried_traces(folder)] == [("a", False)]
    assert [found.nodeid for found in condense.failed_traces(folder, {"b"})] == ["b", "b"]


def test_a_test_that_several_legs_ran_counts_once_by_its_worst_outcome():
    one = [TestRecord("a", "passed", 1), TestRecord("b", "skipped", 0), TestRecord("c", "passed", 1)]
    other = [TestRecord("a", "failed", 1), TestRecord("b", "passed", 0), TestRecord("c", "passed", 1)]
    found = condense.distinct_totals([one, other], Totals(tests=6, passed=4, failed=1, skipped=1, failures=1, flaky=2))
    assert found == Totals(tests=3, passed=2, failed=1, failures=1, flaky=2)


def context(**more):
    ci = {name: more.pop(name) for name in ("job", "leg", "attempt", "run_id") if name in more}
    return Context(git=Git("a" * 40, "topic", "main"), ci=CI(provider="github", **ci), python="3.12.1", **more)


def test_what_two_runs_must_share_before_a_difference_means_flaky():
    same = condense.environment(context(packages={"django": "5.0", "pytest-tracetriage": "1"}))
    assert condense.environment(context(packages={"django": "5.0", "pytest-tracetriage": "2"}, attempt="2", run_id="8")) == same
    others = [context(packages={"django": "4.2"}), context(packages={"django": "5.0"}, leg='{"db": "sqlite"}')]
    others += [context(packages={"django": "5.0"}, job="slow"), context(packages={"django": "5.0"}, platform="win32")]
    assert len({condense.environment(other) for other in others} | {same}) == 5


@pytest.mark.parametrize(("attempt", "expected"), [("3", 3), ("", 1), ("²", 1), ("-1", 1)])
def test_a_run_is_condensed(attempt, expected):
    run = Run(RUN_SCHEMA, "20261120T043000Z-7f3a9c", "finished", 5.0, 9.0, context=context(attempt=attempt, job="test"))
    record = condense.run_record(run)
    assert (record.group, record.attempt, record.job) == (run.id, expected, "test")
    assert (record.branch, record.base, record.started, record.finished) == ("topic", "main", 5.0, 9.0)
