"""`--tracetriage-coverage`: which lines each test runs, whatever runs the tests."""

from __future__ import annotations

import json
import sqlite3
import sys

import pytest
from capture.suite import Suite

from pytest_tracetriage.store.coverage import GREEN_FILE, RED_FILE, read_map

APP = """
    import functools, threading

    def kind(n):
        if n > 1:
            return "many"
        return "one"

    def outer(n):
        @functools.lru_cache
        def inner(m):
            return m + n
        return inner(1)

    class Cart:
        size = 3
        def total(self, n): return n * self.size

    def in_thread(n):
        found = []
        thread = threading.Thread(target=lambda: found.append(kind(n)))
        thread.start()
        thread.join()
        return found

    def connect():
        return {}

    def disconnect(connection):
        connection.clear()
"""


def held(suite, file=GREEN_FILE):
    """Return {function: {line behind `def`'s: names of tests}} of the newest run's map."""
    coverage = read_map(suite.last, file)
    found = {}
    for element in coverage.elements:
        function = coverage.functions[element.function]
        bits = int.from_bytes(element.tests, "little")
        tests = {nodeid.partition("::")[2] for number, nodeid in enumerate(coverage.tests) if bits >> number & 1}
        for line in element.lines:
            found.setdefault(function.name, {})[line - function.line] = tests
    return found


def record(suite, *args, **options):
    result = suite.run("--tracetriage-coverage", *args, **options)
    assert result.warned == []
    return result


def test_each_test_has_the_lines_that_it_runs(tmp_path):
    suite = Suite(
        tmp_path,
        app=APP,
        test_a="""
            import app, pytest
            @pytest.mark.parametrize("n", [1, 2, 3])
            def test_kind(n): app.kind(n)
            def test_outer(): assert helper() == 3
            def test_total(): assert app.Cart().total(2) == 6
            def test_thread(): assert app.in_thread(1) == ["one"]
            def test_nothing(): pass
            def helper():
                return app.outer(2)
        """,
    )
    result = record(suite)

    assert result.counts == {"passed": 7}
    many, all_of_it = {"test_kind[2]", "test_kind[3]"}, {"test_kind[1]", "test_kind[2]", "test_kind[3]", "test_thread"}
    found = held(suite)
    assert found.pop("in_thread") == {line: {"test_thread"} for line in (1, 2, 3, 4, 5)}
    assert found == {
        "kind": {1: all_of_it, 2: many, 3: all_of_it - many},
        "outer": {line: {"test_outer"} for line in (1, 2, 4)},  # the decorator and the line of `def` run in what is around them
        "outer.<locals>.inner": {2: {"test_outer"}},  # counted from the decorator
        "Cart.total": {0: {"test_total"}},
        "helper": {1: {"test_outer"}},  # of a test file, and no test
    }
    coverage = read_map(suite.last)
    assert coverage.tests == tuple(sorted(trace.nodeid for trace in suite.traces))
    assert (coverage.source, coverage.run) == ("tracetriage", suite.last.name)
    assert {function.file for function in coverage.functions} == {"app.py", "test_a.py"}
    assert not (suite.last / "coverage").exists()
    assert not (suite.last / RED_FILE).exists()


def test_tests_that_fail_are_in_a_map_of_their_own(tmp_path):
    suite = Suite(
        tmp_path,
        app=APP,
        test_a="""
            import app, pytest
            def test_good(): app.kind(1)
            def test_bad(): assert app.kind(2) == "one"
            def test_skipped(): pytest.skip()
            @pytest.mark.xfail
            def test_expected(): assert app.kind(2) == "one"
            @pytest.fixture
            def broken(): app.connect().missing
            def test_error(broken): pass
        """,
    )
    record(suite)

    assert read_map(suite.last).tests == ("test_a.py::test_good",)
    assert held(suite) == {"kind": {1: {"test_good"}, 3: {"test_good"}}}
    assert held(suite, RED_FILE) == {
        "kind": {1: {"test_bad"}, 2: {"test_bad"}},
        "connect": {1: {"test_error"}},
        "broken": {1: {"test_error"}},
    }


WIDE = """
    import app, pytest

    @pytest.fixture(scope="session")
    def connection():
        made = app.connect()
        yield made
        app.disconnect(made)

    @pytest.fixture(scope="module")
    def rows(connection):
        return app.kind(1)

    @pytest.fixture
    def own():
        return app.kind(2)
"""


def test_a_fixture_of_wider_scope_counts_for_all_that_use_it(tmp_path):
    suite = Suite(
        tmp_path,
        app=APP,
        conftest=WIDE,
        test_a="""
            def test_first(connection): pass
            def test_without(own): pass
            def test_through(rows): pass
            def test_asked(request): request.getfixturevalue("connection")
        """,
        test_b="""
            class TestLast:
                @classmethod
                def setup_class(cls): import app; app.outer(1)
                def test_other(self, rows): pass
                def test_last(self): pass
        """,
    )
    record(suite)

    users = {"test_first", "test_through", "test_asked", "TestLast::test_other"}
    found = held(suite)
    assert found["connect"] == {1: users}
    assert found["disconnect"] == {1: users}
    assert found["connection"] == dict.fromkeys((2, 3, 4), users)  # counted from the decorator
    assert found["kind"] == {
        1: {"test_without", "test_through", "TestLast::test_other"},
        2: {"test_without"},
        3: {"test_through", "TestLast::test_other"},
    }
    assert found["outer"][1] == {"TestLast::test_other", "TestLast::test_last"}


def test_a_parametrized_wide_fixture_counts_for_the_tests_of_each_parameter(tmp_path):
    suite = Suite(
        tmp_path,
        app=APP,
        conftest="""
            import app, pytest
            @pytest.fixture(scope="module", params=[1, 2])
            def kind(request): return app.kind(request.param)
        """,
        test_a="def test_a(kind): pass\ndef test_b(kind): pass\n",
    )
    record(suite)

    assert held(suite)["kind"][2] == {"test_a[2]", "test_b[2]"}
    app = {line: tests for line, tests in held(suite)["kind"].items() if tests}
    assert {"test_a[1]", "test_b[1]"} in app.values()


def test_async_tests(tmp_path):
    suite = Suite(
        tmp_path,
        app=APP,
        conftest="""
            import app, pytest_asyncio
            @pytest_asyncio.fixture(scope="module", loop_scope="module")
            async def opened():
                yield app.connect()
                app.disconnect({})
        """,
        test_a="""
            import app, asyncio, pytest
            pytestmark = pytest.mark.asyncio(loop_scope="module")
            async def later(n):
                await asyncio.sleep(0)
                return app.kind(n)
            async def test_one(opened): await later(1)
            async def test_two(opened): await asyncio.gather(later(2), later(3))
            async def test_none(): pass
        """,
    )
    result = record(suite, "-o", "asyncio_default_fixture_loop_scope=function", plugins="asyncio")

    assert result.counts == {"passed": 3}
    found = held(suite)
    assert found["kind"] == {1: {"test_one", "test_two"}, 2: {"test_two"}, 3: {"test_one"}}
    assert found["connect"] == found["disconnect"] == {1: {"test_one", "test_two"}}


def test_workers_are_merged(tmp_path):
    suite = Suite(
        tmp_path,
        app=APP,
        conftest=WIDE,
        test_a="""
            import app, pytest
            @pytest.mark.parametrize("n", range(20))
            def test_n(n, connection): app.kind(n)
        """,
    )
    record(suite, "-n2", plugins="xdist")

    everyone = {f"test_n[{n}]" for n in range(20)}
    assert held(suite)["kind"] == {1: everyone, 2: everyone - {"test_n[0]", "test_n[1]"}, 3: {"test_n[0]", "test_n[1]"}}
    assert held(suite)["connect"] == {1: everyone}
    assert not (suite.last / "coverage").exists()


@pytest.mark.linux
def test_what_a_dead_worker_has_run_is_kept(tmp_path):
    suite = Suite(
        tmp_path,
        app=APP,
        conftest="import pytest_tracetriage.capture.contexts as c\nc.EVERY = 0.0\n" + WIDE.replace("\n    ", "\n"),
        test_a="""
            import app, os, signal, pytest
            @pytest.mark.parametrize("n", range(10))
            def test_n(n, connection):
                app.kind(n)
                if n == 8: os.kill(os.getpid(), signal.SIGKILL)
        """,
    )
    suite.run("--tracetriage-coverage", "-n1", plugins="xdist")

    everyone = {f"test_n[{n}]" for n in range(10) if n != 8}
    assert set(read_map(suite.last).tests) == {f"test_a.py::{name}" for name in everyone}
    assert held(suite)["kind"][1] == held(suite)["connect"][1] == everyone


@pytest.mark.linux
def test_tests_in_forked_children(tmp_path):
    suite = Suite(
        tmp_path,
        app=APP,
        conftest=WIDE,
        test_a="""
            import app, os
            def test_one(own): assert app.outer(1) == 2
            def test_two(connection): app.kind(1)
            def test_forks_itself():
                if os.fork() == 0:
                    app.connect()
                    os._exit(0)
                os.wait()
        """,
    )
    record(suite, "--forked", plugins="pytest_forked")

    found = held(suite)
    assert found["kind"] == {1: {"test_one", "test_two"}, 2: {"test_one"}, 3: {"test_two"}}
    assert found["outer"][1] == {"test_one"}
    assert found["connect"] == {1: {"test_two"}}


def test_of_a_test_that_is_run_again_the_last_attempt_counts(tmp_path):
    suite = Suite(
        tmp_path,
        app=APP,
        test_a="""
            import app
            seen = []
            def test_flaky():
                seen.append(1)
                app.kind(1 if len(seen) < 3 else 2)
                assert len(seen) == 3
            def test_bad():
                app.kind(1)
                assert 0
        """,
    )
    record(suite, "--reruns=2", plugins="rerunfailures")

    assert held(suite) == {"kind": {1: {"test_flaky"}, 2: {"test_flaky"}}}
    assert held(suite, RED_FILE) == {"kind": {1: {"test_bad"}, 3: {"test_bad"}}}


COV = ("--cov=.", "--cov-report=term")
TESTS = "import app\ndef test_one(): app.kind(1)\ndef test_two(connection): app.kind(2)\ndef test_three(connection): pass\n"
KIND = {1: {"test_one", "test_two"}, 2: {"test_two"}, 3: {"test_one"}}


@pytest.mark.parametrize("branch", [False, True])
def test_contexts_of_pytest_cov_are_read(tmp_path, branch):
    suite = Suite(tmp_path, app=APP, conftest=WIDE, test_a=TESTS)
    result = record(suite, *COV, "--cov-context=test", *["--cov-branch"] * branch, plugins="pytest_cov")

    assert held(suite)["kind"] == KIND
    assert held(suite)["connect"] == {1: {"test_two"}}  # as pytest-cov says
    assert read_map(suite.last).source == "pytest-cov"
    assert "tests coverage" in result.out


@pytest.mark.parametrize("more", [(), ("--cov-branch",), ("-n2",)])
def test_beside_pytest_cov_without_contexts_its_report_stays_the_same(tmp_path, more):
    suite = Suite(tmp_path, app=APP, conftest=WIDE, test_a=TESTS)
    plugins = "pytest_cov xdist" if more == ("-n2",) else "pytest_cov"
    alone = suite.run(*COV, *more, plugins=plugins, on=False)
    beside = record(suite, *COV, *more, plugins=plugins)

    assert held(suite)["kind"] == KIND
    assert held(suite)["connect"] == held(suite)["disconnect"] == {1: {"test_two", "test_three"}}

    def report(result):
        return [line for line in result.lines if line.startswith(("app.py  ", "conftest.py  ", "test_a.py  ", "TOTAL"))]

    assert len(report(alone)) == 4
    assert report(alone) == report(beside)


def test_dynamic_contexts_of_another_kind_are_refused(tmp_path):
    suite = Suite(
        tmp_path, {".coveragerc": "[run]\ndynamic_context = test_function\n"}, app=APP, test_a=TESTS.replace("connection", "")
    )
    result = suite.run("--tracetriage-coverage", *COV, plugins="pytest_cov")

    assert result.counts["passed"] == 3
    assert len(result.warned) == 1
    assert "dynamic_context = test_function" in result.warned[0]
    assert "--cov-context=test" in result.warned[0]
    assert not (suite.last / GREEN_FILE).exists()


@pytest.mark.parametrize("core", ["sysmon", "pytrace"])
def test_another_core_is_refused(tmp_path, core):
    suite = Suite(tmp_path, test_a="def test_a(): pass\n")
    result = suite.run("--tracetriage-coverage", env={"COVERAGE_CORE": core})

    assert result.ret == 4
    assert f"COVERAGE_CORE={core}" in result.err
    assert "set COVERAGE_CORE=ctrace" in result.err


MONITORING = pytest.mark.skipif(sys.version_info < (3, 12), reason="sys.monitoring is of 3.12")


@pytest.mark.parametrize(("core", "name"), [("pytrace", "PyTracer"), pytest.param("sysmon", "SysMonitor", marks=MONITORING)])
def test_another_core_of_pytest_cov_is_told(tmp_path, core, name):
    suite = Suite(tmp_path, {".coveragerc": f"[run]\ncore = {core}\n"}, test_a="def test_a(): pass\n")
    result = suite.run("--tracetriage-coverage", *COV, plugins="pytest_cov")

    assert result.counts == {"passed": 1}
    assert len(result.warned) == 1
    assert name in result.warned[0]
    assert "COVERAGE_CORE=ctrace" in result.warned[0]


def test_without_the_extra_it_is_named(tmp_path):
    hidden = "import sys\nsys.modules['coverage'] = None\n"
    suite = Suite(tmp_path, hide=hidden, test_a="def test_a(): pass\n")
    result = suite.run("-p", "hide", "--tracetriage-coverage", env={"PYTHONPATH": str(tmp_path)})

    assert result.ret == 4
    assert "pip install 'pytest-tracetriage[coverage]'" in result.err


def test_a_debugger_keeps_its_place(tmp_path):
    conftest = "import sys\ndef trace(*a): pass\ndef pytest_collection_finish(): sys.settrace(trace)\n"
    suite = Suite(
        tmp_path, conftest=conftest, test_a="import conftest, sys\ndef test_a(): assert sys.gettrace() is conftest.trace\n"
    )
    result = suite.run("--tracetriage-coverage")

    assert result.counts == {"passed": 1}
    assert "another tracer is active" in result.warned[0]


def test_the_setting_and_the_flag(tmp_path):
    suite = Suite(
        tmp_path, {"pytest.ini": "[pytest]\ntracetriage_coverage = true\n"}, app=APP, test_a=TESTS.replace("connection", "")
    )
    suite.run(on=False)
    assert not suite.folder.exists()
    suite.run()
    assert held(suite)["kind"] == KIND

    (tmp_path / "pytest.ini").unlink()
    suite.run("--tracetriage-coverage", on=False)
    assert len(suite.runs) == 2
    assert held(suite)["kind"] == KIND
    suite.run()
    assert not (suite.last / GREEN_FILE).exists()


def test_without_the_flag_nothing_of_it_is_imported(tmp_path):
    said = "print('LOADED', [name for name in sys.modules if 'coverage' in name])"
    suite = Suite(tmp_path, conftest=f"import sys\ndef pytest_unconfigure(): {said}\n", test_a="def test_a(): pass\n")

    assert "LOADED []" in suite.run().lines


def test_a_file_that_cannot_be_read_is_left_out_and_told(tmp_path):
    suite = Suite(
        tmp_path,
        app=APP,
        other="def f():\n    return 1\n",
        test_a="""
            import app, other, pathlib
            def test_a(): app.kind(1)
            def test_b():
                other.f()
                pathlib.Path("other.py").write_text("def f(:\\n")
        """,
    )
    result = suite.run("--tracetriage-coverage")

    assert result.counts == {"passed": 2}
    assert len(result.warned) == 1
    assert "other.py" in result.warned[0]
    assert set(held(suite)) == {"kind"}


def test_names_with_spaces_and_other_letters(tmp_path):
    root = tmp_path / "mein Projekt ä"
    suite = Suite(
        root,
        {
            "quell text/größe.py": "# -*- coding: utf-8 -*-\ndef größe(n):\n    return n\n",
            "pytest.ini": "[pytest]\npythonpath = 'quell text'\n",
        },
        test_ä="import größe\ndef test_ö(): größe.größe(1)\n",
    )
    record(suite)

    coverage = read_map(suite.last)
    assert [(function.file, function.name) for function in coverage.functions] == [("quell text/größe.py", "größe")]
    assert coverage.tests == ("test_ä.py::test_ö",)


@pytest.mark.parametrize("cov", [(), COV, (*COV, "--cov-context=test")])
def test_secrets_in_node_ids_are_written_nowhere(tmp_path, cov):
    secret = "ghp_" + "a1B2" * 9
    suite = Suite(
        tmp_path,
        app=APP,
        conftest=WIDE,
        test_a=f"""
            import app, pytest
            @pytest.mark.parametrize("word", ["{secret}", "plain"])
            def test_a(word, connection): app.kind(len(word))
        """,
    )
    record(suite, *cov, plugins="pytest_cov" if cov else "")

    assert any("[redacted " in nodeid for nodeid in read_map(suite.last).tests)
    assert len(held(suite)["kind"][1]) == 2
    assert not any(secret.encode() in data for data in suite.bytes_written().values())


def test_a_run_that_is_killed_leaves_no_secret_either(tmp_path):
    secret = "ghp_" + "a1B2" * 9
    suite = Suite(
        tmp_path,
        app=APP,
        conftest="import pytest_tracetriage.capture.contexts as c\nc.EVERY = 0.0\n",
        test_a=f"""
            import app, os, pytest
            @pytest.mark.parametrize("word", ["{secret}", "last"])
            def test_a(word):
                app.kind(len(word))
                if word == "last": os._exit(3)
        """,
    )
    suite.run("--tracetriage-coverage")

    left = sorted((suite.last / "coverage").glob("*.lines"))
    assert left
    with sqlite3.connect(left[0]) as data:
        assert json.dumps(data.execute("SELECT context FROM context").fetchall())
    assert not any(secret.encode() in data for data in suite.bytes_written().values())


def test_a_broken_disk_costs_the_map_only(tmp_path):
    conftest = """
        import sqlite3
        import pytest_tracetriage.collect.coverage as c
        def broken(*a, **k): raise sqlite3.OperationalError("disk I/O error")
        c._read = broken
    """
    suite = Suite(tmp_path, app=APP, conftest=conftest, test_a="import app\ndef test_a(): app.kind(1)\n")
    result = suite.run("--tracetriage-coverage")

    assert (result.ret, result.counts) == (0, {"passed": 1})
    assert "disk I/O error" in result.warned[0]
