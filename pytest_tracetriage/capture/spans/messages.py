"""What went into an operation and came out of it, by the attributes and events of its OpenTelemetry span.

Names of the semantic conventions for generative AI, of those that they replaced, of OpenLLMetry and of OpenInference.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from pytest_tracetriage.capture.spans.content import shape

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    Events = Sequence[tuple[str, Mapping[str, Any]]]

MAX_TEXT = 500
MAX_PARTS = 1_000
_INPUTS = (
    "gen_ai.input.messages",
    "gen_ai.tool.call.arguments",
    "gen_ai.prompt",
    "input.value",
    "traceloop.entity.input",
)
_OUTPUTS = (
    "gen_ai.output.messages",
    "gen_ai.tool.call.result",
    "gen_ai.completion",
    "output.value",
    "traceloop.entity.output",
)
_SYSTEM = "gen_ai.system_instructions"
_INPUT_PARTS = ("gen_ai.prompt.", "llm.input_messages.")
_OUTPUT_PARTS = ("gen_ai.completion.", "llm.output_messages.")
_INPUT_EVENTS = frozenset({"gen_ai.system.message", "gen_ai.user.message", "gen_ai.assistant.message", "gen_ai.tool.message"})
_OUTPUT_EVENTS = frozenset({"gen_ai.choice"})
_COUNTS = ("gen_ai.usage.", "llm.token_count.", "llm.usage.")
# Words of a vocabulary, not of people: they stay where texts are dropped.
_WORDS = frozenset(
    {
        "error.type",
        "gen_ai.agent.name",
        "gen_ai.operation.name",
        "gen_ai.provider.name",
        "gen_ai.request.model",
        "gen_ai.response.finish_reasons",
        "gen_ai.response.model",
        "gen_ai.system",
        "gen_ai.tool.name",
        "http.request.method",
        "llm.model_name",
        "llm.provider",
        "llm.request.type",
        "openinference.span.kind",
        "traceloop.span.kind",
    }
)


def inputs(attributes: Mapping[str, Any], events: Events) -> Any:
    """Return what went in, parsed where it is JSON; None where a span does not say."""
    given = _first(attributes, events, _INPUTS, _INPUT_PARTS, _INPUT_EVENTS)
    system = attributes.get(_SYSTEM)
    if system is None:
        return given
    return {"system": _parsed(system), "messages": given}


def output(attributes: Mapping[str, Any], events: Events) -> Any:
    """Return what came out, parsed where it is JSON; None where a span does not say."""
    return _first(attributes, events, _OUTPUTS, _OUTPUT_PARTS, _OUTPUT_EVENTS)


def rest(attributes: Mapping[str, Any], *, content: bool) -> dict[str, str]:
    """Return the attributes that are neither inputs, output nor usage, as text; without `content` texts are shapes."""
    skipped = (*_COUNTS, *_INPUT_PARTS, *_OUTPUT_PARTS)
    found = {}
    for key, value in attributes.items():
        if key == _SYSTEM or key in _INPUTS or key in _OUTPUTS or key.startswith(skipped):
            continue
        if not content and key not in _WORDS and not isinstance(value, (bool, int, float)):
            text = shape(value)
        else:
            text = value if isinstance(value, str) else str(list(value) if isinstance(value, tuple) else value)
        found[key] = text[:MAX_TEXT]
    return found


def _first(
    attributes: Mapping[str, Any], events: Events, names: Iterable[str], parts: Iterable[str], wanted: frozenset[str]
) -> Any:
    """Return the first that there is: an attribute, numbered attributes, an event's attribute, events that are messages."""
    for given in (attributes, *(event for _, event in events)):
        for name in names:
            if (value := given.get(name)) is not None:
                return _parsed(value)
        for prefix in parts:
            if found := _numbered(given, prefix):
                return found
    return [{"role": name.split(".")[1], **event} for name, event in events if name in wanted][:MAX_PARTS] or None


def _numbered(attributes: Mapping[str, Any], prefix: str) -> list[dict[str, Any]]:
    """Return `[{"role": "user", "content": "Hi"}]` for `gen_ai.prompt.0.role` and `gen_ai.prompt.0.content`."""
    found: dict[int, dict[str, Any]] = {}
    for key, value in attributes.items():
        number, _, field = key[len(prefix) :].partition(".") if key.startswith(prefix) else ("", "", "")
        if field and number.isascii() and number.isdigit() and len(number) < 7 and len(found) < MAX_PARTS:
            found.setdefault(int(number), {})[field.removeprefix("message.")] = value
    return [found[number] for number in sorted(found)]


def _parsed(value: Any) -> Any:
    if isinstance(value, str) and value[:1] in {"{", "["}:
        try:
            return msgspec.json.decode(value)
        except (msgspec.DecodeError, UnicodeEncodeError, RecursionError):
            return value
    return value
