"""Tells when the project under test has imported one of several modules, without importing any.

One more finder on `sys.meta_path`, which finds nothing itself: it costs a look into a set for each module that is imported
for the first time, and nothing for a test.
"""

from __future__ import annotations

import sys
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType


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
