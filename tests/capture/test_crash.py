"""A process that dies: what was finished is on disk, and the test that was running is named."""

from __future__ import annotations

import json
import signal
import sys
import time

import pytest
from capture.suite import Suite

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals and forks")

HUNDRED = """
    import ctypes, os, pytest, signal

    @pytest.mark.parametrize("n", range(1, 101))
    def test_n(n):
        if n == 51:
            {end}
"""
ENDS = {
    "os._exit": "os._exit(7)",
    "SIGKILL": "os.kill(os.getpid(), signal.SIGKILL)",
    "segfault": "ctypes.string_at(0)",
    "abort": "os.abort()",
}


def analyze(suite: Suite) -> dict:
    answer = suite.tracetriage("analyze", "--format", "json")
    assert answer.ret == 1, answer
    return json.loads(answer.out)


@pytest.mark.parametrize("end", ENDS)
def test_fifty_finished_traces_and_the_name_of_the_killer(tmp_path, end):
    suite = Suite(tmp_path, test_a=HUNDRED.format(end=ENDS[end]))
    suite.run("-p", "no:faulthandler")

    assert suite.outcomes() == {f"test_n[{n}]": "passed" for n in range(1, 51)}
    assert suite.info.status == "running"

    analysis = analyze(suite)
    assert analysis["totals"]["tests"] == 51
    assert (analysis["totals"]["passed"], analysis["totals"]["crashed"]) == (50, 1)
    (cluster,) = analysis["clusters"]
    assert cluster["category"] == "CRASH"
    assert cluster["tests"] == ["test_a.py::test_n[51]"]


def test_a_crash_in_the_first_test(tmp_path):
    suite = Suite(tmp_path, test_a="import os\ndef test_first(): os._exit(0)\ndef test_never(): pass\n")
    suite.run()

    assert suite.traces == []
    assert [cluster["tests"] for cluster in analyze(suite)["clusters"]] == [["test_a.py::test_first"]]


def test_a_crash_between_two_tests_blames_none_that_was_finished(tmp_path):
    suite = Suite(
        tmp_path,
        conftest="""
            import os
            def pytest_runtest_logfinish(nodeid):
                if nodeid.endswith("test_one"): os._exit(9)
            """,
        test_a="def test_one(): pass\ndef test_two(): pass\n",
    )
    suite.run()
    analysis = json.loads(suite.tracetriage("analyze", "--format", "json").out)

    written = suite.outcomes()
    named = [test for cluster in analysis["clusters"] for test in cluster["tests"]]
    assert (written, named) in [({"test_one": "passed"}, []), ({}, ["test_a.py::test_one"])]


def test_a_failure_before_the_crash_is_kept_with_its_frames(tmp_path):
    suite = Suite(tmp_path, test_a="import os\ndef test_fails(): assert 1 == 2\ndef test_dies(): os._exit(1)\n")
    suite.run()

    assert suite.trace("test_fails").failure.errors[0].frames[-1].line == 2
    assert {test for c in analyze(suite)["clusters"] for test in c["tests"]} == {
        "test_a.py::test_fails",
        "test_a.py::test_dies",
    }


def test_a_node_id_too_long_for_the_slot(tmp_path):
    suite = Suite(
        tmp_path,
        test_a="""
        import os, pytest
        @pytest.mark.parametrize("n", [pytest.param(0, id="x" * 5000), pytest.param(1, id="y" * 5000)])
        def test_n(n):
            if n: os._exit(1)
        """,
    )
    suite.run()

    assert [start.nodeid[:17] for start in suite.starts] == ["test_a.py::test_n"] * 2
    (cluster,) = analyze(suite)["clusters"]
    assert cluster["tests"] == [f"test_a.py::test_n[{'y' * 5000}]"]


def test_the_analysis_of_a_crash_does_not_change_when_asked_again(tmp_path):
    suite = Suite(tmp_path, test_a="import os\ndef test_dies(): os._exit(1)\n")
    suite.run()

    assert analyze(suite)["clusters"] == analyze(suite)["clusters"] != []


def test_interrupted_while_running_is_stuck(tmp_path):
    suite = Suite(
        tmp_path,
        test_a="""
        import pathlib, time
        def test_before(): pass
        def test_hangs():
            pathlib.Path("ready").touch()
            time.sleep(50)
        def test_after(): pass
        """,
    )
    process = suite.start()
    deadline = time.monotonic() + 30
    while not (suite.root / "ready").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=30)

    assert process.returncode == 2, out
    assert suite.outcomes() == {"test_before": "passed", "test_hangs": "stuck"}
    stuck = suite.trace("test_hangs")
    assert stuck.reason == "interrupted by KeyboardInterrupt"
    assert stuck.failure.errors[0].frames[-1].function == "test_hangs"
    assert suite.info.status == "interrupted"
    assert suite.info.exit_status == 2
    assert suite.info.totals.stuck == 1
    assert "TraceTriage: 2 tests, no failures (interrupted in test_hangs)" in out
    assert suite.info.totals.failures == 0


def test_pytest_exit_ends_the_run_and_keeps_what_was_finished(tmp_path):
    suite = Suite(
        tmp_path,
        test_a="""
        import pytest
        def test_before(): pass
        def test_exits(): pytest.exit("enough", returncode=5)
        def test_after(): pass
        """,
    )
    result = suite.run()

    assert result.ret == suite.run(on=False).ret == 5
    assert suite.outcomes()["test_before"] == "passed"
    assert "test_after" not in suite.outcomes()
    assert "enough" in suite.trace("test_exits").failure.errors[0].message
    assert result.warned == []


def test_pytest_exit_inside_a_test_is_no_failure(tmp_path):
    suite = Suite(tmp_path, test_a="import pytest\ndef test_fine(): pass\ndef test_leaves(): pytest.exit('enough')\n")

    run = suite.run()

    assert suite.outcomes() == {"test_fine": "passed", "test_leaves": "error"}
    assert suite.trace("test_leaves").reason == "interrupted by Exit"
    assert "no failures (interrupted in test_leaves)" in run.headline
    assert suite.analysis.totals.failures == 0
