"""Loops and stuck agents, recorded in a suite that runs; and work that only looks like it."""

from __future__ import annotations

import random
import time

import pytest
from capture.suite import Suite
from triage.episode_suite import PRELUDE, Episodes

from pytest_tracetriage.model.trace import Span
from pytest_tracetriage.triage.calls import loops
from pytest_tracetriage.triage.steps import step_of

SUITE = """
def test_loop():
    with step("Fixer"):
        for _ in range(5):
            call("search", "nothing found", q="total")
    assert False, "no patch"

def test_loop_of_a_cycle():
    for _ in range(3):
        call("read", "def total(): ...", file="a.py")
        call("grep", "no match", text="total")
    assert False, "no patch"

def test_loop_between_calls_to_the_model():
    with step("Fixer"):
        for turn in range(4):
            with span("turn"):
                call("chat", {"content": f"thought {turn}"}, kind="llm", turn=turn)
                call("search", "nothing found", q="total")
        raise make("MaxTurnsExceeded")("Max turns (4) exceeded")

def test_loop_of_the_same_error():
    for _ in range(3):
        try:
            call("click", error=LookupError("no element #buy"), selector="#buy")
        except LookupError:
            pass
    assert False, "nothing was bought"

def test_two_times_are_none():
    for _ in range(2):
        call("search", "nothing found", q="total")
    assert False, "no patch"

def test_polling():
    for percent in (10, 50, 90):
        call("status", f"{percent} %", job=7)
    assert False, "job 7 failed"

def test_polling_to_the_end_of_patience():
    for _ in range(6):
        call("job status", {"id": 7, "status": "in_progress"}, job=7)
    raise TimeoutError("job 7 is not done after 60 s")

def test_polling_for_a_word():
    for _ in range(4):
        call("job status", "not ready yet", job=7)
    assert False, "job 7 is not done"

def test_loop_though_it_ended():
    for _ in range(4):
        call("job status", {"id": 7, "status": "failed"}, job=7)
    assert False, "no other job was begun"

def test_loop_of_what_is_ready():
    for _ in range(4):
        call("page", {"state": "ready", "text": "no shoes"}, page=7)
    assert False, "no shoes"

def test_loop_of_a_text_with_such_a_word():
    for _ in range(4):
        call("search", "running shoes: none", q="shoes")
    assert False, "no shoes"

def test_loop_of_another_field():
    for _ in range(4):
        call("look", {"kind": "running", "left": 0}, q="shoes")
    assert False, "no shoes"

def test_batch():
    for number in range(6):
        call("resize", "done", picture=number)
    assert False, "picture 3 is too dark"

def test_retries():
    for wait in (0.01, 0.02, 0.04):
        try:
            call("chat", error=make("RateLimitError")("Error code: 429 - slow down"), kind="llm", q="why")
        except Exception:
            time.sleep(wait)
    assert False, "no answer"

def test_a_loop_that_was_left():
    for _ in range(3):
        call("search", "nothing found", q="total")
    call("result", "red", job=7)
    assert False, "not green"

def test_a_loop_between_calls_to_the_model_that_was_left():
    for turn in range(4):
        call("chat", {"content": f"thought {turn}"}, kind="llm", turn=turn)
        call("search", "nothing found", q="total")
    for name in ("write", "send"):
        call(name, "done", kind="op")
    assert False, "not green"

def test_nothing_comes_out():
    for _ in range(4):
        call("press", None, key="Tab")
    assert False, "wrong field"

def test_verified_after_each_fix():
    for patch in ("a", "b", "c"):
        with step("Fixer"):
            call("propose", f"patch {patch}", kind="op", patch=patch)
        with step("Verifier"):
            call("run tests", "1 failed", suite="shop")
    assert False, "still red"

def test_stuck():
    with step("Fixer") as fixer:
        fixer.outcome("stuck", stop_reason="no progress")
    assert False, "no patch"

def test_not_stuck():
    with step("Fixer", name="stuck drawer") as fixer:
        fixer.outcome("success", stop_reason="stuck no more")
    assert False, "no patch"
"""
LOOPS = {
    "loop": ("LOOP", "search: 5 times with the same inputs and result"),
    "loop_of_a_cycle": ("LOOP", "read -> grep: 3 times with the same inputs and results"),
    "loop_between_calls_to_the_model": ("LOOP", "search: 4 times with the same inputs and result"),
    "loop_of_the_same_error": ("LOOP", "click: 3 times with the same inputs and result"),
    "loop_though_it_ended": ("LOOP", "job status: 4 times with the same inputs and result"),
    "loop_of_what_is_ready": ("LOOP", "page: 4 times with the same inputs and result"),
    "loop_of_a_text_with_such_a_word": ("LOOP", "search: 4 times with the same inputs and result"),
    "loop_of_another_field": ("LOOP", "look: 4 times with the same inputs and result"),
    "stuck": ("STUCK", "Fixer ended stuck: no progress"),
}
NEAR = [
    "two_times_are_none",
    "polling",
    "polling_to_the_end_of_patience",
    "polling_for_a_word",
    "batch",
    "retries",
    "a_loop_that_was_left",
    "a_loop_between_calls_to_the_model_that_was_left",
    "nothing_comes_out",
    "verified_after_each_fix",
    "not_stuck",
]


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    return Episodes(tmp_path_factory.mktemp("loops"), SUITE)


@pytest.mark.parametrize("test", LOOPS)
def test_loops_and_stuck_agents(ran, test):
    category, words = LOOPS[test]
    place = ran.places[test]
    assert (place.category, place.owner) == (category, "agent"), place
    assert words in place.evidence


def test_the_step_of_a_loop_is_its_first_call(ran):
    place = ran.places["loop"]
    calls = [span for span in ran.suite.spans if span.trace == place.id and span.name == "search"]
    assert place.step == min(calls, key=lambda span: span.start).id
    assert place.component == "Fixer"
    assert "MAST FM-1.3 Step repetition" in place.evidence


@pytest.mark.parametrize("test", NEAR)
def test_what_looks_like_it_is_not(ran, test):
    assert ran.places[test].category not in {"LOOP", "STUCK"}, ran.places[test]


def test_retries_are_called_so(ran):
    assert "chat was retried 2 times after RATE_LIMIT" in ran.places["retries"].evidence
    assert ran.places["retries"].category == "RATE_LIMIT"


def test_what_was_repeated_and_left_is_told(ran):
    assert "search: 3 times with the same inputs and result" in ran.places["a_loop_that_was_left"].evidence


ENDLESS = """
def test_patient():
    with step("Fixer"):
        while True:
            call("status", "running", job=7)
            time.sleep(0.02)

def test_endless():
    with step("Fixer"):
        while True:
            call("search", "nothing found", q="total")
            time.sleep(0.02)

def test_slow():
    with step("Fixer"):
        call("search", "found", q="total")
        time.sleep(30)
"""


@pytest.mark.linux
@pytest.mark.parametrize(("test", "category"), [("test_endless", "STUCK"), ("test_slow", "INTERRUPTED")])
def test_a_loop_that_a_signal_ended_is_stuck(tmp_path, test, category):
    suite = Suite(tmp_path, test_it=PRELUDE + ENDLESS)
    process = suite.start("-k", test)
    deadline = time.monotonic() + 20
    enough = 4 if test == "test_endless" else 1
    files = lambda: list(suite.folder.glob("runs/*/traces/*.jsonl"))  # noqa: E731
    while time.monotonic() < deadline and sum(path.read_bytes().count(b'"search"') for path in files()) < enough:
        time.sleep(0.05)
    process.send_signal(2)
    process.communicate(timeout=20)
    (cluster,) = suite.analysis.clusters
    assert cluster.category == category
    (place,) = suite.analysis.traces
    assert (place.category, place.component) == (category, "Fixer")
    assert suite.analysis.totals.failures == (1 if category == "STUCK" else 0)


@pytest.mark.linux
def test_a_loop_that_a_timeout_ended_is_stuck(tmp_path):
    ran = Episodes(tmp_path, ENDLESS, "-k", "endless", "--timeout=0.7", plugins="timeout")
    assert ran.places["endless"].category == "STUCK"
    assert ran.cluster("endless").owner == "agent"


@pytest.mark.linux
def test_a_poll_that_a_timeout_ended_is_not_stuck(tmp_path):
    ran = Episodes(tmp_path, ENDLESS, "-k", "patient", "--timeout=0.7", plugins="timeout")
    assert (ran.places["patient"].category, ran.places["patient"].component) == ("TIMEOUT", "Fixer")


def span(number, digest="d", output='"same"', start=None, **more):
    at = number if start is None else start
    return Span(f"s{number}", "t", "search", float(at), more.pop("duration", 0.5), "tool", digest=digest, output=output, **more)


def found(*spans):
    return [(len(loop.steps), loop.times, loop.open) for loop in loops([step_of(one) for one in spans], lambda _step: "")]


def test_calls_at_the_same_time_are_not_in_a_row():
    assert found(*(span(number, start=1.0, duration=2.0) for number in range(4))) == []
    assert found(*(span(number) for number in range(4))) == [(1, 4, True)]


def test_without_a_digest_nothing_is_the_same():
    assert found(*(span(number, digest="") for number in range(4))) == []


def test_the_longest_cycle_has_four_calls():
    assert found(*(span(number, digest=f"d{number % 4}") for number in range(12))) == [(4, 3, True)]
    assert found(*(span(number, digest=f"d{number % 5}") for number in range(15))) == []


def test_a_round_that_was_begun_still_counts_as_the_end():
    assert found(*(span(number, digest=f"d{number % 2}") for number in range(7))) == [(2, 3, True)]


def test_the_order_of_the_records_does_not_matter():
    spans = [span(number, digest=f"d{number % 2}", parent="p" if number > 5 else "") for number in range(12)]
    whole = found(*spans)
    for seed in range(5):
        random.Random(seed).shuffle(spans)
        assert found(*spans) == whole
