"""Sees the project come to use weave, an SDK that weave patches or OpenTelemetry; connects weave where there is no account.

One more finder on `sys.meta_path`, which finds nothing itself: it costs a look into a set for each module that is imported
for the first time, and nothing for a test. What weave sees goes to this process's own records, and nowhere else.
"""

from __future__ import annotations

import sys
from contextlib import AbstractContextManager, nullcontext
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from pytest_tracetriage.capture.spans.weave_adapter import QUIET, SDKS, environment

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType

    from pytest_tracetriage.capture.spans.weave_adapter import Weave
    from pytest_tracetriage.capture.spans.weave_server import LocalServer


class LocalWeave:
    """Connects weave when the project comes to use it. `problem` says in words why it could not be."""

    def __init__(self, components: tuple[str, ...]) -> None:
        self.problem = ""
        self._components = components
        self._watch = ImportWatch(SDKS, self._seen, self._trouble, _quiet)
        self._weave: Weave | None = None
        self._server: LocalServer | None = None

    def start(self) -> None:
        """Wait for the project to import weave, or an SDK that weave patches."""
        self._watch.start()

    def _seen(self, _module: Any) -> None:
        """Connect where weave can be: an SDK that it patches is no sign that it is installed."""
        try:
            installed = sys.modules.get("weave") is not None or find_spec("weave") is not None
        except (ImportError, ValueError):
            installed = False
        if installed:
            self.connect()

    def connect(self) -> None:
        """Import weave and take its calls. Never raises."""
        from pytest_tracetriage.capture.spans import weave_adapter  # noqa: PLC0415
        from pytest_tracetriage.capture.spans.weave_calls import Naming  # noqa: PLC0415
        from pytest_tracetriage.capture.spans.weave_server import LocalServer  # noqa: PLC0415

        try:
            weave = weave_adapter.Weave()
            self._server = LocalServer(Naming(self._components), weave.current_call)
            self._weave = weave
            weave.connect_local(self._server)
        except Exception as error:
            module = sys.modules.get("weave")
            if hasattr(module, "__path__"):  # else it is a module of the project that has the same name
                version = str(getattr(module, "__version__", "unknown"))
                claimed = ", ".join(weave_adapter.CLAIMED)
                known = "" if version.startswith(weave_adapter.CLAIMED) else f" ({version}; known are {claimed})"
                self.problem = f"no spans from weave{known}: {type(error).__name__}: {error}"
            self.stop()

    def stop(self) -> None:
        """Write the calls that are still open and let go of weave. Never raises."""
        self._watch.stop()
        weave, self._weave = self._weave, None
        try:
            if self._server is not None:
                self._server.close()
            if weave is not None:
                weave.disconnect()
        except Exception as error:
            self._trouble(error)

    def _trouble(self, error: Exception) -> None:
        self.problem = self.problem or f"weave: {type(error).__name__}: {error}"


def _quiet(name: str) -> AbstractContextManager[None]:
    """Weave reads once, when it is imported, whether it may report errors."""
    return environment(QUIET) if name == "weave" else nullcontext()


def _as_it_is(_name: str) -> AbstractContextManager[None]:
    return nullcontext()


class ImportWatch:
    """Calls `seen` with a module, once, as soon as the first of `names` is imported; at once where one already is.

    `during(name)` is entered while one of them is imported. What `seen` raises goes to `trouble`.
    """

    def __init__(
        self,
        names: frozenset[str],
        seen: Callable[[Any], None],
        trouble: Callable[[Exception], None],
        during: Callable[[str], AbstractContextManager[None]] = _as_it_is,
    ) -> None:
        self._names = names
        self._seen = seen
        self._trouble = trouble
        self._during = during
        self._done = False

    def start(self) -> None:
        """Look, or wait."""
        module = next((module for name in self._names if (module := sys.modules.get(name)) is not None), None)
        if module is not None:
            self._tell(module)
        else:
            sys.meta_path.insert(0, self)

    def stop(self) -> None:
        """Wait no longer."""
        self._done = True
        if self in sys.meta_path:
            sys.meta_path.remove(self)

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        """Let the other finders find the module, and notice the end of its import. None for every other module."""
        if name not in self._names or self._done:
            return None
        for finder in sys.meta_path:
            find = getattr(finder, "find_spec", None)
            spec: ModuleSpec | None = find(name, path, target) if finder is not self and find is not None else None
            if spec is not None:
                self._notice(name, spec.loader)
                return spec
        return None

    def _notice(self, name: str, loader: Any) -> None:
        # The loader stays the module's own, which resources and tracebacks ask; only its one call is seen.
        run = getattr(loader, "exec_module", None)
        if run is None or isinstance(loader, type):  # a class loads other modules too
            return

        def exec_module(module: ModuleType) -> None:
            if module.__name__ != name:  # a loader of several modules, of which this one was only looked for
                run(module)
                return
            loader.__dict__.pop("exec_module", None)
            with self._during(name):
                run(module)
            self._tell(module)

        try:
            loader.exec_module = exec_module
        except AttributeError:  # a loader with slots: looked at when the next of the names comes
            return

    def _tell(self, module: Any) -> None:
        if self._done:
            return
        self.stop()
        try:
            self._seen(module)
        except Exception as error:
            self._trouble(error)
