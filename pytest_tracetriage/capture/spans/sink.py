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
    from collections.abc import Callable

    from pytest_tracetriage.model.trace import Metric, Span
    from pytest_tracetriage.redact import Redactor
    from pytest_tracetriage.store.writer import Writer

MAX_NAME = 200
MAX_ERROR = 2_000
MAX_ATTRIBUTES = 32
MAX_ATTRIBUTE = 500

_sinks: list[SpanSink] = []
_place: ContextVar[tuple[str, str, str] | None] = ContextVar("tracetriage_place", default=None)
"""The innermost span of ours: its trace, its id, and the foreign span that it stood in when it began."""


class Begun(NamedTuple):
    """A span of ours that has begun: where it goes, what it belongs to, and what undoes `enter`."""

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
    identity, parent = sink.new_id(), sink.parent(trace)
    return Begun(sink, trace, identity, parent, sink.enter(trace, identity))


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
        self.foreign: Callable[[], str] | None = None
        """Gives the id of the running span of another recorder (Weave, OpenTelemetry), "" outside one."""
        self._writer = writer
        self._redactor = redactor
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

    def new_id(self) -> str:
        """Return an id for a span, unique in the run."""
        pid = os.getpid()
        process = f"p{pid}-" if pid != self._pid else ""
        return f"{self._prefix}{process}{next(self._numbers)}"

    def ask(self, current: Callable[[], str]) -> None:
        """Ask `current` too for the span that is running elsewhere, before those who were asked so far."""
        before = self.foreign
        self.foreign = current if before is None else lambda: current() or before()

    # -- what stands in what -----------------------------------------------------------------------------------------

    def parent(self, trace: str, foreign: str | None = None) -> str:
        """Return the id of the span that one which begins now stands in, "" for none.

        `foreign` is what its own recorder takes for its parent; without it the recorder that is running is asked.
        """
        if foreign is None:
            foreign = self._foreign()
        place = _place.get()
        if place is not None and place[0] == trace and place[2] == foreign:
            return place[1]
        return foreign

    def enter(self, trace: str, span: str) -> Any:
        """Make a span of ours the one that others stand in; returns what `leave` needs."""
        return _place.set((trace, span, self._foreign()))

    @staticmethod
    def leave(token: Any) -> None:
        """Undo `enter`. A generator that is closed elsewhere has no place to leave."""
        try:
            _place.reset(token)
        except ValueError:
            pass

    def _foreign(self) -> str:
        try:
            return self.foreign() if self.foreign is not None else ""
        except Exception as error:
            self.trouble(error)
            return ""

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
