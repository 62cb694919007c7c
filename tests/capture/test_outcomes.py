"""Every way in which a test can end, and what its trace says then."""

from __future__ import annotations

import pytest
from capture.suite import Suite

TEST_A = """
    import warnings
    import pytest

    @pytest.fixture
    def broken(): raise ValueError("no setup")

    @pytest.fixture
    def leaves():
        yield
        raise OSError("no teardown")

    def test_passed(): pass
    def test_failed(): assert 1 == 2
    def test_raised(): raise KeyError("sku")
    def test_fail_call(): pytest.fail("said so")
    def test_setup_error(broken): pass
    def test_teardown_error(leaves): pass
    def test_both(leaves): assert False
    @pytest.mark.skip(reason="not today")
    def test_skip_mark(): pass
    @pytest.mark.skipif(True, reason="not here")
    def test_skip_if(): pass
    def test_skip_call(): pytest.skip("not now")
    def test_skip_import(): pytest.importorskip("no_such_module")
    @pytest.mark.xfail(reason="known bug")
    def test_xfailed(): assert 0
    @pytest.mark.xfail(run=False, reason="hangs")
    def test_xfail_norun(): assert 0
    def test_xfail_call(): pytest.xfail("gave up")
    @pytest.mark.xfail(reason="was broken")
    def test_xpassed(): pass
    @pytest.mark.xfail(strict=True, reason="must fail")
    def test_xpassed_strict(): pass
    @pytest.mark.xfail(raises=KeyError, reason="another error")
    def test_xfail_other(): raise ValueError("this one")
    def test_late_xfail(request):
        request.node.add_marker(pytest.mark.xfail(reason="added late"))
        assert 0
    def test_exits(): raise SystemExit(3)
    def test_last(): pass
"""
SKIPPED_MODULE = """
    import pytest
    pytest.skip("nothing here", allow_module_level=True)
    def test_unseen(): pass
"""
EXPECTED = {
    "test_m.py": "skipped",
    "test_passed": "passed",
    "test_failed": "failed",
    "test_raised": "failed",
    "test_fail_call": "failed",
    "test_setup_error": "error",
    "test_teardown_error": "error",
    "test_both": "failed",
    "test_skip_mark": "skipped",
    "test_skip_if": "skipped",
    "test_skip_call": "skipped",
    "test_skip_import": "skipped",
    "test_xfailed": "xfailed",
    "test_xfail_norun": "xfailed",
    "test_xfail_call": "xfailed",
    "test_xpassed": "xpassed",
    "test_xpassed_strict": "failed",
    "test_xfail_other": "failed",
    "test_late_xfail": "xfailed",
    "test_exits": "failed",
    "test_last": "passed",
}


@pytest.fixture(scope="module", params=["", "pytest_forked"], ids=["light", "watching"])
def suite(request, tmp_path_factory):
    """The recorder begins lightly, or (pytest-forked is there) sees every report from the start."""
    suite = Suite(tmp_path_factory.mktemp("outcomes"), test_a=TEST_A, test_m=SKIPPED_MODULE)
    suite.result = suite.run(plugins=request.param)
    return suite


def test_every_outcome(suite):
    assert suite.outcomes() == EXPECTED


def test_each_outcome_first_of_its_run(tmp_path):
    """What makes the recorder look closely must itself be recorded whole, whichever it is."""
    names = ["teardown_error", "skip_call", "late_xfail", "xpassed", "skip_mark"]
    suite = Suite(tmp_path, test_a=TEST_A)
    for name in names:
        suite.run(f"test_a.py::test_{name}", "test_a.py::test_last")
        assert suite.outcomes() == {f"test_{name}": EXPECTED[f"test_{name}"], "test_last": "passed"}


def test_pytest_counts_the_same_without_the_plugin(suite):
    plain = suite.run(on=False)

    assert suite.result.counts == plain.counts
    assert suite.result.ret == plain.ret == 1


def test_totals_of_the_run_are_those_of_pytest(suite):
    counts, totals = suite.result.counts, suite.info.totals

    assert totals.passed == counts["passed"] - 1, "pytest counts the call of a test whose teardown fails as passed"
    assert (totals.skipped, totals.xfailed, totals.xpassed) == (counts["skipped"], counts["xfailed"], counts["xpassed"])
    assert (totals.tests, totals.failed, totals.errors) == (len(EXPECTED), 7, 2)
    assert totals.failures == 9


@pytest.mark.parametrize(
    ("name", "phase", "type_", "message"),
    [
        ("test_failed", "call", "AssertionError", "assert 1 == 2"),
        ("test_raised", "call", "KeyError", "'sku'"),
        ("test_fail_call", "call", "Failed", "said so"),
        ("test_setup_error", "setup", "ValueError", "no setup"),
        ("test_teardown_error", "teardown", "OSError", "no teardown"),
        ("test_xpassed_strict", "call", "XPassStrict", "must fail"),
        ("test_xfail_other", "call", "ValueError", "this one"),
        ("test_exits", "call", "SystemExit", "3"),
    ],
)
def test_the_failure_says_what_and_when(suite, name, phase, type_, message):
    failure = suite.trace(f"::{name}").failure

    assert failure.phase == phase
    assert failure.errors[0].type.rpartition(".")[2] == type_
    assert message in failure.errors[0].message


def test_a_failing_teardown_stands_behind_the_failing_call(suite):
    trace = suite.trace("::test_both")

    assert trace.failure.phase == "call"
    assert [(later.phase, later.errors[0].message) for later in trace.later] == [("teardown", "no teardown")]


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("test_skip_mark", "not today"),
        ("test_skip_if", "not here"),
        ("test_skip_call", "not now"),
        ("test_skip_import", "could not import 'no_such_module'"),
        ("test_xfailed", "known bug"),
        ("test_xfail_norun", "[NOTRUN] hangs"),
        ("test_xfail_call", "gave up"),
        ("test_xpassed", "was broken"),
        ("test_late_xfail", "added late"),
    ],
)
def test_what_did_not_fail_says_why(suite, name, reason):
    trace = suite.trace(f"::{name}")

    assert reason in trace.reason
    assert trace.failure is None


def test_a_passing_trace_holds_no_failure(suite):
    trace = suite.trace("::test_last")

    assert (trace.failure, trace.later, trace.reason) == (None, (), "")
    assert set(trace.phases) == {"setup", "call", "teardown"}


def test_phases_stop_where_the_test_did(suite):
    assert set(suite.trace("::test_setup_error").phases) == {"setup", "teardown"}
    assert set(suite.trace("::test_skip_mark").phases) == {"setup", "teardown"}


def test_an_unexpected_success_of_unittest(tmp_path):
    suite = Suite(
        tmp_path,
        test_u="""
        import unittest
        class TestU(unittest.TestCase):
            @unittest.expectedFailure
            def test_unexpected(self): pass
            @unittest.expectedFailure
            def test_expected(self): self.assertEqual(1, 2)
            @unittest.skip("later")
            def test_skip(self): pass
            def test_skip_inside(self): self.skipTest("inside")
            def test_fails(self): self.assertEqual(1, 2)
            def test_error(self): raise KeyError("x")
            def test_passes(self): pass
        class TestSetup(unittest.TestCase):
            @classmethod
            def setUpClass(cls): raise OSError("no class")
            def test_one(self): pass
        class TestTear(unittest.TestCase):
            def tearDown(self): raise OSError("no tear down")
            def test_two(self): assert 0
        """,
    )
    result = suite.run()

    assert suite.outcomes() == {
        "TestU::test_unexpected": "failed",
        "TestU::test_expected": "xfailed",
        "TestU::test_skip": "skipped",
        "TestU::test_skip_inside": "skipped",
        "TestU::test_fails": "failed",
        "TestU::test_error": "failed",
        "TestU::test_passes": "passed",
        "TestSetup::test_one": "error",
        "TestTear::test_two": "failed",
    }
    assert result.counts == suite.run(on=False).counts
    assert suite.trace("::test_fails").failure.errors[0].message == "1 != 2"
    assert suite.trace("::test_one").failure.fixture.startswith("_unittest_setUpClass_fixture_TestSetup")
    inner = suite.trace("::test_fails").failure.errors[0].frames
    assert (inner[0].file, inner[0].function) == ("test_u.py", "test_fails")


def test_a_module_that_skips_itself_is_told_once(tmp_path):
    files = {"test_a.py": "import pytest\npytest.skip('not here', allow_module_level=True)\n"}
    suite = Suite(tmp_path, files, test_b="def test_b(): pass\n")

    result = suite.run("-n2", plugins="xdist")

    assert result.counts == {"passed": 1, "skipped": 1}
    assert suite.outcomes() == {"test_a.py": "skipped", "test_b": "passed"}
    assert suite.trace("test_a.py").reason == "not here"
    assert (suite.info.totals.tests, suite.info.totals.skipped) == (2, 1)
