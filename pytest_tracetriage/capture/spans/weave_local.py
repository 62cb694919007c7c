"""Weave without an account: what the project's ops and SDKs do goes to this process's own records, and nowhere else."""

from __future__ import annotations

import sys
from contextlib import AbstractContextManager, nullcontext
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from pytest_tracetriage.capture.spans.imports import ImportWatch
from pytest_tracetriage.capture.spans.weave_adapter import QUIET, SDKS, environment

if TYPE_CHECKING:
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
