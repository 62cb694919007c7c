"""What pytest makes of the phases of a test: lightly while tests simply pass, fully once something else comes up.

A hook that wraps `makereport` costs three generators a test. A test that raises nothing needs none of them: its phases and
durations are known before pytest makes a report. Only the report tells what was expected, which subtest it is of, or that a
child died.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest

from pytest_tracetriage.capture.exceptions import bounded
from pytest_tracetriage.capture.exemplars import HARMLESS, SIGNATURE_ATTRIBUTE
from pytest_tracetriage.capture.failures import SIMPLE_PHASES, crash, excinfo_of, is_timeout
from pytest_tracetriage.model.trace import Error, Failure, Trace

if TYPE_CHECKING:
    from collections.abc import Generator

    from pytest_tracetriage.capture.items import Attempt
    from pytest_tracetriage.capture.recorder import Recorder
    from pytest_tracetriage.model.trace import Outcome


class PassingWatch:
    """Sees tests that raise nothing through. The first call that raises hands over to `ReportWatch`."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_makereport(self, item: pytest.Item, call: pytest.CallInfo[None]) -> None:
        """Note the phase; of what was raised, take the failure and leave the rest to the report that follows."""
        recorder = self._recorder
        attempt = recorder.attempt
        if attempt is None:
            return
        when = call.when
        if call.excinfo is None:
            if when == "call":
                if len(item.own_markers) == attempt.own:  # no xfail was added while it ran
                    attempt.phases["call"] = call.duration
                    return
            elif when == "teardown":
                attempt.phases["teardown"] = call.duration
                recorder.passed(attempt)
                return
            elif not attempt.phases:
                attempt.phases["setup"] = call.duration
                return
        recorder.watch_reports()
        attempt = recorder.phase(item, call)
        if attempt is not None:
            failure, signature = recorder.capture(item, call, call.excinfo)
            attempt.pending = {**(attempt.pending or {}), when: (failure, signature)}


class ReportWatch:
    """Takes each failure before pytest renders it, then sees what pytest made of it."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._verdicts = Verdicts(recorder)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Surround the making of a report."""
        recorder = self._recorder
        excinfo = excinfo_of(item, call)
        failure, signature = recorder.capture(item, call, excinfo) if excinfo is not None else (None, "")
        report = yield
        attempt = recorder.phase(item, call)
        if attempt is not None and (report.outcome != "passed" or hasattr(report, "wasxfail") or recorder.is_child):
            self._verdicts.reconcile(attempt, report, failure, signature)
        return report

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Correlate what only a finished report tells."""
        self._verdicts.correlate(report)

    @pytest.hookimpl(trylast=True)
    def pytest_runtest_logfinish(self) -> None:
        """Write the attempt: every report of it has been seen. One that is run again ends when the next begins."""
        attempt = self._recorder.attempt
        if attempt is not None and not attempt.to_rerun:
            self._recorder.finish()


def another_reporter(config: pytest.Config) -> bool:
    """Return whether a plugin may change the outcome of a test that raised nothing, or runs tests in forked children."""
    manager = config.pluginmanager
    if manager.hasplugin("pytest_forked") or manager.hasplugin("forked"):
        return True
    for implementation in config.hook.pytest_runtest_makereport.get_hookimpls():
        module: Any = getattr(implementation.function, "__module__", "") or ""
        if module.partition(".")[0] not in HARMLESS:
            return True
    return False


MAX_SECTION = 10_000
_SUBTESTS_FAIL_TESTS = pytest.version_tuple >= (9,)
"""Whether a test around failing subtests counts as failed: so in pytest's own, not in the plugin before it."""
_FAILED_SUBTESTS = re.compile(r"contains \d+ failed subtest")


class Verdicts:
    """Takes over into the running attempt what its reports say."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder

    def reconcile(self, attempt: Attempt, report: pytest.TestReport, failure: Failure | None, signature: str) -> None:
        """Take over what pytest made of a phase that raised `failure`."""
        recorder = self._recorder
        try:
            if report.outcome == "skipped" or hasattr(report, "wasxfail"):
                self._expected(attempt, report)
            elif report.outcome in {"failed", "rerun"}:  # pytest-rerunfailures renames what it hides
                self._failed(attempt, report, failure, signature)
            if recorder.is_child and report.when == "teardown":
                recorder.finish()
        except Exception as error:
            recorder.note(error)

    def correlate(self, report: pytest.TestReport) -> None:
        """Take from a finished report what nothing earlier tells."""
        recorder = self._recorder
        attempt = recorder.attempt
        if attempt is None:
            return
        outcome: str = report.outcome
        attempt.to_rerun = attempt.to_rerun or outcome == "rerun"
        if hasattr(report, "context"):
            recorder.guard(self._subtest, attempt, report)
        elif attempt.pending is not None and report.when in attempt.pending:
            self.reconcile(attempt, report, *attempt.pending.pop(report.when))
        elif report.when not in SIMPLE_PHASES and report.failed and report.nodeid == attempt.item.nodeid:
            recorder.guard(self._crashed_child, attempt, report)

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
        attempt.reason = self._recorder.redactor(bounded(str(reason), 1_000))

    def _failed(self, attempt: Attempt, report: pytest.TestReport, failure: Failure | None, signature: str) -> None:
        recorder = self._recorder
        recorder.red = True
        if failure is None:  # nothing was raised: pytest or a plugin decided
            message = recorder.redactor(bounded(report.longreprtext))
            if _FAILED_SUBTESTS.search(message):  # adds nothing to the subtests
                attempt.outcome, attempt.reason = "failed", message
                return
            kind = "XPassStrict" if "XPASS(strict)" in message else "Failed"
            failure = Failure(phase="call", errors=(Error(type=kind, message=message),))
        if not attempt.failures:
            attempt.outcome = "timeout" if failure.errors and is_timeout(failure) else SIMPLE_PHASES[report.when or "call"]
        attempt.failures = (*attempt.failures, failure)
        attempt.sections = self._sections(report)
        attempt.last_call = failure
        if signature:
            setattr(report, SIGNATURE_ATTRIBUTE, signature)  # a plain str: nothing else survives xdist
            attempt.signatures = (*attempt.signatures, signature)
            recorder.exemplars.rendered(signature, attempt.nodeid)

    def _sections(self, report: pytest.TestReport) -> tuple[tuple[str, str], ...]:
        redactor = self._recorder.redactor
        return tuple((name, redactor(bounded(content, MAX_SECTION))) for name, content in report.sections if content)

    def _subtest(self, attempt: Attempt, report: Any) -> None:
        recorder = self._recorder
        failure = attempt.last_call
        if report.failed and attempt.failures and attempt.failures[-1] is failure:
            attempt.failures = attempt.failures[:-1]
        if not attempt.failures:
            attempt.outcome, attempt.sections, attempt.reason = "passed", (), ""
        attempt.last_call = None
        if report.failed and _SUBTESTS_FAIL_TESTS and type(attempt.item) is pytest.Function:
            attempt.failed_subtests += 1
        outcome: Outcome = "failed" if report.failed else "skipped" if report.skipped else "passed"
        recorder.writer.write(
            Trace(
                id=recorder.next_id(),
                nodeid=attempt.nodeid,
                outcome=outcome,
                start=report.start,
                phases={"call": round(report.duration, 6)},
                attempt=attempt.number,
                subtest=recorder.redactor(bounded(describe_subtest(report.context), 500)) or "(<subtest>)",
                failure=failure if report.failed else None,
                sections=self._sections(report) if report.failed else (),
            )
        )

    def _crashed_child(self, attempt: Attempt, report: pytest.TestReport) -> None:
        recorder = self._recorder
        recorder.red = True
        attempt.outcome = "crashed"
        attempt.sections = self._sections(report)
        attempt.failures = (crash(recorder.redactor(bounded(report.longreprtext))),)
        if recorder.writer.holds(attempt.trace):  # the child finished its test, and died after that
            attempt.trace += ".child"
            attempt.subtest = "(forked child)"


def describe_subtest(context: Any) -> str:
    """Return what pytest prints for a subtest: `[message] (i=1)`."""
    parts = [f"[{context.msg}]"] if context.msg is not None else []
    if context.kwargs:
        parts.append("(" + ", ".join(f"{key}={value}" for key, value in dict(context.kwargs).items()) + ")")
    return " ".join(parts) or "(<subtest>)"
