"""The files of real runs, against what was raised in them and against each other."""

from __future__ import annotations

import json
import re

import pytest
from collect.conftest import STYLES, read
from failing_suite import CAUSES, CRASHING, FILES, run, write

from pytest_tracetriage.collect import junit, reportlog

UNPRINTED = {"tests/test_cart.py::test_missing"}  # pytest prints the fixture instead of the exception


def said(trace):
    """What a signature is made of."""
    if trace.failure is None:
        return trace.outcome, trace.reason
    if not trace.failure.errors:
        return trace.outcome, trace.failure.text
    error = trace.failure.errors[0]
    frame = next((f for f in reversed(error.frames) if f.origin == "app"), None)
    place = (frame.file, frame.function) if frame else None
    return trace.outcome, trace.failure.phase, error.type, place, error.message.split("\n")[0]


def by_nodeid(traces):
    found = {}
    for trace in traces:
        if not trace.rerun:
            found.setdefault(trace.nodeid, [])
            if said(trace) not in found[trace.nodeid]:
                found[trace.nodeid].append(said(trace))
    # JUnit leaves out that a test passed whose teardown failed.
    return {nodeid: [s for s in all_ if s[0] != "passed"] or all_ for nodeid, all_ in found.items()}


@pytest.mark.parametrize("format_", [reportlog.FORMAT, junit.FORMAT], ids=lambda f: f.name)
@pytest.mark.parametrize("style", STYLES)
def test_reports_what_was_raised(suites, style, format_):
    root = suites(style)
    traces, problems = read(format_, root / ("log.jsonl" if format_.name == "reportlog" else "junit.xml"))
    assert not problems
    raised = {(t.nodeid, t.failure.phase): t.failure.errors[0] for t in traces if t.failure and t.failure.errors}
    checked = 0
    for line in (root / "witness.jsonl").read_text().splitlines():
        seen = json.loads(line)
        if seen["nodeid"] in UNPRINTED or (seen["nodeid"], seen["when"]) not in raised:
            continue
        error = raised[seen["nodeid"], seen["when"]]
        if seen["type"] in {"Skipped", "XFailed"} or "doctest" in seen["type"]:
            continue
        assert error.type == seen["type"], seen
        assert error.message.rstrip() == re.sub(r"\x1b\[[\d;]*m", "", seen["message"]).rstrip(), seen
        if seen["where"] and style != "line":
            frame = [f for f in error.frames if f.origin == "app"][-1]
            assert f"{frame.file}:{frame.line}:{frame.function}" == seen["where"], seen
        checked += 1
    assert checked >= 23


@pytest.mark.parametrize("style", STYLES)
def test_both_files_name_the_same_tests(suites, style):
    root = suites(style)
    log, xml = (by_nodeid(read(f, root / n)[0]) for f, n in ((reportlog.FORMAT, "log.jsonl"), (junit.FORMAT, "junit.xml")))
    assert sorted(log) == sorted(xml)
    same = [nodeid for nodeid in log if log[nodeid] == xml[nodeid]]
    differing = {nodeid: (log[nodeid], xml[nodeid]) for nodeid in log if log[nodeid] != xml[nodeid]}
    # JUnit does not tell an unexpected pass, and with --tb=line only the report log knows where it was.
    assert style == "line" or set(differing) == {"tests/test_cart.py::test_xpass"}, differing
    assert len(same) >= 20


def test_outcomes_of_a_run(suites):
    traces, _ = read(reportlog.FORMAT, suites("auto") / "log.jsonl")
    outcomes = {(t.nodeid.partition("test_cart.py::")[2], t.outcome): t.reason for t in traces}
    expected = {
        ("test_skip", "skipped"): "later",
        ("test_xfail", "xfailed"): "known",
        ("test_xfail_inside", "xfailed"): "deep inside",
        ("test_xpass", "xpassed"): "maybe",
        ("test_xpass_strict", "failed"): "",
        ("test_setup", "error"): "",
        ("test_teardown", "passed"): "",
        ("test_teardown", "error"): "",
        ("test_passes", "passed"): "",
    }
    assert {key: outcomes.get(key) for key in expected} == expected
    missing = next(t for t in traces if t.nodeid.endswith("::test_missing"))
    assert missing.failure.errors[0].type == "FixtureLookupError"
    assert missing.failure.errors[0].message == "fixture 'db' not found"
    assert [f.function for f in missing.failure.errors[0].frames] == ["test_missing"]
    printed = next(t for t in traces if t.nodeid.endswith("::test_printed"))
    assert ("Captured stdout call", "said so\n") in printed.sections
    assert len({t.id for t in traces}) == len(traces)


def test_collection_errors(suites):
    traces, _ = read(reportlog.FORMAT, suites("auto") / "log.jsonl")
    found = {t.nodeid: t for t in traces if t.failure and t.failure.phase == "collect"}
    kinds = {nodeid: t.failure.errors[0].type for nodeid, t in found.items()}
    assert kinds == {
        "tests/test_import.py": "ModuleNotFoundError",
        "tests/test_raises.py": "KeyError",
        "tests/test_syntax.py": "SyntaxError",
    }
    frames = found["tests/test_raises.py"].failure.errors[0].frames
    assert [(f.file, f.function, f.origin) for f in frames] == [
        ("tests/test_raises.py", "<module>", "test"),
        ("shop/cart.py", "price", "app"),
    ]


@pytest.mark.parametrize("style", ["auto", "short", "native"])
def test_chains_and_groups(suites, style):
    for format_, name in ((reportlog.FORMAT, "log.jsonl"), (junit.FORMAT, "junit.xml")):
        traces = {t.nodeid.rpartition("::")[2]: t for t in read(format_, suites(style) / name)[0] if t.failure}
        shape = {
            key: [(e.type, e.link, e.parent) for e in traces[key].failure.errors]
            for key in ("test_cause", "test_context", "test_never_raised")
        }
        assert shape == {
            "test_cause": [("shop.cart.Refused", "raised", -1), ("json.decoder.JSONDecodeError", "cause", 0)],
            "test_context": [("KeyError", "raised", -1), ("json.decoder.JSONDecodeError", "context", 0)],
            "test_never_raised": [("RuntimeError", "raised", -1), ("KeyError", "cause", 0)],
        }
        if "test_group" in traces:
            assert [(e.type, e.link, e.parent) for e in traces["test_group"].failure.errors] == [
                ("ExceptionGroup", "raised", -1),
                ("shop.cart.Refused", "member", 0),
                ("json.decoder.JSONDecodeError", "cause", 1),
                ("shop.cart.Refused", "member", 0),
                ("json.decoder.JSONDecodeError", "cause", 3),
                ("OSError", "member", 0),
            ]


def test_started_below_the_root(tmp_path):
    write(tmp_path, {name: FILES[name] for name in ("shop/__init__.py", "shop/cart.py", "tests/test_cart.py")})
    run(tmp_path, "-k", "test_key or test_missing or test_setup", start="tests")
    for format_, name in ((reportlog.FORMAT, "log.jsonl"), (junit.FORMAT, "junit.xml")):
        traces, problems = read(format_, tmp_path / name)
        assert not problems
        assert {t.nodeid.partition("::")[0] for t in traces} == {"tests/test_cart.py"}
        files = {f.file for t in traces if t.failure for f in t.failure.errors[0].frames}
        assert files == {"tests/test_cart.py", "shop/cart.py"}


def test_subtests_reruns_and_timeouts(tmp_path):
    write(tmp_path, {"test_causes.py": CAUSES})
    printed = run(tmp_path)
    traces, problems = read(reportlog.FORMAT, tmp_path / "log.jsonl")
    assert not problems
    found = {(t.nodeid.partition("::")[2], t.subtest, t.outcome, t.rerun, t.attempt) for t in traces}
    assert {
        ("test_flaky", "", "failed", True, 1),
        ("test_flaky", "", "passed", False, 2),
        ("test_slow", "", "timeout", False, 1),
    } <= found, printed
    if pytest.version_tuple >= (9,):  # which brought the fixture
        assert {
            ("test_subtests", "[part] (i=0)", "passed", False, 1),
            ("test_subtests", "[part] (i=1)", "failed", False, 1),
            ("test_subtests", "", "failed", False, 1),
        } <= found, printed
        parent = next(t for t in traces if t.nodeid.endswith("test_subtests") and not t.subtest)
        assert parent.failure is None
        assert parent.reason == "contains 1 failed subtest"
    slow = next(t for t in read(junit.FORMAT, tmp_path / "junit.xml")[0] if t.nodeid.endswith("test_slow"))
    assert slow.outcome == "timeout"


def test_a_worker_that_died(tmp_path):
    write(tmp_path, {"test_crashing.py": CRASHING})
    run(tmp_path, "-n1", "--max-worker-restart=0")
    for format_, name in ((reportlog.FORMAT, "log.jsonl"), (junit.FORMAT, "junit.xml")):
        traces, problems = read(format_, tmp_path / name)
        assert not problems
        assert {(t.nodeid, t.outcome) for t in traces} == {
            ("test_crashing.py::test_before", "passed"),
            ("test_crashing.py::test_dies", "crashed"),
        }
        died = next(t for t in traces if t.outcome == "crashed")
        assert died.failure.text == "worker 'gw0' crashed while running 'test_crashing.py::test_dies'"
        assert not died.failure.errors
