"""Tests that pytest does not simply call: doctest, coroutines, forked children, tests that fork."""

from __future__ import annotations

import json
import sys

import pytest
from capture.suite import MENDED_FORKED, Suite

forks = pytest.mark.skipif(sys.platform == "win32", reason="forks")


def test_doctests(tmp_path):
    suite = Suite(
        tmp_path,
        {"guide.txt": ">>> 1 + 1\n3\n"},
        app='''
        def right():
            """
            >>> right()
            1
            """
            return 1

        def wrong():
            """
            Wrong on purpose.

            >>> wrong()
            2
            """
            return 1

        def raises():
            """
            >>> raises()
            1
            """
            raise KeyError("inside")
        ''',
    )
    result = suite.run("--doctest-modules", "--doctest-glob=*.txt")

    assert suite.outcomes() == {"app.right": "passed", "app.wrong": "failed", "app.raises": "failed", "guide.txt": "failed"}
    wrong = suite.trace("::app.wrong").failure.errors[0]
    assert (wrong.type, wrong.message) == ("doctest.DocTestFailure", "expected '2', got '1'")
    assert [(frame.file, frame.line, frame.code) for frame in wrong.frames] == [("app.py", 13, "wrong()")]
    raised = suite.trace("::app.raises").failure.errors[0]
    assert (raised.type, raised.message) == ("KeyError", "'inside'")
    assert raised.frames[0].code == "raises()"
    assert (raised.frames[-1].file, raised.frames[-1].function) == ("app.py", "raises")
    assert result.counts == {"failed": 3, "passed": 1}


def test_all_failures_of_one_doctest(tmp_path):
    suite = Suite(tmp_path, app='def f():\n    """\n    >>> 1\n    2\n    >>> 1 / 0\n    >>> 3\n    4\n    """\n')
    suite.run("--doctest-modules", "--doctest-continue-on-failure")
    errors = suite.trace("::app.f").failure.errors

    assert [error.message for error in errors] == ["expected '2', got '1'", "division by zero", "expected '4', got '3'"]
    assert [error.frames[0].line for error in errors] == [3, 5, 6]
    assert [(error.link, error.parent) for error in errors] == [("raised", -1), ("member", 0), ("member", 0)]


def test_coroutines(tmp_path):
    pytest.importorskip("pytest_asyncio")
    suite = Suite(
        tmp_path,
        {"pytest.ini": "[pytest]\nasyncio_default_fixture_loop_scope = function\n"},
        test_a="""
        import asyncio, pytest, pytest_asyncio

        async def deep():
            await asyncio.sleep(0)
            raise ConnectionError("gone")

        @pytest_asyncio.fixture
        async def broken(): await deep()

        @pytest.mark.asyncio
        async def test_passes(): await asyncio.sleep(0)
        @pytest.mark.asyncio
        async def test_fails(): await deep()
        @pytest.mark.asyncio
        async def test_setup(broken): pass
        @pytest.mark.asyncio
        async def test_task(): await asyncio.wait_for(asyncio.sleep(5), 0.01)
        """,
    )
    result = suite.run(plugins="asyncio")

    found = suite.outcomes()
    assert (found["test_passes"], found["test_fails"], found["test_setup"]) == ("passed", "failed", "error")
    frames = suite.trace("::test_fails").failure.errors[0].frames
    assert [frame.function for frame in frames if frame.origin == "test"] == ["test_fails", "deep"]
    assert frames[0].function == "test_fails"
    assert suite.trace("::test_setup").failure.fixture.startswith("broken (test_a.py:")
    if sys.version_info >= (3, 11):
        assert suite.trace("::test_task").failure.errors[0].type == "TimeoutError"
    assert result.warned == []


FORKED = """
    import os, signal, pytest
    from pytest_tracetriage import step

    def test_passes():
        with step("Tester"): pass
    def test_fails(): assert 1 == 2
    def test_dies(): os._exit(3)
    def test_killed(): os.kill(os.getpid(), signal.SIGKILL)
    @pytest.mark.skip(reason="no")
    def test_skips(): pass
    @pytest.mark.xfail(reason="known")
    def test_xfails(): assert 0
    @pytest.fixture
    def broken(): raise OSError("no setup")
    def test_setup(broken): pass
    def test_last(): pass
"""


@forks
def test_forked_children_write_their_own_traces(tmp_path):
    pytest.importorskip("pytest_forked")
    suite = Suite(tmp_path, conftest=MENDED_FORKED, test_a=FORKED)
    result = suite.run("--forked", plugins="pytest_forked")

    assert suite.outcomes() == {
        "test_passes": "passed",
        "test_fails": "failed",
        "test_dies": "crashed",
        "test_killed": "crashed",
        "test_skips": "skipped",
        "test_xfails": "xfailed",
        "test_setup": "error",
        "test_last": "passed",
    }
    assert suite.trace("::test_fails").failure.errors[0].frames[-1].code == "def test_fails(): assert 1 == 2"
    assert [span.name for span in suite.spans] == ["Tester"]
    assert suite.info.status == "finished"
    assert suite.info.totals.tests == 8
    assert result.counts == suite.run("--forked", plugins="pytest_forked", on=False).counts
    ids = [record.id for record in suite.records if not hasattr(record, "text")]
    assert len(ids) == len(set(ids))


@forks
def test_a_child_that_dies_when_all_is_written_counts_once(tmp_path):
    pytest.importorskip("pytest_forked")
    dies = "import os, pytest_forked\npytest_forked.serialize_report = lambda rep: os._exit(7)\n"
    suite = Suite(tmp_path, conftest=dies, test_a="def test_a(): pass\n")
    result = suite.run("--forked", plugins="pytest_forked")

    assert result.counts == {"failed": 1}
    assert len({trace.id for trace in suite.traces}) == len(suite.traces)
    assert suite.info.totals.tests == 1


@forks
def test_a_child_that_a_test_forks_writes_no_trace(tmp_path):
    suite = Suite(
        tmp_path,
        test_a="""
        import os, sys, multiprocessing
        from pytest_tracetriage import step

        def test_forks_and_exits():
            pid = os.fork()
            if not pid:
                with step("Child"): pass
                os._exit(0)
            os.waitpid(pid, 0)

        def test_child_leaks_into_pytest():
            # the child goes on as a second pytest, right to its end
            pid = os.fork()
            if pid: os.waitpid(pid, 0)
            assert pid

        def test_pool():
            with multiprocessing.get_context("fork").Pool(2) as pool:
                assert pool.map(abs, [-1]) == [1]

        def test_after(): pass
        """,
    )
    suite.run()

    assert suite.outcomes() == {
        "test_forks_and_exits": "passed",
        "test_child_leaks_into_pytest": "passed",
        "test_pool": "passed",
        "test_after": "passed",
    }
    assert suite.info.status == "finished"
    assert suite.info.totals.passed == 4


def test_generated_examples_of_hypothesis_are_one_trace(tmp_path):
    suite = Suite(
        tmp_path,
        test_a="""
        from hypothesis import given, settings, strategies as st
        @given(st.integers())
        @settings(max_examples=20, database=None)
        def test_small(n): assert n < 100
        """,
    )
    suite.run(plugins="hypothesispytest")
    error = suite.trace("::test_small").failure.errors[0]

    assert suite.outcomes() == {"test_small": "failed"}
    assert error.message.startswith("assert 100 < 100")
    assert any("n=100" in note for note in error.notes)


def test_an_item_of_another_kind(tmp_path):
    suite = Suite(
        tmp_path,
        {"a.check": "ok\nbad\nworse"},
        conftest="""
        import pytest
        def pytest_collect_file(file_path, parent):
            if file_path.suffix == ".check": return Checks.from_parent(parent, path=file_path)
        class Checks(pytest.File):
            def collect(self):
                for line in self.path.read_text().split(): yield Check.from_parent(self, name=line)
        class Check(pytest.Item):
            def runtest(self):
                if self.name != "ok": raise ValueError(self.name)
            def repr_failure(self, excinfo): return f"{self.name} is not ok"
            def reportinfo(self): return self.path, 0, self.name
        """,
    )
    result = suite.run()

    assert suite.outcomes() == {"ok": "passed", "bad": "failed", "worse": "failed"}
    assert suite.trace("::worse").failure.errors[0].message == "worse"
    result.match("bad is not ok", "worse is not ok")


def test_the_json_of_a_forked_run_has_each_crash_in_words(tmp_path):
    pytest.importorskip("pytest_forked")
    suite = Suite(tmp_path, test_a="import os, signal\ndef test_killed(): os.kill(os.getpid(), signal.SIGKILL)\n")
    suite.run("--forked", plugins="pytest_forked")
    (cluster,) = json.loads(suite.tracetriage("analyze", "--format", "json").out)["clusters"]

    assert cluster["category"] == "CRASH"
    assert cluster["tests"] == ["test_a.py::test_killed"]
    assert "signal 9" in cluster["exemplar"]["failure"]["errors"][0]["message"]
