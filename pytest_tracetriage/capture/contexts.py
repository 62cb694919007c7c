"""The contexts that coverage files lines under: one an attempt, and one each time a wider fixture is set up.

What belongs to a test: setup, call and teardown with its fixtures of function scope. The code of a fixture of wider scope runs
within the first test that needs it and within the last; were it credited there, a fault in it would seem to concern these two,
while in truth every test that uses the fixture rests on it. So it has a context of its own, which counts for all of them.

Contexts are the ids of traces, so no node id is written here, and what a process has recorded is worth as much after its death.
"""

from __future__ import annotations

import os
import time
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

    from coverage import Coverage, CoverageData

    from pytest_tracetriage.capture.recorder import Recorder

USES_SUFFIX = ".uses"
DATA_SUFFIX = ".lines"
EVERY = 10.0
"""Seconds after which what is in memory goes to disk: more than that does not die with a process."""


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
