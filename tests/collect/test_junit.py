from __future__ import annotations

import tracemalloc

import pytest
from collect.conftest import Endless, read
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_tracetriage.collect import elements, junit
from pytest_tracetriage.collect.junit import nodeid_of

HEAD = '<?xml version="1.0" encoding="utf-8"?>\n<testsuites><testsuite name="pytest">\n'
CASE = '<testcase classname="tests.test_a" name="test_{}" time="0.25" />\n'
TAIL = "</testsuite></testsuites>"

BOMB = (
    '<?xml version="1.0"?>\n<!DOCTYPE lolz [\n<!ENTITY lol "lol">\n'
    + "".join(f'<!ENTITY lol{n} "{f"&lol{n - 1 or str()};" * 10}">\n' for n in range(1, 10))
    + ']>\n<testsuites><testsuite><testcase name="&lol9;"/></testsuite></testsuites>'
)
EXTERNAL = '<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]><testsuite><testcase name="&e;"/></testsuite>'
BARE = '<!DOCTYPE testsuite SYSTEM "http://localhost/junit.dtd"><testsuite><testcase name="a"/></testsuite>'


def suite(*cases):
    return (HEAD + "".join(cases) + TAIL).encode()


@pytest.mark.parametrize(
    ("classname", "name", "file", "places", "expected"),
    [
        ("tests.test_cli", "test_x[a.b::c]", "", [], "tests/test_cli.py::test_x[a.b::c]"),
        ("tests.test_cli.TestA.TestB", "test_x", "", [], "tests/test_cli.py::TestA::TestB::test_x"),
        ("tests.test_cli.describe_a", "test_x", "", ["tests/test_cli.py"], "tests/test_cli.py::describe_a::test_x"),
        ("tests.test_cli.describe_a", "x", "", ["/b/tests/test_cli.py"], "tests/test_cli.py::describe_a::x"),
        ("v1.2.test_cli", "test_x", "v1.2/test_cli.py", [], "v1.2/test_cli.py::test_x"),
        ("tests.Legacy.test_cli", "test_x", "", [], "tests/Legacy/test_cli.py::test_x"),
        ("tests.test_sub.TestA", "test_x", "tests/common.py", [], "tests/test_sub.py::TestA::test_x"),
        ("TestA", "test_x", "tests/test_cli.py", [], "tests/test_cli.py::TestA::test_x"),
        ("TestA", "test_x", "", [], "TestA::test_x"),
        ("docs.use.rst", "use.rst", "", [], "docs/use.rst::use.rst"),
        ("", "tests.test_cli", "", [], "tests/test_cli.py"),
        ("tests.test_cli", "TestA", "", [], "tests/test_cli.py::TestA"),
    ],
)
def test_node_ids(classname, name, file, places, expected):
    assert nodeid_of(classname, name, file, places) == expected


@pytest.mark.parametrize("body", [BOMB, EXTERNAL, BARE], ids=["bomb", "external", "bare"])
def test_document_types_are_refused(body):
    traces, problems = read(junit.FORMAT, body.encode())
    assert traces == []
    assert len(problems) == 1
    assert "refused" in problems[0].message
    assert problems[0].line >= 1


def test_a_truncated_file_keeps_what_came_before():
    whole = suite(*(CASE.format(n) for n in range(10)))
    traces, problems = read(junit.FORMAT, whole[: whole.index(b"test_7") + 3])
    assert [t.nodeid for t in traces] == [f"tests/test_a.py::test_{n}" for n in range(7)]
    assert traces[0].phases == {"call": 0.25}
    assert [(p.file, p.line) for p in problems] == [("a-file", 10)]


def test_a_fault_in_the_middle_keeps_what_came_before():
    traces, problems = read(junit.FORMAT, suite(CASE.format(1), "<testcase name='x'>&nbsp;</testcase>", CASE.format(2)))
    assert [t.nodeid for t in traces] == ["tests/test_a.py::test_1"]
    assert "undefined entity" in problems[0].message


def test_deep_nesting():
    body = suite(CASE.format(1), "<testcase>" + "<a>" * 100_000)
    traces, problems = read(junit.FORMAT, body)
    assert len(traces) == 1
    assert "deep" in problems[0].message


@pytest.mark.parametrize("body", [b"", b"\x00\x01\x02", b"\xff" * 100, b"plain text"])
def test_no_xml_at_all(body):
    traces, problems = read(junit.FORMAT, body)
    assert traces == []
    assert len(problems) == 1


def test_utf16_and_latin1():
    text = suite('<testcase classname="tests.test_a" name="test_é" />').decode()
    for encoding in ("utf-16", "iso-8859-1"):
        body = text.replace("utf-8", encoding).encode(encoding)
        assert [t.nodeid for t in read(junit.FORMAT, body)[0]] == ["tests/test_a.py::test_é"]


def test_a_huge_text_is_not_held(monkeypatch):
    monkeypatch.setattr(elements, "TEXT", 1000)
    failure = f"<failure message='ValueError: no'>{'x' * 500_000}\nE   ValueError: no</failure>"
    traces, problems = read(junit.FORMAT, suite(f"<testcase name='test_a'>{failure}</testcase>", CASE.format(1)))
    assert not problems
    assert traces[0].failure.errors[0].type == "ValueError"
    assert len(traces) == 2


def test_memory_does_not_grow_with_the_file():
    def peak(times):
        failure = '<testcase classname="t" name="a"><failure message="A: 1">E   A: 1</failure></testcase>'
        file = Endless(HEAD.encode(), *[(CASE + failure).encode() * 100] * times, TAIL.encode())
        tracemalloc.start()
        try:
            read = sum(1 for _ in junit.FORMAT.read(file, "a-file"))
            return read, tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    (few, small), (many, large) = peak(5), peak(50)
    assert (few, many) == (1000, 10_000)
    assert large < small + 500_000


def test_phases_and_several_failures():
    traces, _ = read(
        junit.FORMAT,
        suite(
            '<testcase classname="t" name="a"><error message=\'failed on setup with "KeyError: 1"\'>'
            "E   KeyError: 1</error></testcase>",
            '<testcase classname="t" name="b"><error message=\'failed on teardown with "OSError: no"\'/></testcase>',
            '<testcase classname="t" name="c"><failure message="A: 1"/>'
            "<error message='failed on teardown with \"B: 2\"'/></testcase>",
        ),
    )
    assert [(t.outcome, t.failure.phase, t.failure.errors[0].type) for t in traces] == [
        ("error", "setup", "KeyError"),
        ("error", "teardown", "OSError"),
        ("failed", "call", "A"),
    ]
    assert traces[0].failure.errors[0].message == "1"
    assert [(f.phase, f.errors[0].type) for f in traces[2].later] == [("teardown", "B")]


def test_attempts_of_surefire():
    inner = '<flakyFailure type="AssertionError" message="first"/><rerunFailure type="AssertionError" message="second"/>'
    traces, _ = read(junit.FORMAT, suite(f'<testcase classname="t" name="a">{inner}</testcase>'))
    assert [(t.id, t.outcome, t.rerun, t.attempt) for t in traces] == [
        ("1.1", "failed", True, 1),
        ("1.2", "failed", True, 2),
        ("1", "passed", False, 3),
    ]
    assert traces[0].failure.errors[0].message == "first"


def test_other_writers():
    body = """<testsuite name="App.CartTest"><testcase classname="CartTest" name="test_total" time="1,024.5"><error
        type="shop.Refused" message="no money">Traceback (most recent call last):
  File "/srv/app/cart.py", line 7, in total
    raise Refused("no money")
shop.Refused: no money
</error><properties><property name="a" value="b"/></properties><system-out>said</system-out></testcase>
<testcase name="bare"><failure/></testcase><testcase/></testsuite>"""
    traces, problems = read(junit.FORMAT, body.encode())
    assert not problems
    error = traces[0].failure.errors[0]
    assert (error.type, error.message) == ("shop.Refused", "no money")
    assert [(f.file, f.line, f.function) for f in error.frames] == [("/srv/app/cart.py", 7, "total")]
    assert traces[0].sections == (("system-out", "said"),)
    assert traces[0].phases == {"call": 1024.5}
    assert [(t.nodeid, t.outcome) for t in traces[1:]] == [("bare", "failed")]


def test_a_message_cut_short_is_read_from_the_text():
    note = "[+9 more lines; full report in element text]"
    failure = f'<failure message="Failed: one&#10;{note}">one\ntwo\nthree</failure>'
    error = read(junit.FORMAT, suite(f'<testcase classname="t" name="a">{failure}</testcase>'))[0][0].failure.errors[0]
    assert (error.type, error.message) == ("Failed", "one\ntwo\nthree")


@settings(deadline=None)
@given(st.binary(max_size=300))
def test_arbitrary_bytes_never_raise(body):
    traces, problems = read(junit.FORMAT, body)
    assert traces or problems, "what holds no test is told, never passed over in silence"


@settings(deadline=None, max_examples=60)
@given(st.text(max_size=200), st.text(max_size=200), st.text(max_size=80))
def test_arbitrary_failures_never_raise_and_keep_their_neighbours(message, text, name):
    from xml.sax.saxutils import escape, quoteattr

    inner = f"<testcase name={quoteattr(name)}><failure message={quoteattr(message)}>{escape(text)}</failure></testcase>"
    clean = "".join(c for c in inner if c in "\t\n" or 0x20 <= ord(c) < 0xD800 or 0xE000 <= ord(c) < 0xFFFE)
    traces, problems = read(junit.FORMAT, suite(CASE.format(1), clean, CASE.format(2)))
    assert not problems
    assert [traces[0].nodeid, traces[-1].nodeid] == ["tests/test_a.py::test_1", "tests/test_a.py::test_2"]
