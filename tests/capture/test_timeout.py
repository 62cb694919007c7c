"""pytest-timeout, both methods."""

from __future__ import annotations

import json
import sys

import pytest
from capture.suite import Suite

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals")

SUITE = """
    import time, pytest

    def test_before(): pass

    def waits(): time.sleep(20)

    @pytest.mark.timeout(0.4, method="{method}")
    def test_hangs(): waits()

    def test_after(): pass
"""


def test_the_signal_method(tmp_path):
    pytest.importorskip("pytest_timeout")
    suite = Suite(tmp_path, test_a=SUITE.format(method="signal"))
    result = suite.run(plugins="timeout")

    assert suite.outcomes() == {"test_before": "passed", "test_hangs": "timeout", "test_after": "passed"}
    trace = suite.trace("test_hangs")
    assert [frame.function for frame in trace.failure.errors[0].frames][:2] == ["test_hangs", "waits"]
    assert suite.info.totals.timeouts == 1
    assert result.counts == {"failed": 1, "passed": 2}
    assert suite.analysis.clusters[0].category == "TIMEOUT"


def test_the_thread_method_ends_the_process_and_the_test_is_named_with_its_stack(tmp_path):
    pytest.importorskip("pytest_timeout")
    suite = Suite(tmp_path, test_a=SUITE.format(method="thread"))
    result = suite.run(plugins="timeout")

    assert result.ret == 1
    assert suite.outcomes() == {"test_before": "passed"}
    answer = json.loads(suite.tracetriage("analyze", "--format", "json").out)
    assert (answer["totals"]["tests"], answer["totals"]["timeouts"], answer["totals"]["passed"]) == (2, 1, 1)
    (cluster,) = answer["clusters"]
    assert cluster["category"] == "TIMEOUT"
    assert cluster["tests"] == ["test_a.py::test_hangs"]
    frames = cluster["exemplar"]["failure"]["errors"][0]["frames"]
    assert [frame["function"] for frame in frames][:2] == ["test_hangs", "waits"]
    assert "0.4" in cluster["exemplar"]["failure"]["errors"][0]["message"]


def test_a_test_that_ends_in_time_leaves_no_timeout(tmp_path):
    pytest.importorskip("pytest_timeout")
    suite = Suite(
        tmp_path,
        test_a="""
        import os, time, pytest
        @pytest.mark.timeout(5, method="thread")
        def test_quick(): time.sleep(0.05)
        def test_dies(): os._exit(3)
        """,
    )
    suite.run(plugins="timeout")
    (cluster,) = json.loads(suite.tracetriage("analyze", "--format", "json").out)["clusters"]

    assert suite.starts == []
    assert (cluster["category"], cluster["tests"]) == ("CRASH", ["test_a.py::test_dies"])


def test_a_fixture_that_hangs(tmp_path):
    pytest.importorskip("pytest_timeout")
    suite = Suite(
        tmp_path,
        test_a="""
        import time, pytest
        @pytest.fixture
        def slow(): time.sleep(20)
        @pytest.mark.timeout(0.3, method="signal")
        def test_waits(slow): pass
        """,
    )
    suite.run(plugins="timeout")

    assert suite.outcomes() == {"test_waits": "timeout"}
    assert suite.trace("test_waits").failure.phase == "setup"


def test_a_message_that_only_quotes_a_timeout_is_a_failure(tmp_path):
    suite = Suite(tmp_path, test_a="def test_quotes(): raise ValueError('Timeout (>1.0s) from pytest-timeout.')\n")
    suite.run()

    assert suite.outcomes() == {"test_quotes": "failed"}
