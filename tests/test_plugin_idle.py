"""Installed but off: nothing is imported, nothing is written, nothing is printed."""

from __future__ import annotations

from capture.suite import Suite

IMPORTED = """
    import sys
    def pytest_unconfigure():
        names = {name.partition(".")[0] for name in sys.modules} & {"msgspec", "click", "rich", "jinja2", "asyncio", "email"}
        own = {name for name in sys.modules if name.startswith("pytest_tracetriage")}
        print("THIRD", sorted(names), "OWN", sorted(own))
"""
OWN = "OWN ['pytest_tracetriage', 'pytest_tracetriage.hookspecs', 'pytest_tracetriage.plugin']"


def imported(result):
    return next(line for line in result.lines if line.startswith("THIRD"))


def test_an_idle_run_imports_the_entry_point_and_the_hooks_only(tmp_path):
    suite = Suite(tmp_path, conftest=IMPORTED, test_a="def test_a(): pass\n")
    plain, idle = suite._run([*suite.command(on=False)[:3], "-pno:cacheprovider"], suite._chosen("", None)), suite.run(on=False)

    assert imported(idle).endswith(OWN)
    assert imported(idle).partition(" OWN")[0] == imported(plain).partition(" OWN")[0]
    assert "msgspec" not in imported(idle)


def test_an_idle_run_with_failures_imports_no_more(tmp_path):
    suite = Suite(tmp_path, conftest=IMPORTED, test_a="def test_a(): assert 0\n")

    assert imported(suite.run(on=False)).endswith(OWN)


def test_an_idle_run_leaves_no_trace(tmp_path):
    suite = Suite(tmp_path, test_a="def test_a(): assert 0\n")
    result = suite.run(on=False)

    assert not suite.folder.exists()
    assert "tracetriage" not in result.out.lower().replace("plugins: tracetriage", "")


def test_a_green_run_that_records_imports_no_later_stage(tmp_path):
    suite = Suite(tmp_path, conftest=IMPORTED, test_a="def test_a(): pass\n")
    line = imported(suite.run())

    assert "pytest_tracetriage.capture.recorder" in line
    for stage in ("triage.analyze", "triage.signature", "commands", "report.traceback", "collect.junit"):
        assert f"pytest_tracetriage.{stage}" not in line
    for name in ("click", "rich", "jinja2"):
        assert f"'{name}'" not in line.partition("OWN")[0]


def test_a_conftest_with_our_hooks_does_not_break_an_idle_run(tmp_path):
    hooks = ("redact(text)", "classify(failure)", "join(signatures)", "notify(analysis)", "formats()")
    conftest = "".join(f"def pytest_tracetriage_{hook}: raise RuntimeError('called')\n" for hook in hooks)
    result = Suite(tmp_path, conftest=conftest, test_a="def test_a(): pass\n").run(on=False)

    assert (result.ret, result.counts) == (0, {"passed": 1})


def test_an_unknown_hook_is_told_by_pytest(tmp_path):
    suite = Suite(tmp_path, conftest="def pytest_tracetriage_redcat(text): pass\n", test_a="def test_a(): pass\n")
    result = suite.run(on=False)

    assert result.ret != 0
    assert "unknown hook 'pytest_tracetriage_redcat'" in result.out + result.err
