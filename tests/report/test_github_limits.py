"""However much fails, what is posted fits, is whole, and says what was left out."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from photograph import github_html
from reviews import cause, review, shards, target
from test_github_hostile import Dom

from pytest_tracetriage.model.analysis import Exemplar, Signature, Suspect, Why
from pytest_tracetriage.model.trace import Error, Failure, Frame
from pytest_tracetriage.report.github.annotations import annotations
from pytest_tracetriage.report.github.bodies import check, comment, data_block, marker, read_data, summary
from pytest_tracetriage.report.github.bounds import Cut, cuts, encoded, fit, left_out
from pytest_tracetriage.report.github.headline import stand
from pytest_tracetriage.report.github.words import trend

CHARACTERS, BYTES, CHECKED = 65_536, 1_048_576, 65_535


def huge(number, text, seen):
    """A cause of 10,000 tests and of messages of 1 MB."""
    line = text[:80] + "\n"
    frame = Frame("shop/cart.py", text, 3, "app", text, text)
    error = Error("KeyError", text, (frame,) * 50, notes=(text,))
    lines = Error("OSError", line * 10_000, (frame,), link="cause", parent=0)
    whole = cause(f"KeyError in f{number}: x", "shop/cart.py:3 f x", 1, seen, runs=2)
    return replace(
        whole,
        name=text,
        count=10_000,
        tests=TESTS,
        signatures=(Signature("x", text, text, text, text, 1),) * 50,
        why=(Why(text, text),) * 50,
        suspects=(Suspect("shop/cart.py", text, 3, 1.0, text),) * 50,
        exemplar=Exemplar(TESTS[0], Failure("call", (error, lines), text=text, fixture=text), text),
        codeowners=(text,) * 50,
        fix=text,
        status_evidence=text,
        since=text,
        classified=text,
    )


TESTS = tuple(f"tests/test_cart.py::test_total[{number}]" for number in range(10_000))


def flood(letters, count=1000):
    text = letters * (1_000_000 // len(letters))
    causes = [huge(number, text, "new" if number < count // 2 else "known") for number in range(count)]
    many = "x" * 100_000
    legs = tuple(replace(leg, job=many, leg=many, run=many, python=many) for leg in shards(count=300))
    return review(*causes, tests=20_000_000, legs=legs, branch=many, base=many, notes=(many,) * 100)


@pytest.fixture(scope="module", params=["a", "\U0001f600", "`|<"], ids=["ascii", "emoji", "syntax"])
def flooded(request):
    return flood(request.param)


def assert_whole(text):
    dom = Dom(github_html(text))
    assert dom.elements["details"] == dom.elements["summary"]
    assert set(dom.expanded) <= {"commit"}
    return dom


def test_a_flood_is_cut_to_a_comment(flooded):
    begun = time.monotonic()
    text = comment(flooded, "tests")
    assert time.monotonic() - begun < 30
    assert len(text) <= CHARACTERS
    assert encoded(text) <= 262_144
    headline = "10,000,000 of 20,000,000 tests fail from 1,000 causes: this PR brings 500 of them"
    assert text.startswith(f"{marker('tests')}\n### {headline}\n")
    assert text.rstrip().endswith(data_block(flooded))
    assert len(read_data(text).causes) == 100
    dom = assert_whole(text)
    assert dom.elements["table"] >= 1
    assert dom.elements["tr"] >= 4
    assert trend(flooded) in text
    assert "990 more causes: 490 new, 500 known" in dom.visible
    assert re.search(r"^Left out here for its length: .*details of 980 more causes\. The \[job summary\]", text, re.MULTILINE)


def test_a_flood_is_cut_to_a_summary_and_a_check(flooded):
    text = summary(flooded)
    assert encoded(text) <= BYTES
    dom = assert_whole(text)
    assert dom.elements["tr"] > 50
    assert "Left out here for its length: " in text
    assert "and 200 more jobs" in text
    assert "and 90 more notes" in text
    made = check(flooded, failing=True)
    assert len(made.title) <= 255
    assert len(made.summary) <= CHECKED
    assert len(made.text) <= CHECKED
    assert_whole(made.summary)
    assert_whole(made.text)
    assert "Left out here for its length: " in made.text
    found = annotations(flooded)
    assert len(found) == 1000
    assert all(len(each.title) <= 255 and encoded(each.message) <= 65_536 for each in found)


def grown(number):
    """A review whose whole comment grows with `number`."""
    many = [
        cause(f"KeyError in f{n}: {'why ' * 20}", f"shop/cart.py:{n + 1} f return x", 15, "new" if n < 3 else "known", runs=n)
        for n in range(number)
    ]
    return review(*many, tests=5000)


def parts(text):
    visible = {
        "prompts": text.count("Prompt to copy for a coding agent"),
        "known tracebacks": 0,
        "lists": len(re.findall(r"^<details><summary>15 tests</summary>", text, re.MULTILINE)),
        "details": len(re.findall(r"^<details><summary>(?:new|known) <code>", text, re.MULTILINE)),
        "rows": len(re.findall(r"^\| (?:\*\*new\*\*|known) \|", text, re.MULTILINE)),
    }
    for block in text.split("\n<details><summary>known ")[1:]:
        visible["known tracebacks"] += (
            block.partition("</summary>")[2].lstrip().partition("\nWhy these")[0].count("\n```\ntests/")
        )
    return visible


def test_prompts_go_first_and_then_the_tracebacks_of_known_causes():
    found = grown(20)
    text = comment(found, "x")
    shown = parts(text)
    assert CHARACTERS * 0.9 < len(text) <= CHARACTERS, "no more is cut than has to be"
    assert 0 < shown["prompts"] < 20
    assert (shown["known tracebacks"], shown["lists"], shown["details"], shown["rows"]) == (17, 20, 20, 20)
    assert f"Left out here for its length: {20 - shown['prompts']} prompts. The [job summary](" in text
    assert text.index("Prompt to copy") < text.index("<details><summary>known"), "those of the first causes stay"


def test_the_order_of_what_may_go():
    causes = stand(grown(6))
    order = [cut.what for cut in cuts(causes, causes)]
    assert order == ["prompt"] * 6 + ["traceback"] * 3 + ["list of tests"] * 6 + ["detail"] * 6 + ["row"] * 3
    assert [cut.cause for cut in cuts(causes, causes)[:6]] == [each.cluster.id for each in reversed(causes)]


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.lists(st.integers(0, 50), max_size=40), st.integers(0, 1000))
def test_as_little_is_cut_as_fits(sizes, limit):
    order = [Cut("row", f"{number}") for number in range(len(sizes))]

    def make(cut):
        return "".join("x" * size for each, size in zip(order, sizes, strict=True) if each not in cut)

    text = fit(make, order, len, limit)
    assert text is not None
    assert len(text) <= limit
    needed = next(number for number in range(len(order) + 1) if sum(sizes[number:]) <= limit)
    assert len(text) == sum(sizes[needed:])


def test_what_cannot_be_cut_enough_is_none():
    assert fit(lambda _: "xxx", [Cut("row", "a")], len, 2) is None


def test_what_was_left_out_is_counted_once():
    gone = [("prompt", "a"), ("detail", "a"), ("prompt", "b"), ("list of tests", "b"), ("list of tests", "c"), ("row", "d")]
    assert left_out(frozenset(Cut(*each) for each in gone)) == "1 detail, 2 lists of tests, 1 prompt, 1 row"


def test_a_template_that_is_always_too_long_is_not_used(tmp_path):
    for name in ("comment.md.j2", "job_summary.md.j2", "check.md.j2"):
        (tmp_path / name).write_text("{{ 'x' * 2000000 }}")
    assert comment(target(), "x", tmp_path) == comment(target(), "x")
    assert summary(target(), tmp_path) == summary(target())
    assert check(target(), True, tmp_path) == check(target(), True)
