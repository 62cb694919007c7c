from __future__ import annotations

import json
import math
import tracemalloc

import pytest
from collect.conftest import Endless, read
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_tracetriage.collect import reportlog
from pytest_tracetriage.collect.bounds import FRAMES, MESSAGE, SECTION
from pytest_tracetriage.model.trace import Trace


def report(**fields):
    return {
        "nodeid": "tests/test_a.py::test_a",
        "outcome": "passed",
        "when": "call",
        "longrepr": None,
        "duration": 0.5,
        "$report_type": "TestReport",
        **fields,
    }


def encode(*reports):
    return b"".join(json.dumps(r).encode() + b"\n" for r in reports)


def entry(path, line, message="", lines=("    def f():", ">       g()")):
    place = {"path": path, "lineno": line, "message": message}
    return {"type": "ReprEntry", "data": {"lines": list(lines), "reprfileloc": place, "style": "long"}}


def longrepr(entries, crash):
    traceback = {"reprentries": entries, "extraline": None, "style": "long"}
    return {"reprcrash": crash, "reprtraceback": traceback, "sections": [], "chain": [[traceback, crash, None]]}


def failed(message="ValueError: no", **fields):
    lines = ["    def f():", ">       g()", *(f"E       {line}" for line in message.split("\n"))]
    entries = [entry("tests/test_a.py", 3, message.partition(":")[0], lines)]
    crash = {"path": "/home/me/project/tests/test_a.py", "lineno": 3, "message": message}
    return report(outcome="failed", longrepr=longrepr(entries, crash), **fields)


def test_only_what_says_something():
    green = [report(when="setup"), report(), report(when="teardown")]
    collected = report(nodeid="tests/test_a.py", **{"$report_type": "CollectReport"})
    other = {"$report_type": "WarningMessage", "message": "old", "category": "DeprecationWarning"}
    traces, problems = read(reportlog.FORMAT, encode({"$report_type": "SessionStart"}, collected, other, *green))
    assert not problems
    assert [(t.nodeid, t.outcome, t.phases) for t in traces] == [("tests/test_a.py::test_a", "passed", {"call": 0.5})]


def test_good_lines_around_bad_ones():
    cut = encode(failed())[:200]
    body = b"\n".join([encode(report()), cut, b"\x00\x01", "né".encode("latin-1"), b"[1]", b"{", encode(failed())])
    traces, problems = read(reportlog.FORMAT, body)
    assert [t.outcome for t in traces] == ["passed", "failed"]
    assert [p.line for p in problems] == [3, 4, 5, 6, 7]
    assert all(p.file == "a-file" for p in problems)
    assert "binary" in problems[1].message
    assert "not UTF-8" in problems[2].message


def test_many_bad_lines_are_counted():
    traces, problems = read(reportlog.FORMAT, b"?\n" * 1000 + encode(report()))
    assert len(traces) == 1
    assert len(problems) == 21
    assert problems[-1].message == "980 more lines could not be read"


def test_a_line_of_100_mb_does_not_stop_the_rest():
    file = Endless(encode(report()), b'{"nodeid": "', 100_000_000, b'"}\n', encode(failed()))
    tracemalloc.start()
    try:
        items = list(reportlog.FORMAT.read(file, "a-file"))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert [item.id for item in items if isinstance(item, Trace)] == ["1", "3"]
    assert [(p.line, "longer than" in p.message) for p in items if not isinstance(p, Trace)] == [(2, True)]
    assert peak < 50_000_000


def test_memory_does_not_grow_with_the_file():
    def peak(times):
        file = Endless(*[encode(failed(), report()) * 100] * times)
        tracemalloc.start()
        try:
            read = sum(1 for _ in reportlog.FORMAT.read(file, "a-file"))
            return read, tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    (few, small), (many, large) = peak(2), peak(30)
    assert (few, many) == (400, 6000)
    assert large < small + 500_000


def test_what_python_writes_and_json_forbids():
    body = encode(report(user_properties=[["load", math.nan]], sections=[["out", "\ud800"]], outcome="failed"))
    traces, problems = read(reportlog.FORMAT, body)
    assert not problems
    assert traces[0].sections == (("out", "?"),)


def test_deep_nesting_is_a_problem_of_its_line():
    deep = b'{"nodeid": ' + b"[" * 200_000 + b"]" * 200_000 + b"}"
    traces, problems = read(reportlog.FORMAT, deep + b"\n" + encode(report()))
    assert [t.outcome for t in traces] == ["passed"]
    assert [p.line for p in problems] == [1]


def test_bounds():
    long = failed("ValueError: " + "m" * 50_000, sections=[["Captured stdout call", "s" * 50_000]])
    deep = failed()
    deep["longrepr"]["chain"][0][0]["reprentries"] = [entry("tests/test_a.py", n, "X") for n in range(1, 200)]
    chain = failed()
    chain["longrepr"]["chain"] *= 100
    traces, _ = read(reportlog.FORMAT, encode(long, deep, chain))
    message = traces[0].failure.errors[0].message
    assert message.startswith("m" * MESSAGE)
    assert message.endswith("… [30000 more characters]")
    assert len(traces[0].sections[0][1]) < SECTION + 50
    error = traces[1].failure.errors[0]
    assert (len(error.frames), error.omitted) == (FRAMES, 149)
    assert (error.frames[0].line, error.frames[-1].line) == (1, 199)
    assert len(traces[2].failure.errors) == 20
    assert all(-1 <= e.parent < i for i, e in enumerate(traces[2].failure.errors))


def test_absolute_names_of_another_machine():
    moved = failed()
    moved["longrepr"]["chain"][0][0]["reprentries"] = [
        entry("/home/me/project/tests/test_a.py", 3),
        entry("/home/me/project/src/app.py", 7),
        entry("/usr/lib/python3.12/json/decoder.py", 9),
        entry("/home/me/project/.venv/lib/python3.12/site-packages/attr/_make.py", 1, "ValueError"),
    ]
    traces, _ = read(reportlog.FORMAT, encode(moved))
    assert [(f.file, f.origin) for f in traces[0].failure.errors[0].frames] == [
        ("tests/test_a.py", "test"),
        ("src/app.py", "app"),
        ("/usr/lib/python3.12/json/decoder.py", "stdlib"),
        (".venv/lib/python3.12/site-packages/attr/_make.py", "third-party"),
    ]


def test_the_root_is_learnt_from_a_file_with_two_names():
    first = failed()
    first["longrepr"]["chain"][0][0]["reprentries"] = [entry("src/app.py", 3, "ValueError")]
    first["longrepr"]["reprcrash"]["path"] = "/home/me/project/src/app.py"
    second = failed()
    second["longrepr"]["chain"][0][0]["reprentries"] = [entry("/home/me/project/src/app.py", 3, "ValueError")]
    second["longrepr"]["reprcrash"] = None
    traces, _ = read(reportlog.FORMAT, encode(first, second))
    assert [t.failure.errors[0].frames[0].file for t in traces] == ["src/app.py", "src/app.py"]


def test_a_plugins_own_report_is_kept_as_text():
    traces, problems = read(reportlog.FORMAT, encode(report(outcome="failed", longrepr={"chain": 5, "why": "mine"})))
    assert not problems
    assert traces[0].failure.errors == ()
    assert "mine" in traces[0].failure.text


@pytest.mark.parametrize("kind", ["$report_type", "_report_type"])
def test_subtests_of_the_older_plugin(kind):
    context = {"_subtest.context": {"msg": None, "kwargs": {"i": 1, "name": "'x'"}}}
    body = report(**context)
    del body["$report_type"]
    traces, problems = read(reportlog.FORMAT, encode({**body, kind: "SubTestReport"}))
    assert not problems
    assert [t.subtest for t in traces] == ["(i=1, name='x')"]


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text() | st.integers(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)
REPORT = st.fixed_dictionaries(
    {},
    optional={
        "nodeid": st.text() | JSON,
        "outcome": st.sampled_from(["passed", "failed", "skipped", "rerun"]) | JSON,
        "when": st.sampled_from(["setup", "call", "teardown", "???"]) | JSON,
        "longrepr": st.text() | st.lists(st.text() | st.integers()) | JSON,
        "wasxfail": JSON,
        "sections": JSON,
        "duration": JSON,
        "start": JSON,
        "rerun": JSON,
        "_subtest.context": JSON,
        "$report_type": st.sampled_from(["TestReport", "CollectReport", "SubTestReport"]) | JSON,
    },
)


@settings(deadline=None, max_examples=50)
@given(st.lists(st.binary(max_size=60) | REPORT.map(lambda r: json.dumps(r).encode()), max_size=8))
def test_never_raises_and_keeps_good_lines(parts):
    good = encode(report(nodeid="good"))
    body = good + b"\n".join(part.replace(b"\n", b" ") for part in parts) + b"\n" + good
    traces, _ = read(reportlog.FORMAT, body)
    assert [t.nodeid for t in traces if t.nodeid == "good"] == ["good", "good"]
    assert all(0 < len(t.id) < 256 for t in traces)


@pytest.mark.parametrize("body", [b"", b"\n\n", b"\xef\xbb\xbf"])
def test_empty(body):
    assert read(reportlog.FORMAT, body) == ([], [])
