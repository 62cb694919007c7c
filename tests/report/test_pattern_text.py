"""Patterns as people read them: in the terminal, as Markdown, and in a few words beside a cause."""

from __future__ import annotations

import re

import pytest
from msgspec.structs import replace
from photograph import github_html
from reviews import cause, pattern, review
from samples import HOSTILE

from pytest_tracetriage.model.diagnosis import Issue, Patterns, Window
from pytest_tracetriage.report import terminal
from pytest_tracetriage.report.github.bodies import comment, summary
from pytest_tracetriage.report.history import brief, pattern_lines, sure
from pytest_tracetriage.report.markdown import patterns_markdown

RED = cause("KeyError in total: 'sku'", "shop/cart.py:88 total return 1", 2)
COST = Issue("COST_SINK", "COST-SINK-1", "a", 1.5, "US dollars", None, 3, "$1.50 in 3 runs, 60 % of all; 9 calls, 90 tokens")
BACK = "was fixed and came back once; still fails after 3 commits"


def found(*patterns, issues=(), notes=()):
    return Patterns(Window(7, 90, "", 52, 0.005, 10), tuple(patterns), tuple(issues), tuple(notes))


def shown(lines):
    return ["".join(text for text, _ in line) for line in lines]


def test_what_the_terminal_shows():
    lines = shown(pattern_lines(found(pattern("tests/test_a.py::test_a"), issues=[COST], notes=["insufficient"]), 80))
    assert lines == [
        "patterns, last 7 days  52 runs, judged by 90 days",
        "  FLAKY-1               97 %  tests/test_a.py::test_a",
        "                      fails 14 % [6, 27] of attempts: 6 at 5 commits",
        "                      since 2026-11-20 tests/te; failed at tests/te and 4 more",
        "cost sinks",
        "  COST-SINK-1         a",
        "                      $1.50 in 3 runs, 60 % of all; 9 calls, 90 tokens",
        "  insufficient",
    ]


@pytest.mark.parametrize("width", [40, 80, 200])
@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_no_line_is_too_long_or_steers_the_terminal(text, width):
    for line in shown(pattern_lines(found(pattern(text * 9), issues=[replace(COST, subject=text * 9)], notes=[text]), width)):
        assert line.isprintable()
        assert len(line) <= max(width, 50)


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_markdown_shows_hostile_names_as_text(text):
    page = github_html(patterns_markdown(found(pattern(text), issues=[replace(COST, subject=text)], notes=[text])))
    assert not re.search(r"<(script|img|a|h3|pre)\\b", page)
    assert page.count("<h1") == page.count("<h2") == 1
    assert page.count("<table") == 2
    assert len(re.findall("<tr", page)) == 4


def test_nothing_found_is_said():
    assert "No pattern." in patterns_markdown(found(notes=["flaky tests: insufficient traces: 4 of 20"]))
    assert shown(pattern_lines(found(), 80))[1:] == ["  none"]


def test_with_a_limit_the_rest_is_counted():
    lines = shown(pattern_lines(found(pattern("a"), pattern("b"), issues=[COST]), 80, limit=1))
    assert lines[-1] == "  … and 1 more: tracetriage history patterns"


@pytest.mark.parametrize(
    ("patterns", "flaky", "expected"),
    [
        ([], False, ""),
        ([pattern(RED.tests[0])], False, "flaky, fails 14 % [6, 27]"),  # one of two tests is half of them
        ([pattern(RED.tests[0])], True, ""),  # it says so anyhow
        ([pattern("another")], False, ""),
        ([pattern(RED.name, "cluster", subject=RED.id)], False, "flaky, fails 14 % [6, 27]"),
        ([pattern(RED.name, "cluster", "REGRESSION", RED.id, BACK)], False, "was fixed and came back once"),
        ([pattern(RED.name, "cluster", "SLOW_CONVERGENCE", RED.id, "still fails after 7 iterations")], True,
         "still fails after 7 iterations"),
        ([pattern(RED.name, "cluster", "REPEATED_FAILURE", RED.id, "failed 3 times")], False, ""),
    ],
)  # fmt: skip
def test_what_is_said_beside_a_cause(patterns, flaky, expected):
    assert brief(RED, patterns, flaky=flaky) == expected


def test_few_flaky_tests_do_not_make_a_cause_flaky():
    many = cause("KeyError in total: 'sku'", "shop/cart.py:88 total return 1", 3)
    assert brief(many, [pattern(many.tests[0])], flaky=False) == ""


def test_what_is_said_to_be_back_is_not_said_twice():
    again = replace(RED, course="back")
    assert brief(again, [pattern(RED.name, "cluster", "REGRESSION", RED.id, BACK)], flaky=False) == ""


def test_comment_and_job_summary_say_it_in_the_row_and_list_it_folded():
    of = review(RED, patterns=[pattern(RED.tests[0])])
    for text in (comment(of, "tests"), summary(of)):
        [row] = [line for line in text.splitlines() if line.startswith("| **new**")]
        assert row.endswith("flaky, fails 14 % [6, 27] |")
        assert "<details><summary>1 pattern over time</summary>" in text
        assert f"- FLAKY-1 `{RED.tests[0]}`: fails 14 % [6, 27] of attempts: 6 at 5 commits" in text
        assert "over time" not in comment(replace(of, patterns=()), "tests")


def test_the_end_of_a_pytest_run_says_it_under_the_cause():
    lines = shown(terminal.body(review(RED).analysis, 200, patterns=[pattern(RED.tests[0])]))
    assert any("flaky, fails 14 % [6, 27] · " in line for line in lines)
    assert not any("flaky" in line for line in shown(terminal.body(review(RED).analysis, 200)))


def test_nothing_is_certain():
    assert (sure(0.97), sure(1.0), sure(0.9)) == ("97 %", "99.9 %", "90 %")
