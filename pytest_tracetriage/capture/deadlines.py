"""Timeouts that end the process (pytest-timeout's thread method): where the test stood is noted shortly before."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Generator

    from pytest_tracetriage.capture.recorder import Recorder

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
