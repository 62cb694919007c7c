"""The extension points: from a module that the settings name, for the command; from a conftest, inside pytest."""

from __future__ import annotations

import json
import sys

import pytest

from pytest_tracetriage.commands import main

EXAMPLE = '''
"""A plugin with every hook. It reads `name;outcome;message` lines."""

from pathlib import Path

import pytest

from pytest_tracetriage.collect.formats import Format
from pytest_tracetriage.model.analysis import Problem
from pytest_tracetriage.model.trace import Error, Failure, Trace


def read(file, name):
    for number, line in enumerate(file, 1):
        parts = line.decode().rstrip().split(";")
        if len(parts) != 3:
            yield Problem(name, number, "expected three fields")
            continue
        failure = Failure("call", (Error("CsvError", parts[2]),)) if parts[1] == "failed" else None
        yield Trace(id=str(number), nodeid=parts[0], outcome=parts[1], failure=failure)


def pytest_tracetriage_formats():
    return [Format("semicolons", lambda head: head.startswith(b"t.py::"), read)]


def pytest_tracetriage_classify(failure):
    if "warehouse" in failure.errors[0].message:
        return "WAREHOUSE", "infrastructure", "the message names the warehouse"
    return None


def pytest_tracetriage_join(signatures):
    doors = sorted(signature.id for signature in signatures if "door" in signature.message)
    return [(doors[0], other, "all about doors") for other in doors[1:]]


def pytest_tracetriage_redact(text):
    return text.replace("badge-ann", "badge-***")


@pytest.hookimpl
def pytest_tracetriage_notify(analysis):
    Path("told.txt").write_text(f"{analysis.totals.failures} {len(analysis.clusters)}", encoding="utf-8")
'''
LOG = """\
t.py::a;passed;
t.py::b;failed;the red door is stuck
t.py::c;failed;somebody lost the key of the green door
t.py::d;failed;warehouse burnt down, says badge-ann
nonsense
"""


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project whose settings name the example plugin, as the current folder."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pyproject.toml").write_text('[tool.tracetriage]\nplugins = ["shop_triage"]\n', encoding="utf-8")
    (tmp_path / "shop_triage.py").write_text(EXAMPLE, encoding="utf-8")
    (tmp_path / "log.txt").write_text(LOG, encoding="utf-8")
    yield tmp_path
    sys.modules.pop("shop_triage", None)


@pytest.fixture
def tracetriage(monkeypatch, capsys):
    def call(*args):
        monkeypatch.setattr(sys, "argv", ["tracetriage", *args])
        with pytest.raises(SystemExit) as stop:
            main()
        return stop.value.code, *capsys.readouterr()

    return call


def test_the_command_hears_every_hook(project, tracetriage):
    code, out, _ = tracetriage("analyze", "log.txt", "--format", "json")
    assert code == 1
    found = json.loads(out)
    assert found["runs"][0]["format"] == "semicolons"
    assert found["totals"]["tests"] == 4
    assert [(problem["line"], problem["message"]) for problem in found["problems"]] == [(5, "expected three fields")]
    by_tests = {tuple(cluster["tests"]): cluster for cluster in found["clusters"]}
    assert set(by_tests) == {("t.py::b", "t.py::c"), ("t.py::d",)}
    warehouse = by_tests["t.py::d",]
    assert (warehouse["category"], warehouse["owner"], warehouse["classified"]) == (
        "WAREHOUSE",
        "infrastructure",
        "the message names the warehouse",
    )
    assert {"evidence": "decision", "detail": "all about doors"}.items() <= by_tests["t.py::b", "t.py::c"]["why"][0].items()
    assert (project / "told.txt").read_text(encoding="utf-8") == "3 2"


def test_a_format_of_a_plugin_can_be_forced(project, tracetriage):
    (project / "log.txt").write_text("# odd\n" + LOG, encoding="utf-8")
    assert tracetriage("analyze", "log.txt")[0] == 2
    code, out, _ = tracetriage("analyze", "log.txt", "--from", "semicolons", "--format", "json")
    assert (code, json.loads(out)["totals"]["failures"]) == (1, 3)


def test_what_is_saved_was_redacted_by_the_plugin_too(project, tracetriage):
    tracetriage("analyze", "log.txt", "--save")
    (run,) = (project / ".tracetriage" / "runs").iterdir()
    kept = b"".join(path.read_bytes() for path in run.rglob("*") if path.is_file())
    assert b"warehouse" in kept
    assert b"badge-ann" not in kept


def test_a_notify_that_raises_is_one_warning(project, tracetriage):
    with (project / "shop_triage.py").open("a", encoding="utf-8") as file:
        file.write("\n\ndef pytest_tracetriage_notify(analysis):\n    raise RuntimeError('chat is down')\n")
    code, out, err = tracetriage("analyze", "log.txt")
    assert code == 1
    assert "3 failures" in out
    assert "chat is down" in err + out
    assert "Traceback" not in err + out


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "No module named 'shop_triage'"),
        ("1 / 0", "ZeroDivisionError: division by zero"),
        ("def pytest_tracetriage_notify(nonsense): ...", "nonsense"),
        ("def (", "SyntaxError"),
    ],
    ids=["missing", "raises", "wrong arguments", "syntax"],
)
def test_a_plugin_that_cannot_be_loaded_is_one_line(project, tracetriage, text, words):
    if text is None:
        (project / "shop_triage.py").unlink()
    else:
        (project / "shop_triage.py").write_text(text, encoding="utf-8")
    code, out, err = tracetriage("analyze", "log.txt")
    assert (code, out) == (2, "")
    assert err.startswith("tracetriage: tool.tracetriage.plugins: 'shop_triage' cannot be imported: ")
    assert words in err
    assert "Traceback" not in err


def test_rules_of_the_settings_come_before_our_own(project, tracetriage):
    (project / "pyproject.toml").write_text(
        '[tool.tracetriage]\nplugins = ["shop_triage"]\n'
        '[[tool.tracetriage.rules]]\ncategory = "DOOR"\nowner = "agent"\ntype = "^Csv"\nmessage = "door|warehouse"\n',
        encoding="utf-8",
    )
    _, out, _ = tracetriage("analyze", "log.txt", "--format", "json")
    found = {cluster["category"]: cluster for cluster in json.loads(out)["clusters"]}
    assert set(found) == {"DOOR", "WAREHOUSE"}, "the hook is asked first, then the rules of the settings"
    assert (found["DOOR"]["owner"], found["DOOR"]["classified"]) == (
        "agent",
        "rule of the project: type 'Csv' and message 'door'",
    )


def test_the_command_never_loads_a_conftest(project, tracetriage):
    (project / "conftest.py").write_text("raise RuntimeError('loaded')", encoding="utf-8")
    assert tracetriage("analyze", "log.txt")[0] == 1


# inside pytest

CONFTEST = """
from pathlib import Path

def pytest_tracetriage_classify(failure):
    return ("DOOR", "infrastructure", "a door") if "door" in failure.errors[0].message else None

def pytest_tracetriage_join(signatures):
    doors = sorted(signature.id for signature in signatures if "door" in signature.message)
    return [(doors[0], other, "all about doors") for other in doors[1:]]

def pytest_tracetriage_redact(text):
    return text.replace("badge-ann", "badge-***")

def pytest_tracetriage_notify(analysis):
    Path("told.txt").write_text(str(analysis.totals.failures))
"""
TESTS = """
def test_a():
    raise ValueError("the red door is stuck, says badge-ann")

def test_b():
    raise KeyError("somebody lost what opens the green door")

def test_c():
    assert 1 == 2

def test_d():
    pass
"""


def run(pytester, conftest, *args, tests=TESTS):
    pytester._monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")  # other plugins only cost time here
    pytester.makeconftest(conftest)
    pytester.makepyfile(tests)
    return pytester.runpytest_subprocess("-p", "no:cacheprovider", "-p", "tracetriage", *args)


def kept(pytester):
    (folder,) = (pytester.path / ".tracetriage" / "runs").iterdir()
    return folder


def test_a_conftest_is_heard(pytester):
    result = run(pytester, CONFTEST, "--tracetriage")
    result.assert_outcomes(failed=3, passed=1)
    result.stdout.fnmatch_lines(["*3 failures -> 2 root causes*", "infrastructure: door"])
    assert (pytester.path / "told.txt").read_text() == "3"
    found = json.loads((kept(pytester) / "analysis.json").read_bytes())
    (doors,) = [cluster for cluster in found["clusters"] if cluster["category"] == "DOOR"]
    assert doors["count"] == 2
    assert "all about doors" in {why.get("detail") for why in doors["why"]}
    everything = b"".join(path.read_bytes() for path in kept(pytester).rglob("*") if path.is_file())
    assert b"the red door is stuck" in everything
    assert b"badge-ann" not in everything


def test_a_conftest_with_hooks_does_not_disturb_an_idle_run(pytester):
    result = run(pytester, CONFTEST)
    result.assert_outcomes(failed=3, passed=1)
    assert not (pytester.path / ".tracetriage").exists()
    assert not (pytester.path / "told.txt").exists()


def test_a_green_run_is_told_too(pytester):
    run(pytester, CONFTEST, "--tracetriage", tests="def test_a(): pass").assert_outcomes(passed=1)
    assert (pytester.path / "told.txt").read_text() == "0"


def test_hooks_that_raise_cost_one_warning_and_no_test(pytester):
    hooks = ("classify(failure)", "join(signatures)", "notify(analysis)", "redact(text)")
    broken = "".join(f"def pytest_tracetriage_{hook}:\n    raise RuntimeError('chat is down')\n" for hook in hooks)
    result = run(pytester, broken, "--tracetriage")
    result.assert_outcomes(failed=3, passed=1)
    assert result.ret == 1
    assert "INTERNALERROR" not in result.stdout.str() + result.stderr.str()
    assert result.stdout.str().count("tracetriage: warning: ") == 1


def test_a_notify_that_raises_does_not_cost_the_report(pytester):
    result = run(
        pytester, "def pytest_tracetriage_notify(analysis):\n    raise RuntimeError('chat is down')\n", "--tracetriage"
    )
    result.stdout.fnmatch_lines(["*3 failures -> 3 root causes*", "*tracetriage: warning: *chat is down*"])
    assert (kept(pytester) / "analysis.json").exists()


@pytest.mark.parametrize("hook", ["classify(failure)", "join(signatures)"])
def test_a_hook_that_raises_in_the_command_is_one_line(project, tracetriage, hook):
    (project / "shop_triage.py").write_text(
        f"def pytest_tracetriage_{hook}:\n    raise RuntimeError('chat is down')\n", encoding="utf-8"
    )
    (project / "log.jsonl").write_text(
        '{"$report_type": "TestReport", "nodeid": "t.py::a", "outcome": "failed", "when": "call", "longrepr": "boom"}\n',
        encoding="utf-8",
    )
    code, out, err = tracetriage("analyze", "log.jsonl")
    assert code in {1, 2}
    assert "chat is down" in out + err
    assert "Traceback" not in out + err
