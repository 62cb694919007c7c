"""What pytest tells outside the phases of a test: files not collected, warnings, timeouts that end the process."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from pytest_tracetriage.capture.exceptions import bounded, safe_str
from pytest_tracetriage.capture.exemplars import SIGNATURE_ATTRIBUTE
from pytest_tracetriage.model.trace import Failure, Trace, Warned

if TYPE_CHECKING:
    from collections.abc import Generator

    from pytest_tracetriage.capture.recorder import Recorder


MAX_WARNINGS = 20


class CollectionWatch:
    """Hooks of collection."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder

    @pytest.hookimpl(wrapper=True)
    def pytest_make_collect_report(
        self, collector: pytest.Collector
    ) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
        """Record what could not be collected."""
        recorder = self._recorder
        if isinstance(collector, pytest.Module):
            recorder.project.collected(str(collector.path))
        report = yield
        if report.failed:
            recorder.guard(self._failed, collector, report)
        elif report.skipped and recorder.tells_collection:
            recorder.guard(self._skipped, collector, report)
        return report

    def _skipped(self, collector: pytest.Collector, report: pytest.CollectReport) -> None:
        recorder = self._recorder
        longrepr = report.longrepr
        reason = str(longrepr[2] if isinstance(longrepr, tuple) else longrepr).removeprefix("Skipped: ")
        recorder.outcomes["skipped"] = recorder.outcomes.get("skipped", 0) + 1
        recorder.writer.write(
            Trace(
                id=recorder.next_id(),
                nodeid=recorder.redactor(collector.nodeid) or ".",
                outcome="skipped",
                start=time.time(),
                reason=recorder.redactor(bounded(reason, 1_000)),
            )
        )

    def _failed(self, collector: pytest.Collector, report: pytest.CollectReport) -> None:
        recorder = self._recorder
        call = getattr(report, "call", None)
        excinfo = getattr(call, "excinfo", None)
        if excinfo is not None:
            failure = recorder.describe(collector, excinfo, "collect")
        else:
            failure = Failure(phase="collect", errors=(), text=recorder.redactor(bounded(report.longreprtext)))
        recorder.red = True
        recorder.writer.write(
            Trace(
                id=recorder.next_id(),
                nodeid=recorder.redactor(collector.nodeid) or ".",
                outcome="error",
                start=getattr(call, "start", time.time()),
                failure=failure,
            )
        )
        setattr(report, SIGNATURE_ATTRIBUTE, recorder.exemplars.signature(failure))


class WarningWatch:
    """Keeps the warnings of tests. pytest tells of them once the test is over and its trace is written."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._trace = ""
        self._kept = 0

    def pytest_warning_recorded(self, warning_message: Any, when: str, nodeid: str) -> None:
        """Keep a warning, up to `MAX_WARNINGS` a test."""
        recorder = self._recorder
        if when != "runtest" or not recorder.latest:  # the main process of xdist hears of its workers' warnings too
            return
        if self._trace != recorder.latest:
            self._trace, self._kept = recorder.latest, 0
        self._kept += 1
        if self._kept <= MAX_WARNINGS:
            recorder.guard(self._keep, warning_message)

    def _keep(self, warning: Any) -> None:
        recorder = self._recorder
        file, _ = recorder.project.locate(str(warning.filename))
        message = recorder.redactor(bounded(safe_str(warning.message), 2_000))
        recorder.writer.write(Warned(self._trace, warning.category.__name__, message, file, int(warning.lineno or 0)))


MARGIN = 0.1
"""Seconds before the end, at most a tenth of the timeout."""


class DeadlineWatch:
    """Hooks of pytest-timeout. Registered only where that plugin is."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._timer: threading.Timer | None = None

    @pytest.hookimpl(wrapper=True, optionalhook=True)
    def pytest_timeout_set_timer(self, settings: Any) -> Generator[None, object, object]:
        """Start a timer that is a little faster."""
        result = yield
        timeout = getattr(settings, "timeout", 0)
        if getattr(settings, "method", "") == "thread" and timeout:
            thread = threading.get_ident()
            delay = max(timeout - MARGIN, timeout * 0.9)
            self._timer = threading.Timer(delay, self._note, (thread, float(timeout)))
            self._timer.daemon = True
            self._timer.start()
        return result

    @pytest.hookimpl(wrapper=True, optionalhook=True)
    def pytest_timeout_cancel_timer(self) -> Generator[None, object, object]:
        """Stop it."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        return (yield)

    def _note(self, thread: int, timeout: float) -> None:
        try:
            record = self._recorder.stand(thread, timeout)
            if record is not None:
                self._recorder.writer.write(record)
        except Exception as error:
            self._recorder.note(error)
