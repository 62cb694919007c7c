"""Fixtures: how long each one's setup took, and which one raised."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest

from pytest_tracetriage.capture.failures import FIXTURE_MARK
from pytest_tracetriage.model.trace import Use

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Sequence

    from pytest_tracetriage.capture.recorder import Recorder


MAX_USES = 200
"""Fixtures of which it is told who uses them."""


class FixtureWatch:
    """Hooks of fixtures. `name_of` gives the node id under which a test is recorded."""

    def __init__(self, recorder: Recorder, name_of: Callable[[pytest.Item], str]) -> None:
        self._recorder = recorder
        self._name_of = name_of

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

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Tell of a red run which tests share a fixture. A green one, and a passing test, pay nothing for it."""
        if self._recorder.red:
            self._recorder.guard(self._tell_uses, getattr(session, "items", ()))

    def _tell_uses(self, items: Sequence[pytest.Item]) -> None:
        used: dict[tuple[str, str], list[pytest.Item]] = {}
        for item in items:
            for named in _shared_fixtures(item):
                used.setdefault(named, []).append(item)
        names: dict[pytest.Item, str] = {}
        told = sorted(named for named, users in used.items() if len(users) < len(items))
        for fixture, scope in told[:MAX_USES]:
            users = used[fixture, scope]
            tests = tuple(names.setdefault(item, names.get(item) or self._name_of(item)) for item in users)
            self._recorder.writer.write(Use(fixture, scope, tests))

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


def _shared_fixtures(item: pytest.Item) -> Iterator[tuple[str, str]]:
    """Yield (name, scope) of the fixtures of a test that live longer than it, without pytest's own."""
    info = getattr(item, "_fixtureinfo", None)
    for name in getattr(item, "fixturenames", ()):
        definitions = getattr(info, "name2fixturedefs", {}).get(name)
        if definitions:
            scope, module = definitions[-1].scope, getattr(definitions[-1].func, "__module__", "") or ""
            if scope != "function" and not module.startswith("_pytest."):
                yield name, scope
