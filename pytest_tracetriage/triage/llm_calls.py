"""Calls to models and tools: whether a span is one, and what its answer says of itself to be wrong.

Errors are known by the types, messages and status codes of the OpenAI and Anthropic SDKs, by the rules of `step_rules`.
What raised nothing can be wrong all the same: a refusal, an answer that was cut off, JSON that is none. That is read out of
what the span kept of its inputs and output, and out of the GenAI attributes of OpenTelemetry.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import msgspec

from pytest_tracetriage.triage.signature import bare, first_line

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_tracetriage.model.trace import Span

SDKS = frozenset(["openai", "anthropic", "litellm"])
"""Packages whose errors are those of calls to models, whatever the span is."""
KINDS = frozenset(["llm", "embedding", "agent"])
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

_REASON = re.compile(r'"(?:finish_reason|stop_reason)"\s*:\s*"(\w+)"|"incomplete_details"\s*:\s*\{[^{}]*"reason"\s*:\s*"(\w+)"')
_WRONG_REASONS = frozenset(
    ["content_filter", "refusal", "SAFETY", "length", "max_tokens", "max_output_tokens", "model_context_window_exceeded"]
)
_REFUSED = re.compile(r'"refusal"\s*:\s*"((?:[^"\\]|\\.){1,200})')
_ASKED = re.compile(r'"type"\s*:\s*"json_(?:schema|object)"')
_CUT = re.compile(r"… \(\d+ characters\)$")
_SHAPE = re.compile(r"text\(\d+\)")
_TOOL_FAILED = re.compile(r'"is_?[eE]rror"\s*:\s*true')
_SAID = frozenset(["text", "output_text", "message"])
_INSIDE = frozenset(["choices", "message", "content", "output", "tool_calls", "function"])


def is_call(kind: str, type_name: str, message: str) -> bool:
    """Return whether a span of this kind, or the error that it raised, is of a call to a model."""
    if kind in KINDS or type_name.partition(".")[0] in SDKS:
        return True
    return bare(type_name) in _UNMISTAKABLE or _STATUS.match(message) is not None


def signal(span: Span) -> str:
    """Return what the answer of a model or tool says of itself to be wrong, as `word: detail`; "" where it says nothing.

    The words are refusal, finish_reason, not_json and tool_error.
    """
    output = span.output[:_MAX_READ]
    if span.kind == "tool":
        return f"tool_error: {first_line(output)[:200]}" if _TOOL_FAILED.search(output) else ""
    if span.kind != "llm":
        return ""
    if found := _REFUSED.search(output):
        return f"refusal: {found[1]}"
    reasons = [one or other for one, other in _REASON.findall(output)]
    for key in ("gen_ai.response.finish_reasons", "gen_ai.response.finish_reason"):
        reasons += re.findall(r"\w+", span.attributes.get(key, ""))
    wrong = next((reason for reason in reasons if reason in _WRONG_REASONS), "")
    return f"finish_reason: {wrong}" if wrong else _not_json(span)


def _not_json(span: Span) -> str:
    """Return that a model was asked for JSON, or called a tool, and what came does not parse. What was cut proves nothing."""
    try:
        answer = msgspec.json.decode(span.output) if span.output else None
    except (msgspec.DecodeError, RecursionError):
        return ""
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
