"""Subtests: pytest's own fixture and unittest's subTest."""

from __future__ import annotations

import pytest
from capture.suite import Suite

pytestmark = pytest.mark.skipif(pytest.version_tuple < (9,), reason="subtests came with pytest 9")

TEST_A = """
    import unittest

    def test_before(): pass

    def test_mixed(subtests):
        for n in range(4):
            with subtests.test("number", n=n):
                assert n % 2 == 0, f"{n} is odd"

    def test_all_pass(subtests):
        for n in range(2):
            with subtests.test(n=n): pass

    def test_skips(subtests):
        import pytest
        with subtests.test("skipped one"): pytest.skip("not this one")

    def test_fails_outside_too(subtests):
        with subtests.test("inside"): raise KeyError("inside")
        raise ValueError("outside")

    class TestU(unittest.TestCase):
        def test_mixed(self):
            for n in range(4):
                with self.subTest("number", n=n):
                    self.assertEqual(n % 2, 0)
        def test_all_pass(self):
            with self.subTest(n=1): pass

    def test_after(): pass
"""


@pytest.fixture(scope="module", params=["", "pytest_forked"], ids=["light", "watching"])
def suite(request, tmp_path_factory):
    suite = Suite(tmp_path_factory.mktemp("subtests"), test_a=TEST_A)
    suite.result = suite.run("--tb=no", plugins=request.param)
    assert suite.result.warned == []
    return suite


def found(suite, name):
    return [(t.subtest, t.outcome) for t in suite.traces if t.nodeid == f"test_a.py::{name}"]


def test_a_trace_for_each_subtest_and_one_for_its_test(suite):
    assert found(suite, "test_mixed") == [
        ("[number] (n=0)", "passed"),
        ("[number] (n=1)", "failed"),
        ("[number] (n=2)", "passed"),
        ("[number] (n=3)", "failed"),
        ("", "failed"),
    ]


def test_a_failing_subtest_has_its_own_failure(suite):
    messages = [t.failure.errors[0].message for t in suite.traces if t.subtest and t.failure]

    assert {"1 is odd", "3 is odd"} <= {message.partition("\n")[0] for message in messages}


def test_the_test_around_adds_no_failure_of_its_own(suite):
    around = [trace for trace in suite.traces if trace.nodeid.endswith("::test_mixed") and not trace.subtest]

    assert [trace.failure for trace in around] == [None, None]


def test_passing_subtests(suite):
    assert found(suite, "test_all_pass")[-1] == ("", "passed")
    assert {outcome for _, outcome in found(suite, "test_all_pass")} == {"passed"}
    assert found(suite, "TestU::test_all_pass")[-1] == ("", "passed")


def test_a_skipped_subtest(suite):
    assert ("[skipped one]", "skipped") in found(suite, "test_skips")
    around = next(t for t in suite.traces if t.nodeid.endswith("::test_skips") and not t.subtest)
    assert (around.outcome, around.reason) == ("passed", "")


def test_a_failure_beside_its_subtests(suite):
    assert found(suite, "test_fails_outside_too") == [("[inside]", "failed"), ("", "failed")]
    around = next(t for t in suite.traces if t.nodeid.endswith("outside_too") and not t.subtest)
    assert around.failure.errors[0].message == "outside"


def test_sub_test_of_unittest(suite):
    subtests = [pair for pair in found(suite, "TestU::test_mixed") if pair[0]]

    assert ("[number] (n=1)", "failed") in subtests
    assert ("[number] (n=3)", "failed") in subtests
    assert found(suite, "TestU::test_mixed")[-1] in [("", "passed"), ("", "failed")], "pytest itself wavers"


def test_failures_are_counted_by_subtest(suite):
    assert suite.info.totals.failures == 2 + 2 + 2
    assert suite.info.totals.tests == 8


def test_the_same_outcome_without_the_plugin(suite):
    plain = suite.run("--tb=no", on=False)

    assert (suite.result.counts, suite.result.ret) == (plain.counts, plain.ret)
