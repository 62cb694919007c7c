"""Spans of OpenTelemetry: a processor on the global provider hands those of a test to the sink.

Nothing of OpenTelemetry is imported here. A project that uses it has imported it, and what its SDK calls on a processor is
known by name; a provider that is set later is seen when it is set.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

from msgspec import UNSET

from pytest_tracetriage.capture.spans import content, genai
from pytest_tracetriage.capture.spans.sink import Places, connected
from pytest_tracetriage.model.trace import Span, SpanKind

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import ModuleType

    from pytest_tracetriage.capture.spans.sink import Place, SpanSink

API = "opentelemetry.trace"
"""The module whose global provider is watched: call `watch` with it once the project has imported it."""
MAX_STOP_REASON = 256
MAX_ERROR = 8_000
_SETTERS = ("_set_tracer_provider", "set_tracer_provider")
_KINDS: dict[str, SpanKind] = {
    "chat": "llm",
    "completion": "llm",
    "generate_content": "llm",
    "llm": "llm",
    "text_completion": "llm",
    "embedding": "embedding",
    "embeddings": "embedding",
    "execute_tool": "tool",
    "tool": "tool",
    "agent": "agent",
    "create_agent": "agent",
    "invoke_agent": "agent",
}
_KIND_NAMES = ("gen_ai.operation.name", "openinference.span.kind", "traceloop.span.kind", "llm.request.type")


class Processor:
    """What an SDK's provider calls when spans begin and end. Never raises; idle when no recorder runs."""

    def __init__(self) -> None:
        self._places = Places()
        self._providers: WeakSet[Any] = WeakSet()

    def join(self, provider: Any) -> None:
        """Listen to a provider of the SDK, once."""
        if hasattr(provider, "add_span_processor") and provider not in self._providers:
            self._providers.add(provider)
            provider.add_span_processor(self)

    def on_start(self, span: Any, parent_context: Any = None) -> None:
        """Note the test that a span begins in, and what it stands in."""
        sink = connected()
        if sink is None:
            return
        try:
            trace = sink.trace()
            if trace:
                place = sink.place(trace, sink.new_id(), self._parent(span, trace) or sink.innermost(trace))
                self._places.add(_key(span.get_span_context()), place)
        except Exception as error:
            sink.trouble(error)

    def on_end(self, span: Any) -> None:
        """Write a finished span, under the test in which it began."""
        sink = connected()
        if sink is None:
            return
        try:
            place = self._find(span.get_span_context())
            if place is not None:
                _write(sink, span, place)
        except Exception as error:
            sink.trouble(error)

    def _on_ending(self, span: Any) -> None:
        """Newer SDKs ask before the end too."""

    def shutdown(self) -> None:
        """Nothing is held back, so nothing is to be closed."""

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Return True: each span was written when it ended."""
        return True

    def current(self) -> Place | None:
        """Return the span that runs in this context."""
        module = sys.modules.get(API)
        return self._find(module.get_current_span().get_span_context()) if module is not None else None

    def _parent(self, span: Any, trace: str) -> str:
        """Return our id of the parent that the program named for a span, "" where it stands in what runs here."""
        named = self._find(span.parent) if span.parent is not None else None
        return named.id if named is not None and named.trace == trace and named is not self.current() else ""

    def _find(self, context: Any) -> Place | None:
        return self._places.find(_key(context))


_processor = Processor()


def watch(module: ModuleType) -> None:
    """Listen to the global provider of `opentelemetry.trace`, and to each that is set from now on."""
    sink = connected()
    if sink is not None:
        sink.ask(_processor.current)
    _join(getattr(module, "_TRACER_PROVIDER", None))
    name = next((name for name in _SETTERS if callable(getattr(module, name, None))), "")
    setter = getattr(module, name, None)
    if setter is None or getattr(setter, "tracetriage", False):
        return

    def watched(*args: Any, **kwargs: Any) -> Any:
        answer = setter(*args, **kwargs)
        _join(getattr(module, "_TRACER_PROVIDER", None) or next(iter(args), None))
        return answer

    watched.tracetriage = True  # type: ignore[attr-defined]
    setattr(module, name, watched)


def _join(provider: Any) -> None:
    """Join a provider; a proxy that has none of its own yet is not one."""
    sink = connected()
    if provider is None or sink is None:
        return
    try:
        _processor.join(provider)
    except Exception as error:
        sink.trouble(error)


def _key(context: Any) -> tuple[int, int]:
    return context.trace_id, context.span_id


def _write(sink: SpanSink, span: Any, place: Place) -> None:
    attributes: Mapping[str, Any] = span.attributes or {}
    events = [(event.name, event.attributes or {}) for event in span.events or ()]
    began, ended = span.start_time or 0, span.end_time or span.start_time or 0
    error = _error(span, attributes, events)
    sink.write(
        Span(
            id=place.id,
            trace=place.trace,
            name=span.name or "span",
            start=began / 1e9,
            duration=max(0, ended - began) / 1e9,
            kind=_kind(attributes),
            parent=place.parent,
            component=_text(attributes.get("gen_ai.agent.name")),
            outcome="failed" if error else "success",
            stop_reason=_stop_reason(attributes),
            error=error,
            source="opentelemetry",
            usage=genai.usage_of_attributes(attributes),
            attributes=content.rest(attributes, content=sink.content),
        ),
        inputs=_or_unset(content.inputs(attributes, events)),
        output=_or_unset(content.output(attributes, events)),
    )


def _or_unset(value: Any) -> Any:
    return UNSET if value is None else value


def _kind(attributes: Mapping[str, Any]) -> SpanKind:
    for name in _KIND_NAMES:
        value = attributes.get(name)
        if isinstance(value, str):
            return _KINDS.get(value.lower(), "span")
    return "llm" if genai.usage_of_attributes(attributes) is not None else "span"


def _error(span: Any, attributes: Mapping[str, Any], events: list[tuple[str, Mapping[str, Any]]]) -> str:
    """Return what went wrong, "" where nothing did.

    The conventions ask that exceptions which are handled are not recorded: one of a span without a status has left it.
    """
    status = getattr(span.status.status_code, "name", "")
    raised = [given for name, given in events if name == "exception"]
    if status == "OK" or (status != "ERROR" and not raised):
        return ""
    if raised:
        kind, message = _text(raised[-1].get("exception.type")), _text(raised[-1].get("exception.message"), MAX_ERROR)
        return f"{kind}: {message}" if kind and message else kind or message or "exception"
    kind, message = _text(attributes.get("error.type")), _text(span.status.description, MAX_ERROR)
    return f"{kind}: {message}" if kind and message and not message.startswith(kind) else message or kind or "error"


def _stop_reason(attributes: Mapping[str, Any]) -> str:
    reasons = attributes.get("gen_ai.response.finish_reasons")
    if isinstance(reasons, str):
        return _text(reasons)
    found = ", ".join(dict.fromkeys(str(reason) for reason in reasons or () if reason))
    return found.encode("utf-8", "replace")[:MAX_STOP_REASON].decode("utf-8", "ignore")


def _text(value: Any, longest: int = MAX_STOP_REASON) -> str:
    return str(value)[:longest] if value is not None else ""
