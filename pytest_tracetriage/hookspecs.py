"""The extension points, as pluggy hooks.

Inside pytest they are implemented by plugins and conftest files; the `tracetriage` command finds them in the modules of
`[tool.tracetriage] plugins` and in entry points of the group `tracetriage`, never in a conftest.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pluggy import HookspecMarker

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pytest_tracetriage.collect.formats import Format
    from pytest_tracetriage.model.analysis import Analysis, Owner, Signature
    from pytest_tracetriage.model.trace import Failure

hookspec = HookspecMarker("pytest")


@hookspec
def pytest_tracetriage_formats() -> Iterable[Format]:  # type: ignore[empty-body]
    """Return formats of recorded tests that `tracetriage analyze` can read, tried in order before the built-in ones."""


@hookspec
def pytest_tracetriage_redact(text: str) -> str | None:
    """Return `text` with secrets of the project's own kind replaced, or None to leave it.

    Called after the built-in redaction with every text that is about to be written.
    """


@hookspec(firstresult=True)
def pytest_tracetriage_classify(failure: Failure) -> tuple[str, Owner, str] | None:
    """Return (category, owner, evidence) of a failure, or None to leave it to the next and to the built-in rules."""


@hookspec
def pytest_tracetriage_join(signatures: Sequence[Signature]) -> Iterable[tuple[str, str, str]]:  # type: ignore[empty-body]
    """Return (signature id, signature id, evidence) for signatures that share one root cause."""


@hookspec
def pytest_tracetriage_notify(analysis: Analysis) -> None:
    """Be told of a finished analysis. What is raised here becomes one warning line."""
