"""Sees when the project under test imports weave, or an SDK that weave patches.

One more finder on `sys.meta_path`: it costs a look into a set for each module that is imported for the first time, and
nothing for a test. It finds nothing itself.
"""

from __future__ import annotations

import sys
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from pytest_tracetriage.capture.spans.weave_adapter import QUIET, SDKS, environment

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType


class ImportWatch:
    """Calls `seen` once: when one of the SDKs has been imported and weave can be."""

    def __init__(self, seen: Callable[[], None]) -> None:
        self._seen = seen
        self._done = False

    def start(self) -> None:
        """Look at what is imported already, else watch."""
        if any(sys.modules.get(name) is not None for name in SDKS):
            self._report()
        else:
            sys.meta_path.insert(0, self)

    def stop(self) -> None:
        """Watch no longer."""
        self._done = True
        if self in sys.meta_path:
            sys.meta_path.remove(self)

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        """Let the other finders find an SDK, and see to it that its end is noticed. None for every other module."""
        if name not in SDKS or self._done:
            return None
        for finder in sys.meta_path:
            if finder is not self and (find := getattr(finder, "find_spec", None)) is not None:
                spec: ModuleSpec | None = find(name, path, target)
                if spec is not None:
                    self._notice(name, spec)
                    return spec
        return None

    def _notice(self, name: str, spec: ModuleSpec) -> None:
        # The loader stays the module's own, which resources and tracebacks ask; only its one call is seen.
        loader: Any = spec.loader
        run = getattr(loader, "exec_module", None)
        if run is None:
            return

        def exec_module(module: ModuleType) -> None:
            try:
                del loader.exec_module
            except AttributeError:
                pass
            if name == "weave":
                with environment(QUIET):
                    run(module)
            else:
                run(module)
            self._report()

        try:
            loader.exec_module = exec_module
        except AttributeError:  # a loader with slots, or one that is a class: looked at when the next SDK comes
            pass

    def _report(self) -> None:
        if self._done:
            return
        self.stop()
        try:
            installed = sys.modules.get("weave") is not None or find_spec("weave") is not None
        except (ImportError, ValueError):
            installed = False
        if installed:
            self._seen()
