"""What the reports say, and in which order."""

from __future__ import annotations

import pytest
from msgspec.structs import replace
from samples import CLUSTER, FAILURE, OTHER, analysis

from pytest_tracetriage.model.analysis import Exemplar, Muted, Problem, Signature
from pytest_tracetriage.model.trace import Error, Failure, Frame, Source, Trace
from pytest_tracetriage.report import terminal
from pytest_tracetriage.report.markdown import analysis_markdown, cluster_prompt
from pytest_tracetriage.report.show import cluster_lines, render_long, render_short, trace_lines

MUTED = replace(OTHER, muted=Muted("ann", "ticket 7", "2030-01-01"))
FIXED = replace(OTHER, seen="fixed", count=0, since="a41f2c9")
STOPPED = replace(OTHER, category="INTERRUPTED")


def text_of(lines):
    return "\n".join("".join(text for text, _ in line) for line in lines)


@pytest.mark.parametrize(
    ("clusters", "totals", "expected"),
    [
        ((), {}, "TraceTriage: 9 tests, no failures"),
        ((), {"tests": 1}, "TraceTriage: 1 test, no failures"),
        ((CLUSTER,), {}, "TraceTriage: 2 failures -> 1 root cause (1 new)"),
        ((replace(CLUSTER, seen="first-run"), OTHER), {}, "TraceTriage: 3 failures -> 2 root causes (1 new)"),
        ((replace(CLUSTER, seen="first-run"),), {}, "TraceTriage: 2 failures -> 1 root cause (first run)"),
        ((replace(CLUSTER, seen="known"),), {}, "TraceTriage: 2 failures -> 1 root cause"),
        ((CLUSTER, MUTED), {}, "TraceTriage: 3 failures -> 2 root causes (2 new, 1 muted)"),
        ((CLUSTER, FIXED), {}, "TraceTriage: 2 failures -> 1 root cause (1 new, 1 fixed)"),
        ((), {"flaky": 2}, "TraceTriage: 9 tests, no failures (2 attempts run again)"),
        ((STOPPED,), {"failures": 0}, "TraceTriage: 9 tests, no failures (interrupted in test_add)"),
        ((CLUSTER, STOPPED), {"failures": 2}, "TraceTriage: 2 failures -> 1 root cause (1 new, interrupted in test_add)"),
    ],
)
def test_the_headline(clusters, totals, expected):
    assert terminal.headline(analysis(*clusters, **totals)) == expected


def test_a_block_answers_which_how_many_where_and_whose():
    text = text_of(terminal.body(analysis(CLUSTER), 80))
    lines = text.splitlines()
    assert lines[0] == "product: unexpected data"
    assert lines[1].split("  ")[1] == "KT7Q2"
    assert lines[1].rstrip().endswith("2 tests  new")
    for words in ("shop/cart.py:88", "owner @carts", "tests/test_cart.py::test_total[summer]"):
        assert words in text
    assert lines[-2] == "again: pytest --tracetriage-rerun=KT7Q2 · more: tracetriage show KT7Q2"
    assert lines[-1] == "where and since when: tracetriage diagnose"


@pytest.mark.parametrize("width", [50, 60, 80, 120])
def test_the_last_line_fits_the_terminal(width):
    lines = text_of(terminal.body(analysis(CLUSTER), width)).splitlines()
    hints = lines[next(n for n, line in enumerate(lines) if line.startswith("again:")) :]
    assert all(len(line) <= width for line in hints)
    next_steps = ["again: pytest --tracetriage-rerun=KT7Q2", "more: tracetriage show KT7Q2"]
    assert " · ".join(hints) == " · ".join([*next_steps, "where and since when: tracetriage diagnose"])


def test_what_was_interrupted_is_not_listed_as_a_cause():
    assert "M2RDE" not in text_of(terminal.body(analysis(CLUSTER, STOPPED), 80))
    assert "M2RDE" not in analysis_markdown(analysis(CLUSTER, STOPPED)).partition("## Root causes")[2]


@pytest.mark.parametrize(
    ("tests", "unit"),
    [
        (("a.py", "b.py"), "module"),
        (("a.py", "b.txt"), "file"),
        (("a.py", "b.py::test_b"), "test"),
        (("a.py::T", "b.py::T"), "test"),
    ],
)
def test_what_could_not_be_collected_is_counted_as_what_it_is(tests, unit):
    cluster = replace(CLUSTER, tests=tests)
    assert f"2 {unit}s" in text_of(terminal.body(analysis(cluster), 80))
    assert f"2 {unit}s" in text_of(cluster_lines(cluster, "KT7Q2", {}, "run"))
    assert cluster_prompt(cluster, "KT7Q2").splitlines()[2].startswith(f"2 {unit}s fail from one cause")
    text = analysis_markdown(analysis(cluster))
    assert f"- {unit.capitalize()}s: 2" in text
    assert f"**: 2 {unit}s (" in text


@pytest.mark.parametrize(("count", "by_name"), [(1, False), (5, False), (6, True), (400, True)])
def test_beyond_a_handful_the_tests_are_run_again_by_their_cluster(count, by_name):
    cluster = replace(CLUSTER, tests=tuple(f"t.py::t{n}" for n in range(count)), count=count)
    shown = text_of(cluster_lines(cluster, "KT7Q2", {}, "run"))
    report = analysis_markdown(analysis(cluster)).partition("## Validation")[2]
    assert "--tracetriage-rerun=KT7Q2" in shown
    assert ("pytest t.py::t0" in shown) != by_name
    assert ("pytest --tracetriage-rerun=KT7Q2" in report) == by_name
    assert ("pytest t.py::t0" in report) != by_name


def test_a_parameter_is_no_fixture():
    trace = Trace(
        "main.1", "t.py::t[NL]", "passed", fixtures={"country": 0.000012, "cache": 0.000003, "db": 1.5},
        params={"country": "'NL'", "db": "'postgres'"},
    )  # fmt: skip
    text = text_of(trace_lines([trace], {}, "run", {}))
    assert "fixtures  cache 0.000 s, db 1.500 s\n" in text
    assert "country='NL'" in text


@pytest.mark.parametrize("width", [50, 80, 120])
def test_titles_fit_the_terminal(width):
    long = replace(CLUSTER, name="KeyError in Cart.total: " + "x" * 80)
    titles = [line for line in terminal.body(analysis(long), width) if line[0][0].startswith("  KT7Q2")]
    assert titles
    assert all(sum(len(text) for text, _ in line) <= width for line in titles)


def test_five_blocks_then_one_line_each_then_a_count():
    many = [replace(CLUSTER, id=f"{chr(65 + n)}{'B' * 25}", count=1) for n in range(25)]
    text = text_of(terminal.body(analysis(*many), 100))
    assert text.count("owner @carts") == 5
    assert "… and 5 more causes: tracetriage analyze --format markdown" in text


def test_quiet_is_a_line_a_cause_and_says_nothing_of_the_fixed():
    lines = terminal.body(analysis(CLUSTER, OTHER, replace(FIXED, id="Z" * 26)), 80, -1)
    assert len(lines) == 2


def test_verbose_gives_the_evidence():
    text = text_of(terminal.body(analysis(CLUSTER), 80, 1))
    assert "why: same signature: KeyError" in text
    assert "DATA_SHAPE: type KeyError" in text


def test_what_is_known_muted_or_fixed_is_said():
    known = replace(CLUSTER, seen="known", runs=6, since="a41f2c9")
    assert "known for 6 runs, since a41f2c9" in text_of(terminal.body(analysis(known), 100))
    text = text_of(terminal.body(analysis(CLUSTER, MUTED, replace(FIXED, id="Z" * 26)), 100))
    assert "muted" in text
    assert "fixed" in text
    assert terminal.state_of(MUTED) == "muted by ann until 2030-01-01"


def test_problems_are_one_line_each_and_not_endless():
    found = replace(analysis(), problems=tuple(Problem("a.jsonl", n, "no JSON") for n in range(1, 31)))
    lines = text_of(terminal.problems(found)).splitlines()
    assert lines[0] == "a.jsonl:1: no JSON"
    assert lines[-1] == "… and 10 more problems"


def test_the_test_command_is_quoted_for_a_shell():
    assert (
        terminal.pytest_command(("a.py::t[a b]", "a.py::t['; rm -rf /']"), 2)
        == "pytest 'a.py::t[a b]' 'a.py::t['\"'\"'; rm -rf /'\"'\"']'"
    )
    assert terminal.pytest_command(("a", "b", "c"), 1) == "pytest a  # and 2 more tests"


# markdown


def test_sections_that_have_nothing_to_say_are_left_out():
    bare = replace(CLUSTER, suspects=(), fix="")
    text = analysis_markdown(analysis(bare))
    assert "- Fix:" not in text
    assert "## Code changes" not in text
    assert "## Fixed" not in text
    assert "## Problems" not in text


def test_fixed_causes_and_problems_have_sections_of_their_own():
    found = replace(analysis(CLUSTER, FIXED), problems=(Problem("a.jsonl", 3, "no JSON"),))
    text = analysis_markdown(found)
    assert "1 test pass again" in text.replace("&#32;", " ")
    assert "failed since a41f2c9" in text
    assert "- `a.jsonl:3`: no JSON" in text
    headings = [line for line in text.splitlines() if line.startswith("## ")]
    assert headings == ["## Root causes", "## Code changes", "## Validation", "## Fixed", "## Problems of the input"]


def test_a_cause_reads_title_signature_cause_fix():
    text = analysis_markdown(analysis(CLUSTER))
    block = text[text.index("### KT7Q2") : text.index("<details>")]
    kinds = [line.split(":")[0] for line in block.splitlines() if line.startswith("- ")]
    assert kinds == ["- Tests", "- Signature", "- Cause", "- Fix"]
    assert "`KeyError` in `shop/cart.py:total`: `'sku'` (2)" in block


def test_the_tail_is_visible():
    many = [replace(CLUSTER, id=f"{chr(65 + n)}{'B' * 25}", count=1) for n in range(25)]
    text = analysis_markdown(analysis(*many))
    assert text.count("\n### ") == 20 + 1
    assert "### More" in text
    assert f"- {'Y' + 'B' * 4} KeyError" in text


# prompt


def test_a_prompt_of_a_cluster_without_frames():
    bare = replace(
        CLUSTER,
        suspects=(),
        exemplar=Exemplar("t.py::a", Failure("collect", (), text="boom")),
        why=(),
        signatures=(Signature("A" * 26, "collect", "", "", "boom", 1),),
    )
    text = cluster_prompt(bare, "KT7Q2")
    assert "boom" in text
    assert "`collect`: `boom` (1 test)" in text


def test_a_prompt_lists_at_most_thirty_tests():
    many = replace(CLUSTER, tests=tuple(f"t.py::t[{n}]" for n in range(40)), count=40)
    text = cluster_prompt(many, "KT7Q2")
    assert text.count("\n- `t.py::t[") == 30
    assert "and 10 more" in text


# tracebacks


def test_a_short_traceback():
    assert render_short(FAILURE).splitlines() == [
        "tests/test_cart.py:12: in test_total",
        "    assert cart.total(items) == 3",
        "shop/cart.py:88: in Cart.total",
        "    return prices[item['sku']]",
        "E   KeyError: 'sku'",
    ]


def test_a_long_traceback_from_kept_sources():
    source = Source(
        "abc", "shop/cart.py", "total", 86, "    def total(self):\n        # all of them\n        return prices['sku']\n"
    )
    frame = Frame("shop/cart.py", "total", 88, "app", "return prices['sku']", source="abc")
    found = render_long(Failure("call", (Error("KeyError", "'sku'", (frame,)),)), {"abc": source})
    assert found.splitlines() == [
        "        def total(self):",
        "            # all of them",
        ">           return prices['sku']",
        "E           KeyError: 'sku'",
        "",
        "shop/cart.py:88: KeyError",
    ]


def test_a_source_that_was_not_recorded_is_said_to_be_missing():
    found = render_long(Failure("call", (Error("KeyError", "'sku'", (Frame("shop/cart.py", "total", 88, "app"),)),)), {})
    assert "the source of total was not recorded" in found
    assert "shop/cart.py:88: KeyError" in found


def chain(link):
    return Failure("call", (Error("RuntimeError", "outer"), Error("KeyError", "inner", link=link, parent=0)))


@pytest.mark.parametrize(("link", "words"), [("cause", "direct cause of"), ("context", "During handling of")])
@pytest.mark.parametrize("render", [render_short, lambda failure: render_long(failure, {})], ids=["short", "long"])
def test_causes_stand_before_what_they_caused(render, link, words):
    text = render(chain(link))
    assert text.index("KeyError: inner") < text.index(words) < text.index("RuntimeError: outer")


def test_members_of_a_group_follow_it():
    text = render_long(Failure("call", (Error("ExceptionGroup", "two"), Error("KeyError", "one", link="member", parent=0))), {})
    assert text.index("ExceptionGroup: two") < text.index("in exception group: KeyError") < text.index("KeyError: one")


def test_notes_and_every_line_of_a_message_are_marked():
    text = render_long(Failure("call", (Error("ValueError", "one\ntwo", notes=("see the manual",)),)), {})
    assert text.splitlines() == ["E   ValueError: one", "E   two", "E   see the manual"]


def test_frames_that_were_left_out_are_counted():
    frames = tuple(Frame("a.py", f"f{n}", n, "app", "x") for n in range(1, 5))
    assert "... 7 frames left out ..." in render_long(
        Failure("call", (Error("RecursionError", "deep", frames, omitted=7),)), {}
    )


def test_text_alone_is_shown_as_it_was():
    assert render_long(Failure("collect", (), text="one\n\ttwo"), {}) == "one\n    two"
