"""Faults inside TraceTriage and its extensions: one warning line, and the run goes on as if it were not there."""

from __future__ import annotations

import pytest
from capture.suite import Suite

TEST_A = """
    import pytest
    def test_passes(): pass
    def test_fails(): assert 1 == 2
    @pytest.fixture
    def broken(): raise OSError("x")
    def test_errors(broken): pass
    @pytest.mark.skip
    def test_skips(): pass
    @pytest.mark.parametrize("n", [1, 2])
    def test_params(n): assert n == 1
"""
EXPECTED = {"passed": 2, "failed": 2, "errors": 1, "skipped": 1}

BROKEN_INSIDE = (
    "capture.recorder:describe",
    "capture.recorder:ExceptionWalker.failure",
    "capture.items:ItemFacts.names",
    "capture.items:ItemFacts.markers",
    "capture.exemplars:Exemplars.shadow",
    "capture.exemplars:Exemplars.rendered",
    "capture.session:observe",
    "triage.signature:signature_id",
    "store.writer:_encode",
    "store.writer:_write",
    "store.writer:_pack",
    "store.runs:write_run",
    "collect.totals:count_run",
    "commands.pipeline:analyse_run",
    "report.terminal:headline",
    "report.terminal:body",
    "report.summary:TerminalSummary._by_test",
)
BREAK = """
    import importlib
    def boom(*args, **kwargs): raise RuntimeError("injected")
    target = importlib.import_module("pytest_tracetriage.{module}")
    *path, name = "{name}".split(".")
    for part in path: target = getattr(target, part)
    assert callable(getattr(target, name))
    setattr(target, name, boom)
"""
BROKEN_HOOKS = ["redact(text)", "classify(failure)", "join(signatures)", "notify(analysis)"]


def unharmed(result) -> None:
    assert "INTERNALERROR" not in result.out + result.err
    assert "Traceback" not in result.err
    assert (result.ret, result.counts) == (1, EXPECTED), result.out
    assert len(result.warned) == 1, result.out


@pytest.mark.parametrize("part", BROKEN_INSIDE)
def test_a_broken_part(tmp_path, part):
    module, _, name = part.partition(":")
    suite = Suite(tmp_path, conftest=BREAK.format(module=module, name=name), test_a=TEST_A)
    result = suite.run()

    unharmed(result)
    assert "injected" in result.warned[0]


@pytest.mark.parametrize("hook", BROKEN_HOOKS)
def test_a_hook_that_raises(tmp_path, hook):
    suite = Suite(tmp_path, conftest=f"def pytest_tracetriage_{hook}: raise RuntimeError('injected')\n", test_a=TEST_A)
    result = suite.run()

    unharmed(result)
    assert "injected" in result.warned[0]


def test_hooks_that_answer_nonsense(tmp_path):
    conftest = "".join(f"def pytest_tracetriage_{hook}: return 42\n" for hook in BROKEN_HOOKS)
    result = Suite(tmp_path, conftest=conftest, test_a=TEST_A).run()

    assert (result.ret, result.counts) == (1, EXPECTED)
    assert len(result.warned) <= 1
    assert "INTERNALERROR" not in result.out + result.err


def test_the_run_is_finished_although_a_hook_raised(tmp_path):
    suite = Suite(tmp_path, conftest="def pytest_tracetriage_notify(analysis): raise RuntimeError('injected')\n", test_a=TEST_A)
    suite.run()

    assert suite.info.status == "finished", "the end of the run is written whatever the hook did"
    assert suite.info.totals.tests == 6


def test_warnings_as_errors(tmp_path):
    suite = Suite(tmp_path, {"pytest.ini": "[pytest]\nfilterwarnings = error\n"}, test_a=TEST_A)
    result = suite.run("-W", "error")

    assert (result.counts, result.warned) == (EXPECTED, [])


def test_a_plugin_that_replaces_builtins_while_a_test_runs(tmp_path):
    suite = Suite(
        tmp_path,
        test_a="""
        import os, time, builtins
        def test_patched(monkeypatch):
            def boom(*args, **kwargs): raise RuntimeError("patched")
            for name in ("time", "perf_counter"): monkeypatch.setattr(time, name, boom)
            for name in ("getpid", "listdir"): monkeypatch.setattr(os, name, boom)
            monkeypatch.setattr(os, "write", boom)
            from pytest_tracetriage import step
            assert 1
        def test_after(): pass
        """,
    )
    result = suite.run()

    assert (result.ret, result.counts, result.warned) == (0, {"passed": 2}, [])
    assert suite.outcomes() == {"test_patched": "passed", "test_after": "passed"}
