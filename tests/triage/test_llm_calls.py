"""Calls to models: a real trace of each category, and what looks like it but is not."""

from __future__ import annotations

import pytest
from making import error, failure
from triage.episode_suite import Episodes

from pytest_tracetriage.triage.taxonomy import classify

SUITE = """
def chat(error=None, answer="done", finish="stop", inputs=None, kind="llm", **message):
    with span("openai.chat.completions.create", kind=kind, inputs=inputs or {"messages": []}) as ask:
        if error is not None:
            raise error
        said = {"role": "assistant", "content": answer, "refusal": None, **message}
        ask.set("output", {"choices": [{"finish_reason": finish, "message": said}]})
    return said

JSON = {"messages": [], "response_format": {"type": "json_schema", "json_schema": {"name": "patch"}}}

def test_rate_limit():
    chat(make("RateLimitError")("Error code: 429 - {'error': {'message': 'Rate limit reached for gpt-4o'}}"))

def test_not_rate_limit():
    with span("read the page"):
        assert "rate limit" in "the page", "429 was expected"

def test_auth():
    chat(make("AuthenticationError")("Error code: 401 - {'error': {'message': 'invalid x-api-key'}}"))

def test_not_auth():
    with span("log in to the shop"):
        raise make("AuthenticationError")("wrong password")

def test_context_length():
    chat(make("BadRequestError")("Error code: 400 - {'error': {'code': 'context_length_exceeded'}}"))

def test_not_context_length():
    chat(make("BadRequestError")("Error code: 400 - {'error': {'message': 'temperature must be at most 2'}}"))

def test_context_length_by_its_answer():
    chat(answer="half", finish="model_context_window_exceeded")
    assert False

def test_refusal():
    said = chat(answer=None, refusal="I cannot help with that.")
    assert said["content"]

def test_refusal_by_a_filter():
    said = chat(answer="", finish="content_filter")
    assert said["content"]

def test_not_refusal():
    said = chat(answer="I will not refuse: here is the patch")
    assert "diff" in said["content"]

def test_invalid_output():
    import json
    said = chat(answer='{"patch": ', inputs=JSON)
    with step("Fixer", name="read the answer"):
        json.loads(said["content"])

def test_invalid_output_cut_off():
    said = chat(answer="--- a/sho", finish="length")
    with step("Fixer", name="read the answer"):
        raise ValueError("the answer ends in a word")

def test_refusal_that_a_tool_took_up():
    with step("Fixer"):
        with span("propose"):
            said = chat(answer=None, refusal="I cannot help with that.")
        with span("apply", kind="tool", inputs={"patch": ""}):
            raise ValueError("no patch was given")

def test_not_refusal_after_other_work():
    with step("Fixer"):
        with span("propose"):
            chat(answer=None, refusal="I cannot help with that.")
        with span("read the old patch"): pass
        with span("apply", kind="tool", inputs={"patch": ""}):
            raise ValueError("no patch was given")

def test_not_refusal_of_another_component():
    with span("heal"):
        with step("Verifier"):
            chat(answer=None, refusal="I cannot help with that.")
        with span("write", kind="tool", inputs={"file": "a"}):
            raise ValueError("the disk is gone")

def test_invalid_arguments():
    chat(answer=None, finish="tool_calls", tool_calls=[{"function": {"name": "search", "arguments": "{'q': 1}"}}])
    raise ValueError("no arguments")

def test_not_invalid_output():
    said = chat(answer="no JSON, and none was asked for")
    with step("Fixer", name="read the answer"):
        raise ValueError("seven words were expected")

def test_not_invalid_output_when_asked_again():
    chat(answer='{"patch": ', inputs=JSON)
    chat(answer='{"patch": ""}', inputs=JSON)
    with step("Fixer", name="read the answer"):
        raise ValueError("seven words were expected")

def test_tool_error():
    with span("search", kind="tool", inputs={"page": -1}):
        raise IndexError("there is no page before the first")

def test_tool_error_by_its_answer():
    with span("search", kind="tool", inputs={"q": ""}) as search:
        search.set("output", {"isError": True, "content": "q: expected words"})
    assert False

def test_tool_error_of_a_tool_that_is_none():
    with span("dispatch"):
        raise KeyError("unknown tool 'serach'")

def test_not_tool_error():
    with span("search", kind="op", inputs={"q": ""}):
        raise ValueError("q: expected words")

def test_not_tool_error_when_it_was_mended():
    for error in (ValueError("q: expected words"), None):
        try:
            call("search", "found", error, q="pear")
        except ValueError:
            pass
    with span("order", kind="op"):
        raise LookupError("sold out")

def test_timeout():
    chat(make("APITimeoutError")("Request timed out."))

def test_not_timeout():
    with span("wait", kind="op"):
        raise ValueError("Request timed out, says the form")

def test_network():
    chat(make("APIConnectionError")("Connection error."))

def test_service_error():
    chat(make("InternalServerError")("Error code: 529 - {'type': 'overloaded_error'}"))

def test_resource_not_found():
    chat(make("NotFoundError")("Error code: 404 - {'error': {'code': 'model_not_found'}}"))

def test_tool_definition():
    chat(make("BadRequestError")("Error code: 400 - Invalid schema for function 'search'"))

def test_lost_history():
    chat(make("BadRequestError")("Error code: 400 - An assistant message with 'tool_calls' must be followed by tool messages"))

def test_turn_limit():
    with step("Fixer"):
        raise make("MaxTurnsExceeded")("Max turns (10) exceeded")

def test_not_turn_limit():
    def endless():
        endless()
    with step("Fixer"):
        endless()
"""
EXPECTED = {
    "rate_limit": ("RATE_LIMIT", "infrastructure"),
    "auth": ("AUTH", "infrastructure"),
    "context_length": ("CONTEXT_LENGTH", "agent"),
    "context_length_by_its_answer": ("CONTEXT_LENGTH", "agent"),
    "refusal": ("REFUSAL", "agent"),
    "refusal_by_a_filter": ("REFUSAL", "agent"),
    "refusal_that_a_tool_took_up": ("REFUSAL", "agent"),
    "invalid_output": ("INVALID_OUTPUT", "agent"),
    "invalid_output_cut_off": ("INVALID_OUTPUT", "agent"),
    "invalid_arguments": ("INVALID_OUTPUT", "agent"),
    "tool_error": ("TOOL_ERROR", "agent"),
    "tool_error_by_its_answer": ("TOOL_ERROR", "agent"),
    "tool_error_of_a_tool_that_is_none": ("TOOL_ERROR", "agent"),
    "timeout": ("TIMEOUT", "infrastructure"),
    "network": ("NETWORK", "infrastructure"),
    "service_error": ("SERVICE_ERROR", "infrastructure"),
    "resource_not_found": ("RESOURCE_NOT_FOUND", "product"),
    "tool_definition": ("TOOL_DEFINITION", "product"),
    "lost_history": ("LOST_HISTORY", "agent"),
    "turn_limit": ("TURN_LIMIT", "agent"),
}
NEAR = {
    "not_rate_limit": "ASSERTION",
    "not_auth": "ERROR",
    "not_context_length": "API_MISUSE",
    "not_refusal": "ASSERTION",
    "not_refusal_after_other_work": "INVALID_PATCH",
    "not_refusal_of_another_component": "TOOL_ERROR",
    "not_invalid_output": "DATA_SHAPE",
    "not_invalid_output_when_asked_again": "DATA_SHAPE",
    "not_tool_error": "DATA_SHAPE",
    "not_tool_error_when_it_was_mended": "DATA_SHAPE",
    "not_turn_limit": "RECURSION",
}


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    return Episodes(tmp_path_factory.mktemp("calls"), SUITE)


@pytest.mark.parametrize("test", EXPECTED)
def test_each_category(ran, test):
    place = ran.places[test]
    assert (place.category, place.owner) == EXPECTED[test], place
    assert place.step, place


def test_a_cluster_has_the_category_of_its_failing_step(ran):
    cluster = ran.cluster("rate_limit")
    assert (cluster.category, cluster.owner) == ("RATE_LIMIT", "infrastructure")
    assert cluster.fix


@pytest.mark.parametrize("test", NEAR)
def test_what_looks_like_it_is_not(ran, test):
    assert ran.places[test].category == NEAR[test], ran.places[test]


def test_a_form_that_timed_out_is_no_call_to_a_model(ran):
    assert (ran.places["not_timeout"].category, ran.places["not_timeout"].owner) != ("TIMEOUT", "infrastructure")


def test_the_call_with_the_useless_answer_is_the_step_not_who_choked_on_it(ran):
    assert ran.step("invalid_output_cut_off").kind == "llm"
    assert ran.step("invalid_output").kind == "llm"
    assert "read the answer failed on its answer" in ran.places["invalid_output"].evidence
    assert ran.step("not_invalid_output").name == "read the answer"


def test_the_evidence_names_the_published_mode(ran):
    assert "(TRAIL Rate Limiting)" in ran.places["rate_limit"].evidence
    assert "(MAST FM-1.5 Unaware of termination conditions)" in ran.places["turn_limit"].evidence


def test_errors_of_the_sdk_are_known_without_spans(tmp_path):
    pytest.importorskip("openai")
    body = """
    import openai, httpx

    def fails(kind, status, text):
        request = httpx.Request("POST", "http://127.0.0.1/v1")
        raise kind(text, response=httpx.Response(status, request=request), body=None)

    def test_quota():
        fails(openai.RateLimitError, 429, "You exceeded your current quota")
    """
    ran = Episodes(tmp_path, body)
    (cluster,) = ran.analysis.clusters
    assert (cluster.category, cluster.owner) == ("RATE_LIMIT", "infrastructure")
    assert ran.analysis.traces == ()


@pytest.mark.parametrize(
    ("kind", "category"),
    [
        ("openai.AuthenticationError", "AUTH"),
        ("anthropic.PermissionDeniedError", "AUTH"),
        ("anthropic.OverloadedError", "SERVICE_ERROR"),
        ("openai.APITimeoutError", "TIMEOUT"),
        ("openai.APIConnectionError", "NETWORK"),
        ("openai.LengthFinishReasonError", "INVALID_OUTPUT"),
        ("openai.ContentFilterFinishReasonError", "REFUSAL"),
        ("shop.AuthenticationError", "ERROR"),
    ],
)
def test_errors_by_their_package(kind, category):
    assert classify(failure(error(kind, "no luck", "shop/cart.py:total")))[0] == category
