"""`metric(...)`, and what becomes of figures: in the run, the history, the job summary."""

from __future__ import annotations

import json
import math

import msgspec
import pytest
from capture.suite import Suite
from hypothesis import given
from hypothesis import strategies as st

from pytest_tracetriage import metric
from pytest_tracetriage.capture.spans.manual import cloud_metrics
from pytest_tracetriage.model.run import Figure, Run, Spent
from pytest_tracetriage.model.trace import Metric, Usage
from pytest_tracetriage.triage.spending import MAX_NAMES, Figures, figures_together, is_count

TEST_A = """
    import asyncio, threading
    from pytest_tracetriage import metric

    metric("at_import", 1)

    def test_agent():
        metric("fix_time_seconds", 12.5, "s")
        metric("iterations_total", 3)
        metric("bugs_found", 2)
        metric("redis_hit_rate", 0.9, "ratio")

    def test_another():
        metric("fix_time_seconds", 7.5, "s")
        metric("iterations_total", 4)
        metric("deployment_time", 30, "s")
        thread = threading.Thread(target=metric, args=("redis_hit_rate", 0.8)); thread.start(); thread.join()
        assert not metric("bugs_found", 1)

    def test_red(): assert False
"""


@pytest.fixture(scope="module")
def suite(tmp_path_factory):
    suite = Suite(tmp_path_factory.mktemp("metrics"), test_a=TEST_A)
    result = suite.run()
    assert result.counts == {"passed": 2, "failed": 1}, result.out
    assert result.warned == []
    return suite


def test_each_is_a_record_of_its_test(suite):
    records = [record for record in suite.records if isinstance(record, Metric)]
    first = next(record for record in records if record.name == "fix_time_seconds")
    assert (first.value, first.unit, first.trace) == (12.5, "s", suite.trace("::test_agent").id)
    assert abs(first.time - suite.trace("::test_agent").start) < 5
    assert next(record for record in records if record.name == "at_import").trace == ""
    assert {record.trace for record in records if record.name == "redis_hit_rate"} == {
        suite.trace("::test_agent").id,
        suite.trace("::test_another").id,
    }


def test_the_run_has_sums_of_counts_and_means_of_the_rest(suite):
    assert suite.info.metrics == {
        "at_import": Figure(1.0),
        "bugs_found": Figure(3.0, count=2),
        "deployment_time": Figure(30.0, "s"),
        "fix_time_seconds": Figure(10.0, "s", 2),
        "iterations_total": Figure(7.0, count=2),
        "pass_rate": Figure(2 / 3, "ratio", 3),
        "redis_hit_rate": Figure(0.85, "ratio", 2),
    }


def test_what_nobody_logged_is_absent_and_never_0(tmp_path):
    suite = Suite(tmp_path, test_a="def test_it(): pass")
    suite.run()
    assert suite.info.metrics == {"pass_rate": Figure(1.0, "ratio")}
    Suite(tmp_path, test_a="x = 1").run()
    assert suite.info.metrics == {}


def test_under_xdist_the_workers_figures_are_one(tmp_path):
    suite = Suite(tmp_path, test_a=TEST_A.replace('metric("at_import", 1)', ""))
    suite.run("-n2", plugins="xdist")
    assert suite.info.metrics["iterations_total"] == Figure(7.0, count=2)
    assert suite.info.metrics["redis_hit_rate"] == Figure(0.85, "ratio", 2)


def test_the_history_keeps_and_shows_them(tmp_path):
    suite = Suite(
        tmp_path,
        test_a="""
        import os
        from pytest_tracetriage import metric
        def test_it():
            metric("fix_time_seconds", float(os.environ["SECONDS"]), "s")
        """,
    )
    for seconds in ("8", "16.5", "4"):
        suite.run(env={"SECONDS": seconds})
        assert suite.tracetriage("history", "add").ret == 0
    shown = suite.tracetriage("history").out
    assert "metrics\n" in shown
    line = next(line for line in shown.splitlines() if "fix_time_seconds" in line)
    assert "4 now, 4 to 16.5 over 3 runs" in line
    assert line.rstrip().endswith("▃█▁")
    runs = json.loads(suite.tracetriage("history", "--format", "json").out)["runs"]
    assert [run["metrics"]["fix_time_seconds"] for run in runs] == [4.0, 16.5, 8.0]
    assert runs[0]["metrics"]["pass_rate"] == 1.0


def test_a_history_without_them_shows_no_table(tmp_path):
    suite = Suite(tmp_path, test_a="def test_it(): pass")
    suite.run()
    suite.tracetriage("history", "add")
    assert "metrics" not in suite.tracetriage("history").out


def test_the_job_summary_has_a_table_of_figures_and_of_models(tmp_path):
    suite = Suite(
        tmp_path,
        test_a="""
        from pytest_tracetriage import metric, span
        def test_it():
            metric("redis_hit_rate", 0.75, "ratio")
            metric("bugs_found", 3)
            with span("ask") as it: it.usage("gpt-4o", input=2000, output=100, cache_read=1000)
            with span("ask") as it: it.usage("pipe|`mine`", input=5)
        """,
    )
    suite.run()
    summary = suite.tracetriage("report", "--format", "github-summary").out
    assert "| `bugs_found` | `3` |" in summary
    assert "| `redis_hit_rate` | `0.75 ratio` |" in summary
    assert "| `gpt-4o` | 1 | 2,000 | 1,000 | 100 | 0 | `$0.0047` |" in summary
    assert "| no price |".replace("| ", "| `").replace(" |", "` |") in summary
    assert "\\|" in summary
    assert "pass_rate" not in summary  # the headline says it, each test counted once


def test_a_job_summary_without_any_has_no_table(tmp_path):
    suite = Suite(tmp_path, test_a="def test_it(): pass")
    suite.run()
    summary = suite.tracetriage("report", "--format", "github-summary").out
    assert "| metric |" not in summary
    assert "| model |" not in summary


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (("hit rate", 1), "expected a name such as"),
        (("", 1), "expected a name such as"),
        ((3, 1), "expected a name such as"),
        (("1st", 1), "expected a name such as"),
        (("n" * 101, 1), "expected a name such as"),
        (("a\n", 1), "expected a name such as"),
        (("a", math.nan), "expected a finite number"),
        (("a", -math.inf), "expected a finite number"),
        (("a", "1"), "expected a finite number"),
        (("a", None), "expected a finite number"),
        (("a", True), "expected a finite number"),
        (("a", 10**400), "expected a finite number"),
        (("a", 1, "x" * 41), "expected a unit"),
        (("a", 1, "a\nb"), "expected a unit"),
        (("a", 1, 3), "expected a unit"),
    ],
)
def test_mistakes_are_told_with_and_without_a_recorder(wrong, said):
    with pytest.raises(ValueError, match=said):
        metric(*wrong)


def test_names_that_are_fine():
    for name in ("redis_hit_rate", "A", "a.b-c_9", "n" * 100):
        metric(name, 0)


@pytest.mark.parametrize(
    ("name", "unit", "adds_up"),
    [
        ("iterations_total", "", True),
        ("retry_count", "", True),
        ("bugs_found", "", True),
        ("bugs_fixed", "", True),
        ("patches_generated", "", True),
        ("retries", "count", True),
        ("redis_hit_rate", "", False),
        ("fix_time_seconds", "s", False),
        ("cache_size", "bytes", False),
    ],
)
def test_what_adds_up(name, unit, adds_up):
    figures = Figures()
    for value in (1.0, 3.0):
        figures.add(name, value, unit)
    assert is_count(name, unit) == adds_up
    assert figures.figures()[name].value == (4.0 if adds_up else 2.0)


VALUES = st.floats(-1e9, 1e9)
LOGGED = st.lists(st.tuples(st.sampled_from(["a_total", "b_rate", "c"]), VALUES, st.sampled_from(["", "s", "ms"])), max_size=12)


@given(LOGGED, st.randoms())
def test_figures_are_the_same_in_any_order(logged, order):
    def figures(items):
        found = Figures()
        for name, value, unit in items:
            found.add(name, value, unit)
        return found.figures()

    shuffled = list(logged)
    order.shuffle(shuffled)
    assert figures(shuffled) == figures(logged)


@given(LOGGED, st.integers(0, 12))
def test_two_runs_together_are_as_one(logged, cut):
    def figures(items):
        found = Figures()
        for name, value, _ in items:
            found.add(name, value)
        return found.figures()

    both, whole = figures_together([figures(logged[:cut]), figures(logged[cut:])]), figures(logged)
    assert {name: figure.count for name, figure in both.items()} == {name: figure.count for name, figure in whole.items()}
    for name, figure in whole.items():
        assert math.isclose(both[name].value, figure.value, rel_tol=1e-9, abs_tol=1e-6)


def test_figures_are_bounded_and_finite():
    figures = Figures()
    for number in range(2 * MAX_NAMES):
        figures.add(f"m{number}", 1.0)
    figures.add("m1", math.inf)
    for _ in range(2):
        figures.add("m2_total", 1.7e308)
    assert len(figures.figures()) == MAX_NAMES
    assert figures.left_out == MAX_NAMES + 3


def test_what_a_service_is_handed():
    run = Run("s", "r", "finished", 0.0, metrics={"pass_rate": Figure(0.5, "ratio"), "bugs_found": Figure(2.0)})
    assert cloud_metrics(run) == {"pass_rate": 0.5, "bugs_found": 2.0}
    paid = Spent(Usage("m", input=5, output=3, requests=2), 0.25)
    assert cloud_metrics(msgspec.structs.replace(run, spent=(paid, paid))) == {
        "pass_rate": 0.5,
        "bugs_found": 2.0,
        "llm_calls": 4,
        "llm_input_tokens": 10,
        "llm_output_tokens": 6,
        "llm_cost": 0.5,
    }
    assert "llm_cost" not in cloud_metrics(msgspec.structs.replace(run, spent=(paid, Spent(Usage("n")))))
