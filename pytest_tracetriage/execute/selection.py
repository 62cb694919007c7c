"""Which tests run, and in what order: exactly those of a list of node ids, or many lists from one collected session.

Node ids are compared redacted on both sides, since a list that TraceTriage wrote holds no secrets. Each of several lists is a
forked child that nothing ran in before. Fixtures of a session are set up in the child, since it is forked before any was. A
child that dies takes nobody with it.
"""

from __future__ import annotations

import copy
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
    from collections.abc import Callable, Iterable


ENDS = "orders.jsonl"
SHOWN = 10
_PAUSES = (0.0005, 0.02)


class Selection:
    """Deselects every item that is not among `wanted`.

    Those are node ids; a file or class stands for all in it, a test without parameters for all its parametrizations.
    """

    def __init__(
        self,
        wanted: Iterable[str],
        redact: Callable[[str], str],
        origin: str,
        name_of: Callable[[pytest.Item], str],
    ) -> None:
        self._wanted = {redact(nodeid.strip()) for nodeid in wanted if nodeid.strip() and not nodeid.startswith("#")}
        self.missing: list[str] = []
        """What was asked for and not collected."""
        self._redact = redact
        self._name_of = name_of
        self._origin = origin
        self._found: dict[str, list[pytest.Item]] = {}
        self._ambiguous: list[str] = []

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        """Keep the selected items in their order."""
        keep, drop = [], []
        self._found = {}
        for item in items:
            match = self._match(self._name_of(item), _group(item))
            if match is None:
                drop.append(item)
            else:
                keep.append(item)
                self._found.setdefault(match, []).append(item)
        self.missing = sorted(self._wanted - self._found.keys())
        several = {wanted for wanted, found in self._found.items() if len({item.nodeid for item in found}) > 1}
        self._ambiguous = sorted(wanted for wanted in several if "[redacted " in wanted)
        if drop:
            config.hook.pytest_deselected(items=drop)
            items[:] = keep

    def items_of(self, nodeid: str) -> list[pytest.Item]:
        """Return the collected items that a node id of the list stands for."""
        return self._found.get(self._redact(nodeid.strip()), [])

    def in_order(self, nodeids: Iterable[str]) -> list[pytest.Item]:
        """Return the items of a list, one after the other; one that comes again is another item, with its own fixtures."""
        items: list[pytest.Item] = []
        seen: set[pytest.Item] = set()
        for nodeid in nodeids:
            found = self.items_of(nodeid)
            items += [_another(item) if item in seen else item for item in found]
            seen.update(found)
        return items

    def _match(self, redacted: str, group: str) -> str | None:
        plain = redacted.removesuffix(group)
        for name in (redacted, plain, plain + group):
            if name in self._wanted:
                return name
        parts = plain.split("[", maxsplit=1)[0].split("::")
        for length in range(len(parts), 0, -1):
            above = "::".join(parts[:length])
            if above in self._wanted:
                return above
        return None

    def pytest_report_collectionfinish(self) -> list[str]:
        """Say what could not be selected."""
        lines = [f"tracetriage: {len(self._wanted)} selected by {self._origin}"]
        if self.missing:
            names = ", ".join(self.missing[:SHOWN]) + (" ..." if len(self.missing) > SHOWN else "")
            lines.append(f"tracetriage: {len(self.missing)} of them are not in this collection: {names}")
        if self._ambiguous:
            names = ", ".join(self._ambiguous[:SHOWN])
            lines.append(f"tracetriage: ambiguous since redacted, all that match are run: {names}")
        return lines


def _another(item: pytest.Item) -> pytest.Item:
    again = copy.copy(item)
    if hasattr(again, "_initrequest"):
        again._initrequest()  # noqa: SLF001 - as pytest's own runner does for an item that runs again
    return again


def _group(item: pytest.Item) -> str:
    """Return what `--dist=loadgroup` appends to the node id, "" for no group.

    Before pytest 9.2 the ids of such a run have it, those of other runs have not.
    """
    marks = item.iter_markers("xdist_group")
    names = {str(mark.args[0] if mark.args else mark.kwargs.get("name", "default")) for mark in marks}
    return f"@{'_'.join(sorted(names))}" if names else ""


def read_selection(path: Path) -> list[str]:
    """Return the node ids of a file, one a line; `#` begins a comment. Raises OSError, UnicodeDecodeError."""
    with path.open(encoding="utf-8-sig") as file:
        return [line.rstrip("\r\n") for line in file]


# -- orders ---------------------------------------------------------------------------------------------------------------


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
