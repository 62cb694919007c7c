"""The failing step of a red trace: the first decisive error, in whatever order its spans came."""

from __future__ import annotations

import itertools
import shutil

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from triage.episode_suite import Episodes
from triage.making import error, fails, passes, source

from pytest_tracetriage.collect.formats import complaint
from pytest_tracetriage.model.trace import Span
from pytest_tracetriage.triage import steps, summary
from pytest_tracetriage.triage.analyze import Given, analyze
from pytest_tracetriage.triage.stream import summarize_lines
from pytest_tracetriage.triage.summary import merge

SUITE = """
def boom(text="no price for a pear"):
    raise LookupError(text)

def test_the_innermost_of_what_was_passed_on():
    with step("Tester", name="outer"):
        with span("middle", kind="op"):
            with span("inner", kind="op"):
                boom()

def test_the_cause_not_what_it_was_wrapped_in():
    with step("Tester", name="outer"):
        try:
            with span("inner", kind="op"):
                boom()
        except LookupError as error:
            raise RuntimeError("the order failed") from error

def test_what_the_tests_exception_shows_not_an_earlier_error():
    try:
        with span("warm the cache", kind="op"):
            boom("the cache is cold")
    except LookupError:
        pass
    with span("order", kind="op"):
        boom("sold out for good")

def test_what_was_retried_with_success_is_over():
    with span("agent", kind="op"):
        for attempt in (1, 2):
            try:
                with span(f"ask, attempt {attempt}", kind="op"):
                    if attempt == 1:
                        boom("the line is dead")
            except LookupError:
                pass
        try:
            with span("order", kind="op"):
                boom("sold out for good")
        except LookupError:
            pass
    assert False

def test_the_retry_that_failed_too():
    for attempt in (1, 2):
        try:
            with span("ask", kind="op", inputs=attempt):
                boom("the line is dead")
        except LookupError as error:
            last = error
    raise last

def test_the_retry_that_came_too_late():
    for attempt in (1, 2):
        try:
            with span("ask", kind="op", inputs=attempt):
                if attempt == 1:
                    boom("the line is dead")
        except LookupError as error:
            last = error
    raise last

def test_a_success_before_it_is_no_retry():
    for attempt in (1, 2):
        try:
            with span("ask", kind="op", inputs=attempt):
                if attempt == 2:
                    boom("the line is dead")
        except LookupError:
            pass
    assert False

def test_the_call_that_failed_not_who_read_nothing():
    import json
    with span("plan", kind="op"):
        text = ""
        try:
            with span("chat", kind="llm"):
                raise make("RateLimitError")("Error code: 429 - slow down")
        except Exception:
            pass
        json.loads(text)

def test_the_first_of_what_nobody_caught():
    for name in ("first", "second"):
        try:
            with span(name, kind="op"):
                boom(f"no luck in the {name}")
        except LookupError:
            pass
    assert False

def test_what_was_said_to_have_failed_not_what_was_caught():
    with span("agent", kind="op"):
        try:
            with span("look into the cache", kind="op"):
                boom("not in the cache")
        except LookupError:
            pass
    with step("Verifier") as verifier:
        verifier.outcome("failed", stop_reason="1 failed")
    assert False

def test_the_first_of_the_failed_steps_at_the_end():
    for component, outcome in (("Tester", "failed"), ("Triage", "success"), ("Fixer", "failed"), ("Verifier", "failed")):
        with step(component) as one:
            one.outcome(outcome)
    assert False

def test_the_inner_of_two_steps_that_failed():
    with step("Orchestrator") as outer:
        with step("Fixer") as fixer:
            fixer.outcome("failed")
        outer.outcome("failed")
    assert False

def test_what_gave_the_value_that_was_wrong():
    with step("Triage"):
        with span("classify", kind="op") as triage:
            triage.set("output", {"class": "NETWORK"})
    with span("report", kind="op") as report:
        report.set("output", {"class": "NETWORK", "text": "the network was down"})
    found = "NETWORK"
    assert found == "TIMEOUT"

def test_a_value_of_both_sides_proves_nothing():
    with span("classify", kind="op") as triage:
        triage.set("output", {"class": "NETWORK"})
    with span("what is right", kind="op") as right:
        right.set("output", {"class": "TIMEOUT"})
    found = "NETWORK"
    assert found == "TIMEOUT"

def test_the_category_of_what_the_step_raised_not_of_the_symptom():
    try:
        with step("Tester"):
            boom()
    except LookupError:
        pass
    assert False

def test_the_category_of_the_test_where_the_error_was_caught_inside():
    with span("agent", kind="op"):
        try:
            with span("look into the cache", kind="op"):
                boom("not in the cache")
        except LookupError:
            pass
    assert False

def test_the_category_of_the_test_where_the_step_has_none():
    try:
        with step("Tester"):
            raise make("Odd")("who knows")
    except Exception:
        pass
    assert False

def test_no_span_failed():
    with step("Fixer"):
        pass
    assert 1 == 2

def test_no_spans():
    assert 1 == 2

def test_green():
    with span("odd", kind="op"):
        pass

def test_green_all_the_same():
    with pytest.raises(LookupError):
        with span("odd", kind="op"):
            boom()
"""
EXPECTED = {
    "the_innermost_of_what_was_passed_on": ("inner", "Tester"),
    "the_cause_not_what_it_was_wrapped_in": ("inner", "Tester"),
    "what_the_tests_exception_shows_not_an_earlier_error": ("order", ""),
    "what_was_retried_with_success_is_over": ("order", ""),
    "the_retry_that_failed_too": ("ask", ""),
    "the_retry_that_came_too_late": ("ask", ""),
    "a_success_before_it_is_no_retry": ("ask", ""),
    "the_call_that_failed_not_who_read_nothing": ("chat", ""),
    "the_first_of_what_nobody_caught": ("first", ""),
    "what_was_said_to_have_failed_not_what_was_caught": ("Verifier", "Verifier"),
    "the_first_of_the_failed_steps_at_the_end": ("Fixer", "Fixer"),
    "the_inner_of_two_steps_that_failed": ("Fixer", "Fixer"),
    "what_gave_the_value_that_was_wrong": ("classify", "Triage"),
    "the_category_of_what_the_step_raised_not_of_the_symptom": ("Tester", "Tester"),
    "the_category_of_the_test_where_the_error_was_caught_inside": ("look into the cache", ""),
    "the_category_of_the_test_where_the_step_has_none": ("Tester", "Tester"),
}


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    return Episodes(tmp_path_factory.mktemp("steps"), SUITE)


@pytest.mark.parametrize("test", EXPECTED)
def test_the_failing_step(ran, test):
    name, component = EXPECTED[test]
    assert (ran.step(test).name, ran.places[test].component) == (name, component), ran.places[test]


def test_the_category_of_a_call_whose_answer_was_not_there_to_be_read(ran):
    assert ran.places["the_call_that_failed_not_who_read_nothing"].category == "RATE_LIMIT"


def test_a_symptom_does_not_name_the_category_of_its_cause(ran):
    assert ran.places["the_category_of_what_the_step_raised_not_of_the_symptom"].category == "DATA_SHAPE"
    assert ran.cluster("the_category_of_what_the_step_raised_not_of_the_symptom").category == "DATA_SHAPE"
    assert ran.places["the_category_of_the_test_where_the_error_was_caught_inside"].category == "ASSERTION"
    assert ran.places["the_category_of_the_test_where_the_step_has_none"].category == "ASSERTION"


def test_a_wrong_class_is_a_misclassification(ran):
    place = ran.places["what_gave_the_value_that_was_wrong"]
    assert (place.category, place.owner) == ("MISCLASSIFICATION", "agent")
    assert "contradicted: NETWORK" in place.evidence


@pytest.mark.parametrize("test", ["a_value_of_both_sides_proves_nothing", "no_span_failed"])
def test_where_no_span_tells_no_step_is_named(ran, test):
    place = ran.places[test]
    assert (place.step, place.component, place.category) == ("", "", "ASSERTION")
    assert "no span failed" in place.evidence


def test_only_red_traces_with_spans_are_listed(ran):
    assert set(ran.places) == {*EXPECTED, "a_value_of_both_sides_proves_nothing", "no_span_failed"}


def test_xdist_gives_the_same(ran, tmp_path):
    other = Episodes(tmp_path, SUITE, "-n2", plugins="xdist")
    found = {name: (place.component, place.category, place.evidence) for name, place in other.places.items()}
    assert found == {name: (place.component, place.category, place.evidence) for name, place in ran.places.items()}


# -- shards: the same bytes, however the records were dealt -----------------------------------------------------------


def of_lines(lines, shard="a"):
    return summarize_lines(enumerate(lines, 1), "main.jsonl", shard, source(shard), frozenset(), complaint, "run")


def told(*summaries):
    found = analyze(merge(*summaries), Given(components=("Fixer",)))
    return msgspec.json.encode((found.clusters, found.buckets, found.traces))


@pytest.fixture(scope="module")
def records(ran):
    return (ran.suite.last / "traces" / "main.jsonl").read_bytes().splitlines()


@settings(max_examples=25, deadline=None, derandomize=True)
@given(data=st.data())
def test_the_order_of_records_and_shards_does_not_matter(records, data):
    shuffled = data.draw(st.permutations(records))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(records)), max_size=3)))
    whole = told(of_lines(records))
    shards = [of_lines(shuffled[start:end], f"shard{start}") for start, end in itertools.pairwise([0, *cuts, len(records)])]
    order = data.draw(st.permutations(shards))
    assert told(*order) == whole
    assert told(merge(*order[:2]), *order[1:], *order) == whole


def test_the_command_says_the_same_of_a_run_in_pieces(ran, records, tmp_path):
    folders = []
    for number, lines in enumerate((records[::2], records[1::2])):
        folder = tmp_path / f"piece{number}"
        (folder / "traces").mkdir(parents=True)
        shutil.copy(ran.suite.last / "run.json", folder)
        (folder / "traces" / "main.jsonl").write_bytes(b"\n".join(lines) + b"\n")
        folders.append(folder)
    pieces = ran.suite.tracetriage("analyze", "--format", "json", *reversed(folders)).out
    assert msgspec.json.decode(pieces)["traces"] == ran.as_json()


def test_files_that_stand_alone_do_not_mix_their_spans(tmp_path):
    one = [Span("s", "1", "order", 1.0, 0.5, error="KeyError: 'sku'"), fails("t.py::a", error("KeyError", "'sku'"))]
    other = [fails("t.py::b", error("KeyError", "'sku'"))]
    for name, some in (("one", one), ("two", other)):
        some[-1] = msgspec.structs.replace(some[-1], id="1")
        folder = tmp_path / name
        folder.mkdir()
        (folder / "main.jsonl").write_bytes(b"\n".join(map(msgspec.json.encode, some)))
    from capture.suite import Suite

    out = (
        Suite(tmp_path, {"pyproject.toml": ""})
        .tracetriage("analyze", "--format", "json", "one/main.jsonl", "two/main.jsonl")
        .out
    )
    assert [(trace["nodeid"], trace["step"]) for trace in msgspec.json.decode(out)["traces"]] == [("t.py::a", "s")]


# -- bounds, and what is broken ---------------------------------------------------------------------------------------


def spans(number, trace="1", **more):
    return [Span(f"s{n}", trace, "work", float(n), 0.5, **more) for n in range(number)]


def encoded(*some):
    return [msgspec.json.encode(one) for one in some]


def test_the_spans_of_green_tests_are_not_kept():
    many = encoded(*spans(600, "x"), msgspec.structs.replace(passes("t.py::b"), id="x"))
    assert of_lines(many).steps == {}
    one = encoded(*spans(3, "y"), msgspec.structs.replace(fails("t.py::c", error("KeyError"), rerun=True), id="y"))
    assert of_lines(one).steps == {}


def test_of_many_spans_those_that_failed_and_the_first_are_kept():
    broke = Span("last", "1", "order", 5000.0, 1.0, error="KeyError: 'sku'")
    red = msgspec.structs.replace(fails("t.py::a", error("KeyError", "'sku'")), id="1")
    found = of_lines(encoded(*spans(3000), broke, red))
    (kept,) = found.steps.values()
    assert len(kept) == steps.MAX_STEPS
    (place,) = analyze(found, Given()).traces
    assert place.step == "last"


def test_of_many_red_traces_some_are_looked_at_whatever_the_order(monkeypatch):
    monkeypatch.setattr(summary, "MAX_RED", 3)
    monkeypatch.setattr("pytest_tracetriage.triage.stream.MAX_RED", 3)
    lines = []
    for number in range(30):
        broke = Span(f"s{number}", str(number), "order", 1.0, 1.0, error="KeyError: 'sku'")
        lines += encoded(broke, msgspec.structs.replace(fails(f"t.py::t{number}", error("KeyError", "'sku'")), id=str(number)))
    whole = of_lines(lines)
    assert len(whole.red) == len(whole.steps) == 3
    assert len(analyze(whole, Given()).traces) == 3
    assert told(whole) == told(of_lines(lines[::-1])) == told(of_lines(lines[:20]), of_lines(lines[20:], "b"))


def test_a_span_that_cannot_be_read_is_a_problem_of_its_line():
    red = msgspec.structs.replace(fails("t.py::a", error("KeyError")), id="1")
    found = of_lines([b'{"record":"span","id":"s","trace":"1","name":7}', *encoded(red)])
    assert [(line, text[:16]) for _, line, text in found.problems] == [(1, "not a whole span")]
    assert len(found.signatures) == 1


@pytest.mark.parametrize("message", ["'sku'", "'{}'"], ids=["the-same-error", "other-errors"])
def test_parents_in_a_circle_are_survived(message):
    said = [f"KeyError: {message.format(n)}" for n in range(3)]
    round_ = [Span(f"s{n}", "1", "work", float(n), 1.0, parent=f"s{(n + 1) % 3}", error=said[n]) for n in range(3)]
    red = msgspec.structs.replace(fails("t.py::a", error("KeyError", "'sku'")), id="1")
    assert len(analyze(of_lines(encoded(*round_, red)), Given()).traces) == 1


def test_what_stands_in_another_failed_before_it_whatever_the_clock_says():
    outer = Span("outer", "1", "order", 1.0, 1.0, error="KeyError: 'sku'")
    inner = Span("inner", "1", "look up", 1.5, 1.0, parent="outer", error="LookupError: no such thing")
    red = msgspec.structs.replace(fails("t.py::a", error("KeyError", "'sku'"), error("LookupError", "no such thing")), id="1")
    (place,) = analyze(of_lines(encoded(outer, inner, red)), Given()).traces
    assert place.step == "inner"


def test_without_spans_the_analysis_is_what_it_was():
    some = [fails(f"t.py::t{n}", error("KeyError", "'sku'", "shop/cart.py:total")) for n in range(5)]
    found = analyze(of_lines(encoded(*some)), Given(components=("Fixer", "Triage")))
    assert found.traces == ()
    assert [why.evidence for cluster in found.clusters for why in cluster.why] == ["same signature"]
    assert found.clusters[0].category == "DATA_SHAPE"
