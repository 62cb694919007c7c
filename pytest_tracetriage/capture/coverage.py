"""Which lines each test runs, by coverage's C tracer, or by the Coverage object of pytest-cov where that is active."""

from __future__ import annotations

import os
import re
import sqlite3
import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pytest_tracetriage.capture.contexts import Contexts, ForkedContexts

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from coverage import Coverage, CoverageData

    from pytest_tracetriage.capture.recorder import Recorder

FOLDER = "coverage"
"""In a run's folder: what its processes record, until the end of the run makes a map of it."""
BORROWED_SUFFIX = ".borrowed"
"""Recorded by another Coverage object, with node ids as contexts."""
INSTALL = "pip install 'pytest-tracetriage[coverage]'"
TROUBLE_SUFFIX = ".trouble"
"""Why a process has recorded nothing, in a line."""
CONTEXT = re.compile(
    r"(?:^|\|)(?:(?P<fixture>\w+\.\d+\.f\d+)|(?P<test>(?:(?!\|)[^\n])+?::.+)\|(?:setup|run|teardown))$", re.DOTALL
)
"""A context of a fixture or a test in what another Coverage object has recorded, a static one before it or not."""
_SILENT = (
    "trace-changed", "no-data-collected", "no-ctracer", "no-sysmon", "module-not-imported", "module-not-measured",
    "already-imported", "include-ignored", "couldnt-parse",
)  # fmt: skip
_TABLES = """
    CREATE TABLE file (id INTEGER PRIMARY KEY, path TEXT);
    CREATE TABLE context (id INTEGER PRIMARY KEY, context TEXT);
    CREATE TABLE line_bits (file_id INTEGER, context_id INTEGER, numbits BLOB);
    CREATE TABLE arc (file_id INTEGER, context_id INTEGER, fromno INTEGER, tono INTEGER);
"""


def why_impossible() -> str:
    """Return why coverage cannot be recorded in this process as it was started, and what to do; "" when it can."""
    try:
        import coverage  # noqa: F401, PLC0415
    except ImportError as error:
        return f"needs coverage, which cannot be imported ({error}): {INSTALL}"
    core = os.environ.get("COVERAGE_CORE", "")
    if core and core != "ctrace":
        return f"needs coverage's C tracer, but COVERAGE_CORE={core}: set COVERAGE_CORE=ctrace, or leave it unset"
    return ""


class CoverageWatch:
    """Hooks of a process that runs tests. Whatever goes wrong is told once, at the end, and never reaches a test."""

    def __init__(
        self, config: pytest.Config, recorder: Recorder, folder: Path, worker: str, redact: Callable[[str], str]
    ) -> None:
        self._config = config
        self._recorder = recorder
        self._redact = redact
        self._folder = folder
        self._worker = worker
        self._coverage: Coverage | None = None
        self._data: CoverageData | None = None
        """In memory: what no file holds yet of what our own Coverage object has recorded."""
        self._tests: Contexts | None = None

    @pytest.hookimpl(wrapper=True, trylast=True)
    def pytest_runtestloop(self) -> Generator[None, object, object]:
        """Record while tests run: what collection runs is no test's, and pytest-cov has begun by now and not ended yet."""
        try:
            self._start()
        except Exception as error:
            self._fail(error)
        try:
            return (yield)
        finally:
            try:
                self._stop()
            except Exception as error:
                self._fail(error)

    def _start(self) -> None:
        from coverage import Coverage  # noqa: PLC0415

        if self._config.pluginmanager.hasplugin("dsession"):
            return  # the workers record
        self._folder.mkdir(parents=True, exist_ok=True)
        current = Coverage.current()
        if current is not None:
            if trouble := _unfit(current):
                self._tell(trouble)
                return
            self._coverage = current
            if self._config.pluginmanager.hasplugin("_cov_contexts"):
                return
        elif sys.gettrace() is not None:
            self._tell("a debugger or another tracer is active")
            return
        else:
            self._coverage = self._begun(Coverage)
            if self._coverage is None:
                return
        self._tests = Contexts(self._coverage, self._data, self._recorder, self._folder / self._worker)
        self._config.pluginmanager.register(self._tests, "tracetriage-contexts")
        if self._config.pluginmanager.hasplugin("pytest_forked"):
            self._config.pluginmanager.register(ForkedContexts(self._tests, self._recorder))

    def _begun(self, kind: type[Coverage]) -> Coverage | None:
        from coverage.exceptions import ConfigError  # noqa: PLC0415

        # In memory, since coverage opens a file anew for each context, which costs as much as all the rest of it.
        coverage = kind(None, config_file=False, source=[str(self._config.rootpath)])
        coverage.set_option("run:disable_warnings", list(_SILENT))
        try:
            coverage.set_option("run:core", "ctrace")
        except ConfigError:  # before coverage 7.9 there was no other default
            pass
        if "greenlet" in sys.modules:  # its stacks would be taken for one
            coverage.set_option("run:concurrency", ["thread", "greenlet"])
        coverage.start()
        self._data = coverage.get_data()
        if _core(coverage) != "CTracer":
            coverage.stop()
            self._tell(f"coverage has no C tracer for this {sys.implementation.name}")
            return None
        return coverage

    def _stop(self) -> None:
        coverage, self._coverage = self._coverage, None
        if coverage is None:
            return
        if self._tests is not None:
            self._tests.close()
        if self._data is not None:
            coverage.stop()
            self._data.close(force=True)
        elif not self._recorder.is_child:
            # Whatever else it holds stays where it is: node ids may hold secrets.
            source = coverage.get_data().data_filename()
            if not source.startswith("file:"):  # as what lies in memory is called
                source = f"{Path(source).absolute().as_uri()}?mode=ro"
            _take(source, self._folder / f"{self._worker}{BORROWED_SUFFIX}", self._redact)

    def _fail(self, error: Exception) -> None:
        self._tell(f"{type(error).__name__}: {error}")

    def _tell(self, trouble: str) -> None:
        try:
            (self._folder / f"{self._worker}{TROUBLE_SUFFIX}").write_text(trouble, encoding="utf-8", errors="replace")
        except OSError:
            self._recorder.trouble = self._recorder.trouble or f"coverage was not recorded: {trouble}"


def _unfit(coverage: Coverage) -> str:
    """Return why a Coverage object of somebody else cannot tell tests apart, and what to do; "" when it can."""
    core = _core(coverage)
    if core != "CTracer":
        why = ", which credits each line to the first test only" if core == "SysMonitor" else ""
        return f"the coverage that is active uses {core}{why}: set COVERAGE_CORE=ctrace"
    if dynamic := coverage.get_option("run:dynamic_context"):
        return f"dynamic_context = {dynamic} gives no node ids: replace it by pytest-cov's --cov-context=test"
    return ""


def _core(coverage: Coverage) -> str:
    return next((str(value) for key, value in coverage.sys_info() if key == "core"), "")


def _take(source: str, target: Path, redact: Callable[[str], str]) -> None:
    """Copy what coverage has recorded of tests and fixtures, with redacted contexts. Raises sqlite3.Error."""
    with closing(sqlite3.connect(source, uri=True)) as theirs, closing(sqlite3.connect(target)) as ours, ours:
        ours.executescript(_TABLES)
        numbers: dict[int, int] = {}
        names: dict[str, int] = {}
        for number, context in theirs.execute("SELECT id, context FROM context"):
            if CONTEXT.search(context):
                numbers[number] = names.setdefault(redact(context), number)
        ours.executemany("INSERT INTO context VALUES (?, ?)", ((number, name) for name, number in names.items()))
        ours.executemany("INSERT INTO file VALUES (?, ?)", theirs.execute("SELECT id, path FROM file"))
        for table, marks in (("line_bits", "?, ?, ?"), ("arc", "?, ?, ?, ?")):
            rows = theirs.execute(f"SELECT * FROM {table}")  # noqa: S608
            wanted = ((file, numbers[context], *rest) for file, context, *rest in rows if context in numbers)
            ours.executemany(f"INSERT INTO {table} VALUES ({marks})", wanted)  # noqa: S608
