"""What is known of a test before its phases: node id, parameters and markers, its attempt, and the setups of its fixtures."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest

from pytest_tracetriage.capture.failures import FIXTURE_MARK
from pytest_tracetriage.model.trace import Marker, Use

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Sequence

    from pytest_tracetriage.capture.recorder import Recorder
    from pytest_tracetriage.model.trace import Failure, Outcome
    from pytest_tracetriage.redact import Redactor


_SIMPLE = (str, int, float, bool, bytes, type(None), complex)
_UNTOLD = frozenset({"parametrize"})  # its arguments are the parameters
MAX_VALUE = 200
_NOTHING: dict[str, str] = {}


class ItemFacts:
    """Facts of items. Markers of classes and modules are remembered, since all their tests share them."""

    def __init__(self, redactor: Redactor) -> None:
        self._redactor = redactor
        self._parent: object = None
        self._inherited: tuple[Marker, ...] = ()

    def names(self, item: pytest.Item) -> tuple[str, dict[str, str]]:
        """Return the redacted node id and the parameters; secret ones are learned first, since they stand in the id."""
        # (getattr, since looking into `__dict__` would slow down every later access to the item)
        callspec = getattr(item, "callspec", None)
        if callspec is None and type(item) is pytest.Function:
            # A path and an identifier: they can repeat a known secret, but not hold a token of its own.
            return self._redactor.known(item.nodeid), _NOTHING
        params = self._params(callspec)
        return self._redactor(item.nodeid) or ".", params

    def _params(self, callspec: Any) -> dict[str, str]:
        """Return the parameters by name; what is not a plain value is named by its type: its `repr` may do anything."""
        if callspec is None:
            return _NOTHING
        return self._redactor.parameters({name: plain(value) for name, value in callspec.params.items()})

    def markers(self, item: pytest.Item) -> tuple[Marker, ...]:
        """Return the markers, the nearest first."""
        parent = item.parent
        own = item.own_markers
        if not own and parent is self._parent:
            return self._inherited
        if parent is not self._parent:  # tests of one parent follow one another
            self._parent = parent
            chain = reversed(parent.listchain()) if parent is not None else ()
            self._inherited = self._describe([mark for node in chain for mark in node.own_markers])
        return (*self._describe(own), *self._inherited) if own else self._inherited

    def _describe(self, marks: list[Any]) -> tuple[Marker, ...]:
        return tuple(
            Marker(
                mark.name,
                tuple(self._redactor(plain(value)) for value in mark.args[:20]),
                self._redactor.parameters({str(key): plain(value) for key, value in list(mark.kwargs.items())[:20]}),
            )
            for mark in marks
            if mark.name not in _UNTOLD
        )


def plain(value: object, depth: int = 2) -> str:
    """Return a bounded `repr` of plain values and small containers of them, else `<TypeName>`."""
    if type(value) in _SIMPLE:
        return repr(value if not isinstance(value, str | bytes) else value[: MAX_VALUE + 1])[: MAX_VALUE + 2]
    if depth and type(value) in {tuple, list, set, frozenset} and len(value) <= 20:  # type: ignore[arg-type]
        return f"{type(value).__name__}({', '.join(plain(item, depth - 1) for item in value)})"[:MAX_VALUE]  # type: ignore[attr-defined]
    name = getattr(value, "__qualname__", None)
    if callable(value) and isinstance(name, str):
        return f"<{name}>"[:MAX_VALUE]
    return f"<{type(value).__qualname__}>"[:MAX_VALUE]


class Attempt:
    """What is known so far of the attempt that is running. Most tests never need more than the class's defaults."""

    outcome: Outcome = "passed"
    reason = ""
    failures: tuple[Failure, ...] = ()
    fixtures: dict[str, float] | None = None
    sections: tuple[tuple[str, str], ...] = ()
    signatures: tuple[str, ...] = ()
    last_call: Failure | None = None
    subtest = ""
    failed_subtests = 0
    to_rerun = False
    """Whether a plugin has hidden a report of it: another attempt follows."""
    pending: dict[str, tuple[Failure | None, str]] | None = None
    """Failure and signature by phase, of calls whose reports are still to come."""

    number = 1
    markers: tuple[Marker, ...] = ()
    params: dict[str, str] = {}  # noqa: RUF012 - never changed, only replaced

    def __init__(self, item: pytest.Item, trace: str, nodeid: str) -> None:
        self.item = item
        self.trace = trace
        self.nodeid = nodeid
        self.start = time.time()
        self.phases: dict[str, float] = {}
        self.own = len(item.own_markers)


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
