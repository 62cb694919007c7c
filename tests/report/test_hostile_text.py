"""What tests print is data: it cannot leave its span or fence, mention anyone, link anywhere or steer a terminal."""

from __future__ import annotations

import html
import re

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from samples import HOSTILE, analysis, broke, poisoned

from pytest_tracetriage.model.analysis import Problem
from pytest_tracetriage.report import terminal
from pytest_tracetriage.report.markdown import analysis_markdown, cluster_prompt
from pytest_tracetriage.report.show import cluster_lines
from pytest_tracetriage.report.text import code_block, code_span, markdown, printable, short_ids, shorten

_text = st.text(st.one_of(st.characters(codec="utf-8"), st.sampled_from("`|\n<>@#[]()*_~\\\x1b\x00 ")), max_size=60)
_quick = settings(max_examples=100, deadline=None, derandomize=True)


def outside(text):
    """The lines of Markdown outside fenced blocks. Fails where a fence is left open."""
    kept, fence = [], ""
    for line in text.split("\n"):
        marks = re.match(r" {0,3}(`{3,})([^`]*)$", line)
        if fence:
            if marks and len(marks[1]) >= len(fence) and not marks[2].strip():
                fence = ""
        elif marks:
            fence = marks[1]
        else:
            kept.append(line)
    assert not fence, "a fence is left open"
    return kept


def without_spans(line):
    """A line without its code spans, as CommonMark finds them."""
    out, position = [], 0
    while position < len(line):
        if line[position] != "`":
            out.append(line[position])
            position += 1
            continue
        run = re.match("`+", line[position:])[0]
        close = re.search(rf"(?<!`){run}(?!`)", line[position + len(run) :])
        if close is None:
            out.append(run)
            position += len(run)
        else:
            position += len(run) + close.end()
    return "".join(out)


def prose(text):
    return [without_spans(line) for line in outside(text)]


def assert_harmless(text, headings):
    lines = prose(text)
    assert [line for line in lines if re.match(r" {0,3}#", line)] == headings
    joined = "\n".join(lines)
    left = re.sub(r"</?details>|</?summary>", "", joined)
    assert "`" not in left, "every span is closed"
    assert not re.search(r"<[a-zA-Z/!]", left)
    assert "@" not in left.replace("@carts", "")
    assert not re.search(r"\]\(|https?:|www\.", left)
    assert all(character == "\n" or character.isprintable() for character in text)


def headings_of(cluster):
    return [line for line in prose(analysis_markdown(analysis(cluster))) if re.match(r" {0,3}#", line)]


@pytest.mark.parametrize("name", HOSTILE)
def test_the_markdown_report(name):
    cluster = poisoned(HOSTILE[name])
    text = analysis_markdown(msgspec.structs.replace(analysis(cluster), traces=broke(HOSTILE[name], cluster)))
    assert ", component `" in text
    headings = [line for line in prose(text) if re.match(r" {0,3}#", line)]
    assert [line for line in headings if line.startswith("## ")] == ["## Root causes", "## Code changes", "## Validation"]
    assert sum(line.startswith("### KT7Q2 ") for line in headings) == 1
    assert len(headings) == 5
    assert_harmless(text, headings)
    joined = "\n".join(prose(text))
    assert (joined.count("<details>"), joined.count("</details>")) == (1, 1)


@pytest.mark.parametrize("name", HOSTILE)
def test_the_prompt(name):
    text = cluster_prompt(poisoned(HOSTILE[name]), "KT7Q2")
    expected = [
        "# Fix one root cause of failing tests",
        "## Cause",
        "## Signature",
        "## Evidence",
        "## Files",
        "## Tests",
        "## What is asked for",
    ]
    assert_harmless(text, expected)


@pytest.mark.parametrize("name", HOSTILE)
def test_the_terminal(name):
    cluster = poisoned(HOSTILE[name])
    found = msgspec.structs.replace(analysis(cluster), traces=broke(HOSTILE[name], cluster))
    component = terminal.component_of(cluster, terminal.components_by_test(found))
    lines = [*terminal.body(found, 80, 2), *cluster_lines(cluster, "KT7Q2", {}, "run", component)]
    assert any(f", component {printable(component)}: " in text for line in lines for text, _ in line)
    for line in lines:
        assert all(character.isprintable() for text, _ in line for character in text)


def test_problems_of_hostile_files():
    found = msgspec.structs.replace(analysis(), problems=(Problem("a`b`|<x>@you\x1b[31m.jsonl", 3, "bad <b>`@you` \x1b[31m"),))
    assert_harmless(analysis_markdown(found), ["# TraceTriage: 9 tests, no failures", "## Problems of the input"])
    (line,) = terminal.problems(found)
    assert line[0][0].isprintable()


@_quick
@given(_text)
def test_a_span_holds_what_it_is_given(text):
    span = code_span(text)
    assert without_spans(f"a {span} b") == "a  b"
    assert "\n" not in span


@_quick
@given(_text)
def test_a_block_holds_what_it_is_given(text):
    assert outside(f"before\n{code_block(text, 'sh')}\nafter") == ["before", "after"]


MARKDOWN = MarkdownIt("commonmark").enable(["table", "strikethrough"])
POSITIONS = {
    "heading": "### ID {}",
    "start of a line": "{}",
    "list": "- {}",
    "behind a label": "- Fix: {}, by us",
    "strong": "- **{}**: 3",
    "parentheses": "x ({})(y)",
    "cell": "| a | b |\n| - | - |\n| {} | c |",
}
ACTIVE = [
    *HOSTILE.values(),
    "# title #",
    "1. one",
    "- item",
    "> quote",
    "    code",
    "---",
    "===",
    "[x]: https://evil.example",
    "[a]",
    "[a][b]",
    "![a](b)",
    "<https://evil.example>",
    "<?php ?>",
    "__a__ _b_",
    "*a*b*c*",
    "a\\",
    "\\<b>",
    "&lt;b&gt; &#60;",
    "~~~ sh",
    "a | b\n--- | ---",
    "`",
    "mailto:a@b.example",
]


def shown(text):
    """What a reader sees of a text that a parser made of Markdown, and which formatting it found."""
    tokens = [token for block in MARKDOWN.parse(text) for token in [block, *(block.children or [])]]
    kinds = [token.type for token in tokens if token.type not in {"inline", "text"}]
    return "".join(token.content for token in tokens if token.type == "text").replace("\u200b", ""), kinds


@pytest.mark.parametrize("position", POSITIONS)
@pytest.mark.parametrize("text", ACTIVE)
def test_markdown_shows_what_it_is_given(position, text):
    assert_shown(POSITIONS[position], text)


@settings(_quick, max_examples=300)
@given(st.sampled_from(list(POSITIONS.values())), _text)
def test_markdown_shows_whatever_it_is_given(position, text):
    assert_shown(position, text)


def assert_shown(position, text):
    text = printable(text).strip() or "text"  # no emphasis of ours would close behind a space
    wanted, kinds = shown(position.format("xy"))
    found, found_kinds = shown(position.format(markdown(text)))
    assert found_kinds == kinds
    assert "".join(found.split()) == "".join(wanted.replace("xy", text).split())


@pytest.mark.parametrize(
    "text", ["@ann", "a@b.example", "#12", "org/repo#2", "GH-3", "https://evil.example", "www.evil.example"]
)
def test_what_renderers_link_by_themselves_is_broken_up(text):
    """They look for it in the text that they have rendered, so an entity alone does not help against mentions."""
    written = markdown(text)
    assert re.search(r"&#8203;|:(?<!:)|&#58;//|www&#46;", written)
    assert not re.search(r"@\w|#\d+$|GH-\d|://|www\.", html.unescape(written) if "8203" in written else written)


@pytest.mark.parametrize(
    "text",
    [
        "KeyError in Cart.total: missing 'sku' (3 of 4), expected -> got",
        "assert raw_decode(x)[0] == a < b - c, 2 * 3",
        "TraceTriage: 42 failures -> 4 root causes (1 muted)",
        r"C:\Users\ann and list[int] + 1.5 = {'a': 1}!",
    ],
)
def test_what_means_nothing_to_markdown_is_left_alone(text):
    assert markdown(text) == text


@_quick
@given(st.text(st.characters(codec="utf-8", exclude_characters="&")))
def test_markdown_loses_nothing(text):
    assert html.unescape(markdown(text)).replace("\u200b", "") == printable(text)


@pytest.mark.parametrize("command", ["pytest 'tests/test_a.py::test[a|b]'", r"pytest 'tests/test_a.py::test[a\b]'"])
def test_a_command_in_a_span_can_be_copied(command):
    """Inside a code span a backslash is no escape: what is shown is what is typed."""
    assert code_span(command) == f"`{command}`"


# ids and width


@_quick
@given(st.sets(st.text("AB7", min_size=26, max_size=26), max_size=12))
def test_short_ids_are_unique_prefixes_and_no_longer_than_needed(ids):
    short = short_ids(ids)
    assert set(short) == ids
    for identity, name in short.items():
        assert identity.startswith(name)
        assert len(name) >= 5
        assert sum(other.startswith(name) for other in ids) == 1
        if len(name) > 5:
            assert sum(other.startswith(name[:-1]) for other in ids) > 1


@_quick
@given(st.text(max_size=50), st.integers(1, 60))
def test_shortened_text_fits(text, width):
    assert len(shorten(text, width)) <= width
    assert shorten(text, 50) == text


@pytest.mark.parametrize("text", ["```", "a\n```\nb", "````\n# out", "```sh\n`````"])
def test_a_block_is_not_left_by_fences_inside(text):
    assert outside(f"before\n{code_block(text)}\nafter") == ["before", "after"]
