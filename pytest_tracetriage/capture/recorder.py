"""The recorder: one trace per attempt at a test, written when the attempt is over.

It is registered only when TraceTriage is on, in every process that runs tests. Whatever goes wrong in here is counted and
told once at the end; it never reaches the test.
"""

from __future__ import annotations

import os
import re
import sys
import time
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from pytest_tracetriage.capture import steps
from pytest_tracetriage.capture.attempt import Attempt
from pytest_tracetriage.capture.exceptions import ExceptionWalker, bounded, safe_str
from pytest_tracetriage.capture.failures import FIXTURE_MARK, describe, is_timeout
from pytest_tracetriage.capture.items import ItemFacts
from pytest_tracetriage.capture.reports import PassingWatch, ReportWatch, another_reporter
from pytest_tracetriage.model.trace import Error, Failure, Marker, Outcome, Source, Span, Start, Trace, Warned

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
_SUBTESTS_FAIL_TESTS = pytest.version_tuple >= (9,)
"""Whether a test around failing subtests counts as failed: so in pytest's own, not in the plugin before it."""
_FAILED_SUBTESTS = re.compile(r"contains \d+ failed subtest")
_NOTHING: dict[str, float] = {}


class Recorder:
    """Hooks that watch tests run. `worker` names the process: `main`, or xdist's `gw0`."""

    def __init__(
        self,
        config: pytest.Config,
        writer: Writer,
        redactor: Redactor,
        project: Project,
        exemplars: Exemplars,
        worker: str,
    ) -> None:
        self.writer = writer
        self.trouble = ""
        self.outcomes: dict[Outcome, int] = {}
        """How many tests of this process ended how."""
        self.red = False
        """Whether there is anything to triage, or to count more closely."""
        self._config = config
        self._redactor = redactor
        self._project = project
        self._worker = worker
        self._exemplars = exemplars
        self._count = 0
        self.attempt: Attempt | None = None
        self._facts = ItemFacts(redactor)
        self._walker = ExceptionWalker(project.locate, self._keep_source, redactor)
        self.is_child = False
        self._dead = False
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._forked)
        steps.connect(self._begin_step, self._end_step)
        self._watching = False
        self._passing = PassingWatch(self)
        if another_reporter(config):
            self.watch_reports()
        else:
            config.pluginmanager.register(self._passing, "tracetriage-passing")

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
        self._finish()
        return result

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
            if self.attempt is not None:
                if self.attempt.fixtures is None:
                    self.attempt.fixtures = {}
                self.attempt.fixtures[fixturedef.argname] = round(time.perf_counter() - begin, 6)

    def pytest_warning_recorded(self, warning_message: Any, when: str, nodeid: str) -> None:
        """Keep the warnings of the running test."""
        attempt = self.attempt
        if attempt is not None and when == "runtest" and len(attempt.warnings) < MAX_WARNINGS:
            self._guard(self._warn, attempt, warning_message)

    @pytest.hookimpl(wrapper=True)
    def pytest_make_collect_report(
        self, collector: pytest.Collector
    ) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
        """Record what could not be collected."""
        if isinstance(collector, pytest.Module):
            self._project.collected(str(collector.path))
        report = yield
        if report.failed:
            self._guard(self._collection_error, collector, report)
        return report

    def saving(self) -> bool:
        """Return whether repeated tracebacks are left out."""
        return self._exemplars.saving()

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
        if attempt is None or self._dead:
            return None
        if call.when == "setup" and attempt.phases:
            attempt = self._again(item)
        attempt.phases[call.when] = int(call.duration * 1e6) / 1e6
        return attempt

    def capture(
        self, item: pytest.Item, call: pytest.CallInfo[None], excinfo: pytest.ExceptionInfo[BaseException] | None
    ) -> tuple[Failure | None, str]:
        """Return what was raised and its signature; from the second of a signature on, pytest need not render it."""
        self._exemplars.unshadow(item)
        if excinfo is None or self._dead:
            return None, ""
        if isinstance(excinfo.value, pytest.skip.Exception) or type(excinfo.value).__name__ == "SkipTest":
            return None, ""
        try:
            phase: Any = call.when if call.when in _SIMPLE_PHASES else "call"
            failure = describe(self._walker, self._redactor, self._project.locate, item, excinfo, phase)
            self.red = True
            return failure, self._exemplars.shadow(item, failure, excinfo)
        except Exception as error:
            self.note(error)
            return None, ""

    def reconcile(self, attempt: Attempt, report: pytest.TestReport, failure: Failure | None, signature: str) -> None:
        """Take over what pytest made of a phase: only it knows what was expected."""
        try:
            if report.outcome == "skipped" or hasattr(report, "wasxfail"):
                self._expected(attempt, report)
            elif report.outcome in {"failed", "rerun"}:  # pytest-rerunfailures renames what it hides
                self._failed(attempt, report, failure, signature)
            if self.is_child and report.when == "teardown":
                self._finish()
        except Exception as error:
            self.note(error)

    def correlate(self, report: pytest.TestReport) -> None:
        """Take from a report what nothing earlier tells: which subtest it is of, or that a forked child died."""
        attempt = self.attempt
        if attempt is None or self._dead:
            return
        if hasattr(report, "context"):
            self._guard(self._subtest, attempt, report)
        elif attempt.pending is not None and report.when in attempt.pending:
            self.reconcile(attempt, report, *attempt.pending.pop(report.when))
        elif report.when not in _SIMPLE_PHASES and report.failed and report.nodeid == attempt.item.nodeid:
            self._guard(self._crashed_child, attempt, report)

    def close(self) -> None:
        """Stop recording and remove the start slot."""
        self._guard(self._finish)
        self._dead = True
        steps.connect(None, None)
        if not self.is_child:
            self.writer.close()

    # -- inside ------------------------------------------------------------------------------------------------------

    def _guard(self, function: Callable[..., None], *args: Any, **kwargs: Any) -> None:
        try:
            function(*args, **kwargs)
        except Exception as error:
            self.note(error)

    def note(self, error: Exception) -> None:
        """Remember the first internal error, for the one line at the end."""
        self.trouble = self.trouble or f"internal error, some records are missing: {type(error).__name__}: {error}"

    def _begin(self, item: pytest.Item, number: int) -> None:
        if self._dead:
            return
        try:
            self._count += 1
            trace = f"{self._worker}.{self._count}"
            nodeid, params = self._facts.names(item)
            markers = self._facts.markers(item)
            attempt = self.attempt = Attempt(item, trace, nodeid, number, markers, params)
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
                self._exemplars.forget(signature, self.attempt.nodeid)
        self._finish(rerun=True)
        self.red = True
        self._begin(item, number)
        assert self.attempt is not None
        return self.attempt

    def _expected(self, attempt: Attempt, report: pytest.TestReport) -> None:
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

    def _failed(self, attempt: Attempt, report: pytest.TestReport, failure: Failure | None, signature: str) -> None:
        self.red = True
        if failure is None:  # nothing was raised: pytest or a plugin decided
            message = self._redactor(bounded(report.longreprtext))
            if _FAILED_SUBTESTS.search(message):  # adds nothing to the subtests
                attempt.outcome, attempt.reason = "failed", message
                return
            kind = "XPassStrict" if "XPASS(strict)" in message else "Failed"
            failure = Failure(phase="call", errors=(Error(type=kind, message=message),))
        if not attempt.failures:
            attempt.outcome = "timeout" if failure.errors and is_timeout(failure) else _SIMPLE_PHASES[report.when]  # type: ignore[assignment]
        attempt.failures = (*attempt.failures, failure)
        attempt.sections = self._sections(report)
        attempt.last_call = failure
        if signature:
            setattr(report, SIGNATURE_ATTRIBUTE, signature)  # a plain str: nothing else survives xdist
            attempt.signatures = (*attempt.signatures, signature)
            self._exemplars.rendered(signature, attempt.nodeid)

    def _sections(self, report: pytest.TestReport) -> tuple[tuple[str, str], ...]:
        return tuple((name, self._redactor(bounded(content, MAX_SECTION))) for name, content in report.sections if content)

    def _subtest(self, attempt: Attempt, report: Any) -> None:
        failure = attempt.last_call
        if report.failed and attempt.failures and attempt.failures[-1] is failure:
            attempt.failures = attempt.failures[:-1]
        if not attempt.failures:
            attempt.outcome, attempt.sections, attempt.reason = "passed", (), ""
        attempt.last_call = None
        if report.failed and _SUBTESTS_FAIL_TESTS and type(attempt.item) is pytest.Function:
            attempt.failed_subtests += 1
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

    def _crashed_child(self, attempt: Attempt, report: pytest.TestReport) -> None:
        self.red = True
        attempt.outcome = "crashed"
        attempt.sections = self._sections(report)
        attempt.failures = (crash(self._redactor(bounded(report.longreprtext))),)
        if self.writer.holds(attempt.trace):  # the child finished its test, and died after that
            attempt.trace += ".child"
            attempt.subtest = "(forked child)"

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
            self._finish()
        except Exception as error:
            self.note(error)

    def _finish(self, *, rerun: bool = False) -> None:
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
                self.writer.write(
                    Trace(
                        attempt.trace,
                        attempt.nodeid,
                        attempt.outcome,
                        attempt.start,
                        attempt.phases,
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
                        attempt.warnings,
                    )
                )
        except Exception as error:
            self.note(error)

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

    def _warn(self, attempt: Attempt, warning: Any) -> None:
        file, _ = self._project.locate(str(warning.filename))
        message = self._redactor(bounded(safe_str(warning.message), 2_000))
        warned = Warned(warning.category.__name__, message, file, int(warning.lineno or 0))
        attempt.warnings = (*attempt.warnings, warned)

    def _collection_error(self, collector: pytest.Collector, report: pytest.CollectReport) -> None:
        call = getattr(report, "call", None)
        excinfo = getattr(call, "excinfo", None)
        if excinfo is not None:
            failure = describe(self._walker, self._redactor, self._project.locate, collector, excinfo, "collect")
        else:
            failure = Failure(phase="collect", errors=(), text=self._redactor(bounded(report.longreprtext)))
        self._count += 1
        self.red = True
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

    def stand(self, thread: int, timeout: float) -> Start | None:
        """Return where the running test stands in `thread`, as a start record."""
        attempt = self.attempt
        if attempt is None:
            return None
        frame = sys._current_frames().get(thread)  # noqa: SLF001 - the documented way to another thread's stack
        message = f"Timeout (>{timeout}s) from pytest-timeout."
        failure = self._redactor.struct(
            self._walker.stack(frame, "call" if attempt.phases else "setup", "Timeout", message), Failure
        )
        return Start(attempt.trace, attempt.nodeid, attempt.start, timeout=timeout, stack=failure)

    # -- forks and steps ---------------------------------------------------------------------------------------------

    def _forked(self) -> None:
        # A child that was forked before its test's setup runs the test (pytest-forked) and must write it. A child that a
        # test forked for itself must not.
        self.is_child = True
        attempt = self.attempt
        if attempt is None or attempt.phases:
            self._dead = True

    def _begin_step(self, _step: steps.step) -> tuple[str, str] | None:
        attempt = self.attempt
        if attempt is None:
            return None
        attempt.spans += 1
        process = f"p{os.getpid()}-" if self.is_child else ""
        return attempt.trace, f"{attempt.trace}.{process}{attempt.spans}"

    def _end_step(self, span: Span) -> None:
        try:
            self.writer.write(self._redactor.struct(span, Span))
        except Exception as error:
            self.note(error)


def describe_subtest(context: Any) -> str:
    """Return what pytest prints for a subtest: `[message] (i=1)`."""
    parts = [f"[{context.msg}]"] if context.msg is not None else []
    if context.kwargs:
        parts.append("(" + ", ".join(f"{key}={value}" for key, value in dict(context.kwargs).items()) + ")")
    return " ".join(parts) or "(<subtest>)"


def crash(message: str) -> Failure:
    """Return the failure of a test whose process died."""
    return Failure(phase="call", errors=(Error(type="ProcessCrash", message=message),))
