"""From a call as Weave tells it to a span: kind, component, tokens, error."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import TYPE_CHECKING, Any

import msgspec

from pytest_tracetriage.capture.spans.genai import usage_of_summary
from pytest_tracetriage.model.trace import Span, SpanKind, Usage

if TYPE_CHECKING:
    from collections.abc import Mapping

PROVIDERS = frozenset(
    ("openai", "anthropic", "mistralai", "groq", "litellm", "cerebras", "cohere", "google", "vertexai", "huggingface_hub",
     "langchain_nvidia_ai_endpoints", "notdiamond", "ChatNVIDIA")
)  # fmt: skip
"""The first part of the names that Weave gives to calls of providers."""
_WEAVES_OWN = frozenset(("weave", "integration"))
_KINDS: dict[str, SpanKind] = {"llm": "llm", "tool": "tool", "search": "tool", "agent": "agent", "embedding": "embedding"}
_TOOL = re.compile(r"(?i)(?:^|[._])tools?(?:$|[._])")
_NOTHING = re.compile(r"NOT_GIVEN|<\w+\.(?:Omit|NotGiven) object at 0x[0-9a-f]+>|NotGiven")
_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")
_CLASS = re.compile(r"<(?:[\w<>]+\.)*(\w+) object|^weave:///[^/]+/[^/]+/object/(\w+)|^(\w+)\(")
MAX_MODELS = 32
"""Models that one call names, of which the tokens are kept."""
UNFINISHED = "had not ended when the run did"


class Naming(msgspec.Struct, frozen=True):
    """What components of an agent are called in this project."""

    components: tuple[str, ...] = ()


@dataclass
class Call:
    """A call that runs. `trace` is the test's, `parent` a span of it, `outer` the call around this one."""

    id: str
    op_name: str
    trace: str
    parent: str
    outer: Call | None
    start: dict[str, Any]
    pid: int
    counted: bool = False
    """Whether tokens of this call were counted already, in calls inside it."""


def span_of(call: Call, end: Mapping[str, Any], naming: Naming) -> Span:
    """Return the span of a call that has ended, without what went in and came out."""
    began, ended = _seconds(call.start.get("started_at")), _seconds(end.get("ended_at"))
    error = _error(end.get("exception"))
    usages = () if call.counted else _usages(end.get("summary"), end.get("output"))
    if usages or call.counted:
        outer = call.outer
        while outer is not None and not outer.counted:  # Weave adds the tokens of a call to all around it
            outer.counted = True
            outer = outer.outer
    name = _name(call.op_name)
    return Span(
        id=call.id,
        trace=call.trace,
        name=call.start.get("display_name") or name,
        start=began,
        duration=max(0.0, ended - began),
        kind=_kind(name, call.start, paid=bool(usages)),
        parent=call.parent,
        component=_component(name, call.start, naming),
        outcome="failed" if error else "success",
        error=error,
        source="weave",
        usage=usages[0] if usages else None,
        further=usages[1:],
        attributes=_attributes(call.start, name),
    )


def open_span(call: Call, naming: Naming) -> Span:
    """Return the span of a call that never ended."""
    span = span_of(call, {"ended_at": time.time()}, naming)
    return msgspec.structs.replace(span, outcome="stuck", stop_reason=UNFINISHED)


def _name(op_name: str) -> str:
    """`weave:///local/project/op/Fixer.propose:digest` is `Fixer.propose`."""
    return op_name.rpartition("/op/")[2].partition(":")[0] if "/op/" in op_name else op_name


def _kind(name: str, start: Mapping[str, Any], *, paid: bool) -> SpanKind:
    weave = (start.get("attributes") or {}).get("weave")
    said = weave.get("kind") if isinstance(weave, dict) else None
    provider = _is_provider(name)
    if provider and "embed" in name.lower():  # Weave says "llm" of these too
        return "embedding"
    if said in _KINDS:
        return _KINDS[said]
    if provider or paid:
        return "llm"
    return "tool" if _TOOL.search(name) else "op"


def _is_provider(name: str) -> bool:
    return name.split(".", 1)[0] in PROVIDERS


def inputs_of(call: Call) -> dict[str, Any]:
    """Return what was given to a call, without what nobody gave: defaults of an SDK, its own object, addresses in memory."""
    inputs = call.start.get("inputs")
    if not isinstance(inputs, dict):
        return {}
    found = {key: value for key, value in inputs.items() if not key.startswith("_weave_") and not _is_nothing(value)}
    owner = found.get("self")
    if _is_provider(_name(call.op_name)):
        found.pop("self", None)
    elif owner is not None:
        found["self"] = owner if isinstance(owner, dict) else _ADDRESS.sub("", owner if isinstance(owner, str) else repr(owner))
    return found


def _is_nothing(value: Any) -> bool:
    text = value if isinstance(value, str) else repr(value) if type(value).__name__ in {"NotGiven", "Omit"} else None
    return text is not None and _NOTHING.fullmatch(text) is not None


def _component(name: str, start: Mapping[str, Any], naming: Naming) -> str:
    """Return the component that a call is of: a configured name in its own, or the class of its object, or an `...Agent`."""
    parts = name.split(".")
    owner = _class_of((start.get("inputs") or {}).get("self"))
    for component in naming.components:
        if component == owner or component in parts:
            return component
    for found in (owner, *parts[:-1]):
        if found.endswith("Agent"):
            return found
    return ""


def _class_of(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, dict):
        return str(value.get("_class_name") or value.get("__class__") or "")
    if not isinstance(value, str):
        return type(value).__name__
    found = _CLASS.match(value)
    return next((name for name in found.groups() if name), "") if found is not None else ""


def _usages(summary: Any, output: Any) -> tuple[Usage, ...]:
    """Return the tokens of a call, by the models that it names.

    Newer versions of Weave add what a cache gave and took to Anthropic's `input_tokens`: those of its answer count.
    """
    by_model = summary.get("usage") if isinstance(summary, dict) else None
    if not isinstance(by_model, dict):
        return ()
    told = output.get("usage") if isinstance(output, dict) and len(by_model) == 1 else None
    own = {"input_tokens": told["input_tokens"]} if isinstance(told, dict) and "input_tokens" in told else {}
    found = (usage_of_summary(str(model), {**usage, **own}) for model, usage in by_model.items() if isinstance(usage, dict))
    return tuple(islice((usage for usage in found if usage is not None), MAX_MODELS))


def _error(exception: Any) -> str:
    """Return `Type: message`, out of the JSON that Weave makes of an exception."""
    if not exception:
        return ""
    try:
        told = exception if isinstance(exception, dict) else msgspec.json.decode(exception)
        return f"{told['type']}: {told['message']}"
    except (msgspec.DecodeError, KeyError, TypeError):
        return str(exception)


def _attributes(start: Mapping[str, Any], name: str) -> dict[str, str]:
    """Return what the program said of the call in `weave.attributes`, the model, and the op's name where another is shown."""
    given = start.get("attributes") or {}
    found = {key: text if isinstance(text, str) else repr(text) for key, text in given.items() if key not in _WEAVES_OWN}
    model = (start.get("inputs") or {}).get("model")
    if isinstance(model, str) and _is_provider(name):
        found["model"] = model
    if start.get("display_name") not in (None, "", name):
        found["op"] = name
    return found


def _seconds(moment: Any) -> float:
    if isinstance(moment, str):
        moment = datetime.fromisoformat(moment.replace("Z", "+00:00"))
    return moment.timestamp() if isinstance(moment, datetime) else float(moment or time.time())
