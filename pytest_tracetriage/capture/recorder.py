"""The recorder: one trace per attempt at a test, written when the attempt is over.

It is registered only when TraceTriage is on, in every process that runs tests. Whatever goes wrong in here is counted and
told once at the end; it never reaches the test.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from pytest_tracetriage.capture.exceptions import ExceptionWalker
from pytest_tracetriage.capture.failures import SIMPLE_PHASES, describe
from pytest_tracetriage.capture.items import Attempt, ItemFacts
from pytest_tracetriage.capture.reports import PassingWatch, ReportWatch, another_reporter
from pytest_tracetriage.capture.spans.sink import SpanSink
from pytest_tracetriage.model.trace import Failure, Marker, Outcome, Source, Start, Trace
from pytest_tracetriage.store.writer import Writer

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_tracetriage.capture.exemplars import Exemplars
    from pytest_tracetriage.model.trace import FailurePhase
    from pytest_tracetriage.origin import Project
    from pytest_tracetriage.redact import Redactor

_NOTHING: dict[str, float] = {}


def _nothing() -> None:
    """Close nothing."""


class Recorder:
    """Knows the running attempt and writes what became of it. `worker` names the process: `main`, or xdist's `gw0`."""

    def __init__(
        self,
        config: pytest.Config,
        writer: Writer,
        redactor: Redactor,
        project: Project,
        exemplars: Exemplars,
        worker: str,
        *,
        content: bool = True,
    ) -> None:
        self.writer = writer
        self.redactor = redactor
        self.project = project
        self.exemplars = exemplars
        self.trouble = ""
        self.outcomes: dict[Outcome, int] = {}
        """How many tests of this process ended how, beside `passes`."""
        self.passes = 0
        self.red = False
        """Whether there is anything to triage, or to count more closely."""
        self.attempt: Attempt | None = None
        self.latest = ""
        """The id of the trace that was begun last."""
        self.is_child = False
        self.tells_collection = worker in {"main", "gw0"}
        """Whether this process tells what collection skips: every xdist worker collects, and sees the same."""
        self._config = config
        self._worker = worker
        self._count = 0
        self._facts = ItemFacts(redactor)
        self._walker = ExceptionWalker(project.locate, self._keep_source, redactor)
        self._dead = False
        self._inherited = ""
        self._watching = False
        self._passing = PassingWatch(self)
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._forked)
        self.spans = SpanSink(writer, redactor, worker, self._running, self.note, content=content)
        self.spans.connect()
        self.before_close: Callable[[], None] = _nothing
        """Called when the last spans can be written."""
        if another_reporter(config):
            self.watch_reports()
        else:
            config.pluginmanager.register(self._passing, "tracetriage-passing")

    # -- the life of a test ------------------------------------------------------------------------------------------

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> None:
        """Name the test that begins. A wrapper, which would also see the end, costs four times as much."""
        if self.attempt is not None:
            self.finish()
        self._begin(item, 1)

    def pytest_keyboard_interrupt(self, excinfo: pytest.ExceptionInfo[BaseException]) -> None:
        """Record where an interrupted test stood; Ctrl-C and `pytest.exit` come here."""
        self._interrupted(excinfo.value)

    def pytest_internalerror(self, excinfo: pytest.ExceptionInfo[BaseException]) -> None:
        """Record the test in which pytest or a plugin broke."""
        self._interrupted(excinfo.value)

    def watch_reports(self) -> None:
        """From here on, see every report: something other than a plain pass has come up."""
        manager = self._config.pluginmanager
        if not self._watching:
            self._watching = True
            if manager.is_registered(self._passing):
                manager.unregister(self._passing)
            manager.register(ReportWatch(self), "tracetriage-reports")

    def phase(self, item: pytest.Item, call: pytest.CallInfo[None]) -> Attempt | None:
        """Return the attempt that a call belongs to, its phase noted: a second setup begins another attempt."""
        attempt = self.attempt
        if attempt is None:
            return None
        if call.when == "setup" and attempt.phases:
            attempt = self._again(item)
        attempt.phases[call.when] = call.duration
        return attempt

    def capture(
        self, item: pytest.Item, call: pytest.CallInfo[None], excinfo: pytest.ExceptionInfo[BaseException] | None
    ) -> tuple[Failure | None, str]:
        """Return what was raised and its signature; from the second of a signature on, pytest need not render it."""
        self.exemplars.unshadow(item)
        if excinfo is None or self._dead:
            return None, ""
        if isinstance(excinfo.value, pytest.skip.Exception) or type(excinfo.value).__name__ == "SkipTest":
            return None, ""
        try:
            phase: Any = call.when if call.when in SIMPLE_PHASES else "call"
            failure = self.describe(item, excinfo, phase)
            self.red = True
            return failure, self.exemplars.shadow(item, failure, excinfo)
        except Exception as error:
            self.note(error)
            return None, ""

    def describe(self, node: pytest.Item | pytest.Collector, excinfo: Any, phase: FailurePhase) -> Failure:
        """Return what was raised in a phase of `node`, redacted."""
        return describe(self._walker, self.redactor, self.project.locate, node, excinfo, phase)

    def finish(self, *, rerun: bool = False) -> None:
        """Write the running attempt, if there is one. `rerun` tells that another follows."""
        attempt, self.attempt = self.attempt, None
        if attempt is None or self._dead:
            return
        try:
            if attempt.failed_subtests and attempt.outcome == "passed":
                attempt.outcome = "failed"
                attempt.reason = f"contains {attempt.failed_subtests} failed subtests"
            if attempt.phases or attempt.failures:  # otherwise a forked child has written it
                failures = attempt.failures
                if not rerun:
                    self.outcomes[attempt.outcome] = self.outcomes.get(attempt.outcome, 0) + 1
                phases = {name: int(seconds * 1e6) / 1e6 for name, seconds in attempt.phases.items()}
                self.writer.write(
                    Trace(
                        attempt.trace,
                        attempt.nodeid,
                        attempt.outcome,
                        attempt.start,
                        phases,
                        attempt.number,
                        rerun,
                        attempt.subtest,
                        failures[0] if failures else None,
                        failures[1:],
                        attempt.reason,
                        attempt.fixtures or _NOTHING,
                        attempt.markers,
                        attempt.params,
                        attempt.sections,
                    )
                )
        except Exception as error:
            self.note(error)

    def passed(self, attempt: Attempt) -> None:
        """Write an attempt that raised nothing: mostly there is nothing to say of it."""
        if attempt.markers or attempt.params or attempt.fixtures is not None:
            self.finish()
        else:
            self.attempt = None
            self.passes += 1
            try:
                self.writer.write_passed(attempt.trace, attempt.nodeid, attempt.start, attempt.phases)
            except Exception as error:
                self.note(error)

    def close(self) -> None:
        """Stop recording and remove the start slot."""
        self.finish()
        self._dead = True
        self.before_close()
        self.spans.disconnect()
        if not self.is_child:
            self.writer.close()

    def go_on(self, worker: str) -> None:
        """Record again, in a child that was forked between tests to run some: under a name and into a file of its own."""
        self.writer = Writer(self.writer.path.parent, worker)
        self.spans.go_on(self.writer, worker)
        self._worker = worker
        self._count = 0
        self._dead = self.is_child = False

    def stand(self, thread: int, timeout: float) -> Start | None:
        """Return where the running test stands in `thread`, as a start record."""
        attempt = self.attempt
        if attempt is None:
            return None
        frame = sys._current_frames().get(thread)  # noqa: SLF001 - the documented way to another thread's stack
        message = f"Timeout (>{timeout}s) from pytest-timeout."
        failure = self.redactor.struct(
            self._walker.stack(frame, "call" if attempt.phases else "setup", "Timeout", message), Failure
        )
        return Start(attempt.trace, attempt.nodeid, attempt.start, timeout=timeout, stack=failure)

    # -- what the hooks beside it need -------------------------------------------------------------------------------

    def next_id(self) -> str:
        """Return the id of a new trace."""
        self._count += 1
        return f"{self._worker}.{self._count}"

    def name_of(self, item: pytest.Item) -> str:
        """Return the node id under which a test is recorded."""
        return self._facts.names(item)[0]

    def guard(self, function: Callable[..., None], *args: Any) -> None:
        """Call a function whose errors must not reach the test."""
        try:
            function(*args)
        except Exception as error:
            self.note(error)

    def note(self, error: Exception) -> None:
        """Remember the first internal error, for the one line at the end."""
        self.trouble = self.trouble or f"internal error, some records are missing: {type(error).__name__}: {error}"

    # -- inside ------------------------------------------------------------------------------------------------------

    def _begin(self, item: pytest.Item, number: int) -> None:
        if self._dead:
            return
        try:
            self._count += 1
            trace = self.latest = f"{self._worker}.{self._count}"
            nodeid, params = self._facts.names(item)
            attempt = self.attempt = Attempt(item, trace, nodeid)
            if number != 1:
                attempt.number = number
            if params:
                attempt.params = params
            if markers := self._facts.markers(item):
                attempt.markers = markers
            if not self._watching and (markers or type(item) is not pytest.Function):
                self._watch_if_unusual(item, markers)
            self.writer.begin(trace, nodeid, attempt.start)
        except Exception as error:
            self.note(error)

    def _watch_if_unusual(self, item: pytest.Item, markers: tuple[Marker, ...]) -> None:
        if type(item) is not pytest.Function or any(marker.name == "xfail" for marker in markers):
            self.watch_reports()

    def _again(self, item: pytest.Item) -> Attempt:
        """Another attempt begins inside the same protocol: pytest-rerunfailures."""
        number = 1
        if self.attempt is not None:
            number = self.attempt.number + 1
            for signature in self.attempt.signatures:  # what a rerun hides is not in FAILURES
                self.exemplars.forget(signature, self.attempt.nodeid)
        self.finish(rerun=True)
        self.red = True
        self._begin(item, number)
        assert self.attempt is not None
        return self.attempt

    def _interrupted(self, exc: BaseException) -> None:
        self.red = True
        attempt = self.attempt
        if attempt is None or self._dead:
            return
        try:
            failure = self._walker.failure(exc, "call")
            attempt.outcome = "stuck" if isinstance(exc, KeyboardInterrupt) else "error"
            attempt.reason = f"interrupted by {type(exc).__name__}"
            attempt.failures = (failure, *attempt.failures)
            self.finish()
        except Exception as error:
            self.note(error)

    def _keep_source(self, source: Source) -> None:
        self.writer.write(msgspec.structs.replace(source, text=self.redactor(source.text)))

    # -- forks and spans ---------------------------------------------------------------------------------------------

    def _forked(self) -> None:
        # A child that was forked before its test's setup runs the test (pytest-forked) and must write it. A child that a
        # test forked for itself must not; what it does still belongs to the test.
        self.is_child = True
        attempt = self.attempt
        if attempt is None or attempt.phases:
            self._dead = True
            self._inherited = attempt.trace if attempt is not None else ""
            self.attempt = None

    def _running(self) -> str:
        attempt = self.attempt
        return attempt.trace if attempt is not None else self._inherited
