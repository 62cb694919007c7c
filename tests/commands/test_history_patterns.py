"""`tracetriage history patterns`, and where else patterns are told: over histories recorded by hand, minutes apart."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import textwrap
import time

import pytest
from commands.recorded import PAY, record
from diagnose.test_inputs import WASTE
from store.remembered import cluster, item, open_at

NAMES = {name: f"test_suite.py::test_{name}" for name in "ab"}
A, B = NAMES.values()


@pytest.fixture
def remembered(empty):
    """Return a function that puts runs of the last hour into the history, one a commit: `F` where a test fails."""

    def add(**courses):
        runs, began = [], time.time() - 3600
        for number, signs in enumerate(zip(*courses.values(), strict=True)):
            red = [name for name, sign in zip(courses, signs, strict=True) if sign == "F"]
            outcomes = [(NAMES[name], "failed" if name in red else "passed") for name in courses]
            shown = [(cluster(name.upper(), name=f"Error {name}"), [NAMES[name]], []) for name in red]
            runs.append(item(began + 30 * number, outcomes, shown, commit=f"{number:040x}"))
        open_at(empty / ".tracetriage" / "history").add(runs)

    return add


FLAKY = "..F...F....F..F.....F..F"
BROKEN = "." * 20 + "FFF" + "." * 20 + "FFFFFFFF" + "." * 9


@pytest.fixture
def known(remembered):
    remembered(a=(FLAKY * 3)[:60], b=BROKEN)


def patterns(tracetriage, *args):
    result = tracetriage("history", "patterns", "--format", "json", *args)
    assert (result.code, result.err) == (0, "")
    return json.loads(result.out)


def test_patterns_are_found_and_told_in_three_forms(known, tracetriage):
    found = patterns(tracetriage)
    assert {(each["kind"], each["name"]) for each in found["patterns"]} == {
        ("FLAKY", A), ("REGRESSION", "Error b"), ("SLOW_CONVERGENCE", "Error b"), ("REPEATED_FAILURE", "Error b"),
    }  # fmt: skip
    [flaky] = [each for each in found["patterns"] if each["kind"] == "FLAKY"]
    assert (flaky["frequency"]["hits"], flaky["frequency"]["trials"]) == (15, 60)
    assert [int(point["commit"], 16) for point in flaky["evidence"]][-3:] == [50, 54, 59]
    assert flaky["confidence"] >= 0.9
    kinds = {issue["kind"]: issue for issue in found["issues"]}
    assert kinds["FLAKY_TEST"]["id"] == flaky["id"] == "FLAKY-TEST-1"
    assert {"FAILURE_MODE", "COST_SINK", "SLOW_TEST"} <= kinds.keys()
    assert found["notes"] == []
    shown = tracetriage("history", "patterns").out
    assert "patterns, last 7 days  60 runs, judged by 90 days\n" in shown
    assert "was fixed and came back once; was fixed after 8 commits" in shown
    assert f"| FLAKY-TEST-1 | `{A}` | fails 25 % [15, 37] of attempts: 15 at 15 commits |" in (
        tracetriage("history", "patterns", "--format", "markdown").out
    )


def test_the_history_shows_them_too(known, tracetriage):
    assert "  FLAKY-TEST-1" in tracetriage("history").out
    assert json.loads(tracetriage("history", "--format", "json").out)["patterns"]["patterns"]


def test_too_little_data_says_so(remembered, tracetriage):
    remembered(a="F.F.", b="....")
    found = patterns(tracetriage)
    assert found["patterns"] == []
    assert found["notes"] == [
        "flaky tests: insufficient traces: 4 of 20",
        "retry patterns and failure modes: insufficient traces: 4 of 20",
    ]
    assert "insufficient traces: 4 of 20" in tracetriage("history", "patterns").out


def test_settings_and_options_bound_what_is_told(known, tracetriage, empty, monkeypatch):
    monkeypatch.setenv("TRACETRIAGE_PATTERN_MIN_FREQUENCY", "0.9")
    assert patterns(tracetriage)["patterns"] == []
    monkeypatch.setenv("TRACETRIAGE_PATTERN_MIN_FREQUENCY", "1.5")
    assert "TRACETRIAGE_PATTERN_MIN_FREQUENCY = '1.5': expected a number from 0" in tracetriage("history", "patterns").mistake
    monkeypatch.delenv("TRACETRIAGE_PATTERN_MIN_FREQUENCY")
    monkeypatch.setenv("TRACETRIAGE_PATTERN_TOP", "1")
    monkeypatch.setenv("TRACETRIAGE_PATTERN_WINDOW", "3")
    found = patterns(tracetriage)
    assert (found["window"]["days"], found["window"]["top"]) == (3, 1)
    assert len([issue for issue in found["issues"] if issue["kind"] == "SLOW_TEST"]) == 1
    assert patterns(tracetriage, "--days", "2", "--top", "5")["window"] == found["window"] | {"days": 2, "top": 5}
    assert patterns(tracetriage, "--branch", "other")["window"]["runs"] == 0


def test_an_empty_history_has_none(empty, tracetriage):
    assert tracetriage("history", "patterns").out.splitlines()[:2] == [
        "patterns, last 7 days  0 runs, judged by 90 days",
        "  none",
    ]


def test_a_report_says_beside_its_row_that_the_test_is_flaky(known, empty, tracetriage):
    pull = record(empty / "pr", 9, {A: PAY, B: "passed"}, branch="t", event="pull_request", pull_request="5", ci_run="50")
    text = tracetriage("report", pull, "--history", empty / ".tracetriage" / "history").out
    assert "flaky, fails 25 % [15, 37] |" in text
    assert f"- FLAKY-TEST-1 `{A}`: fails 25 % [15, 37] of attempts: 15 at 15 commits" in text


def test_the_next_pytest_run_says_so_without_asking_the_history(known, empty, tracetriage):
    assert tracetriage("history", "add", record(empty / "recorded", 1, {A: PAY, B: "passed"})).code == 0
    (empty / "test_suite.py").write_text("def test_a():\n    raise TimeoutError('no answer after 5 s')\n", encoding="utf-8")
    (empty / "conftest.py").write_text(
        "import sys\ndef pytest_unconfigure():\n    print('DUCKDB', 'duckdb' in sys.modules)\n", encoding="utf-8"
    )
    command = [sys.executable, "-m", "pytest", "--tracetriage", "-p", "no:cacheprovider", "-p", "no:asyncio"]
    done = subprocess.run(command, cwd=empty, capture_output=True, text=True, check=False)
    assert re.search(r"flaky, fails 2\d % \[\d\d, \d\d\] · ", done.stdout)
    assert "DUCKDB False" in done.stdout
    kept = empty / ".tracetriage" / "patterns.json"
    kept.write_text("{", encoding="utf-8")
    done = subprocess.run(command, cwd=empty, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "flaky" not in done.stdout
    assert "warning" not in done.stdout


def test_what_calls_cost_is_kept_by_test_and_told(empty, tracetriage, monkeypatch):
    (empty / "test_suite.py").write_text(SPENDING, encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "--tracetriage", "-p", "no:cacheprovider", "-p", "no:asyncio"]
    subprocess.run(command, cwd=empty, capture_output=True, text=True, check=True)
    assert tracetriage("history", "add").code == 0
    sinks = [issue for issue in patterns(tracetriage)["issues"] if issue["kind"] == "COST_SINK" and issue["unit"] == "tokens"]
    assert [(sink["id"], sink["subject"], sink["amount"]) for sink in sinks] == [
        ("COST-SINK-1", "test_suite.py::test_dear", 5000), ("COST-SINK-2", "test_suite.py::test_cheap", 10),
    ]  # fmt: skip
    assert sinks[0]["words"].startswith("5,000 tokens in 1 run, 100 % of all; 1 call")


SPENDING = """\
import pytest
pytest.importorskip("opentelemetry.sdk")
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider

trace.set_tracer_provider(TracerProvider())


def call(tokens):
    with trace.get_tracer("t").start_as_current_span("chat m") as span:
        span.set_attribute("gen_ai.operation.name", "chat")
        span.set_attribute("gen_ai.request.model", "no-such-model")
        span.set_attribute("gen_ai.usage.input_tokens", tokens)
        span.set_attribute("gen_ai.usage.output_tokens", 0)


def test_cheap():
    call(10)


def test_dear():
    call(5000)
"""


def test_needless_calls_are_told_with_what_they_cost(empty, tracetriage):
    (empty / "test_a.py").write_text(textwrap.dedent(WASTE), encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "-q", "--tracetriage", "-p", "no:cacheprovider"]
    assert subprocess.run(command, cwd=empty, capture_output=True, check=False).returncode == 1
    shown = tracetriage("diagnose", "--no-rerun").out
    lines = shown[shown.index("calls that need not have been made") :].splitlines()
    assert lines[1].startswith("  cache miss, gpt-4o: 2 calls too many in 1 trace, $0.0102, 4,020 tokens, ")
    assert {line.split(",")[0].strip() for line in lines[2:5]} == {"after the failure", "repeated call", "retry"}
    written = tracetriage("diagnose", "--no-rerun", "--format", "markdown").out
    assert "## Calls that need not have been made" in written
    assert "cache miss, gpt-4o: 2 calls too many" in written

    assert tracetriage("history", "add").code == 0
    sinks = [each for each in patterns(tracetriage)["issues"] if each["kind"] == "COST_SINK"]
    [miss] = [each for each in sinks if each["subject"] == "cache miss: gpt-4o"]
    assert (miss["unit"], miss["amount"]) == ("US dollars", pytest.approx(0.0102))
    assert re.fullmatch(r"2 calls too many, \$0\.01, 4,020 tokens, \S+ s; of 1 run kept here", miss["words"])
    assert not any("cache miss" in each["subject"] for each in patterns(tracetriage, "--branch", "other")["issues"])
    for style in ("terminal", "markdown"):
        assert "cache miss: gpt-4o" in tracetriage("history", "patterns", "--format", style).out
