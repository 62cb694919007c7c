"""A run that is killed: what it has logged and spent is told out of its records."""

from __future__ import annotations

import json
import signal
import sys

import pytest
from capture.suite import Suite

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals")

SPENT = {"gpt-4o": 2.5}


@pytest.fixture(scope="module")
def suite(tmp_path_factory):
    suite = Suite(
        tmp_path_factory.mktemp("killed"),
        test_a="""
        import os, signal
        from pytest_tracetriage import metric, span
        def ask():
            with span("ask", kind="llm") as it: it.usage("gpt-4o", input=500_000)
        def test_one():
            ask()
            for value in (2, 3): metric("iterations_total", value)
        def test_two(): pass
        def test_fails(): assert 0
        def test_killed():
            metric("fix_time_seconds", 1.5, "s")
            ask()
            os.kill(os.getpid(), signal.SIGKILL)
        def test_never(): pass
        """,
    )
    assert suite.run().ret == -signal.SIGKILL
    assert (suite.info.status, suite.info.metrics, suite.info.spent) == ("running", {}, ())
    return suite


def test_analyze_says_what_it_spent(suite):
    found = json.loads(suite.tracetriage("analyze", "--format", "json").out)

    assert {each["usage"]["model"]: each["cost"] for each in found["spent"]} == SPENT
    clusters = {cluster["category"]: cluster for cluster in found["clusters"]}
    assert [each["cost"] for each in clusters["CRASH"]["spent"]] == [1.25]


def test_show_draws_what_the_killed_test_did(suite):
    shown = suite.tracetriage("show", "test_a.py::test_killed").out

    assert "1 span, LLM: 1 call, 500,000 tokens, $1.25" in shown


def test_the_history_and_the_report_have_its_figures(suite):
    assert suite.tracetriage("history", "add").ret == 0
    (run,) = json.loads(suite.tracetriage("history", "--format", "json").out)["runs"]
    report = suite.tracetriage("report", "--format", "github-summary").out

    assert run["metrics"] == {"fix_time_seconds": 1.5, "iterations_total": 5.0, "pass_rate": 0.5}
    assert {name: run["totals"][name] for name in ("tests", "passed", "failed", "crashed", "failures")} == {
        "tests": 4, "passed": 2, "failed": 1, "crashed": 1, "failures": 2,
    }  # fmt: skip
    assert "iterations_total" in report
    assert "$2.50" in report
