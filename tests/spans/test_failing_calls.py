"""Where agents broke that ask the SDK of OpenAI through Weave, or that OpenTelemetry saw; and what only looks like it."""

from __future__ import annotations

import pytest
from model_server import ModelServer
from spans.obedient_model import obey
from triage.episode_suite import Episodes

SETTINGS = """
[tool.tracetriage]
components = ["Planner", "Coder", "Reviewer"]
"""
WEAVE = """
import asyncio, json
import openai, weave

client = openai.OpenAI(max_retries=0)


def ask(text, **more):
    return client.chat.completions.create(model="gpt-4o", messages=[{"role": "user", "content": text}], **more)


def respond(text):
    return client.responses.create(model="gpt-5", input=text)


@weave.op
def plan(text, **more):
    return ask(text, **more).choices[0].message.content


class Coder:
    @weave.op
    def write(self, text, **more):
        return ask(text, **more).choices[0].message

    @weave.op
    def write_json(self, text):
        return json.loads(ask(text).choices[0].message.content)


class Reviewer:
    @weave.op
    def review(self, patch):
        if "+" not in patch:
            raise ValueError("the patch adds nothing")
        return "good"


@weave.op(kind="tool")
def grep(q):
    if q == "(":
        raise ValueError("missing ), unterminated subpattern")
    return "no match"


@weave.op(kind="tool")
def shell(command):
    return f"Error: {command}: command not found" if command == "pyhton" else "0 failed"


@weave.op(kind="tool")
def job(state):
    return {"id": 7, "state": "running"}


def test_rate_limit():
    assert plan("rate limit") == "done"

def test_not_rate_limit():
    assert plan("say the Rate Limit is 429 a second, too many requests") == "no limit"

def test_auth():
    Coder().write("auth")

def test_not_auth():
    assert "key" not in Coder().write("say invalid api key, error code: 401").content

def test_context_length():
    Coder().write("context length")

def test_not_context_length():
    assert plan("say prompt is too long for the context window") == "short"

def test_refusal():
    assert Coder().write("refuse").content.startswith("---")

def test_refusal_of_a_response():
    assert respond("refuse").output_text

def test_refusal_by_a_filter():
    assert respond("filtered").status == "completed"

def test_not_refusal():
    assert "---" in Coder().write("say I Refuse: content_filter").content

def test_invalid_output():
    json.loads(ask("say {'a': 1", response_format={"type": "json_object"}).choices[0].message.content)

def test_invalid_output_that_its_asker_cannot_read():
    Coder().write_json("say Sure! Here it is")

def test_invalid_output_cut_off():
    assert respond("cut").output_text.endswith(".")

def test_not_invalid_output():
    assert Coder().write_json("say [1]") == [2]

def test_not_invalid_output_of_a_tool():
    @weave.op
    def search():
        ask("tool grep")
        return json.loads(grep("x"))
    search()

def test_rate_limit_of_a_response_that_failed():
    assert respond("fail").status == "completed"

def test_quota():
    plan("quota")

def test_service_error():
    plan("server error")

def test_tool_error():
    Coder().write("tool grep")
    grep("(")

def test_tool_error_by_its_text():
    shell("pyhton")
    assert ask("say what now").choices[0].message.content == "fixed"

def test_not_tool_error():
    assert shell("pytest") == "1 failed"

def test_not_tool_error_when_called_again():
    shell("pyhton")
    assert shell("python") == "1 failed"

def test_loop():
    for turn in range(6):
        ask(f"tool grep, turn {turn}")
        grep("total")
    assert False, "no patch"

def test_loop_of_two():
    for turn in range(3):
        grep("total"); shell("pytest")
    assert False, "no patch"

def test_not_loop_but_other_words():
    for word in "abcdef":
        grep(word)
    assert False, "no patch"

def test_not_loop_but_polling():
    for _ in range(6):
        job(7)
    raise TimeoutError("job 7 did not end in 60 s")

def test_component_by_its_class():
    Reviewer().review(Coder().write("say - old").content)

def test_one_of_many_at_once():
    @weave.op
    async def fetch(page):
        await asyncio.sleep(0.01 * page)
        if page == 1:
            raise LookupError("page 1 has no table")
        return page
    async def all_of_them():
        return await asyncio.gather(*map(fetch, range(4)), return_exceptions=True)
    assert asyncio.run(all_of_them()) == [0, 1, 2, 3]

def test_retried_with_success():
    for text in ("rate limit", "say done"):
        try:
            plan(text)
        except openai.RateLimitError:
            pass
    assert False, "not merged"

def test_retried_in_vain():
    for _ in range(3):
        try:
            plan("rate limit")
        except openai.RateLimitError as error:
            last = error
    raise RuntimeError("no answer after 3 tries") from last
"""
CHAT = "openai.chat.completions.create"
RESPONSES = "openai.responses.create"
BY_WEAVE = {
    "rate_limit": ("RATE_LIMIT", "infrastructure", "", CHAT),
    "auth": ("AUTH", "infrastructure", "Coder", CHAT),
    "context_length": ("CONTEXT_LENGTH", "agent", "Coder", CHAT),
    "refusal": ("REFUSAL", "agent", "Coder", CHAT),
    "refusal_of_a_response": ("REFUSAL", "agent", "", RESPONSES),
    "refusal_by_a_filter": ("REFUSAL", "agent", "", RESPONSES),
    "invalid_output": ("INVALID_OUTPUT", "agent", "", CHAT),
    "invalid_output_that_its_asker_cannot_read": ("INVALID_OUTPUT", "agent", "Coder", CHAT),
    "invalid_output_cut_off": ("INVALID_OUTPUT", "agent", "", RESPONSES),
    "rate_limit_of_a_response_that_failed": ("RATE_LIMIT", "infrastructure", "", RESPONSES),
    "quota": ("RATE_LIMIT", "infrastructure", "", CHAT),
    "service_error": ("SERVICE_ERROR", "infrastructure", "", CHAT),
    "tool_error": ("TOOL_ERROR", "agent", "", "grep"),
    "tool_error_by_its_text": ("TOOL_ERROR", "agent", "", "shell"),
    "loop": ("LOOP", "agent", "", "grep"),
    "loop_of_two": ("LOOP", "agent", "", "grep"),
    "component_by_its_class": ("DATA_SHAPE", "test", "Reviewer", "Reviewer.review"),
    "one_of_many_at_once": ("DATA_SHAPE", "product", "", "fetch"),
    "retried_in_vain": ("RATE_LIMIT", "infrastructure", "", CHAT),
    "not_rate_limit": ("ASSERTION", "product", "", ""),
    "not_auth": ("ASSERTION", "product", "", ""),
    "not_context_length": ("ASSERTION", "product", "", ""),
    "not_refusal": ("ASSERTION", "product", "", ""),
    "not_invalid_output": ("ASSERTION", "product", "", ""),
    "not_invalid_output_of_a_tool": ("DATA_SHAPE", "product", "", "search"),
    "not_tool_error": ("ASSERTION", "product", "", "shell"),
    "not_tool_error_when_called_again": ("ASSERTION", "product", "", "shell"),
    "not_loop_but_other_words": ("ASSERTION", "product", "", ""),
    "not_loop_but_polling": ("TIMEOUT", "test", "", ""),
    "retried_with_success": ("ASSERTION", "product", "", ""),
}


def told(ran, test):
    place = ran.places[test]
    return place.category, place.owner, place.component, ran.spans[place.step].name if place.step else ""


@pytest.fixture(scope="module")
def weaved(tmp_path_factory):
    pytest.importorskip("weave")
    pytest.importorskip("openai")
    with ModelServer(obey) as server:
        env = {"OPENAI_BASE_URL": server.url, "OPENAI_API_KEY": "x"}
        options = ("-W", "ignore::DeprecationWarning")
        yield Episodes(tmp_path_factory.mktemp("weaved"), WEAVE, *options, settings=SETTINGS, env=env)


@pytest.mark.parametrize("test", BY_WEAVE)
def test_calls_of_the_sdk_through_weave(weaved, test):
    assert told(weaved, test) == BY_WEAVE[test], weaved.places[test]


OTEL = """
import json
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider

trace.set_tracer_provider(TracerProvider())
tracer = trace.get_tracer("langchain")


def agent(name):
    given = {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": name}
    return tracer.start_as_current_span(f"invoke_agent {name}", attributes=given)


def chat(error=None, finish="stop", **attributes):
    given = {"gen_ai.operation.name": "chat", "gen_ai.request.model": "claude", **attributes}
    with tracer.start_as_current_span("chat claude", attributes=given) as one:
        if error is not None:
            raise error
        one.set_attribute("gen_ai.response.finish_reasons", [finish])


def tool(name, result, **arguments):
    given = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": name,
             "gen_ai.tool.call.arguments": json.dumps(arguments)}
    with tracer.start_as_current_span(f"execute_tool {name}", attributes=given) as one:
        if isinstance(result, Exception):
            raise result
        one.set_attribute("gen_ai.tool.call.result", result if isinstance(result, str) else json.dumps(result))


def raised(name, message, module="anthropic"):
    return type(name, (Exception,), {"__module__": module})(message)


def too_many_turns():
    return raised("GraphRecursionError", "Recursion limit of 12 reached without hitting a stop condition.", "langgraph.errors")

def test_overloaded():
    with agent("Planner"):
        chat(raised("APIStatusError", "{'type': 'error', 'error': {'type': 'overloaded_error', 'message': 'Overloaded'}}"))

def test_prompt_too_long():
    with agent("Coder"):
        chat(raised("BadRequestError", "Error code: 400 - prompt is too long: 210000 tokens > 200000 maximum"))

def test_key():
    with agent("Coder"):
        chat(raised("AuthenticationError", "Error code: 401 - {'error': {'message': 'invalid x-api-key'}}"))

def test_refusal():
    with agent("Coder"):
        chat(finish="refusal")
    assert False, "no patch"

def test_pause_is_no_refusal():
    with agent("Coder"):
        chat(finish="pause_turn")
    assert False, "no patch"

def test_quota_of_google():
    with agent("Planner"):
        chat(raised("ClientError", "429 RESOURCE_EXHAUSTED. {'error': {'code': 429}}", "google.genai.errors"))

def test_filter_of_azure():
    with agent("Planner"):
        chat(raised("BadRequestError", "Error code: 400 - {'error': {'code': 'content_filter'}}", "openai"))

def test_error_of_mcp():
    with agent("Coder"):
        chat(finish="tool_use")
        tool("search", {"content": [{"type": "text", "text": "Unknown parameter q"}], "isError": True}, q="x")
    assert False, "no patch"

def test_error_that_mcp_told_and_the_agent_mended():
    with agent("Coder"):
        tool("search", {"content": [], "isError": True}, q="x")
        tool("search", {"content": [{"type": "text", "text": "Error: 404"}], "isError": False}, query="x")
    assert False, "no patch"

def test_a_model_that_never_leaves_its_tool():
    with agent("Coder"):
        for turn in range(6):
            chat(finish="tool_use", turn=turn)
            tool("read_file", "def total(): ...", path="shop.py")
        raise too_many_turns()

def test_a_model_that_polls():
    with agent("Coder"):
        for turn in range(6):
            chat(finish="tool_use", turn=turn)
            tool("build_status", {"status": "in_progress"}, id=7)
    raise TimeoutError("build 7 is not done after 60 s")

def test_turns_without_a_loop():
    with agent("Coder"):
        for turn in range(6):
            tool("read_file", f"line {turn}", path="shop.py", line=turn)
        raise too_many_turns()

def test_an_agent_that_asserts_about_words():
    with agent("Reviewer"):
        chat()
        raise AssertionError("the summary does not name the rate limit, nor the context window, nor error code: 401")

def test_an_agent_that_misses_a_row():
    with agent("Reviewer"):
        chat()
        raise KeyError("row 429, too many requests")
"""
BY_OTEL = {
    "overloaded": ("SERVICE_ERROR", "infrastructure", "Planner", "chat claude"),
    "prompt_too_long": ("CONTEXT_LENGTH", "agent", "Coder", "chat claude"),
    "key": ("AUTH", "infrastructure", "Coder", "chat claude"),
    "refusal": ("REFUSAL", "agent", "Coder", "chat claude"),
    "pause_is_no_refusal": ("ASSERTION", "product", "", ""),
    "quota_of_google": ("RATE_LIMIT", "infrastructure", "Planner", "chat claude"),
    "filter_of_azure": ("REFUSAL", "agent", "Planner", "chat claude"),
    "error_of_mcp": ("TOOL_ERROR", "agent", "Coder", "execute_tool search"),
    "error_that_mcp_told_and_the_agent_mended": ("ASSERTION", "product", "", ""),
    "a_model_that_never_leaves_its_tool": ("LOOP", "agent", "Coder", "execute_tool read_file"),
    "a_model_that_polls": ("TIMEOUT", "test", "", ""),
    "turns_without_a_loop": ("TURN_LIMIT", "agent", "Coder", "invoke_agent Coder"),
    "an_agent_that_asserts_about_words": ("ASSERTION", "product", "Reviewer", "invoke_agent Reviewer"),
    "an_agent_that_misses_a_row": ("DATA_SHAPE", "test", "Reviewer", "invoke_agent Reviewer"),
}


@pytest.fixture(scope="module")
def traced(tmp_path_factory):
    pytest.importorskip("opentelemetry.sdk")
    return Episodes(tmp_path_factory.mktemp("traced"), OTEL, settings=SETTINGS)


@pytest.mark.parametrize("test", BY_OTEL)
def test_agents_that_opentelemetry_saw(traced, test):
    assert told(traced, test) == BY_OTEL[test], traced.places[test]
