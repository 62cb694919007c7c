"""pytest-rerunfailures: a trace per attempt, and the last word decides."""

from __future__ import annotations

import pytest
from capture.suite import Suite

pytest.importorskip("pytest_rerunfailures")

TEST_A = """
    import pytest
    from app import always

    tries = {}
    def count(name):
        tries[name] = tries.get(name, 0) + 1
        return tries[name]

    def test_steady(): pass
    def test_flaky(): assert count("flaky") == 3, "not yet"
    def test_broken(): always()
    def test_broken_too(): always()

    @pytest.fixture
    def shaky():
        if count("shaky") == 1: raise OSError("busy")
    def test_setup(shaky): pass

    @pytest.fixture
    def leaves():
        yield
        if count("leaves") == 1: raise OSError("in use")
    def test_teardown(leaves): pass

    @pytest.mark.flaky(reruns=1)
    @pytest.mark.xfail(reason="known")
    def test_xfail(): assert 0
"""


@pytest.fixture(scope="module", params=["", " pytest_forked"], ids=["light", "watching"])
def suite(request, tmp_path_factory):
    suite = Suite(tmp_path_factory.mktemp("attempts"), app='def always(): raise ValueError("always")\n', test_a=TEST_A)
    suite.result = suite.run("--reruns=2", plugins="rerunfailures" + request.param)
    assert suite.result.warned == []
    return suite


def attempts(suite, name):
    return [(t.attempt, t.rerun, t.outcome) for t in suite.traces if t.nodeid.endswith(f"::{name}")]


def test_a_flaky_test(suite):
    assert attempts(suite, "test_flaky") == [(1, True, "failed"), (2, True, "failed"), (3, False, "passed")]


def test_a_broken_test(suite):
    assert attempts(suite, "test_broken") == [(1, True, "failed"), (2, True, "failed"), (3, False, "failed")]


def test_a_steady_test_has_one_attempt(suite):
    assert attempts(suite, "test_steady") == [(1, False, "passed")]


def test_a_setup_that_fails_once(suite):
    assert attempts(suite, "test_setup") == [(1, True, "error"), (2, False, "passed")]


def test_each_attempt_keeps_its_own_failure_and_phases(suite):
    found = [trace for trace in suite.traces if trace.nodeid.endswith("::test_flaky")]

    assert ["not yet" in trace.failure.errors[0].message for trace in found[:2]] == [True, True]
    assert found[2].failure is None
    assert len({trace.id for trace in found}) == 3
    assert all("call" in trace.phases for trace in found)


def test_totals_count_the_last_word(suite):
    # pytest counts test_teardown twice: its call passed before its teardown was run again
    totals, counts = suite.info.totals, suite.result.counts

    assert (totals.tests, totals.passed + 1, totals.failed) == (7, counts["passed"], counts["failed"])
    assert totals.flaky == counts["rerun"]
    assert totals.failures == 2


def test_only_what_stays_broken_is_clustered(suite):
    assert [cluster.tests for cluster in suite.analysis.clusters] == [("test_a.py::test_broken", "test_a.py::test_broken_too")]
    assert "attempts run again" in suite.result.headline


def test_the_exemplar_is_shown_although_a_rerun_had_the_same_signature(suite):
    failures = suite.result.block("FAILURES")

    assert failures.count("always()") == 2, "once where it is called, once where it is defined"
    assert 'raise ValueError("always")' in failures
    assert "test_broken_too" not in failures
    assert "same failure as" not in suite.result.out


def test_the_same_outcome_without_the_plugin(suite):
    plain = suite.run("--reruns=2", plugins="rerunfailures", on=False)

    assert (suite.result.counts, suite.result.ret) == (plain.counts, plain.ret)
