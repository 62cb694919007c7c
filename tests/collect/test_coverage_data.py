"""Data files of coverage.py that a project has: read where they say which test ran a line, refused with a reason otherwise."""

from __future__ import annotations

import pytest
from capture.suite import Suite
from coverage import CoverageData

from pytest_tracetriage.collect.coverage import CoverageError, read_coverage_data

APP = "def kind(n):\n    if n > 1:\n        return 'many'\n    return 'one'\n"
TESTS = """
    import app, pytest
    @pytest.mark.parametrize("n", [1, 2])
    def test_kind(n): app.kind(n)
    def test_other(): app.kind(3)
"""


def lines(coverage):
    found = {}
    for element in coverage.elements:
        held = int.from_bytes(element.tests, "little")
        for line in element.lines:
            found[coverage.functions[element.function].name, line] = {
                test for number, test in enumerate(coverage.tests) if held >> number & 1
            }
    return found


@pytest.mark.parametrize("more", [(), ("--cov-branch",), ("--cov-config=static.rc",)])
def test_contexts_of_pytest_cov(tmp_path, more):
    suite = Suite(tmp_path, {"static.rc": "[run]\ncontext = linux\nrelative_files = true\n"}, app=APP, test_a=TESTS)
    result = suite.run("--cov=.", "--cov-context=test", *more, plugins="pytest_cov", on=False)
    assert result.counts == {"passed": 3}

    coverage = read_coverage_data(tmp_path / ".coverage", tmp_path)
    one, two, other = "test_a.py::test_kind[1]", "test_a.py::test_kind[2]", "test_a.py::test_other"
    assert coverage.tests == (one, two, other)
    assert lines(coverage) == {("kind", 2): {one, two, other}, ("kind", 3): {two, other}, ("kind", 4): {one}}
    assert coverage.source == "pytest-cov"


def data_file(path, contexts):
    data = CoverageData(str(path))
    for context, numbers in contexts.items():
        data.set_context(context)
        data.add_lines({str(path.with_name("app.py")): numbers})
    data.close(force=True)
    return path


def test_what_sys_monitoring_has_recorded_is_refused(tmp_path):
    (tmp_path / "app.py").write_text("".join(f"def f{n}():\n    return {n}\n" for n in range(6)))
    each = data_file(tmp_path / ".coverage", {f"test_a.py::test_{n}|run": [2 * n + 2] for n in range(6)})
    with pytest.raises(CoverageError, match=r"sys\.monitoring.*COVERAGE_CORE=ctrace"):
        read_coverage_data(each, tmp_path)

    shared = data_file(tmp_path / "other", {f"test_a.py::test_{n}|run": [2, 2 * n + 2] for n in range(6)})
    assert len(read_coverage_data(shared, tmp_path).tests) == 6


@pytest.mark.parametrize("context", ["", "test_a.test_kind", "linux"])
def test_a_file_without_tests_says_what_to_add(tmp_path, context):
    path = data_file(tmp_path / ".coverage", {context: [2]})
    with pytest.raises(CoverageError, match="--cov-context=test"):
        read_coverage_data(path, tmp_path)


def test_a_file_of_another_project_is_refused(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    path = data_file(tmp_path / ".coverage", {"test_a.py::test_a|run": [2]})
    with pytest.raises(CoverageError, match="no function of the project"):
        read_coverage_data(path, tmp_path / "elsewhere")


@pytest.mark.parametrize("content", [None, b"", b"not a database at all, but long enough to be looked at" * 20])
def test_a_file_that_is_none_is_refused(tmp_path, content):
    path = tmp_path / ".coverage"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(CoverageError, match="no data file of coverage"):
        read_coverage_data(path, tmp_path)


def test_node_ids_are_redacted(tmp_path):
    (tmp_path / "app.py").write_text(APP)
    path = data_file(tmp_path / ".coverage", {"test_a.py::test_a[hunter2hunter2]|run": [2]})
    coverage = read_coverage_data(path, tmp_path, lambda text: text.replace("hunter2hunter2", "***"))
    assert coverage.tests == ("test_a.py::test_a[***]",)
