"""Which lines each test runs, by coverage's C tracer: one context an attempt, and one each time a wider fixture is set up.

What belongs to a test: setup, call and teardown with its fixtures of function scope. The code of a fixture of wider scope runs
within the first test that needs it and within the last; were it credited there, a fault in it would seem to concern these two,
while in truth every test that uses the fixture rests on it. So it has a context of its own, which counts for all of them.

Contexts are the ids of traces, so no node id is written here, and what a process has recorded is worth as much after its death.
"""

from __future__ import annotations

import os
import re
import sqlite3
import sys
import time
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from coverage import Coverage, CoverageData

    from pytest_tracetriage.capture.recorder import Recorder

FOLDER = "coverage"
"""In a run's folder: what its processes record, until the end of the run makes a map of it."""
USES_SUFFIX = ".uses"
DATA_SUFFIX = ".lines"
BORROWED_SUFFIX = ".borrowed"
"""Recorded by another Coverage object, with node ids as contexts."""
EVERY = 10.0
"""Seconds after which what is in memory goes to disk: more than that does not die with a process."""
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


class Contexts:
    """Switches the context: at each attempt, and around the setup and teardown of fixtures of wider scope."""

    def __init__(self, coverage: Coverage, data: CoverageData | None, recorder: Recorder, path: Path) -> None:
        """Begin. `data` is None where the Coverage object is somebody else's; `path` is what names of files begin with."""
        self._coverage = coverage
        self._data = data
        self._recorder = recorder
        self._path = path
        self._context = ""
        self._fixtures: dict[Any, str] = {}
        """Of each fixture of wider scope, the context of its latest setup."""
        self._within: dict[str, set[str]] = {}
        """Of such a context, those of the fixtures that were set up on its behalf."""
        self._stack: list[tuple[Any, str]] = []
        self._count = 0
        self._files = 0
        self._due = time.monotonic() + EVERY
        self._uses = os.open(f"{path}{USES_SUFFIX}", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        """Begin the context of an attempt. One that is run again (pytest-rerunfailures) has no id yet: it follows another."""
        attempt = self._recorder.attempt
        if attempt is None:
            self._context = ""
        elif self._data is not None:
            self._context = f"{attempt.trace}+" if attempt.phases else attempt.trace
        else:
            self._context = f"{attempt.nodeid}|run"
        self.switch(self._context)
        if time.monotonic() > self._due:
            self.write()
            self._due = time.monotonic() + EVERY

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_teardown(self, item: pytest.Item) -> None:
        """Write which fixtures of wider scope the test has used: only now are those known that it asked for while it ran."""
        if not self._fixtures:
            return
        try:
            requested = getattr(getattr(item, "_request", None), "_fixture_defs", None) or {}
            used = {context for fixture in requested.values() if (context := self._fixtures.get(fixture))}
            if used:
                for context in tuple(used):
                    used |= self._within.get(context, set())
                os.write(self._uses, msgspec.json.encode((self._context, sorted(used))) + b"\n")
        except Exception as error:
            self._recorder.note(error)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_fixture_setup(self, fixturedef: Any) -> Generator[None, object, object]:
        """Give the setup of a fixture of wider scope a context of its own."""
        __tracebackhide__ = True
        if fixturedef.scope == "function":
            return (yield)
        self._count += 1
        context = f"{self._recorder.latest}.f{self._count}"
        for _, outer in self._stack:
            self._within.setdefault(outer, set()).add(context)
        self._fixtures[fixturedef] = context
        self._push(fixturedef, context)
        try:
            return (yield)
        finally:
            fixturedef.addfinalizer(partial(self._push, fixturedef, context))  # called before those of the fixture itself
            self._pop(fixturedef)

    def pytest_fixture_post_finalizer(self, fixturedef: Any) -> None:
        """Go back to the test, or to the fixture, within which another was torn down."""
        self._pop(fixturedef)

    def close(self) -> None:
        """Write what is not written yet."""
        self.switch("")
        self.write()
        os.close(self._uses)

    def write(self) -> None:
        """Move to disk what is in memory: what stays there dies with the process."""
        if self._data is None:
            return
        try:
            self._files += 1
            written = type(self._data)(f"{self._path}.{os.getpid()}.{self._files}{DATA_SUFFIX}")
            written.update(self._data)
            written.close(force=True)
            self._data.erase()
        except Exception as error:
            self._recorder.note(error)

    def switch(self, context: str) -> None:
        """Write what the present context has run, and begin another."""
        try:
            self._coverage.switch_context(context)
        except Exception as error:
            self._recorder.note(error)

    def _push(self, fixturedef: Any, context: str) -> None:
        self._stack.append((fixturedef, context))
        self.switch(context)

    def _pop(self, fixturedef: Any) -> None:
        if self._stack and self._stack[-1][0] is fixturedef:
            self._stack.pop()
            self.switch(self._stack[-1][1] if self._stack else self._context)


class ForkedContexts:
    """Keeps what a child that pytest-forked made has run: it ends without a word."""

    def __init__(self, contexts: Contexts, recorder: Recorder) -> None:
        self._contexts = contexts
        self._recorder = recorder

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_teardown(self) -> Generator[None, object, object]:
        """Write it after the teardown."""
        try:
            return (yield)
        finally:
            if self._recorder.is_child:
                self._contexts.switch("")
                self._contexts.write()


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
