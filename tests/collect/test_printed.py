from __future__ import annotations

import time
import traceback

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_tracetriage.collect.entries import split_text
from pytest_tracetriage.collect.printed import parse
from pytest_tracetriage.origin import Project

PROJECT = Project("/home/me/project", local=False)


def shape(text):
    return [(e.type, e.message, e.link, e.parent) for e in parse(text, PROJECT)]


@pytest.mark.parametrize(
    ("text", "named", "expected"),
    [
        ("KeyError: 'a'", "", ("KeyError", "'a'")),
        ("KeyError", "", ("KeyError", "")),
        ("assert 1 == 2\n +  where", "", ("AssertionError", "assert 1 == 2\n +  where")),
        ("assert 1 == 2", "AssertionError", ("AssertionError", "assert 1 == 2")),
        ("a.b.C: d: e", "C", ("a.b.C", "d: e")),
        ("t.f.<locals>.C: d", "C", ("t.f.<locals>.C", "d")),
        ("struct.error: short", "", ("struct.error", "short")),
        ("a.wrap(TypeError): x", "wrap(TypeError)", ("a.wrap(TypeError)", "x")),
        ("ValueError: \nsecond", "", ("ValueError", "\nsecond")),
        ("ValueError\na note", "ValueError", ("ValueError", "a note")),
        ("some words: here", "", ("", "some words: here")),
        ("", "", ("", "")),
    ],
)
def test_type_and_message(text, named, expected):
    assert split_text(text, named) == expected


def test_python_traceback():
    text = """Traceback (most recent call last):
  File "/home/me/project/src/a.py", line 3, in <module>
    run()
    ~~~^^
  File "/usr/lib/python3.13/json/__init__.py", line 9, in loads
  [Previous line repeated 9 more times]
app.Refused: one

two"""
    (error,) = parse(text, PROJECT)
    assert (error.type, error.message) == ("app.Refused", "one\n\ntwo")
    assert [(f.file, f.function, f.line, f.origin, f.code) for f in error.frames] == [
        ("src/a.py", "<module>", 3, "app", "run()"),
        ("/usr/lib/python3.13/json/__init__.py", "loads", 9, "stdlib", ""),
    ]


def raised(build):
    try:
        build()
    except BaseException as error:
        return error, traceback.format_exc()
    raise AssertionError


def chain():
    try:
        try:
            {}["a"]
        except KeyError as error:
            raise ValueError("b") from error
    except ValueError:
        raise TypeError("c")  # noqa: B904


def test_printed_chain_of_this_python():
    _, text = raised(chain)
    assert shape(text) == [
        ("TypeError", "c", "raised", -1),
        ("ValueError", "b", "context", 0),
        ("KeyError", "'a'", "cause", 1),
    ]


def test_nested_groups_of_this_python():
    group = (
        getattr(__builtins__, "ExceptionGroup", None)
        if not isinstance(__builtins__, dict)
        else __builtins__.get("ExceptionGroup")
    )
    if group is None:
        pytest.skip("groups are newer")

    def build():
        inner = raised(chain)[0]
        raise group("outer", [group("inner", [inner, OSError("x")]), ValueError("y\n  + z\n  | w")])

    _, text = raised(build)
    assert shape(text) == [
        ("ExceptionGroup", "outer (2 sub-exceptions)", "raised", -1),
        ("ExceptionGroup", "inner (2 sub-exceptions)", "member", 0),
        ("TypeError", "c", "member", 1),
        ("ValueError", "b", "context", 2),
        ("KeyError", "'a'", "cause", 3),
        ("OSError", "x", "member", 1),
        ("ValueError", "y\n  + z\n  | w", "member", 0),
    ]


def test_a_quoted_traceback_stays_in_the_message():
    text = """Traceback (most recent call last):
  File "a.py", line 3, in run
RuntimeError: the worker said:
Traceback (most recent call last):
  File "w.py", line 1, in w
  + not a group
KeyError: 1"""
    (error,) = parse(text, PROJECT)
    assert error.type == "RuntimeError"
    assert error.message.endswith("  + not a group\nKeyError: 1")
    assert [f.file for f in error.frames] == ["a.py"]


def test_a_doctest():
    text = "042     >>> f(2)\nExpected:\n    5\nGot:\n    4\n\n/home/me/project/src/a.py:42: DocTestFailure"
    (error,) = parse(text, PROJECT)
    assert (error.type, error.message) == ("DocTestFailure", "Expected: 5 Got: 4")
    assert [(f.file, f.line, f.code) for f in error.frames] == [("src/a.py", 42, ">>> f(2)")]


def test_a_missing_fixture():
    text = (
        "file /home/me/project/tests/test_s.py, line 6\n  def test_err(db): pass\n"
        "E       fixture 'db' not found\n>       available fixtures: cache\n\n/home/me/project/tests/test_s.py:6"
    )
    (error,) = parse(text, PROJECT)
    assert (error.type, error.message) == ("FixtureLookupError", "fixture 'db' not found")
    assert [(f.file, f.function, f.line) for f in error.frames] == [("tests/test_s.py", "test_err", 6)]


@pytest.mark.parametrize("text", ["", "no exception here", "contains 1 failed subtest", "a.py:3: E501 too long", "\0"])
def test_what_shows_no_exception(text):
    assert parse(text, PROJECT) == ()


def test_windows_names():
    (error,) = parse(">   f()\nE   OSError: no\n\nC:\\project\\a.py:3: OSError", Project("C:\\project", local=False))
    assert [(f.file, f.line) for f in error.frames] == [("a.py", 3)]


PIECES = st.sampled_from(
    [
        "Traceback (most recent call last):",
        "  + Exception Group Traceback (most recent call last):",
        "  | ExceptionGroup: x (2 sub-exceptions)",
        "  +-+---------------- 1 ----------------",
        "    +---------------- 2 ----------------",
        "    | KeyError: 1",
        "    +------------------------------------",
        '  File "a.py", line 3, in f',
        '  File "a.py", line 3',
        "    code",
        "KeyError: 1",
        "",
        "_ _ _ _ _ _ _ _",
        ">   code",
        "    def f():",
        "E   KeyError: 1",
        "E",
        "a.py:3: KeyError",
        "a.py:3: in f",
        "a.py:3: DocTestFailure",
        "a.py:3: UnexpectedException",
        "file a.py, line 3",
        "E       fixture 'x' not found",
        "The above exception was the direct cause of the following exception:",
        "During handling of the above exception, another exception occurred:",
        "    | During handling of the above exception, another exception occurred:",
    ]
)


@settings(deadline=None, max_examples=300)
@given(st.lists(PIECES | st.text(max_size=20), max_size=25))
def test_never_raises(pieces):
    errors = parse("\n".join(pieces), PROJECT)
    assert all(-1 <= e.parent < i or i == 0 for i, e in enumerate(errors))
    assert all((e.parent == -1) == (i == 0) for i, e in enumerate(errors))


@pytest.mark.parametrize(
    "line",
    [
        "E   " + "a." * 2000,
        "_ _ _ _ _ _",
        "a.py:3: in f",
        "  + Exception Group Traceback (most recent call last):",
        "    +---------------- 2 ----------------\n    | KeyError: 1",
        "The above exception was the direct cause of the following exception:\n\nKeyError: 1",
        'Traceback (most recent call last):\n  File "a", line 1, in f\nKeyError: 1',
        "file a.py, line 3",
        "E       fixture 'x' not found\nfile a, line 3",
        ":1" * 1000,
        "    for",
        ">   (",
    ],
)
def test_time_is_linear(line):
    text = "  + Exception Group Traceback (most recent call last):\n  | G: x\n" * (line[4:5] == "+") + (line + "\n") * (
        400_000 // len(line)
    )
    started = time.perf_counter()
    parse(text, PROJECT)
    assert time.perf_counter() - started < 3
    lone = line.replace("\n", "") * (400_000 // len(line))
    started = time.perf_counter()
    parse(lone, PROJECT)
    assert time.perf_counter() - started < 3


def test_long_style_printed_whole():
    text = """def test_a(n):
        x = 1
>       exec(n)
E         File "gen.py", line 1
E           def (
E       SyntaxError: invalid syntax

E          = 5
n          = 'a.py:3: in g'

tests/test_a.py:3: SyntaxError"""
    (error,) = parse(text, PROJECT)
    assert (error.type, error.message) == ("SyntaxError", "invalid syntax (gen.py, line 1)")
    assert [(f.file, f.function, f.line) for f in error.frames] == [("tests/test_a.py", "test_a", 3)]


def test_a_module_and_arguments_in_long_style():
    text = """E = 5, x = a.py:3: KeyError

    import os
    def other():
        pass
>   f()
E   KeyError: 1

src/a.py:4: KeyError"""
    (error,) = parse(text, PROJECT)
    assert (error.type, error.message) == ("KeyError", "1")
    assert [(f.file, f.function, f.line) for f in error.frames] == [("src/a.py", "<module>", 4)]
