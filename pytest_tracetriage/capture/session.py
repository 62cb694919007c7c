"""The life of a run in its main process: the run's folder, xdist's workers and their deaths, the end."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from pytest_tracetriage.capture.context import group_of, observe
from pytest_tracetriage.capture.exceptions import bounded
from pytest_tracetriage.capture.exemplars import reader_of_tracebacks
from pytest_tracetriage.capture.failures import crash
from pytest_tracetriage.model.run import RUN_SCHEMA, Run, RunStatus, Worker
from pytest_tracetriage.model.trace import Trace
from pytest_tracetriage.store import runs
from pytest_tracetriage.store.writer import SLOT_SUFFIX, read_slot, was_finished

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pytest_tracetriage.capture.recorder import Recorder
    from pytest_tracetriage.config import Settings
    from pytest_tracetriage.model.analysis import Analysis
    from pytest_tracetriage.model.run import Figure, Spent, Totals
    from pytest_tracetriage.redact import Redactor

WORKER_INPUT = "tracetriage"
_WORKER_CRASH = "crashed while running"


@dataclass(frozen=True)
class Accounted:
    """What a finished run has logged and spent, and its analysis with it. `note` says why nothing has a price."""

    analysis: Analysis | None
    metrics: dict[str, Figure]
    spent: tuple[Spent, ...] = ()
    note: str = ""
    trouble: str = ""


class RunSession:
    """Hooks of the process that owns the run.

    `analyse` turns the finished run's folder into totals and an analysis; `remember` adds it to the history, where the settings
    say so, and returns what went wrong; `account` adds what the run has spent and logged; `tell` is given the finished run.
    """

    def __init__(
        self,
        config: pytest.Config,
        settings: Settings,
        redactor: Redactor,
        run_folder: Path,
        recorder: Recorder,
        analyse: Callable[[Path], tuple[Totals, Analysis | None]],
        remember: Callable[[Path], str] | None = None,
        account: Callable[[Path, Totals, Analysis | None], Accounted] | None = None,
        tell: Callable[[Run], None] | None = None,
    ) -> None:
        self.recorder = recorder
        self.analysis: Analysis | None = None
        self.totals: Totals | None = None
        self.accounted: Accounted | None = None
        self.trouble = ""
        self.run_folder = run_folder
        self._config = config
        self._settings = settings
        self._redactor = redactor
        self._analyse = analyse
        self._remember = remember
        self._account = account
        self._tell = tell
        self._workers: dict[str, Worker] = {}
        self._crashed = 0
        self._run = Run(schema=RUN_SCHEMA, id=run_folder.name, status="running", started=time.time())

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionstart(self) -> None:
        """Write `run.json`: a run that is killed must still be known."""
        try:
            context = observe(self._settings.rootdir, os.environ, pytest.__version__, self._settings.leg)
            self._run = msgspec.structs.replace(
                self._run,
                context=context,
                group=group_of(context.ci),
                rootdir=str(self._settings.rootdir),
                args=tuple(self._redactor(str(arg)) for arg in self._config.invocation_params.args),
                pid=os.getpid(),
                host=runs.host(),
            )
            self._run = self._redactor.struct(self._run, Run)
            runs.write_run(self.run_folder, self._run)
            runs.forget_runs(self._settings.folder, self._settings.keep_runs, self.run_folder.name)
        except Exception as error:
            self._note(error)

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        """Hand the run down to an xdist worker."""
        node.workerinput[WORKER_INPUT] = {
            "run_folder": str(self.run_folder),
            "all": bool(reader_of_tracebacks(self._config)) and self._settings.traceback == "auto",
        }
        self._workers.setdefault(node.gateway.id, Worker(name=node.gateway.id))

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any, error: object) -> None:
        """Record why a worker died, and which test it was running."""
        if not error:
            return
        try:
            name = node.gateway.id
            died = _why_died(node) or str(error)
            slot_path = self.run_folder / "traces" / f"{name}{SLOT_SUFFIX}"
            slot = read_slot(slot_path)
            # The slot keeps the name of a test that was finished until the next one begins.
            if slot is not None and not was_finished(slot_path.with_suffix(".jsonl"), slot.id):
                self._crashed += 1
                self.recorder.writer.write(
                    Trace(
                        id=f"main.x{self._crashed}",
                        nodeid=slot.nodeid,
                        outcome="crashed",
                        start=slot.start,
                        failure=crash(f"the worker was {died} while this test ran"),
                        reason=f"worker {name} died: {died}",
                    )
                )
            else:
                slot = None
            self._workers[name] = Worker(name=name, died=died, nodeid=slot.nodeid if slot is not None else "")
            slot_path.unlink(missing_ok=True)
        except Exception as exc:
            self._note(exc)

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        """Close the records, analyse them, write the end."""
        self.recorder.close()
        status: RunStatus = "interrupted" if int(exitstatus) == int(pytest.ExitCode.INTERRUPTED) else "finished"
        try:
            self.totals, self.analysis = self._analyse(self.run_folder)
            self._take_account(self.totals)
            for problem in self.analysis.problems if self.analysis is not None else ():
                self.trouble = self.trouble or f"{problem.file}: {problem.message}"
            trouble = self.warning()
            self._run = msgspec.structs.replace(
                self._run,
                status=status,
                finished=time.time(),
                exit_status=int(exitstatus),
                totals=self.totals,
                metrics=self.accounted.metrics if self.accounted is not None else {},
                spent=self.accounted.spent if self.accounted is not None else (),
                workers=tuple(self._workers[name] for name in sorted(self._workers)),
                problems=(trouble,) if trouble else (),
            )
            runs.write_run(self.run_folder, self._redactor.struct(self._run, Run))
            if self.analysis is not None:
                runs.write_analysis(self.run_folder, self.analysis)
            if self._tell is not None:
                self._tell(self._run)
            if self._remember is not None:
                self.trouble = self.trouble or self._remember(self.run_folder)
        except Exception as error:
            self._note(error)
        if self.analysis is not None:
            try:
                self._config.hook.pytest_tracetriage_notify(analysis=self.analysis)
            except Exception as error:
                self.trouble = self.trouble or f"pytest_tracetriage_notify raised {type(error).__name__}: {error}"

    def _take_account(self, totals: Totals) -> None:
        if self._account is None:
            return
        try:
            self.accounted = self._account(self.run_folder, totals, self.analysis)
            self.analysis = self.accounted.analysis
            self.trouble = self.trouble or self.accounted.trouble
        except Exception as error:
            self._note(error)

    def warning(self) -> str:
        """Return the one line that says what went wrong inside TraceTriage, "" when nothing did."""
        writer = self.recorder.writer
        lost = f"{writer.broken} ({writer.lost} records lost)" if writer.lost else ""
        return lost or self.trouble or self.recorder.trouble

    def _note(self, error: Exception) -> None:
        self.trouble = self.trouble or bounded(f"{type(error).__name__}: {error}", 500)


def _why_died(node: Any) -> str:
    """Return how a worker's process ended, in words, "" when that cannot be known (a remote one)."""
    process = getattr(getattr(node.gateway, "_io", None), "popen", None)
    if process is None:
        return ""
    try:
        code = process.wait(timeout=2)
    except Exception:
        return ""
    if code < 0:
        try:
            return f"killed by {signal.Signals(-code).name}"
        except ValueError:
            return f"killed by signal {-code}"
    return f"ended with exit status {code}"
