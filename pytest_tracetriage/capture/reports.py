"""How the recorder sees the phases of a test: lightly while tests simply pass, fully once something else comes up.

A hook that wraps `makereport` costs three generators a test. A test that raises nothing needs none of them: its phases and
durations are known before pytest makes a report.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from pytest_tracetriage.capture.exemplars import HARMLESS
from pytest_tracetriage.capture.failures import excinfo_of
from pytest_tracetriage.capture.verdicts import Verdicts

if TYPE_CHECKING:
    from collections.abc import Generator

    from pytest_tracetriage.capture.recorder import Recorder


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
