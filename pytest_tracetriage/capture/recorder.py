"""The recorder: one trace per attempt at a test, written when the attempt is over.

It is registered only when TraceTriage is on, in every process that runs tests. Whatever goes wrong in here is counted and
told once at the end; it never reaches the test.
"""

from __future__ import annotations

import os
import threading
import time
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from pytest_tracetriage.capture import steps
from pytest_tracetriage.capture.exceptions import ExceptionWalker, bounded, safe_str
from pytest_tracetriage.capture.failures import FIXTURE_MARK, describe, excinfo_of, is_timeout
from pytest_tracetriage.capture.items import ItemFacts
from pytest_tracetriage.model.trace import Error, Failure, Outcome, Source, Span, Start, Trace, Warned

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from pytest_tracetriage.capture.exemplars import Exemplars
    from pytest_tracetriage.origin import Project
    from pytest_tracetriage.redact import Redactor
    from pytest_tracetriage.store.writer import Writer

MAX_SECTION = 10_000
MAX_WARNINGS = 20
_SIMPLE_PHASES = {"setup": "error", "call": "failed", "teardown": "error"}
SIGNATURE_ATTRIBUTE = "tracetriage_signature"
_WATCHER = "tracetriage-report-watcher"
_NOTHING: dict[str, float] = {}


class _Attempt:
    """What is known so far of the attempt that is running. Most tests never need more than the class's defaults."""

    outcome: Outcome = "passed"
    reason = ""
    failures: tuple[Failure, ...] = ()
    fixtures: dict[str, float] | None = None
    sections: tuple[tuple[str, str], ...] = ()
    warnings: tuple[Warned, ...] = ()
    signatures: tuple[str, ...] = ()
    spans = 0
    reported = False
    last_call: Failure | None = None

    def __init__(self, item: pytest.Item, trace: str, nodeid: str, number: int) -> None:
        self.item = item
        self.trace = trace
        self.nodeid = nodeid
        self.number = number
        self.start = time.time()
        self.phases: dict[str, float] = {}


class _ReportWatcher:
    """Sees reports, in a run that has subtests or tests in forked children: three calls a test that others need not pay."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Correlate subtests, and children that were forked for one test and died."""
        self._recorder.correlate(report)


class Recorder:
    """Hooks that watch tests run. `worker` names the process: `main`, or xdist's `gw0`."""

    def __init__(
        self, config: pytest.Config, writer: Writer, redactor: Redactor, project: Project, exemplars: Exemplars, worker: str
    ) -> None:
        self.writer = writer
        self.trouble = ""
        self._config = config
        self._redactor = redactor
        self._project = project
        self._worker = worker
        self._exemplars = exemplars
        self._count = 0
        self._attempt: _Attempt | None = None
        self._facts = ItemFacts(redactor)
        self._walker = ExceptionWalker(project.locate, self._keep_source)
        self._child = False
        self._dead = False
        self._timer: threading.Timer | None = None
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._forked)
        steps.connect(self._begin_step, self._end_step)
        if config.pluginmanager.hasplugin("pytest_forked") or config.pluginmanager.hasplugin("forked"):
            self.watch_reports()

    # -- the life of a test ------------------------------------------------------------------------------------------

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, object, object]:
        """Surround everything that happens for a test, its warnings and its further attempts included."""
        __tracebackhide__ = True
        self._begin(item, 1)
        try:
            result = yield
        except BaseException as exc:
            self._interrupted(exc)
            raise
        self._finish(last=True)
        return result

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Take the failure before pytest renders it, then see what pytest made of it."""
        # The way of nearly every test: whatever is spent here is paid three times a test.
        excinfo = call.excinfo if type(item) is pytest.Function else excinfo_of(item, call)
        if excinfo is None:
            report = yield
            self._passed(item, call, report)
            return report
        failure, signature = self._capture(item, call, excinfo)
        try:
            report = yield
        finally:
            self._exemplars.unshadow(item)
        self._reported(item, call, report, failure, signature)
        return report

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef: Any, request: Any) -> Generator[None, object, object]:
        """Time a fixture, and mark what it raised: a cached exception comes back without this hook."""
        __tracebackhide__ = True
        if fixturedef.argname == "subtests":
            self.watch_reports()
        begin = time.perf_counter()
        try:
            return (yield)
        except BaseException as exc:
            self._mark_fixture(exc, fixturedef)
            raise
        finally:
            if self._attempt is not None:
                if self._attempt.fixtures is None:
                    self._attempt.fixtures = {}
                self._attempt.fixtures[fixturedef.argname] = round(time.perf_counter() - begin, 6)

    def pytest_warning_recorded(self, warning_message: Any, when: str, nodeid: str) -> None:
        """Keep the warnings of the running test."""
        attempt = self._attempt
        if attempt is not None and when == "runtest" and len(attempt.warnings) < MAX_WARNINGS:
            self._guard(self._warn, attempt, warning_message)

    @pytest.hookimpl(wrapper=True)
    def pytest_make_collect_report(
        self, collector: pytest.Collector
    ) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
        """Record what could not be collected."""
        report = yield
        if report.failed:
            self._guard(self._collection_error, collector, report)
        return report

    @pytest.hookimpl(wrapper=True, optionalhook=True)
    def pytest_timeout_set_timer(self, item: pytest.Item, settings: Any) -> Generator[None, object, object]:
        """Before a timeout that ends the process: note where the test stands, shortly before."""
        result = yield
        if getattr(settings, "method", "") == "thread" and getattr(settings, "timeout", 0):
            self._guard(self._watch, item, float(settings.timeout))
        return result

    @pytest.hookimpl(wrapper=True, optionalhook=True)
    def pytest_timeout_cancel_timer(self, item: pytest.Item) -> Generator[None, object, object]:
        """Stop watching."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        return (yield)

    def correlate(self, report: pytest.TestReport) -> None:
        """Take from a report what nothing earlier tells: which subtest it is of, or that a forked child died."""
        attempt = self._attempt
        if attempt is None or self._dead:
            return
        if hasattr(report, "context"):
            self._subtest(attempt, report)
        elif report.when not in _SIMPLE_PHASES and report.failed and report.nodeid == attempt.item.nodeid:
            self._crashed_child(attempt, report)

    def watch_reports(self) -> None:
        """Begin to see reports, once."""
        if not self._config.pluginmanager.hasplugin(_WATCHER):
            self._config.pluginmanager.register(_ReportWatcher(self), _WATCHER)

    def close(self) -> None:
        """Stop recording and remove the start slot."""
        self._guard(self._finish)
        self._dead = True
        steps.connect(None, None)
        if not self._child:
            self.writer.close()

    # -- inside ------------------------------------------------------------------------------------------------------

    def _guard(self, function: Callable[..., None], *args: Any, **kwargs: Any) -> None:
        try:
            function(*args, **kwargs)
        except Exception as error:
            self._note(error)

    def _note(self, error: Exception) -> None:
        self.trouble = self.trouble or f"internal error, some records are missing: {type(error).__name__}: {error}"

    def _begin(self, item: pytest.Item, number: int) -> None:
        if self._dead:
            return
        try:
            self._count += 1
            trace = f"{self._worker}.{self._count}"
            attempt = self._attempt = _Attempt(item, trace, self._facts.nodeid(item), number)
            if type(item) is not pytest.Function and hasattr(item, "_excinfo"):
                self.watch_reports()  # unittest's subTest needs no fixture
            self.writer.start(Start(trace, attempt.nodeid, attempt.start))
        except Exception as error:
            self._note(error)

    def _passed(self, item: pytest.Item, call: pytest.CallInfo[None], report: pytest.TestReport) -> None:
        attempt = self._attempt
        if attempt is None or self._dead:
            return
        try:
            when = call.when
            if when == "setup" and attempt.phases:
                attempt = self._again(item)
            attempt.phases[when] = int(call.duration * 1e6) / 1e6
            attempt.reported = True
            if report.outcome != "passed" or "wasxfail" in report.__dict__:
                self._unexpected(attempt, report)
            if self._child and when == "teardown":
                self._finish(last=True)
        except Exception as error:
            self._note(error)

    def _again(self, item: pytest.Item) -> _Attempt:
        """Another attempt begins inside the same protocol: pytest-rerunfailures."""
        number = 1
        if self._attempt is not None:
            number = self._attempt.number + 1
            for signature in self._attempt.signatures:  # what a rerun hides is not in FAILURES
                self._exemplars.forget(signature, self._attempt.nodeid)
        self._finish(rerun=True)
        self._begin(item, number)
        assert self._attempt is not None
        return self._attempt

    def _unexpected(self, attempt: _Attempt, report: pytest.TestReport) -> None:
        wasxfail = getattr(report, "wasxfail", None)
        if wasxfail is not None:
            attempt.outcome = "xpassed" if report.outcome == "passed" else "xfailed"
            attempt.reason = self._redactor(bounded(str(wasxfail), 1_000))
        elif report.outcome == "failed":
            message = self._redactor(bounded(report.longreprtext))
            attempt.outcome = "failed"
            attempt.reason = message
            if "subtest" not in message:  # a parent that fails for its subtests adds nothing to them
                kind = "XPassStrict" if "XPASS(strict)" in message else "Failed"
                attempt.failures = (*attempt.failures, Failure(phase="call", errors=(Error(type=kind, message=message),)))

    def _capture(
        self, item: pytest.Item, call: pytest.CallInfo[None], excinfo: pytest.ExceptionInfo[BaseException]
    ) -> tuple[Failure | None, str]:
        if self._dead or isinstance(excinfo.value, pytest.skip.Exception) or type(excinfo.value).__name__ == "SkipTest":
            return None, ""
        try:
            phase: Any = call.when if call.when in _SIMPLE_PHASES else "call"
            found = describe(self._walker, self._project.locate, item, excinfo, phase)
            failure = self._redactor.struct(found, Failure)
            return failure, self._exemplars.shadow(item, failure, excinfo)
        except Exception as error:
            self._note(error)
            return None, ""

    def _reported(
        self,
        item: pytest.Item,
        call: pytest.CallInfo[None],
        report: pytest.TestReport,
        failure: Failure | None,
        signature: str,
    ) -> None:
        attempt = self._attempt
        if attempt is None or self._dead:
            return
        try:
            if call.when == "setup" and attempt.phases:
                attempt = self._again(item)
            attempt.phases[call.when] = round(call.duration, 6)
            attempt.reported = True
            if report.outcome == "skipped" or "wasxfail" in report.__dict__:
                self._expected(attempt, report)
            elif report.outcome == "failed":
                self._failed(attempt, report, failure, signature)
            if call.when == "teardown" and self._child:
                self._finish(last=True)
        except Exception as error:
            self._note(error)

    def _expected(self, attempt: _Attempt, report: pytest.TestReport) -> None:
        wasxfail = getattr(report, "wasxfail", None)
        if attempt.failures:
            return
        attempt.outcome = "skipped" if wasxfail is None else "xfailed" if report.outcome == "skipped" else "xpassed"
        reason = wasxfail
        if wasxfail is None:
            longrepr = report.longrepr
            reason = longrepr[2] if isinstance(longrepr, tuple) else str(longrepr)
            reason = reason.removeprefix("Skipped: ")
        attempt.reason = self._redactor(bounded(str(reason), 1_000))

    def _failed(self, attempt: _Attempt, report: pytest.TestReport, failure: Failure | None, signature: str) -> None:
        if failure is None:
            failure = Failure(phase="call", errors=(), text=self._redactor(bounded(report.longreprtext)))
        if not attempt.failures:
            attempt.outcome = "timeout" if failure.errors and is_timeout(failure) else _SIMPLE_PHASES[report.when]  # type: ignore[assignment, index]
        attempt.failures = (*attempt.failures, failure)
        attempt.sections = self._sections(report)
        attempt.last_call = failure
        if signature:
            setattr(report, SIGNATURE_ATTRIBUTE, signature)  # a plain str: nothing else survives xdist
            attempt.signatures = (*attempt.signatures, signature)
            self._exemplars.rendered(signature, attempt.nodeid)

    def _sections(self, report: pytest.TestReport) -> tuple[tuple[str, str], ...]:
        return tuple((name, self._redactor(bounded(content, MAX_SECTION))) for name, content in report.sections if content)

    def _subtest(self, attempt: _Attempt, report: Any) -> None:
        try:
            failure = attempt.last_call
            if report.failed and attempt.failures and attempt.failures[-1] is failure:
                attempt.failures = attempt.failures[:-1]
            if not attempt.failures:
                attempt.outcome, attempt.sections = "passed", ()
            attempt.last_call = None
            if attempt.outcome in {"skipped", "xfailed"} and not report.failed:
                attempt.outcome, attempt.reason = "passed", ""
            self._count += 1
            outcome: Outcome = "failed" if report.failed else "skipped" if report.skipped else "passed"
            self.writer.write(
                Trace(
                    id=f"{self._worker}.{self._count}",
                    nodeid=attempt.nodeid,
                    outcome=outcome,
                    start=report.start,
                    phases={"call": round(report.duration, 6)},
                    attempt=attempt.number,
                    subtest=self._redactor(bounded(describe_subtest(report.context), 500)) or "(<subtest>)",
                    failure=failure if report.failed else None,
                    sections=self._sections(report) if report.failed else (),
                )
            )
        except Exception as error:
            self._note(error)

    def _crashed_child(self, attempt: _Attempt, report: pytest.TestReport) -> None:
        message = self._redactor(bounded(report.longreprtext))
        attempt.outcome = "crashed"
        attempt.reported = True
        attempt.sections = self._sections(report)
        attempt.failures = (*attempt.failures, crash(message))

    def _interrupted(self, exc: BaseException) -> None:
        attempt = self._attempt
        if attempt is None or self._dead:
            return
        try:
            failure = self._redactor.struct(self._walker.failure(exc, "call"), Failure)
            attempt.outcome = "stuck" if isinstance(exc, KeyboardInterrupt) else "error"
            attempt.reason = f"interrupted by {type(exc).__name__}"
            attempt.failures = (failure, *attempt.failures)
            attempt.reported = True
            self._finish(last=True)
        except Exception as error:
            self._note(error)

    def _finish(self, *, rerun: bool = False, last: bool = False) -> None:
        attempt, self._attempt = self._attempt, None
        if attempt is None or self._dead:
            return
        try:
            if attempt.reported:  # otherwise a forked child has written it
                failures, facts = attempt.failures, self._facts
                self.writer.write(
                    Trace(
                        attempt.trace,
                        attempt.nodeid,
                        attempt.outcome,
                        attempt.start,
                        attempt.phases,
                        attempt.number,
                        rerun,
                        "",
                        failures[0] if failures else None,
                        failures[1:],
                        attempt.reason,
                        attempt.fixtures or _NOTHING,
                        facts.markers(attempt.item),
                        facts.params(attempt.item),
                        attempt.sections,
                        attempt.warnings,
                    )
                )
            if last and not self._child:
                self.writer.idle()
        except Exception as error:
            self._note(error)

    def _keep_source(self, source: Source) -> None:
        self.writer.write(msgspec.structs.replace(source, text=self._redactor(source.text)))

    def _mark_fixture(self, exc: BaseException, fixturedef: Any) -> None:
        try:
            if not getattr(exc, FIXTURE_MARK, ""):
                code = getattr(fixturedef.func, "__code__", None)
                place = ""
                if code is not None:
                    place = f" ({self._project.locate(code.co_filename)[0]}:{code.co_firstlineno})"
                setattr(exc, FIXTURE_MARK, f"{fixturedef.argname}{place}")
        except Exception:
            return  # an exception with __slots__ takes no mark

    def _warn(self, attempt: _Attempt, warning: Any) -> None:
        file, _ = self._project.locate(str(warning.filename))
        message = self._redactor(bounded(safe_str(warning.message), 2_000))
        warned = Warned(warning.category.__name__, message, file, int(warning.lineno or 0))
        attempt.warnings = (*attempt.warnings, warned)

    def _collection_error(self, collector: pytest.Collector, report: pytest.CollectReport) -> None:
        call = getattr(report, "call", None)
        excinfo = getattr(call, "excinfo", None)
        if excinfo is not None:
            failure = describe(self._walker, self._project.locate, collector, excinfo, "collect")
        else:
            failure = Failure(phase="collect", errors=(), text=bounded(report.longreprtext))
        self._count += 1
        failure = self._redactor.struct(failure, Failure)
        self.writer.write(
            Trace(
                id=f"{self._worker}.{self._count}",
                nodeid=self._redactor(collector.nodeid) or ".",
                outcome="error",
                start=getattr(call, "start", time.time()),
                failure=failure,
            )
        )
        signature = self._exemplars.signature(failure)
        setattr(report, SIGNATURE_ATTRIBUTE, signature)

    # -- timeouts that end the process -------------------------------------------------------------------------------

    def _watch(self, item: pytest.Item, timeout: float) -> None:
        attempt = self._attempt
        if attempt is None:
            return
        thread = threading.get_ident()
        record = Start(attempt.trace, attempt.nodeid, attempt.start, timeout=timeout)
        self.writer.start(record)
        self._timer = threading.Timer(max(timeout - 0.1, timeout * 0.9), self._guard, (self._stack, record, thread))
        self._timer.daemon = True
        self._timer.start()

    def _stack(self, record: Start, thread: int) -> None:
        import sys  # noqa: PLC0415

        frame = sys._current_frames().get(thread)  # noqa: SLF001 - the documented way to another thread's stack
        message = f"Timeout (>{record.timeout}s) from pytest-timeout."
        failure = self._walker.stack(frame, "call", "Timeout", message)
        failure = self._redactor.struct(failure, Failure)
        self.writer.write(msgspec.structs.replace(record, stack=failure))

    # -- forks and steps ---------------------------------------------------------------------------------------------

    def _forked(self) -> None:
        # A child that was forked before its test's setup runs the test (pytest-forked) and must write it. A child that a
        # test forked for itself must not.
        self._child = True
        attempt = self._attempt
        if attempt is None or attempt.phases:
            self._dead = True

    def _begin_step(self, _step: steps.step) -> tuple[str, str] | None:
        attempt = self._attempt
        if attempt is None:
            return None
        attempt.spans += 1
        process = f"p{os.getpid()}-" if self._child else ""
        return attempt.trace, f"{attempt.trace}.{process}{attempt.spans}"

    def _end_step(self, span: Span) -> None:
        try:
            self.writer.write(self._redactor.struct(span, Span))
        except Exception as error:
            self._note(error)


def describe_subtest(context: Any) -> str:
    """Return what pytest prints for a subtest: `[message] (i=1)`."""
    parts = [f"[{context.msg}]"] if context.msg is not None else []
    if context.kwargs:
        parts.append("(" + ", ".join(f"{key}={value}" for key, value in dict(context.kwargs).items()) + ")")
    return " ".join(parts) or "(<subtest>)"


def crash(message: str) -> Failure:
    """Return the failure of a test whose process died."""
    return Failure(phase="call", errors=(Error(type="ProcessCrash", message=message),))
