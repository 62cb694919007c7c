"""The tree of a trace's spans: what `tracetriage show NODEID` draws, of hostile and of huge traces too."""

from __future__ import annotations

import re
import sys

import msgspec
import pytest
from capture.suite import Suite
from hypothesis import given
from hypothesis import strategies as st

from pytest_tracetriage.collect.runs import MAX_SHOWN, read_spans, spans_of
from pytest_tracetriage.model.analysis import Problem
from pytest_tracetriage.model.run import RUN_SCHEMA, Run
from pytest_tracetriage.model.trace import Metric, Span, Trace, Usage
from pytest_tracetriage.report.spans import SHOWN, span_lines


def drawn(spans, costs=None, width=100, **more):
    return ["".join(text for text, _ in line).rstrip() for line in span_lines(spans, costs or {}, width, **more)]


def made(identity, parent="", *, start=0.0, duration=1.0, **more):
    return Span(
        identity, "t", more.pop("name", identity), start, duration, parent=parent, kind=more.pop("kind", "span"), **more
    )


AGENT = [
    made("ask", "plan", start=2, kind="llm", usage=Usage("gpt-4o", input=1000, output=50, cache_read=600, reasoning=20),
         inputs='{"q":"why"}', output='"because"', duration=0.25),
    made("tool", "plan", start=3, kind="tool", outcome="failed", error="KeyError: 'sku'"),
    made("plan", "fixer", start=1, outcome="failed", error="KeyError: 'sku'"),
    made("fixer", start=0, kind="step", component="Fixer", outcome="stuck", stop_reason="no progress",
         rationale="twice the same", duration=75.5, name="propose"),
]  # fmt: skip


def test_a_tree_with_durations_tokens_cost_error_and_texts():
    assert drawn(AGENT, {"ask": [0.0015]}, width=72) == [
        "  spans     4 spans, LLM: 1 call, 1,050 tokens, $0.0015 · 600 cached, 20 reasoning",
        "    ✗ Fixer propose                       75.50 s    1,050 tok   $0.0015",
        "        ended  stuck: no progress: twice the same",
        "      ✗ plan                               1.00 s    1,050 tok   $0.0015",
        "          ask  llm gpt-4o                  250 ms    1,050 tok   $0.0015",
        '            in     {"q":"why"}',
        '            out    "because"',
        "        ✗ tool  tool                       1.00 s",
        "            error  KeyError: 'sku'",
    ]


def test_a_call_without_a_price_leaves_no_sum_that_looks_whole():
    other = made("other", "plan", kind="llm", usage=Usage("mine", input=10))
    lines = drawn([*AGENT, other], {"ask": [0.0015]})
    assert "$0.0015 (no price for mine)" in lines[0]
    assert not any("$" in line for line in lines if "Fixer" in line or "plan" in line)
    assert any("$0.0015" in line for line in lines if "ask" in line)
    assert '(cost: pip install "x")' in drawn([other], note='cost: pip install "x"')[0]


def test_without_calls_there_are_no_columns_for_them():
    assert drawn([made("a", duration=0.002)], width=40) == ["  spans     1 span", "      a                             2 ms"]


def test_colour_marks_what_broke():
    styles = {text.strip(): style for line in span_lines(AGENT, {}, 80) for text, style in line if text.strip()}
    assert styles["✗"] == styles["plan"] == "red bold"
    assert styles["KeyError: 'sku'"] == "red"
    assert styles["ask"] == ""


def test_no_spans_are_no_lines():
    assert drawn([]) == []


def test_lines_keep_to_the_width():
    spans = [made(f"s{n}", f"s{n - 1}", name="n" * 300, error="e" * 3000, inputs="i" * 5000) for n in range(30)]
    for width in (60, 80, 200):
        assert max(map(len, drawn(spans, width=width)[1:])) <= max(width, 100)
    assert sum("in " in line for line in drawn(spans, width=120)) <= 30


def test_what_is_hostile_is_inert():
    lines = drawn([made("a", name="x\x1b[2J\ny", error="\x07boom\r\n", inputs="\u202eevil")])
    assert all(line.isprintable() for line in lines)
    assert not any("\u202e" in line for line in lines)


def test_a_call_that_names_two_models_costs_what_both_do():
    call = made("route", usage=Usage("a", input=10), further=(Usage("b", input=7, cache_read=3),))
    head, line = drawn([call], {"route": [0.5, 0.25]})
    assert head.endswith("1 span, LLM: 2 calls, 17 tokens, $0.75 · 3 cached")
    assert re.search(r"a, b +\S+ s +17 tok +\$0\.75$", line)
    head, line = drawn([call], {"route": [0.5, None]})
    assert head.endswith("17 tokens, $0.50 (no price for b) · 3 cached")
    assert line.endswith("17 tok")


def test_lost_parents_and_circles_are_drawn():
    spans = [made("lost", "gone"), made("me", "me"), made("a", "b"), made("b", "c"), made("c", "a")]
    lines = "\n".join(drawn(spans))
    for name in ("lost", "me", "a", "b", "c"):
        assert re.search(rf"^ +{name} ", lines, re.MULTILINE), name


def test_of_many_spans_those_that_broke_are_drawn():
    spans = [made("root", start=-1)]
    spans += [made(f"s{n}", "root", start=n) for n in range(5000)]
    spans += [made("deep", "s4000", start=9000), made("broken", "deep", start=9001, outcome="failed", error="E: x")]
    lines = drawn(spans)
    assert len(lines) <= SHOWN + 4
    assert lines[-1] == f"    … and {len(spans) - SHOWN:,} more spans"
    assert [line.split()[0] for line in lines if "s4000" in line or "deep" in line] == ["s4000", "deep"]
    assert any("✗ broken" in line for line in lines)
    assert any("E: x" in line for line in lines)


def test_the_span_that_decided_is_marked_and_always_drawn():
    spans = [made(f"s{n}", start=n, outcome="failed") for n in range(2 * SHOWN)] + [made("quiet", start=9000)]
    lines = drawn(spans, broke_at="quiet")
    at = next(index for index, line in enumerate(lines) if "quiet" in line)
    assert lines[at + 1] == "        ↑ it broke here"
    assert sum("it broke here" in line for line in lines) == 1
    assert not any("it broke here" in line for line in drawn(spans))


def chain(length):
    return [made(f"s{n}", f"s{n - 1}", start=n) for n in range(length)]


def steps_to_draw(spans):
    """Return how many lines of code are run where the tree is made."""
    steps = 0

    def count(frame, event, _):
        nonlocal steps
        steps += event == "line"
        return count if frame.f_code.co_filename == span_lines.__code__.co_filename else None

    before = sys.gettrace()
    sys.settrace(count)
    try:
        drawn(spans)
    finally:
        sys.settrace(before)
    return steps


def test_a_chain_of_any_depth_is_drawn():
    assert len(drawn(chain(5_000))) <= SHOWN + 3


def test_a_chain_twice_as_deep_takes_twice_the_steps():
    once = steps_to_draw(chain(2_000))
    assert once > 2_000
    assert steps_to_draw(chain(4_000)) < 2.2 * once


SPANS = st.lists(
    st.builds(
        made,
        st.sampled_from("abcdefgh"),
        st.sampled_from(["", *"abcdefgh"]),
        start=st.floats(0, 9),
        duration=st.floats(0, 1e6),
        name=st.text(min_size=1, max_size=9),
        outcome=st.sampled_from(["success", "failed", "stuck"]),
        error=st.text(max_size=9),
        usage=st.one_of(st.none(), st.builds(Usage, st.text(max_size=4), input=st.integers(0, 10**6))),
    ),
    max_size=8,
    unique_by=lambda span: span.id,
)


@given(SPANS, st.integers(20, 150), st.randoms())
def test_every_span_is_drawn_once_in_any_order(spans, width, order):
    named = [msgspec.structs.replace(span, name=f"<{span.id}>{span.name}", component="") for span in spans]
    shuffled = list(named)
    order.shuffle(shuffled)
    lines = drawn(named, width=width)
    assert drawn(shuffled, width=width) == lines
    for span in spans:
        assert sum(line.lstrip(" ✗").startswith(f"<{span.id}>") for line in lines) == 1


def write(folder, *chunks):
    (folder / "traces").mkdir(parents=True)
    run = Run(RUN_SCHEMA, "20260101T000000Z-000000", "finished", 0.0)
    (folder / "run.json").write_bytes(msgspec.json.encode(run))
    (folder / "traces" / "main.jsonl").write_bytes(
        b"".join(chunk if isinstance(chunk, bytes) else msgspec.json.encode(chunk) + b"\n" for chunk in chunks)
    )
    return folder


def test_bad_lines_are_problems_and_the_rest_is_kept(tmp_path):
    folder = write(
        tmp_path / "run", made("a"), b'{"record":"span","id":""}\n', Metric("m", 1.0), Trace("t", "x::y", "passed"),
        b'{"record":"span"' + b"[" * 100_000 + b"\n", b"\xff\xfe\n", made("b"), b'{"record":"span","id":"c',
    )  # fmt: skip
    found = list(read_spans(folder))
    assert [item.id for item in found if isinstance(item, Span)] == ["a", "b"]
    assert [item.name for item in found if isinstance(item, Metric)] == ["m"]
    assert [item.line for item in found if isinstance(item, Problem)] == [2, 5, 8]
    assert spans_of(folder, {"t"})[1] == 3


def test_of_a_trace_with_very_many_the_last_are_kept(tmp_path):
    folder = write(tmp_path / "run", *(made(f"s{n}") for n in range(2 * MAX_SHOWN + 500)))
    spans, bad = spans_of(folder, {"t"})
    assert (len(spans["t"]), spans["t"][-1].id, bad) == (MAX_SHOWN, f"s{2 * MAX_SHOWN + 499}", 0)
    assert spans_of(folder, {"other"}) == ({}, 0)


@given(st.binary(max_size=200))
def test_any_bytes_are_read_without_an_error(tmp_path_factory, data):
    folder = write(tmp_path_factory.mktemp("any") / "run", b'{"record":"span"' + data)
    assert all(isinstance(item, (Span, Metric, Problem)) for item in read_spans(folder))


@pytest.fixture(scope="module")
def suite(tmp_path_factory):
    suite = Suite(
        tmp_path_factory.mktemp("tree"),
        test_a="""
        from pytest_tracetriage import span, step

        def test_agent():
            with step("Fixer", "propose"):
                with span("ask", kind="llm", inputs={"question": "why is the sum wrong"}) as ask:
                    ask.usage("gpt-4o", input=1_000_000)
                with span("patch", kind="tool"):
                    raise RuntimeError("does not apply")

        def test_plain():
            pass
        """,
    )
    suite.run()
    return suite


def test_show_draws_it(suite):
    shown = suite.tracetriage("show", "test_a.py::test_agent").out
    assert "  spans     3 spans, LLM: 1 call, 1,000,000 tokens, $2.50\n" in shown
    assert re.search(r"^    ✗ Fixer propose +\S+ m?s +1,000,000 tok +\$2\.50$", shown, re.MULTILINE)
    assert 'in     {"question":"why is the sum wrong"}' in shown
    assert shown.count("error  RuntimeError: does not apply") == 1
    assert shown.index("spans ") < shown.index("test_a.py:9: RuntimeError")


def test_show_of_a_test_without_spans_is_as_before(suite):
    assert "spans" not in suite.tracetriage("show", "test_a.py::test_plain").out


def test_show_honours_width_and_colour(suite):
    narrow = suite.tracetriage("show", "test_a.py::test_agent", env={"COLUMNS": "70"}).out
    line = next(line for line in narrow.splitlines() if "Fixer propose" in line)
    assert len(line) <= 70
    coloured = suite.tracetriage("show", "test_a.py::test_agent", env={"NO_COLOR": "", "FORCE_COLOR": "1"}).out
    assert "\x1b[31m\x1b[1mFixer propose" in coloured


def test_show_says_what_could_not_be_read(suite):
    with next((suite.last / "traces").glob("*.jsonl")).open("ab") as file:
        file.write(b'{"record":"span","id":"torn')
    assert "1 line of this run could not be read" in suite.tracetriage("show", "test_a.py::test_agent").out
