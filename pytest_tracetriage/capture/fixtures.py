"""Fixtures: how long each one's setup took, and which one raised."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest

from pytest_tracetriage.capture.failures import FIXTURE_MARK

if TYPE_CHECKING:
    from collections.abc import Generator

    from pytest_tracetriage.capture.recorder import Recorder


class FixtureWatch:
    """Hooks of fixtures."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef: Any, request: Any) -> Generator[None, object, object]:
        """Time a fixture, and mark what it raised: a cached exception comes back without this hook."""
        __tracebackhide__ = True
        recorder = self._recorder
        if fixturedef.argname == "subtests":
            recorder.watch_reports()
        begin = time.perf_counter()
        try:
            return (yield)
        except BaseException as exc:
            self._mark(exc, fixturedef)
            raise
        finally:
            attempt = recorder.attempt
            if attempt is not None:
                if attempt.fixtures is None:
                    attempt.fixtures = {}
                attempt.fixtures[fixturedef.argname] = round(time.perf_counter() - begin, 6)

    def _mark(self, exc: BaseException, fixturedef: Any) -> None:
        try:
            if not getattr(exc, FIXTURE_MARK, ""):
                code = getattr(fixturedef.func, "__code__", None)
                place = ""
                if code is not None:
                    place = f" ({self._recorder.project.locate(code.co_filename)[0]}:{code.co_firstlineno})"
                setattr(exc, FIXTURE_MARK, f"{fixturedef.argname}{place}")
        except Exception:
            return  # an exception with __slots__ takes no mark
