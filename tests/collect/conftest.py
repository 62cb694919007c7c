from __future__ import annotations

import io
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
from failing_suite import FILES, run, write

from pytest_tracetriage.collect.formats import open_source
from pytest_tracetriage.model.analysis import Problem
from pytest_tracetriage.model.trace import Trace

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_tracetriage.collect.formats import Format

STYLES = ("auto", "long", "short", "native", "line")


class Endless(io.RawIOBase):
    """A stream of parts, made while it is read: bytes, or how many bytes of a line there are."""

    def __init__(self, *parts):
        self._parts = list(parts)

    def readable(self):
        return True

    def read(self, wanted=-1):
        if not self._parts:
            return b""
        head = self._parts[0]
        if isinstance(head, bytes):
            return self._parts.pop(0)
        amount = min(wanted, head)
        self._parts[0] -= amount
        if not self._parts[0]:
            self._parts.pop(0)
        return b"x" * amount


def read(format_: Format, source: Path | bytes) -> tuple[list[Trace], list[Problem]]:
    """Return the traces and the problems of a file or of its bytes."""
    with io.BytesIO(source) if isinstance(source, bytes) else open_source(source) as file:
        items = list(format_.read(file, "a-file"))
    return [i for i in items if isinstance(i, Trace)], [i for i in items if isinstance(i, Problem)]


@pytest.fixture(scope="session")
def suites(tmp_path_factory):
    """Return a function from a traceback style to the folder of a finished run in that style."""
    folders = {style: tmp_path_factory.mktemp(f"suite_{style}") for style in STYLES}

    def finish(style: str) -> str:
        write(folders[style], FILES)
        options = ["--doctest-modules", "--doctest-glob=*.txt", "--continue-on-collection-errors"]
        if style == "long":
            options += ["-vv", "--showlocals", "--color=yes", "-o", "junit_family=xunit1", "-o", "junit_logging=all"]
        return run(folders[style], f"--tb={style}", *options)

    with ThreadPoolExecutor() as pool:
        for printed in pool.map(finish, STYLES):
            assert "26 failed" in printed or "25 failed" in printed, printed
    return folders.__getitem__
