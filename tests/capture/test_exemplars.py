"""Repeated failures are rendered once, unless somebody reads every traceback."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET

import pytest
from capture.suite import Suite

APP = 'def total(n):\n    """Total."""\n    raise KeyError("sku")\n'
TEST_A = """
    import pytest
    from app import total

    @pytest.mark.parametrize("n", range(5))
    def test_n(n): total(n)

    @pytest.fixture
    def broken(): raise OSError("no database")
    @pytest.mark.parametrize("n", range(4))
    def test_setup(n, broken): pass

    def test_alone(): assert 1 == 2
    def test_fine(): pass
"""
RAISED = 'raise KeyError("sku")'


@pytest.fixture(scope="module")
def suite(tmp_path_factory):
    return Suite(tmp_path_factory.mktemp("exemplars"), app=APP, test_a=TEST_A)


@pytest.fixture(scope="module")
def once(suite):
    return suite.run()


def test_one_traceback_a_signature(once):
    assert once.block("FAILURES").count(RAISED) == 1
    assert once.block("ERRORS").count('raise OSError("no database")') == 1
    assert "assert 1 == 2" in once.block("FAILURES")


def test_no_pointer_is_printed(once):
    assert "same failure as" not in once.out


def test_the_title_says_how_many_are_alike(once):
    once.match("*test_n?0? ?*, one of 5 alike?*", "*test_alone *")
    assert "one of 1 alike" not in once.out


def test_the_short_summary_still_lists_every_failure(once):
    summary = once.block("short test summary info")

    assert [f"FAILED test_a.py::test_n[{n}] - KeyError: 'sku'" in summary for n in range(5)] == [True] * 5
    assert [f"ERROR test_a.py::test_setup[{n}] - OSError: no database" in summary for n in range(4)] == [True] * 4


def test_counts_and_exit_status_are_those_of_plain_pytest(suite, once):
    plain = suite.run(on=False)

    assert (once.counts, once.ret) == (plain.counts, plain.ret)
    assert plain.block("FAILURES").count(RAISED) == 5


def test_the_records_hold_all_that_is_needed_for_the_others(suite, once):
    shown = suite.tracetriage("show", "test_a.py::test_n[3]")

    assert shown.ret == 0
    assert '"""Total."""' in shown.out
    assert RAISED in shown.out
    assert "app.py:3: KeyError" in shown.out


@pytest.mark.parametrize(
    "args",
    [
        ["--tb=long"],
        ["--tb=short"],
        ["--tb=auto"],
        ["-l"],
        ["--full-trace"],
        ["--junitxml=out.xml"],
        ["-o", "tracetriage_traceback=all"],
    ],
    ids=" ".join,
)
def test_who_asks_for_tracebacks_gets_all(suite, args):
    result = suite.run(*args)

    assert result.block("FAILURES").count(RAISED) == 5
    assert result.block("ERRORS").count('raise OSError("no database")') == 4


def test_junit_xml_holds_every_traceback(suite):
    suite.run("--junitxml=out.xml", "-k", "test_n")
    texts = [case.find("failure").text for case in ET.parse(suite.root / "out.xml").iter("testcase")]

    assert [RAISED in text for text in texts] == [True] * 5


def test_reportlog_holds_every_traceback(suite):
    pytest.importorskip("pytest_reportlog")
    suite.run("--report-log=log.jsonl", "-k", "test_n", plugins="pytest_reportlog")
    lines = [json.loads(line) for line in (suite.root / "log.jsonl").read_text().splitlines()]
    failed = [line for line in lines if line.get("outcome") == "failed"]

    assert len(failed) == 5
    assert all(RAISED in json.dumps(line["longrepr"]).replace('\\"', '"') for line in failed)


@pytest.mark.parametrize(
    "hook",
    [
        "def pytest_runtest_logreport(report): pass",
        "def pytest_runtest_makereport(item, call): pass",
        "def pytest_exception_interact(node, call, report): pass",
    ],
    ids=lambda hook: hook.split("(")[0][4:],
)
def test_a_conftest_that_may_read_tracebacks_gets_all(tmp_path, hook):
    suite = Suite(tmp_path, app=APP, conftest=hook + "\n", test_a=TEST_A)

    assert suite.run("-k", "test_n").block("FAILURES").count(RAISED) == 5


def test_a_conftest_below_the_root_gets_all(tmp_path):
    suite = Suite(tmp_path, app=APP, sub__conftest="def pytest_runtest_logreport(report): pass\n", sub__test_a=TEST_A)

    assert suite.run("-k", "test_n", env={"PYTHONPATH": "."}).block("FAILURES").count(RAISED) == 5


def test_exemplar_mode_beats_a_reader(tmp_path):
    suite = Suite(tmp_path, app=APP, conftest="def pytest_runtest_logreport(report): pass\n", test_a=TEST_A)
    result = suite.run("-k", "test_n", "--junitxml=out.xml", "-o", "tracetriage_traceback=exemplar")

    assert result.block("FAILURES").count(RAISED) == 1
    assert (suite.root / "out.xml").read_text().count("same failure as test_a.py::test_n[0]") == 4


def test_no_traceback_at_all_stays_none(suite):
    result = suite.run("--tb=no")

    assert RAISED not in result.out
    assert "FAILED test_a.py::test_n[4] - KeyError: 'sku'" in result.out


def test_an_expected_failure_is_no_exemplar(tmp_path):
    suite = Suite(
        tmp_path,
        app=APP,
        test_a="""
        import pytest
        from app import total
        @pytest.mark.xfail
        def test_expected(): total(1)
        def test_late(request):
            request.node.add_marker(pytest.mark.xfail)
            total(2)
        def test_real(): total(3)
        """,
    )
    result = suite.run()

    assert result.block("FAILURES").count(RAISED) == 1
    assert "test_real" in result.block("FAILURES")


def test_stopping_at_the_first_failure(suite):
    result = suite.run("-x")

    assert result.block("FAILURES").count(RAISED) == 1
    assert result.counts == {"failed": 1}


def test_failing_call_and_teardown_of_one_test_are_both_shown(tmp_path):
    suite = Suite(
        tmp_path,
        app=APP,
        test_a="""
        import pytest
        from app import total
        @pytest.fixture
        def leaves():
            yield
            raise OSError("in use")
        def test_one(leaves): total(1)
        def test_two(leaves): total(2)
        """,
    )
    result = suite.run()

    assert result.block("FAILURES").count(RAISED) == 1
    assert result.block("ERRORS").count('raise OSError("in use")') == 1
    assert result.counts == {"failed": 2, "errors": 2}
