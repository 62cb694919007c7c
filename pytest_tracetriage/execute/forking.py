"""Many orders of tests from one collected session: each is a forked child that nothing ran in before.

Fixtures of a session are set up in the child, since it is forked before any was. A child that dies takes nobody with it.
"""

from __future__ import annotations

import gc
import os
import signal
import sys
import threading
import time
import traceback
import warnings
from contextlib import suppress
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import msgspec
import pytest

from pytest_tracetriage.model.execution import Again, OrderEnd

if TYPE_CHECKING:
    from collections.abc import Callable

ENDS = "orders.jsonl"
_PAUSES = (0.0005, 0.02)


class Orders:
    """Runs the orders in the place of pytest's own loop. `tell` writes what a process knows at its end."""

    def __init__(self, again: Again, tell: Callable[..., None]) -> None:
        self._again = again
        self._tell = tell
        self._running: dict[int, tuple[int, float]] = {}
        self._kill_with_parent = _death_signal()

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Fork a child an order, a few at a time; wait for all."""
        config = session.config
        selection: Any = config.pluginmanager.get_plugin("tracetriage-selection")
        self._warn_of_threads(config)
        _stop_capture(config)
        gc.collect()
        gc.freeze()  # so that no collection in a child touches, and thereby copies, what it shares with us
        waiting = [(number, selection.in_order(order)) for number, order in enumerate(self._again.orders)]
        waiting.reverse()
        try:
            while waiting or self._running:
                while waiting and len(self._running) < max(1, self._again.processes):
                    self._fork(session, *waiting.pop())
                self._wait_for_one()
        finally:
            for pid in self._running:
                _kill(pid)
        return True

    def _warn_of_threads(self, config: pytest.Config) -> None:
        names = sorted(thread.name for thread in threading.enumerate() if thread is not threading.main_thread())
        if names:
            told = ", ".join(names)[:200]
            self._tell("main", config, (f"threads ran when orders were forked, and do not run in them: {told}",))

    # -- in the parent -----------------------------------------------------------------------------------------------

    def _fork(self, session: pytest.Session, number: int, items: list[pytest.Item]) -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of threads: told already
            pid = os.fork()
        if pid == 0:
            self._child(session, number, items)
        self._running[pid] = (number, time.monotonic())

    def _wait_for_one(self) -> None:
        """Wait until one child has ended; end those that are late."""
        pause, longest = _PAUSES
        late: set[int] = set()
        while True:
            for pid, (number, start) in list(self._running.items()):
                ended, status, used = os.wait4(pid, os.WNOHANG)
                seconds = time.monotonic() - start
                if ended:
                    del self._running[pid]
                    died = self._late() if pid in late else _died(os.waitstatus_to_exitcode(status))
                    self._write(OrderEnd(number, died, seconds, used.ru_utime + used.ru_stime))
                    _kill_group(pid)  # what it left running
                    return
                if self._again.order_timeout and seconds > self._again.order_timeout:
                    late.add(pid)
                    _kill(pid)
            time.sleep(pause)
            pause = min(pause * 1.5, longest)

    def _late(self) -> str:
        return f"timed out after {self._again.order_timeout:g} s"

    def _write(self, end: OrderEnd) -> None:
        with (Path(self._again.notes) / ENDS).open("ab") as file:
            file.write(msgspec.json.encode(end) + b"\n")

    # -- in the child ------------------------------------------------------------------------------------------------

    def _child(self, session: pytest.Session, number: int, items: list[pytest.Item]) -> NoReturn:
        status = 3
        try:
            self._kill_with_parent()
            if sys.platform == "linux":  # elsewhere nobody would find a group of its own when we are killed
                os.setpgid(0, 0)
            self._running.clear()
            _start_capture(session.config)
            status = self._run(session, number, items)
            _keep_coverage(session.config)
            self._tell(f"o{number}", session.config)
        except BaseException:
            traceback.print_exc(file=sys.__stderr__)
        finally:
            try:
                sys.stdout.flush()
                sys.stderr.flush()
            finally:
                os._exit(status)  # no atexit, no sessionfinish: those are the parent's

    @staticmethod
    def _run(session: pytest.Session, number: int, items: list[pytest.Item]) -> int:
        hook = session.config.hook
        recorder: Any = session.config.pluginmanager.get_plugin("tracetriage-recorder")
        recorder.go_on(f"o{number}")
        try:
            for item, following in zip_longest(items, items[1:]):
                hook.pytest_runtest_protocol(item=item, nextitem=following)
        except (KeyboardInterrupt, pytest.exit.Exception):  # a test that ends the session ends its order
            hook.pytest_keyboard_interrupt(excinfo=pytest.ExceptionInfo.from_current())
        recorder.close()
        return 0


def _keep_coverage(config: pytest.Config) -> None:
    """Write what a child has run, where coverage is recorded: it ends without the hooks that would."""
    contexts: Any = config.pluginmanager.get_plugin("tracetriage-contexts")
    if contexts is not None:
        contexts.switch("")
        contexts.write()


def _stop_capture(config: pytest.Config) -> None:
    """Drop what was captured so far: the children would share its file."""
    capture: Any = config.pluginmanager.get_plugin("capturemanager")
    if capture is not None and capture.is_globally_capturing():
        capture.suspend_global_capture(in_=True)
        capture.read_global_capture()


def _start_capture(config: pytest.Config) -> None:
    """Capture into files of this process's own."""
    capture: Any = config.pluginmanager.get_plugin("capturemanager")
    if capture is not None and capture.is_globally_capturing():
        capture.stop_global_capturing()
        capture.start_global_capturing()
        capture.suspend_global_capture()


def _died(code: int) -> str:
    if code < 0:
        try:
            return f"killed by {signal.Signals(-code).name}"
        except ValueError:
            return f"killed by signal {-code}"
    return f"ended with exit status {code}" if code else ""


def _kill(pid: int) -> None:
    """Kill a child that was not waited for yet, with its group where it has one."""
    if not _kill_group(pid):
        with suppress(OSError):
            os.kill(pid, signal.SIGKILL)


def _kill_group(pid: int) -> bool:
    """Kill what is left of the group of a child; return whether there was one."""
    if sys.platform != "linux":
        return False
    try:
        os.killpg(pid, signal.SIGKILL)
    except OSError:
        return False
    return True


def _death_signal() -> Callable[[], object]:
    """Return what makes the system end this process when its parent ends; looked up before the fork."""
    if sys.platform == "linux":
        try:
            import ctypes  # noqa: PLC0415

            prctl = ctypes.CDLL(None).prctl
        except (ImportError, OSError, AttributeError):
            pass
        else:
            return lambda: prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
    return lambda: None
