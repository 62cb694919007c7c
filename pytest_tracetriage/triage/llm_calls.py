"""Calls to models and tools: whether a span is one, and what its answer says of itself to be wrong.

Errors are known by the types, messages and status codes of the SDKs, by the rules of `step_rules`. What raised nothing can
be wrong all the same: a refusal, an answer that was cut off or filtered, a failed response, JSON that is none, a tool's result
that is an error. That is read out of what the span kept of its inputs and output, and of OpenTelemetry's GenAI attributes.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import msgspec

from pytest_tracetriage.triage.signature import bare, first_line

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_tracetriage.model.trace import Span

SDKS = ("openai.", "anthropic.", "litellm.", "mistralai.", "groq.", "cohere.", "google.genai.")
"""Packages whose errors are those of calls to models, whatever the span is."""
KINDS = frozenset(["llm", "embedding"])
ASSERTIONS = frozenset(["AssertionError", "Failed", "DocTestFailure"])
"""Their messages are about a text; they are not what an API or an agent said."""
_LOOKUPS = frozenset(["KeyError", "IndexError"])
_UNMISTAKABLE = frozenset(
    [
        "APIConnectionError",
        "APIResponseValidationError",
        "APITimeoutError",
        "ContentFilterFinishReasonError",
        "LengthFinishReasonError",
    ]
)
_STATUS = re.compile(r"Error code: \d{3}\b")
_MAX_READ = 20_000

_REASON = re.compile(
    r'"(?:finish_?[rR]eason|stop_?[rR]eason|block_?[rR]eason)"\s*:\s*"(\w+)"|"incomplete_details"\s*:\s*\{[^{}]*"reason"\s*:\s*"(\w+)"'
)
_FILTERED = ["content_filter", "content_filtered", "guardrail_intervened", "prohibited_content", "recitation"]
_FILTERED += ["blocklist", "refusal", "safety", "spii"]
_WRONG_REASONS = frozenset(
    [*_FILTERED, "length", "max_tokens", "max_output_tokens", "model_context_window_exceeded"],
)
_REFUSED = re.compile(r'"refusal"\s*:\s*"((?:[^"\\]|\\.){1,200})')
_ASKED = re.compile(r'"type"\s*:\s*"json_(?:schema|object)"')
_CUT = re.compile(r"… \(\d+ characters\)$")
_SHAPE = re.compile(r"text\(\d+\)")
_TOOL_SAYS = re.compile(
    r"(?:Tool )?Error: |Error (?:executing|calling|running|invoking) (?:the )?tool\b"
    r"|An error occurred while (?:executing|calling|running) "
)
_ASIDE = frozenset(["code", "status", "type", "message", "content"])
"""Fields beside `error` that are no result of a tool."""
_SAID = frozenset(["text", "output_text", "message"])
_INSIDE = frozenset(["choices", "message", "content", "output", "tool_calls", "function"])


def is_call(kind: str, type_name: str, message: str) -> bool:
    """Return whether a span of this kind, or the error that it raised, is of a call to a model."""
    if bare(type_name) in ASSERTIONS or bare(type_name) in _LOOKUPS:
        return False
    if kind in KINDS or type_name.startswith(SDKS):
        return True
    return bare(type_name) in _UNMISTAKABLE or _STATUS.match(message) is not None


def signal(span: Span) -> str:
    """Return what the answer of a model or tool says of itself to be wrong, as `word: detail`; "" where it says nothing.

    The words are refusal, finish_reason, failed, not_json and tool_error.
    """
    output = span.output[:_MAX_READ]
    if span.kind == "tool":
        return f"tool_error: {first_line(output)[:200]}" if _tool_failed(_decoded(output)) else ""
    if span.kind != "llm":
        return ""
    answer = _decoded(span.output)
    if failed := _failed(answer):
        return f"failed: {failed}"
    if found := _REFUSED.search(output):
        return f"refusal: {found[1]}"
    reasons = [one or other for one, other in _REASON.findall(output)]
    for key in ("gen_ai.response.finish_reasons", "gen_ai.response.finish_reason"):
        reasons += re.findall(r"\w+", span.attributes.get(key, ""))
    wrong = next((reason for reason in reasons if reason.lower() in _WRONG_REASONS), "")
    return f"finish_reason: {wrong}" if wrong else _not_json(span, answer)


def _decoded(text: str) -> object:
    try:
        return msgspec.json.decode(text) if text else None
    except (msgspec.DecodeError, RecursionError):
        return None


def _tool_failed(answer: object) -> bool:
    """Return whether a tool's result is an error: by MCP's `isError`, LangChain's `status`, an `error` alone, or its text."""
    if isinstance(answer, str):
        return _TOOL_SAYS.match(answer) is not None
    if isinstance(answer, list):
        return any(_tool_failed(item) for item in answer[:1] if isinstance(item, dict))
    if not isinstance(answer, dict):
        return False
    if answer.get("isError") is True or answer.get("is_error") is True:
        return True
    error, content = answer.get("error"), answer.get("content")
    if isinstance(error, (str, dict)) and error:
        return not any(value for key, value in answer.items() if key != "error" and key not in _ASIDE)
    return answer.get("status") == "error" or (isinstance(content, str) and _tool_failed(content))


def _failed(answer: object) -> str:
    """Return what a response says that came instead of an answer: OpenAI's `failed`, an error under status 200 of a router."""
    error = answer.get("error") if isinstance(answer, dict) else None
    if not isinstance(error, dict):
        return ""
    return first_line(": ".join(str(error[key]) for key in ("code", "type", "message") if error.get(key)))[:200]


def _not_json(span: Span, answer: object) -> str:
    """Return that a model was asked for JSON, or called a tool, and what came does not parse. What was cut proves nothing."""
    asked = _ASKED.search(span.inputs) is not None or span.attributes.get("gen_ai.output.type") == "json"
    for kind, text in _answers(answer, 8):
        if (kind == "content" and not asked) or _CUT.search(text) or _SHAPE.fullmatch(text):
            continue
        try:
            msgspec.json.decode(text.encode("utf-8", "surrogatepass"))
        except (msgspec.DecodeError, RecursionError):
            what = "the arguments of a tool" if kind == "arguments" else "the structured output"
            return f"not_json: {what}: {first_line(text)[:120]}"
    return ""


def _answers(value: object, depth: int) -> Iterator[tuple[str, str]]:
    """Yield ("content" or "arguments", text) of a response: OpenAI's chat and Responses, Anthropic's messages."""
    if isinstance(value, list) and depth:
        for item in value:
            yield from _answers(item, depth - 1)
    elif isinstance(value, dict) and depth:
        for key, item in value.items():
            if not isinstance(item, str):
                if key in _INSIDE:
                    yield from _answers(item, depth - 1)
            elif key == "arguments":
                yield "arguments", item
            elif (
                key in {"content", "text"} and item.strip() and value.get("type", "text") in {"text", "output_text", "message"}
            ):
                yield "content", item
