"""What tests print is data: GitHub makes no mention, link, image, HTML, emoji, formula or hidden text of it, nor a command."""

from __future__ import annotations

import itertools
import re
import sys
import typing
import unicodedata
from collections import Counter
from html.parser import HTMLParser
from urllib.parse import quote

import cmarkgfm
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from photograph import ALLOWED, VOID, github_html
from reviews import COMMIT, FILES, MAIN, PAGES, cause, pattern, review, shards
from samples import HOSTILE, broke, poisoned

from pytest_tracetriage.model.analysis import Bucket, Frequency, Muted
from pytest_tracetriage.model.diagnosis import Culprit, Drift, Finding
from pytest_tracetriage.model.review import Diagnosed
from pytest_tracetriage.report.github.annotations import annotations, workflow_commands
from pytest_tracetriage.report.github.bodies import check, comment, read_data, summary
from pytest_tracetriage.report.github.bounds import runnable
from pytest_tracetriage.report.text import code_cell, code_html, markdown, printable

TEXTS = [
    *HOSTILE.values(),
    "@acme @acme/team (@acme) cc:@acme _@acme_ @-x a@-b.example",
    "#123 GH-1 gh-2 org/repo#1 org/repo@4be1d20 fixes #7",
    f"{COMMIT} 4be1d20 4BE1D20 abc1234...def5678 user@{COMMIT}",
    "http://x.example https://x.example/a?b=c ftp://x.example HTTPS://X.example www.x.example",
    "mailto:a@x.example xmpp:a@x.example/b",
    "someone@x.example <someone@x.example> <https://x.example>",
    "![a](https://x.example/a.png) ![a][b] [a](javascript:alert(1)) [a][b] [b]: https://x.example",
    '<img src="https://x.example/a.png"> <a href="https://x.example">a</a> <b>b</b> <!-- hidden --> <?php ?> <![CDATA[x]]>',
    "</details></details></summary><details open><summary>x</summary>",
    "</code></pre></td></table><script>alert(1)</script>",
    "--> <!-- tracetriage:comment tests -->",
    '<!-- tracetriage:data {"schema":"tracetriage.comment/1"} -->',
    "` `` ``` ```` `a` `` ` ``",
    "~~~\n```\n# out\n~~~\n````",
    "a | b \\| c \\\\| d || |",
    "one\ntwo\r\nthree\rfour\u2028five\u0085six\x0bseven",
    "nul \x00 bell \x07 escape \x1b[31mred\x1b[0m \x1b]8;;https://x.example\x07link\x1b]8;;\x07",
    "bidi \u202e\u2066right to left\u2069\u202c \u200eend",
    "zero\u200bwidth\u200c\u200d\ufeff\u2060 soft\u00adhyphen",
    "fill\u3164er \u115f\u1160 \uffa0 \u2800 vs\ufe0f\U000e0100\U000e01ef tag\U000e0041\U000e007f cgj\u034f",
    "surrogate \ud800 end",
    "$x^2$ $$y$$ $`z`$ costs $5 and $6 \\(a\\) \\[b\\]",
    ":smile: :+1: :100: a:tada:b ::x::",
    "[^1] text [^1]: a footnote",
    "- [ ] task\n- [x] done",
    "# heading\n## heading\nsetext\n======\n---",
    "> [!NOTE]\n> alert",
    "[!WARNING] alert",
    "::error file=a.py,line=1::x",
    "::set-output name=a::b\n  ::add-mask::c\n##[set-env name=PATH]x ##[error]y",
    "::stop-commands::x\n%0A::error::y%25",
    "{{ 7 * 7 }} {% raw %} {# x #} {{ ''.__class__ }}",
    "1. one\n2) two\n+ plus\n* star",
    "*a* **b** _c_ __d__ ~e~ ~~f~~ \\*g\\*",
    "&lt;b&gt; &amp;copy; &#64;acme &#x40;acme &nbsp;",
    "term\n: definition\n\n    indented code\n\ttab",
    "| a | b |\n| - | - |\n| c | d |",
    "x" * 500,
    "a" * 40 + " \u4e2d\u6587 \U0001f600 e\u0301",
    "",
    " ",
    "\n\n\n",
    "/etc/passwd ../../x C:\\x",
    "```suggestion\nx\n```",
    "```math\nx\n```\n```mermaid\ngraph\n```",
]
SYNTAX = """
@acme #1 GH-2 org/repo#3 4be1d20 https://x.example www.x.example a@x.example ![a](b) [a](b) <img src=x> <b> </details> <details>
<!-- --> ` `` ``` ~~~ | \\ \\| $x$ $ :smile: : [^1] ::error:: ##[error] {{ }} {% %} &#64; & * _ ~ ^ ! [ ] ( ) < > ; = x
"""
FRAGMENTS = [
    *SYNTAX.split(),
    *("\n", "\r", "\n\n", "\x00", "\u202e", "\u200b", "\ufe0f", "\U000e0101", "\x1b[31m", "\u2028", "\t", " "),
    *("[^1]: ", "- [ ] ", "# ", "> [!NOTE]", "1. ", COMMIT),
]
_hostile = st.lists(st.one_of(st.sampled_from(FRAGMENTS), st.text(max_size=5)), min_size=1, max_size=10).map("".join)
FINDINGS = typing.get_args(Finding)
COMMITS = re.escape("https://github.com/acme/shop/commit/") + "[0-9a-f]{7,64}"
URL = "https://github.com/acme/shop/actions/runs/1234567890"


def poison(text):
    """A review that holds `text` wherever a test, an artifact or a branch can put it."""
    dirty = replace(poisoned(text), status_evidence=text, since=text, codeowners=(text,), seen="known", runs=3, count=2)
    dirty = replace(dirty, tests=(*dirty.tests, f"tests/{text}::{text}"), name=text)
    muted = replace(dirty, id="B" * 26, muted=Muted(text, text, text))
    flaky = replace(dirty, id="C" * 26, status="flaky", frequency=Frequency(1, 9), seen="new")
    drifted = replace(dirty.suspects[0], file=text, function=text, line=0, kind="dependency")
    first = replace(dirty, id="D" * 26, seen="first-run", suspects=(drifted, *dirty.suspects))
    fixed = replace(dirty, id="E" * 26, seen="fixed")
    new = replace(
        dirty, id="F" * 26, seen="new", suspects=(*dirty.suspects, *cause("x in y", "shop/cart.py:88 y z", 1).suspects)
    )
    found = review(
        *(dirty, muted, flaky, first, fixed, new),
        retried=(replace(dirty, id="G" * 26),),
        branch=text,
        base=text,
        event=text,
        repository=text,
        workflow=text,
        patterns=(pattern(text), pattern(text, "cluster", "REGRESSION", subject=dirty.id)),
        notes=(text, f"the history could not be read: {text}"),
        baseline=replace(MAIN, branch=text, commit=text),
        legs=tuple(replace(leg, run=text, job=text, leg=text, python=text, platform=text) for leg in shards(died=(1,))),
        links={
            **{name: PAGES + name for name in FILES},
            f"shop/{text}.py": f"{PAGES}shop/{quote(text, errors='replace')}.py",
            text: text,
        },
    )
    buckets = (Bucket(text, 2, (dirty.id,)), Bucket(f"other {text}", 2, (new.id,)))
    traces = broke(text, *found.analysis.clusters)
    everyone = [cluster.id for cluster in (*found.analysis.clusters, *found.retried)]
    return replace(
        found,
        analysis=replace(found.analysis, buckets=buckets, traces=traces),
        diagnosed={
            name: Diagnosed(True, (broken(text, finding), broken(text)), brought=True)
            for name, finding in zip(everyone, itertools.cycle(FINDINGS), strict=False)
        },
    )


def broken(text, finding="commit"):
    """What a search found, with `text` wherever there is text in it."""
    drift = (Drift("package", text, text, text, 0.9, text),)
    return Culprit(text, text, (text,), finding, text, 0.997, (text, text), text, (text, text), 1.0, drift)


class Dom(HTMLParser):
    """Elements, addresses and text of a page, and whether every element is closed where it should be."""

    def __init__(self, page):
        super().__init__(convert_charrefs=True)
        self.elements = Counter()
        self.links = []
        self.expanded = []
        self.attributes = set()
        self.visible = ""
        self.prose = ""
        self.open = []
        self.feed(page)
        self.close()
        assert not self.open, f"left open: {self.open}"

    def handle_starttag(self, tag, attrs):
        self.elements[tag] += 1
        given = dict(attrs)
        if tag == "a":
            self.links.append(given.pop("href"))
        if tag == "span":
            self.expanded.append(given.pop("class"))
        self.attributes |= {(tag, name) for name in given} - {("code", "class")}
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.visible += data
        if not {"code", "pre"} & set(self.open):
            self.prose += data


ELEMENTS = {
    "h3",
    "p",
    "strong",
    "table",
    "thead",
    "tbody",
    "tr",
    "th",
    "td",
    "br",
    "details",
    "summary",
    "pre",
    "code",
    "ul",
    "li",
    "a",
    "span",
}
assert ELEMENTS <= ALLOWED


def unseen(character):
    """Whether nobody sees this character, or sees others differently by it, as its name and category in Unicode tell."""
    name = unicodedata.name(character, "")
    words = (
        *("HANGUL FILLER", "SEONG FILLER", "SCRIPT FILLER", "PATTERN BLANK", "FULL BLANK", "HALF BLANK", "NULL NOTEHEAD"),
        *("VARIATION SELECTOR", "GRAPHEME JOINER", "VOWEL INHERENT"),
    )
    return unicodedata.category(character) in {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"} or any(word in name for word in words)


def test_nothing_printable_is_unseen():
    """Over all of Unicode."""
    everything = (chr(number) for number in range(sys.maxunicode + 1))
    assert [character for character in everything if unseen(character) and printable(character) != " "] == []


def assert_harmless(text, title, body, causes, prompts):
    """`body` is Markdown that holds `text`."""
    dom = Dom(github_html(body))
    assert set(dom.elements) <= ELEMENTS, title
    pages = rf"{re.escape(URL)}|{COMMITS}|{re.escape(PAGES)}[A-Za-z0-9_.~/%-]+\.py(#L\d+)?"
    assert all(re.fullmatch(pages, link) for link in dom.links), dom.links
    assert set(dom.expanded) <= {"commit"}, dom.expanded
    assert "$" not in dom.prose, "who knows what begins a formula"
    assert dom.elements["span"] <= 1, "the commit that this is about, and no other"
    assert {name for _, name in dom.attributes} <= {"align"}, dom.attributes
    assert dom.elements["details"] == dom.elements["summary"]
    patterns = title in {"comment", "summary"}
    assert dom.elements["details"] in {0, causes * (2 + prompts) + patterns}
    assert dom.elements["h3"] <= 1
    assert not [character for character in set(dom.visible) - {"\n", "\u200b"} if unseen(character)], "hidden text"
    assert "\u200b" not in body, "and what we break up ourselves, we break up by entities"
    assert not re.search(r"^\s*::|##\[", body, re.MULTILINE), "no line of it is a workflow command"
    raw = cmarkgfm.github_flavored_markdown_to_html(body, cmarkgfm.cmark.Options.CMARK_OPT_UNSAFE)
    assert len(re.findall("<!--", raw)) == (2 if title == "comment" else 0), "nothing is hidden but our own"
    return dom


def assert_all_harmless(text):
    found = poison(text)
    prompts = bool(runnable(found.analysis.clusters[0].tests))
    made = check(found, failing=True)
    bodies = {"comment": comment(found, "tests"), "summary": summary(found), "check": made.summary, "check's text": made.text}
    doms = {title: assert_harmless(text, title, body, 6, prompts) for title, body in bodies.items()}
    shown = re.sub(r"##\[", "## [", " ".join(printable(text[:480]).split()))[:100]
    for title in ("comment", "summary", "check"):
        assert "".join(shown.split()) in "".join(doms[title].visible.split()), f"{title} shows it as it is"
    assert printable(made.title) == made.title
    assert len(made.title) <= 255
    assert len(read_data(bodies["comment"]).causes) == 6
    made_commands = workflow_commands(annotations(found))
    lines = made_commands.split("\n")
    assert lines.pop() == ""
    assert lines
    for line in lines:
        head = line[2:].partition("::")[0]
        assert re.fullmatch(r"(?:error|warning|notice) file=[^:,]+,line=\d+,title=[^:,]*", head)
        assert line.startswith("::")
        assert all(character.isprintable() for character in line)


@pytest.mark.parametrize("text", TEXTS, ids=range(len(TEXTS)))
def test_known_malice(text):
    assert_all_harmless(text)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(_hostile)
def test_generated_malice(text):
    assert_all_harmless(text)


@pytest.mark.parametrize("text", TEXTS, ids=range(len(TEXTS)))
@pytest.mark.parametrize("place", ["{}", "- {}", "a {} b", "| a | b |\n| - | - |\n| {} | c |", "### x {}"])
def test_text_in_a_sentence(text, place):
    """What no code span is put around: mentions, issues, links, emoji and all formatting are broken up."""
    dom = Dom(github_html(place.format(markdown(text))))
    wanted = Dom(github_html(place.format("x"))).elements
    assert {name for name, count in dom.elements.items() if count > wanted[name]} <= {"span"}
    assert set(dom.expanded) <= {"commit"}, "a commit's name alone is left, since people copy it"


@settings(max_examples=300, deadline=None, derandomize=True)
@given(_hostile)
def test_a_cell_and_html_show_what_they_are_given(text):
    table = Dom(github_html(f"| a | b |\n| - | - |\n| {code_cell(text)} | c |\n"))
    assert (table.elements["td"], table.elements["code"]) == (2, 1)
    assert "".join(printable(text).split()) == "".join(table.visible.split())[2:-1]
    line = Dom(github_html(f"<details><summary>{code_html(text)}</summary>\n\nx\n\n</details>\n"))
    assert line.elements == {"details": 1, "summary": 1, "code": 1, "p": 1}
    assert "".join(printable(text).split()) == "".join(line.visible.split())[:-1]


def test_the_imitation_of_github_finds_what_it_should():
    """Else the tests above prove nothing."""
    page = Dom(
        github_html(
            "@ann #1 GH-2 org/repo#3 4be1d20 :smile: $x$ https://x.example www.x.example a@x.example <b>x</b> ~~x~~ "
            "![a](b) [^1]\n\n"
            "- [ ] task\n\n> [!NOTE]\n> x\n\n[^1]: foot"
        )
    )
    assert Counter(page.expanded) == {"mention": 1, "issue": 3, "commit": 1, "emoji": 1, "formula": 1, "alert": 1}
    assert [link for link in page.links if link[0] != "#"] == [
        "https://x.example",
        "http://www.x.example",
        "mailto:a@x.example",
    ]
    assert {"b", "del", "img", "input", "blockquote", "sup", "section"} <= set(page.elements)
