"""What could not be collected."""

from __future__ import annotations

import pytest
from capture.suite import Suite


@pytest.fixture(scope="module")
def suite(tmp_path_factory):
    suite = Suite(
        tmp_path_factory.mktemp("collection"),
        {"sub/conftest.py": "import no_such_plugin\n", "sub/test_sub.py": "def test_s(): pass\n"},
        test_import="import no_such_module\ndef test_i(): pass\n",
        test_syntax="def test_s(:\n",
        test_raises="def load(): return {}['key']\nload()\n",
        test_marker="import pytest\n@pytest.mark.parametrize('a', [1])\ndef test_m(b): pass\n",
        test_lookup="def test_l(no_such_fixture): pass\ndef test_fine(): pass\n",
    )
    suite.result = suite.run("--continue-on-collection-errors", "--ignore=sub")
    return suite


def failure(suite, nodeid):
    return suite.trace(nodeid).failure


def test_each_broken_module_is_an_error(suite):
    found = {trace.nodeid: trace.outcome for trace in suite.traces}

    assert found == {
        "test_import.py": "error",
        "test_syntax.py": "error",
        "test_raises.py": "error",
        "test_marker.py": "error",
        "test_lookup.py::test_l": "error",
        "test_lookup.py::test_fine": "passed",
    }
    assert suite.info.totals.errors == suite.result.counts["errors"] == 5


def test_a_missing_module(suite):
    error = failure(suite, "test_import.py").errors[0]

    assert (error.type, error.message) == ("ModuleNotFoundError", "No module named 'no_such_module'")
    assert (error.frames[-1].file, error.frames[-1].line) == ("test_import.py", 1)
    assert failure(suite, "test_import.py").phase == "collect"


def test_a_syntax_error(suite):
    error = failure(suite, "test_syntax.py").errors[0]

    assert error.type == "SyntaxError"
    assert "test_syntax.py" in error.message


def test_what_a_module_raises(suite):
    error = failure(suite, "test_raises.py").errors[0]

    assert (error.type, error.message) == ("KeyError", "'key'")
    assert [(frame.function, frame.line) for frame in error.frames][-2:] == [("<module>", 2), ("load", 1)]


def test_parametrize_without_its_argument(suite):
    assert "uses no argument 'a'" in failure(suite, "test_marker.py").errors[0].message


def test_an_unknown_fixture(suite):
    found = failure(suite, "test_lookup.py::test_l")

    assert found.phase == "setup"
    assert found.errors[0].type == "FixtureLookupError"
    assert found.errors[0].message.startswith("fixture 'no_such_fixture' not found")
    assert found.errors[0].frames[-1].function == "test_l"


def test_clusters_of_collection_errors(suite):
    categories = {cluster.tests[0]: cluster.category for cluster in suite.analysis.clusters}

    assert categories["test_import.py"] == "MISSING_DEPENDENCY"
    assert categories["test_lookup.py::test_l"] == "FIXTURE"


def test_the_same_outcome_without_the_plugin(suite):
    plain = suite.run("--continue-on-collection-errors", "--ignore=sub", on=False)

    assert (suite.result.counts, suite.result.ret) == (plain.counts, plain.ret)


def test_a_broken_conftest_below(suite):
    result = suite.run("--continue-on-collection-errors", "sub")
    plain = suite.run("--continue-on-collection-errors", "sub", on=False)

    assert result.ret == plain.ret
    assert "no_such_plugin" in result.out + result.err


def test_a_broken_conftest_that_collection_meets(tmp_path):
    suite = Suite(
        tmp_path,
        {"tests/sub/conftest.py": "import no_such_plugin\n", "tests/sub/test_sub.py": "def test_s(): pass\n"},
        test_top="def test_top(): pass\n",
    )
    result = suite.run("--continue-on-collection-errors")

    assert (result.ret, result.counts) == (1, {"passed": 1, "errors": 1})
    (error,) = [trace for trace in suite.traces if trace.outcome == "error"]
    assert error.nodeid.startswith("tests/sub")
    assert error.failure.errors[0].message == "No module named 'no_such_plugin'"
    assert error.failure.errors[0].frames[-1].file == "tests/sub/conftest.py"


def test_interrupted_by_collection_errors_is_still_analysed(tmp_path):
    suite = Suite(tmp_path, test_a="import no_such_module\n", test_b="def test_b(): pass\n")
    result = suite.run()

    assert result.ret == 2
    assert [trace.nodeid for trace in suite.traces] == ["test_a.py"]
    assert result.headline.startswith("TraceTriage: 1 failure -> 1 root cause")
    assert suite.info.exit_status == 2


def test_a_hundred_modules_with_one_cause(tmp_path):
    suite = Suite(tmp_path, lib="import gone\n", **{f"test_{n:03}": "import lib\n" for n in range(100)})
    result = suite.run("--continue-on-collection-errors")

    assert result.headline.startswith("TraceTriage: 100 failures -> 1 root cause")
    assert result.counts["errors"] == 100
    assert result.block("ERRORS").count("No module named 'gone'") == 1, "one exemplar of a hundred"


def test_only_collecting_records_nothing(tmp_path):
    suite = Suite(tmp_path, test_a="def test_a(): pass\n")
    result = suite.run("--collect-only")

    assert result.ret == 0
    assert suite.runs == []
