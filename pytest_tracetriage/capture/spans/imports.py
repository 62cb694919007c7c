"""Tells when the project under test has imported a module, without importing it."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType


class ImportNotice:
    """Calls `seen` with a module, once, as soon as it is imported; at once where it is already.

    Until then one more finder stands on `sys.meta_path`, which finds nothing itself. What `seen` raises goes to `trouble`.
    """

    def __init__(self, name: str, seen: Callable[[Any], None], trouble: Callable[[Exception], None]) -> None:
        self._name = name
        self._seen = seen
        self._trouble = trouble

    def start(self) -> None:
        """Look, or wait."""
        module = sys.modules.get(self._name)
        if module is not None:
            self._tell(module)
        else:
            sys.meta_path.insert(0, self)

    def stop(self) -> None:
        """Wait no longer."""
        if self in sys.meta_path:
            sys.meta_path.remove(self)

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        """Let the other finders find the module, and notice the end of its import. None for every other module."""
        if name != self._name:
            return None
        for finder in sys.meta_path:
            find = getattr(finder, "find_spec", None)
            spec: ModuleSpec | None = find(name, path, target) if finder is not self and find is not None else None
            if spec is not None:
                self._notice(spec.loader)
                return spec
        return None

    def _notice(self, loader: Any) -> None:
        # The loader stays the module's own, which resources and tracebacks ask; only its one call is seen.
        run = getattr(loader, "exec_module", None)
        if run is None:
            return

        def exec_module(module: ModuleType) -> None:
            run(module)
            if module.__name__ == self._name:
                loader.__dict__.pop("exec_module", None)
                self.stop()
                self._tell(module)

        try:
            loader.exec_module = exec_module
        except AttributeError:  # a loader that takes no attributes: the module goes unnoticed
            return

    def _tell(self, module: Any) -> None:
        try:
            self._seen(module)
        except Exception as error:
            self._trouble(error)
