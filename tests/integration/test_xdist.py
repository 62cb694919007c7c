"""pytest-xdist: several workers, and one that dies."""

from __future__ import annotations

import json
import sys

import pytest
from capture.suite import Suite

pytest.importorskip("xdist")

HUNDRED = """
    import os, signal, pytest
    @pytest.mark.parametrize("n", range(100))
    def test_n(n):
        if n == 40: os.kill(os.getpid(), signal.SIGKILL)
"""


def test_each_worker_writes_its_own_file(tmp_path):
    suite = Suite(tmp_path, test_a="import pytest\n@pytest.mark.parametrize('n', range(40))\ndef test_n(n): assert n != 7\n")
    result = suite.run("-n2", plugins="xdist")

    files = sorted(path.name for path in (suite.last / "traces").glob("gw*"))
    assert files == ["gw0.jsonl", "gw1.jsonl"]
    assert suite.outcomes() == {f"test_n[{n}]": "failed" if n == 7 else "passed" for n in range(40)}
    assert {trace.id.split(".")[0] for trace in suite.traces} == {"gw0", "gw1"}
    assert [worker.name for worker in suite.info.workers] == ["gw0", "gw1"]
    assert [worker.died for worker in suite.info.workers] == ["", ""]
    assert (suite.info.totals.tests, suite.info.totals.passed) == (40, 39)
    assert result.headline.startswith("TraceTriage: 1 failure -> 1 root cause")
    assert result.warned == []


SAME = """
    import pytest
    from app import total

    @pytest.mark.xdist_group("one")
    class TestOne:
        @pytest.mark.parametrize("n", range(10))
        def test_one(self, n): total(n)

    @pytest.mark.xdist_group("two")
    class TestTwo:
        @pytest.mark.parametrize("n", range(10))
        def test_two(self, n): total(n)
"""
APP = 'def total(n):\n    raise KeyError("sku")\n'


@pytest.mark.parametrize("dist", ["loadscope", "loadgroup"])
def test_distributions(tmp_path, dist):
    suite = Suite(tmp_path, app=APP, test_a=SAME)
    result = suite.run("-n2", f"--dist={dist}", plugins="xdist")

    workers = {(trace.id.split(".")[0], trace.nodeid.split("::")[1]) for trace in suite.traces}
    assert len(suite.outcomes()) == 20
    if dist == "loadscope" or pytest.version_tuple < (9, 2):  # 9.2 ignores the ids that xdist 3.8 gives to groups
        assert len(workers) == 2, "each class stays on one worker"
    assert result.counts == {"failed": 20}
    assert suite.info.totals.failed == 20


def test_one_exemplar_a_signature_whoever_ran_it(tmp_path):
    suite = Suite(tmp_path, app=APP, test_a=SAME)
    result = suite.run("-n2", plugins="xdist")

    assert {trace.id.split(".")[0] for trace in suite.traces} == {"gw0", "gw1"}
    assert result.block("FAILURES").count('raise KeyError("sku")') == 1
    assert result.block("short test summary info").count("FAILED ") == 20
    assert "same failure as" not in result.block("FAILURES")


def test_a_cluster_found_under_loadgroup_can_be_run_again_without_it(tmp_path):
    suite = Suite(tmp_path, app=APP, test_a=SAME)
    suite.run("-n1", "--dist=loadgroup", plugins="xdist")
    (cluster,) = suite.analysis.clusters
    result = suite.run(f"--tracetriage-rerun={cluster.id[:6]}")

    assert result.counts["failed"] == 20


def test_every_traceback_where_junit_xml_wants_it(tmp_path):
    suite = Suite(tmp_path, app=APP, test_a=SAME)
    result = suite.run("-n2", "--junitxml=out.xml", plugins="xdist")

    assert result.block("FAILURES").count('raise KeyError("sku")') == 20
    assert (suite.root / "out.xml").read_text().count("same failure as") == 0


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_a_killed_worker_costs_one_test_and_says_why(tmp_path):
    suite = Suite(tmp_path, test_a=HUNDRED)
    result = suite.run("-n2", plugins="xdist")

    found = suite.outcomes()
    assert len(found) == 100
    assert {name for name, outcome in found.items() if outcome == "crashed"} == {"test_n[40]"}
    assert list(found.values()).count("passed") == 99
    crashed = suite.trace("::test_n[40]")
    assert "killed by SIGKILL" in crashed.reason
    died = [worker for worker in suite.info.workers if worker.died]
    assert [(worker.died, worker.nodeid) for worker in died] == [("killed by SIGKILL", "test_a.py::test_n[40]")]
    assert died[0].name in crashed.reason
    assert (suite.info.totals.tests, suite.info.totals.crashed) == (100, 1)
    assert result.counts == {"failed": 1, "passed": 99}
    answer = json.loads(suite.tracetriage("analyze", "--format", "json").out)
    assert [(c["category"], c["tests"]) for c in answer["clusters"]] == [("CRASH", ["test_a.py::test_n[40]"])]


@pytest.mark.skipif(sys.platform == "win32", reason="exit statuses of another kind")
def test_a_worker_that_exits_says_with_what(tmp_path):
    suite = Suite(tmp_path, test_a="import os\ndef test_a(): pass\ndef test_exits(): os._exit(3)\n")
    suite.run("-n1", plugins="xdist")

    assert suite.outcomes()["test_exits"] == "crashed"
    assert "ended with exit status 3" in suite.trace("::test_exits").reason
    assert "test_exits" in next(worker.nodeid for worker in suite.info.workers if worker.died)


def test_collection_errors_are_recorded_by_each_worker_and_counted_once(tmp_path):
    suite = Suite(tmp_path, test_a="import no_such_module\n", test_b="def test_b(): pass\n")
    result = suite.run("-n2", "--continue-on-collection-errors", plugins="xdist")

    assert suite.info.totals.errors == result.counts["errors"] == 1
    assert suite.info.totals.failures == 1
    assert [cluster.count for cluster in suite.analysis.clusters] == [1]


def test_steps_and_reruns_on_workers(tmp_path):
    pytest.importorskip("pytest_rerunfailures")
    suite = Suite(
        tmp_path,
        test_a="""
        from pytest_tracetriage import step
        tries = []
        def test_flaky():
            with step("Fixer"):
                tries.append(1)
                assert len(tries) == 2
        """,
    )
    suite.run("-n1", "--reruns=1", plugins="xdist rerunfailures")

    assert [(t.attempt, t.rerun, t.outcome) for t in suite.traces] == [(1, True, "failed"), (2, False, "passed")]
    assert [span.outcome for span in suite.spans] == ["failed", "success"]
    assert {span.trace for span in suite.spans} == {trace.id for trace in suite.traces}


def test_a_secret_of_the_controller_is_not_written_by_a_worker(tmp_path):
    suite = Suite(tmp_path, test_a="import os\ndef test_a(): raise ValueError('key ' + os.environ['SHOP_TOKEN'])\n")
    suite.run("-n1", plugins="xdist", env={"SHOP_TOKEN": "tops3cretvalue"})

    assert [name for name, data in suite.bytes_written().items() if b"tops3cretvalue" in data] == []
    assert "[redacted " in suite.trace("::test_a").failure.errors[0].message


def test_a_worker_that_dies_after_its_last_test(tmp_path):
    """The slot still names the test that was finished last; it did not crash."""
    conftest = """
        import os
        def pytest_sessionfinish(session):
            if hasattr(session.config, "workerinput"): os._exit(7)
    """
    suite = Suite(tmp_path, conftest=conftest, test_a="def test_a(): pass\ndef test_b(): pass\n")

    run = suite.run("-n2", plugins="xdist")

    assert suite.outcomes() == {"test_a": "passed", "test_b": "passed"}, run.out
    assert {worker.died for worker in suite.info.workers if worker.died} == {"ended with exit status 7"}
    assert not list(suite.last.rglob("*.running"))
