"""Where the spans of a process go: one sink a process, made by the recorder, asked by all who see spans.

A span is written when it ends, with one write of the system, so that what has ended outlives the process. Everything is
bounded and redacted here, whoever recorded it.
"""

from __future__ import annotations

import itertools
import os
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from pytest_tracetriage.capture.spans import content

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from pytest_tracetriage.model.trace import Metric, Span
    from pytest_tracetriage.redact import Redactor
    from pytest_tracetriage.store.writer import Writer

MAX_NAME = 200
MAX_ERROR = 2_000
MAX_ATTRIBUTES = 32
MAX_ATTRIBUTE = 500

MAX_KNOWN = 10_000
"""Spans of another recorder that are remembered as possible parents, at most twice as many."""

_sinks: list[SpanSink] = []
_orders = itertools.count(1)


class Place(NamedTuple):
    """A span that others can stand in. Of those that run in one context, the one that began last stands in all others."""

    order: int
    trace: str
    id: str
    parent: str


_NOWHERE = Place(0, "", "", "")
_place: ContextVar[Place | None] = ContextVar("tracetriage_place", default=None)
"""The innermost span of ours."""


class Places:
    """The newest spans of another recorder by its own ids: two generations, without a lock that a fork could leave closed."""

    def __init__(self) -> None:
        self._new: dict[Hashable, Place] = {}
        self._old: dict[Hashable, Place] = {}

    def add(self, key: Hashable, place: Place) -> None:
        """Remember a span."""
        if len(self._new) >= MAX_KNOWN:
            self._old, self._new = self._new, {}
        self._new[key] = place

    def find(self, key: Hashable) -> Place | None:
        """Return a span that is remembered, whether it has ended or not."""
        return self._new.get(key) or self._old.get(key)


class Begun(NamedTuple):
    """A span of ours that has begun: where it goes, what it belongs to, and what `leave` needs."""

    sink: SpanSink
    trace: str
    id: str
    parent: str
    token: Any


def begin() -> Begun | None:
    """Begin a span in the running test; None outside of one, or where nothing records. Its end is `sink.leave(token)`."""
    sink = connected()
    trace = sink.trace() if sink is not None else ""
    if sink is None or not trace:
        return None
    place = sink.place(trace, sink.new_id(), sink.innermost(trace))
    return Begun(sink, trace, place.id, place.parent, _place.set(place))


def connected() -> SpanSink | None:
    """Return the sink of the run that records in this process, None where none does."""
    return _sinks[-1] if _sinks else None


class SpanSink:
    """Takes finished spans and metrics. `content` says whether texts are kept, or shapes only.

    `running` gives the id of the running test's trace, "" outside a test; `trouble` is told what went wrong.
    """

    def __init__(
        self,
        writer: Writer,
        redactor: Redactor,
        worker: str,
        running: Callable[[], str],
        trouble: Callable[[Exception], None],
        *,
        content: bool = True,
    ) -> None:
        self.content = content
        self.trouble = trouble
        self.trace = running
        self._writer = writer
        self._redactor = redactor
        self._currents: list[Callable[[], Place | None]] = []
        self._prefix = f"{worker}.s"
        self._numbers = itertools.count(1)
        self._pid = os.getpid()

    def connect(self) -> None:
        """Take the spans of this process from now on."""
        _sinks.append(self)

    def disconnect(self) -> None:
        """Take no more spans; those of a run around this one go to its sink again."""
        if self in _sinks:
            _sinks.remove(self)

    def go_on(self, writer: Writer, worker: str) -> None:
        """Write to `writer` from now on, in a forked process that has the name `worker`."""
        self._writer = writer
        self._prefix = f"{worker}.s"
        self._numbers = itertools.count(1)
        self._pid = os.getpid()

    def new_id(self) -> str:
        """Return an id for a span, unique in the run."""
        pid = os.getpid()
        process = f"p{pid}-" if pid != self._pid else ""
        return f"{self._prefix}{process}{next(self._numbers)}"

    # -- what stands in what -----------------------------------------------------------------------------------------

    def ask(self, current: Callable[[], Place | None]) -> None:
        """Ask `current` too for the span that another recorder (Weave, OpenTelemetry) takes for the running one."""
        if current not in self._currents:
            self._currents.append(current)

    def innermost(self, trace: str, known: Place | None = None) -> str:
        """Return the id of the span of `trace` that runs in this context, whoever recorded it; "" outside one.

        `known` is one that is known to run here, though its recorder may no longer say so.
        """
        running = [_place.get(), known]
        for current in self._currents:
            try:
                running.append(current())
            except Exception as error:
                self.trouble(error)
        return max((place for place in running if place is not None and place.trace == trace), default=_NOWHERE).id

    @staticmethod
    def place(trace: str, span: str, parent: str) -> Place:
        """Return the place of a span that begins now."""
        return Place(next(_orders), trace, span, parent)

    @staticmethod
    def leave(token: Any) -> None:
        """Leave a span of ours. A generator that is closed elsewhere has no place to leave."""
        try:
            _place.reset(token)
        except ValueError:
            pass

    # -- writing -----------------------------------------------------------------------------------------------------

    def write(self, span: Span, *, inputs: Any = msgspec.UNSET, output: Any = msgspec.UNSET) -> None:
        """Write a finished span. `inputs` and `output` are values to render, where the span has no JSON of its own for them.

        Its digest is taken before anything is dropped. Never raises.
        """
        try:
            if self in _sinks:
                self._writer.write(self._bounded(span, inputs, output))
        except Exception as error:
            self.trouble(error)

    def write_metric(self, metric: Metric) -> None:
        """Write a figure that was logged. Never raises."""
        try:
            if self in _sinks:
                name, unit = self._redactor(metric.name)[:MAX_NAME], self._redactor(metric.unit)[:MAX_NAME]
                self._writer.write(msgspec.structs.replace(metric, name=name, unit=unit))
        except Exception as error:
            self.trouble(error)

    def _bounded(self, span: Span, inputs: Any, output: Any) -> Span:
        clean = self._redactor
        given = _value(span.inputs, inputs)
        came = _value(span.output, output)
        data = content.encoded(given) if given is not msgspec.UNSET else b""
        attributes = list(span.attributes.items())[:MAX_ATTRIBUTES]
        return msgspec.structs.replace(
            span,
            name=clean(span.name)[:MAX_NAME],
            component=clean(span.component)[:MAX_NAME],
            stop_reason=clean(span.stop_reason),
            rationale=clean(span.rationale),
            error=clean(span.error[: 4 * MAX_ERROR])[:MAX_ERROR],
            inputs=self._rendered(given, data),
            output=self._rendered(came, content.encoded(came)) if came is not msgspec.UNSET else "",
            digest=span.digest or (content.digest(clean, span.name, data) if data else ""),
            attributes={clean(key)[:MAX_NAME]: clean(text)[:MAX_ATTRIBUTE] for key, text in attributes},
        )

    def _rendered(self, value: Any, data: bytes) -> str:
        if value is msgspec.UNSET:
            return ""
        return content.kept(self._redactor, value, data) if self.content else content.shape(value)


def _value(text: str, value: Any) -> Any:
    """Return what is to be rendered: the value that was given, else what the span's own text holds."""
    if value is not msgspec.UNSET or not text:
        return value
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeEncodeError):
        return text
