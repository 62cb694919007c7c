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


PROVIDERS = """
def raised(name, message, module="builtins"):
    return type(name, (Exception,), {"__module__": module})(message)

@pytest.mark.parametrize("kind, type_name, message", [pytest.param(*case[:3], id=name) for name, *case in CASES])
def test_error(kind, type_name, message):
    with span("messages.create", kind=kind):
        raise raised(type_name, message)

@pytest.mark.parametrize("kind, output", [pytest.param(*case[:2], id=name) for name, *case in ANSWERS])
def test_answer(kind, output):
    with span("messages.create", kind=kind) as call:
        call.set("output", output)
    assert False
"""
ANTHROPIC = "{'type': 'error', 'error': {'type': '%s', 'message': '%s'}}"
GOOGLE = "%s. {'error': {'message': '%s'}}"
BEDROCK = "An error occurred (%s) when calling the Converse operation: %s"
# name, kind of the span, type, message, category
CASES = [
    ("overloaded", "llm", "APIStatusError", ANTHROPIC % ("overloaded_error", "Overloaded"), "SERVICE_ERROR"),
    ("internal", "llm", "APIStatusError", ANTHROPIC % ("api_error", "Internal server error"), "SERVICE_ERROR"),
    ("529", "op", "OverloadedError", f"Error code: 529 - {ANTHROPIC % ('overloaded_error', 'Overloaded')}", "SERVICE_ERROR"),
    ("429", "op", "RateLimitError", f"Error code: 429 - {ANTHROPIC % ('rate_limit_error', 'slow down')}", "RATE_LIMIT"),
    ("credit", "llm", "BadRequestError", "Error code: 400 - Your credit balance is too low to access the API", "RATE_LIMIT"),
    ("context", "llm", "BadRequestError", "Error code: 400 - input and `max_tokens` exceed context limit", "CONTEXT_LENGTH"),
    ("google-quota", "llm", "ClientError", GOOGLE % ("429 RESOURCE_EXHAUSTED", "quota"), "RATE_LIMIT"),
    ("grpc-quota", "llm", "ResourceExhausted", "Resource has been exhausted (e.g. check quota).", "RATE_LIMIT"),
    ("google-key", "llm", "ClientError", GOOGLE % ("400 INVALID_ARGUMENT", "API key not valid. Please pass one."), "AUTH"),
    ("google-right", "llm", "ClientError", GOOGLE % ("403 PERMISSION_DENIED", "no permission"), "AUTH"),
    ("google-down", "llm", "ServerError", GOOGLE % ("503 UNAVAILABLE", "The model is overloaded."), "SERVICE_ERROR"),
    ("google-late", "llm", "ServerError", GOOGLE % ("504 DEADLINE_EXCEEDED", "Deadline expired"), "TIMEOUT"),
    ("google-long", "llm", "ClientError", GOOGLE % ("400 INVALID_ARGUMENT", "input token count (9) exceeds"), "CONTEXT_LENGTH"),
    ("bedrock-quota", "llm", "ClientError", BEDROCK % ("ThrottlingException", "Too many tokens"), "RATE_LIMIT"),
    ("bedrock-right", "llm", "ClientError", BEDROCK % ("AccessDeniedException", "You don't have access"), "AUTH"),
    ("groq-long", "llm", "BadRequestError", "Please reduce the length of the messages or completion.", "CONTEXT_LENGTH"),
    ("pydantic-ai", "agent", "UnexpectedModelBehavior", "Exceeded maximum retries (1) for output validation", "INVALID_OUTPUT"),
    ("langchain", "op", "OutputParserException", "Could not parse LLM output: `I think`", "INVALID_OUTPUT"),
    ("turns", "agent", "RuntimeError", "Agent stopped due to iteration limit or time limit.", "TURN_LIMIT"),
    ("iterations", "op", "ValueError", "Maximum number of iterations (8) exceeded", "TURN_LIMIT"),
    # what looks like it but is not
    ("words", "llm", "ValueError", "500 words were expected", "DATA_SHAPE"),
    ("number", "llm", "ValueError", "invoice 429 is missing", "DATA_SHAPE"),
    ("longer-number", "llm", "ValueError", "status 4290 is none", "DATA_SHAPE"),
    ("max-tokens", "llm", "BadRequestError", "Error code: 400 - max_tokens: 100000 > 64000, the maximum allowed", "API_MISUSE"),
    ("too-short", "llm", "ValueError", "input is too short, and the text exceeds its frame", "DATA_SHAPE"),
    ("length", "llm", "ValueError", "the plan should reduce the length of the queue", "DATA_SHAPE"),
    ("asserts", "llm", "AssertionError", "the answer should say rate limit, context window, overloaded_error", "ASSERTION"),
    ("looks-up", "llm", "KeyError", "row 3: too many requests, prompt is too long", "DATA_SHAPE"),
    ("agent-asserts", "agent", "AssertionError", "the summary misses the rate limit", "ASSERTION"),
    ("agent-words", "agent", "ValueError", "the rate limit of the turnpike, invalid api key and content_filter", "DATA_SHAPE"),
    ("shop", "op", "ValueError", "your credit balance is too low", "DATA_SHAPE"),
    ("queue", "op", "ValueError", "RESOURCE_EXHAUSTED: the pool of workers", "DATA_SHAPE"),
    ("door", "op", "ValueError", "this API key not valid for the door", "DATA_SHAPE"),
    ("parses", "op", "ValueError", "Could not parse LLM output", "DATA_SHAPE"),
    ("keyword", "agent", "TypeError", "run() got an unexpected keyword argument 'max_iterations'", "API_MISUSE"),
    ("setting", "agent", "ValueError", "max_turns must not exceed 10", "DATA_SHAPE"),
    ("speed", "agent", "ValueError", "the speed limit of 50 was exceeded", "DATA_SHAPE"),
    ("asserted-turns", "agent", "AssertionError", "'max turns reached' is not in the report", "ASSERTION"),
]  # fmt: skip
TEXT = [{"type": "text", "text": "Hello"}]
# name, kind of the span, output, category
ANSWERS = [
    ("failed", "llm", {"status": "failed", "error": {"code": "server_error", "message": "sorry"}}, "SERVICE_ERROR"),
    ("failed-otherwise", "llm", {"error": {"code": "vector_store_timeout", "message": "sorry"}}, "SERVICE_ERROR"),
    ("routed", "llm", {"error": {"code": 429, "message": "Rate limit exceeded: free-models-per-day"}}, "RATE_LIMIT"),
    ("safety", "llm", {"candidates": [{"finishReason": "SAFETY"}]}, "REFUSAL"),
    ("blocked", "llm", {"promptFeedback": {"blockReason": "PROHIBITED_CONTENT"}}, "REFUSAL"),
    ("guardrail", "llm", {"stopReason": "guardrail_intervened", "output": {}}, "REFUSAL"),
    ("full", "llm", {"candidates": [{"finishReason": "MAX_TOKENS"}]}, "INVALID_OUTPUT"),
    ("mcp", "tool", {"content": TEXT, "isError": True}, "TOOL_ERROR"),
    ("message", "tool", {"type": "tool", "status": "error", "content": "boom"}, "TOOL_ERROR"),
    ("text", "tool", "Error: ls: cannot access 'x'", "TOOL_ERROR"),
    ("called", "tool", "Error calling tool 'search': no words", "TOOL_ERROR"),
    ("sdk", "tool", "An error occurred while running the tool. Please try again. Error: 'q'", "TOOL_ERROR"),
    ("content", "tool", {"role": "tool", "content": "Error: KeyError('q')"}, "TOOL_ERROR"),
    ("field", "tool", {"error": "no such table", "rows": []}, "TOOL_ERROR"),
    # what looks like it but is not
    ("no-error", "llm", {"status": "completed", "error": None, "output": []}, "ASSERTION"),
    ("error-in-words", "llm", {"content": TEXT, "error": "none"}, "ASSERTION"),
    ("error-of-content", "llm", {"choices": [{"message": {"content": '{"error": {"code": 429}}'}}]}, "ASSERTION"),
    ("stop", "llm", {"candidates": [{"finishReason": "STOP", "content": "SAFETY"}]}, "ASSERTION"),
    ("pause", "llm", {"content": TEXT, "stop_reason": "pause_turn"}, "ASSERTION"),
    ("mcp-well", "tool", {"content": [{"text": "Error: 404"}], "isError": False}, "ASSERTION"),
    ("transcript", "tool", {"turns": [{"isError": True}], "count": 1}, "ASSERTION"),
    ("errors", "tool", "Errors were found in 3 files", "ASSERTION"),
    ("guide", "tool", "Error handling: a guide", "ASSERTION"),
    ("log", "tool", "12:01 Error: disk\n12:02 ok", "ASSERTION"),
    ("no-field", "tool", {"error": None, "rows": [1]}, "ASSERTION"),
    ("rate", "tool", {"error": 0.02, "loss": 1.5}, "ASSERTION"),
    ("report", "tool", {"error": "KeyError: 'sku'", "file": "cart.py"}, "ASSERTION"),
    ("of-an-op", "op", {"content": TEXT, "isError": True}, "ASSERTION"),
]


@pytest.fixture(scope="module")
def providers(tmp_path_factory):
    return Episodes(tmp_path_factory.mktemp("providers"), f"CASES = {CASES}\nANSWERS = {ANSWERS}\n{PROVIDERS}")


@pytest.mark.parametrize("case", CASES, ids=lambda case: case[0])
def test_errors_of_providers(providers, case):
    place = providers.places[f"error[{case[0]}]"]
    assert place.category == case[-1], place


@pytest.mark.parametrize("case", ANSWERS, ids=lambda case: case[0])
def test_answers_that_are_none(providers, case):
    place = providers.places[f"answer[{case[0]}]"]
    assert place.category == case[-1], place
    assert bool(place.step) is (case[-1] != "ASSERTION")
