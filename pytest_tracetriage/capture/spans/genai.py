"""Tokens of one call to a model, out of the names that providers and conventions give them.

All ends in one `Usage`, in which `input` includes what a cache gave or took, and `output` includes the reasoning.
Sources of the names: the API references of OpenAI (chat, Responses, embeddings) and Anthropic (messages), the semantic
conventions of OpenTelemetry for generative AI with those that they replaced, OpenLLMetry's, and OpenInference's.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pytest_tracetriage.model.trace import Usage

MAX_TOKENS = 2**50
MAX_NAME = 200

# The first name that has a count wins: some libraries write old and new names side by side.
_INCLUSIVE_INPUT = ("prompt_tokens",)
_INPUT = ("input_tokens",)
_OUTPUT = ("completion_tokens", "output_tokens")
_INPUT_DETAILS = ("prompt_tokens_details", "input_tokens_details", "input_token_details")
_OUTPUT_DETAILS = ("completion_tokens_details", "output_tokens_details", "output_token_details")
_CACHED = ("cached_tokens", "cache_read_tokens", "cache_read")
_WRITTEN = ("cache_write_tokens", "cache_creation_tokens", "cache_creation")
_REASONING = ("reasoning_tokens", "reasoning")
_CREATION_DETAILS = ("cache_creation",)
_WRITTEN_1H = ("ephemeral_1h_input_tokens",)

_MODEL = (
    "gen_ai.response.model",
    "gen_ai.request.model",
    "llm.model_name",
    "llm.response.model",
    "llm.request.model",
    "embedding.model_name",
)
_PROVIDER = ("gen_ai.provider.name", "gen_ai.system", "llm.provider", "llm.system")
_SPAN_INPUT = (
    "gen_ai.usage.input_tokens",
    "gen_ai.usage.prompt_tokens",
    "llm.token_count.prompt",
    "llm.usage.prompt_tokens",
)
_SPAN_OUTPUT = (
    "gen_ai.usage.output_tokens",
    "gen_ai.usage.completion_tokens",
    "llm.token_count.completion",
    "llm.usage.completion_tokens",
)
_SPAN_READ = (
    "gen_ai.usage.cache_read.input_tokens",
    "gen_ai.usage.cache_read_input_tokens",
    "gen_ai.usage.input_tokens.cached",
    "llm.token_count.prompt_details.cache_read",
    "llm.token_count.prompt_details.cache_input",
)
_SPAN_CREATION = (
    "gen_ai.usage.cache_creation.input_tokens",
    "gen_ai.usage.cache_write.input_tokens",
    "gen_ai.usage.cache_creation_input_tokens",
    "gen_ai.usage.cache_write_input_tokens",
    "gen_ai.usage.input_tokens.cache_write",
    "llm.token_count.prompt_details.cache_write",
)
_SPAN_REASONING = (
    "gen_ai.usage.reasoning.output_tokens",
    "gen_ai.usage.reasoning_tokens",
    "gen_ai.usage.output_tokens.reasoning",
    "llm.token_count.completion_details.reasoning",
)
# The usage of these is a sum of calls that have spans of their own.
_SUMS = frozenset({"invoke_agent", "create_agent", "invoke_workflow", "execute_tool"})
_CALLS = frozenset({"LLM", "EMBEDDING"})


def usage_of_summary(model: str, usage: Mapping[str, Any]) -> Usage | None:
    """Return the usage of one call as its provider reports it (Weave's `summary.usage[model]`), None where it has no counts.

    Anthropic's `input_tokens` leaves out what a cache gave or took, OpenAI's includes it. Weave sums the usage of
    its children into a call: ask for the calls without children only, or tokens are counted twice.
    """
    inside = _first(usage, _INPUT_DETAILS)
    outside = _first(usage, _OUTPUT_DETAILS)
    own_read, own_creation = _count(usage, ("cache_read_input_tokens",)), _count(usage, ("cache_creation_input_tokens",))
    read = own_read or _count(inside, _CACHED)
    creation = own_creation or _count(inside, _WRITTEN)
    hour = _count(_first(usage, _CREATION_DETAILS), _WRITTEN_1H)
    requests = _count(usage, ("requests",))
    prompt = _count(usage, _INCLUSIVE_INPUT)
    tokens = prompt or _count(usage, _INPUT)
    if not prompt and not inside:
        tokens += own_read + own_creation
    if not requests and not any(key in usage for key in (*_INCLUSIVE_INPUT, *_INPUT, *_OUTPUT)):
        return None
    output, reasoning = _count(usage, _OUTPUT), _count(outside, _REASONING)
    return _usage(model, "", tokens, output, creation, read, reasoning, requests=requests or 1, hour=hour)


def usage_of_attributes(attributes: Mapping[str, Any]) -> Usage | None:
    """Return the usage in the attributes of an OpenTelemetry span, None where it has none.

    None too for spans of agents, workflows and tools: theirs is the sum of calls that are spans themselves.
    """
    if str(attributes.get("gen_ai.operation.name")) in _SUMS:
        return None
    kind = attributes.get("openinference.span.kind")
    if kind is not None and str(kind).upper() not in _CALLS:
        return None
    if not any(key in attributes for key in (*_SPAN_INPUT, *_SPAN_OUTPUT)):
        return None
    return _usage(
        _text(attributes, _MODEL),
        _text(attributes, _PROVIDER),
        _count(attributes, _SPAN_INPUT),
        _count(attributes, _SPAN_OUTPUT),
        _count(attributes, _SPAN_CREATION),
        _count(attributes, _SPAN_READ),
        _count(attributes, _SPAN_REASONING),
    )


def model_of_attributes(attributes: Mapping[str, Any]) -> str:
    """Return the model that an OpenTelemetry span names, the one that answered before the one that was asked."""
    return _text(attributes, _MODEL)


def _usage(
    model: str,
    provider: str,
    tokens: int,
    output: int,
    creation: int,
    read: int,
    reasoning: int,
    *,
    requests: int = 1,
    hour: int = 0,
) -> Usage:
    """Return a usage in which no part exceeds its whole: who reports more left the cache out of the input, say."""
    if tokens < creation + read:
        tokens += creation + read
    if output < reasoning:
        output += reasoning
    return Usage(
        model=model[:MAX_NAME],
        provider=provider[:MAX_NAME],
        input=tokens,
        output=output,
        cache_creation=creation,
        cache_read=read,
        reasoning=reasoning,
        requests=requests,
        cache_creation_1h=min(hour, creation),
    )


def _first(usage: Mapping[str, Any], keys: tuple[str, ...]) -> Mapping[str, Any]:
    for key in keys:
        value = usage.get(key)
        if isinstance(value, Mapping) and value:
            return value
    return {}


def _count(values: Mapping[str, Any], keys: tuple[str, ...]) -> int:
    for key in keys:
        value = values.get(key)
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            continue
        if 0 < value <= MAX_TOKENS:
            return int(value)
    return 0


def _text(values: Mapping[str, Any], keys: tuple[str, ...]) -> str:
    for key in keys:
        value = values.get(key)
        if isinstance(value, str) and value:
            return value
    return ""
