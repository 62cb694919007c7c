"""The fast way from lines to a summary: the same as the plain way, and patient with what is broken."""

from __future__ import annotations

import io

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from making import NODEIDS, error, fails, lines_of, passes, same, source, summary_of, traces

from pytest_tracetriage.collect.formats import complaint, lines
from pytest_tracetriage.model.trace import Source, Span, Start
from pytest_tracetriage.triage.stream import summarize_lines

GOOD = [fails("t.py::a", error("KeyError", "'sku'")), passes("t.py::b")]


def stream(*raw, watch=frozenset()):
    return summarize_lines(enumerate(raw, 1), "main.jsonl", "run", source("run"), frozenset(watch), complaint)


def problems(summary):
    return {line: message for _, line, message in summary.problems}


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.lists(traces(), max_size=8))
def test_it_equals_the_plain_way(some):
    assert same(stream(*lines_of(some), watch=NODEIDS[:4]), summary_of(some, watch=NODEIDS[:4]))


def test_spans_and_starts_are_passed_over():
    others = [Start("1", "t.py::a", 1.0), Span("s", "1", "work", 1.0, 0.5)]
    raw = [*lines_of(GOOD), *map(msgspec.json.encode, others), b'{"record":"metric","name":"x"}']
    assert same(stream(*raw), summary_of(GOOD))


def test_sources_are_kept_by_their_hash():
    text = Source("abc", "shop/cart.py", "total", 7, "def total():\n    ...\n")
    assert stream(msgspec.json.encode(text)).texts == {"abc": (7, text.text)}


def test_blank_lines_are_no_problem():
    assert same(stream(b"", b"  \t", *lines_of(GOOD)), summary_of(GOOD))


BAD = {
    "cut off": lines_of(GOOD)[0][:-20],
    "no JSON": b"Traceback (most recent call last):",
    "not an object": b"[1, 2, 3]",
    "NUL bytes": b'{"record":\0"trace"}',
    "not UTF-8": b'{"record":"trace","nodeid":"\xff\xfe"}',
    "too long": None,
    "an unknown kind": b'{"record":"banana"}',
    "no kind": b'{"nodeid":"t.py::a"}',
    "a wrong type": b'{"record":"trace","nodeid":7}',
    "a failure that is text": b'{"record":"trace","nodeid":"t","outcome":"failed","failure":"no"}',
    "frames of a wrong shape": b'{"record":"trace","id":"1","nodeid":"t","outcome":"failed",'
    b'"failure":{"phase":"call","errors":[{"type":"E","frames":[{"file":1}]}]}}',
    "deep lists": b"[" * 100_000,
    "deep objects": b'{"a":' * 100_000,
    "deep fields of a record": b'{"record":"trace","nodeid":"t","extra":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
}


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD)
def test_a_bad_line_is_named_and_the_rest_kept(bad):
    found = stream(lines_of(GOOD)[0], bad, lines_of(GOOD)[1])
    assert list(problems(found)) == [2]
    found.problems.clear()
    assert same(found, summary_of(GOOD))


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        ("NUL bytes", "binary content"),
        ("not UTF-8", "not UTF-8"),
        ("too long", "longer than"),
        ("an unknown kind", "'banana'"),
    ],
)
def test_a_problem_says_what_is_wrong(bad, words):
    assert words in problems(stream(BAD[bad]))[1]


def test_the_message_of_a_problem_is_one_short_line():
    for message in problems(stream(*BAD.values(), b'{"record":"' + b"x" * 10_000 + b'"}')).values():
        assert len(message) < 300
        assert "\n" not in message


def test_unknown_fields_of_newer_versions_are_ignored():
    newer = lines_of(GOOD)[0][:-1] + b',"colour":"green"}'
    assert same(stream(newer, lines_of(GOOD)[1]), summary_of(GOOD))


def test_a_line_longer_than_the_limit_is_skipped_with_its_number():
    file = io.BytesIO(b"\n".join([lines_of(GOOD)[0], b"x" * 5000, lines_of(GOOD)[1]]))
    found = summarize_lines(lines(file, 2000), "main.jsonl", "run", source("run"), frozenset(), complaint)
    assert [(name, line) for name, line, _ in found.problems] == [("main.jsonl", 2)]
    assert found.totals["run"] == {"failed": 1, "passed": 1, "tests": 2}
