"""Weave without an account: what the project's ops and SDKs do goes to this process's own records, and nowhere else."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from pytest_tracetriage.capture.spans.watch import ImportWatch

if TYPE_CHECKING:
    from pytest_tracetriage.capture.spans.weave_adapter import Weave
    from pytest_tracetriage.capture.spans.weave_server import LocalServer


class LocalWeave:
    """Connects weave when the project comes to use it. `problem` says in words why it could not be."""

    def __init__(self, components: tuple[str, ...]) -> None:
        self.problem = ""
        self._components = components
        self._watch = ImportWatch(self.connect)
        self._weave: Weave | None = None
        self._server: LocalServer | None = None

    def start(self) -> None:
        """Wait for the project to import weave, or an SDK that weave patches."""
        self._watch.start()

    def connect(self) -> None:
        """Import weave and take its calls. Never raises."""
        from pytest_tracetriage.capture.spans import weave_adapter  # noqa: PLC0415
        from pytest_tracetriage.capture.spans.weave_calls import Naming  # noqa: PLC0415
        from pytest_tracetriage.capture.spans.weave_server import LocalServer  # noqa: PLC0415

        self._watch.stop()
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
            self.problem = self.problem or f"weave: {type(error).__name__}: {error}"
