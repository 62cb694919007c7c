"""What the reports of pytest share in all formats: what they mean beyond failed or skipped, and where their files lie."""

from __future__ import annotations

import posixpath
import re
from typing import TYPE_CHECKING, Literal

from pytest_tracetriage.collect.bounds import MESSAGE, clip
from pytest_tracetriage.collect.printed import located
from pytest_tracetriage.model.trace import Error, Failure, FailurePhase, Outcome
from pytest_tracetriage.origin import Project

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pytest_tracetriage.model.trace import Error, Origin


class Places:
    """Learns a run's root folder, and the folder that pytest was started in, from files whose other name is known.

    pytest names the files of a traceback from where it was started, node ids from its root, and many places absolutely,
    on a machine that is not this one.
    """

    def __init__(self) -> None:
        self._project = Project(local=False)
        self._start = ""
        """The folder that pytest was started in, relative to the root."""

    def learn(self, test_file: str, files: Iterable[str]) -> None:
        """Take note of `files`, names as printed of which one may be `test_file`, named from the root."""
        if not test_file:
            return
        for number, printed in enumerate(files):
            file = printed.replace("\\", "/")
            if not _absolute(file):
                if number == 0 and _ends(test_file, file):
                    self._start = test_file[: -len(file)]
                elif number == 0 and file == test_file:
                    self._start = ""
            elif _ends(file, test_file):
                root = file[: -len(test_file) - 1]
                if root != self._project.root:
                    self._project = Project(root, local=False)
                return

    def learn_root(self, absolute: str, relative: str) -> None:
        """Take note of one file's absolute name and its name from where pytest was started."""
        file, name = absolute.replace("\\", "/"), relative.replace("\\", "/")
        if _absolute(name) or not _absolute(file) or not _ends(file, name):
            return
        start = file[: -len(name)]
        if start.endswith("/" + self._start) and start[: len(start) - len(self._start) - 1] != self._project.root:
            self._project = Project(start[: len(start) - len(self._start) - 1], local=False)

    def locate(self, file: str) -> tuple[str, Origin]:
        """Return the name of a file from the root, and its origin."""
        name = file.replace("\\", "/")
        if self._start and not _absolute(name) and not name.startswith("<"):
            name = posixpath.normpath(self._start + name)
        return self._project.locate(name)

    def settle(self, errors: Iterable[Error]) -> tuple[Error, ...]:
        """Return `errors` with the files of their frames named from the root."""
        return located(errors, self.locate)


def _absolute(file: str) -> bool:
    return file.startswith("/") or file[1:3] == ":/"


def _ends(file: str, tail: str) -> bool:
    return bool(tail) and file.endswith("/" + tail)


Red = Literal["failed", "error", "timeout", "crashed"]

_CRASHED = re.compile(r"worker '[^'\n]*' crashed while running ")
_TIMEOUT = re.compile(r"Timeout \(?>\s*[\d.]+\s*s?\)?")
_SUBTESTS = re.compile(r"contains \d+ failed subtests?\s*$")
TEXT_ONLY = (_CRASHED, _SUBTESTS)
"""What pytest and xdist say instead of an exception."""


def red_outcome(phase: FailurePhase, errors: Sequence[Error], text: str) -> Red:
    """Return the outcome of a failed report of one phase: what was raised, or, without that, the `text` printed."""
    if not errors and _CRASHED.match(text):
        return "crashed"
    if errors and errors[0].type.rpartition(".")[2] == "Failed" and _TIMEOUT.match(errors[0].message):
        return "timeout"
    return "failed" if phase == "call" else "error"


def failure_of(phase: FailurePhase, errors: Sequence[Error], text: str) -> Failure | None:
    """Return the failure of one report; its text is kept only where no exception could be had.

    `None` for a test that failed by its subtests alone: those have reports of their own.
    """
    if errors:
        return Failure(phase=phase, errors=tuple(errors))
    if not text.strip() or _SUBTESTS.match(text):
        return None
    return Failure(phase=phase, errors=(), text=clip(text, MESSAGE))


def reason_of(outcome: Outcome, text: str) -> str:
    """Return why a red test ended where no exception says so: the text printed."""
    return clip(text.strip(), MESSAGE) if outcome == "crashed" or _SUBTESTS.match(text) else ""
