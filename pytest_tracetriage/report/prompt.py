"""A cluster as a text to paste into a coding agent: cause, signature, evidence, files, test command, what is asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_tracetriage.report.templates import render
from pytest_tracetriage.report.terminal import pytest_command
from pytest_tracetriage.report.text import unit
from pytest_tracetriage.report.traceback import render_short

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_tracetriage.model.analysis import Cluster

MAX_TESTS = 30


def cluster_prompt(cluster: Cluster, name: str, overrides: Path | None = None) -> str:
    """Return the prompt for a cluster. What came from tests stands fenced, and is announced as data."""
    failure = cluster.exemplar.failure if cluster.exemplar else None
    files = dict.fromkeys(
        [suspect.file for suspect in cluster.suspects]
        + [
            frame.file
            for error in (failure.errors if failure else ())
            for frame in reversed(error.frames)
            if frame.origin in {"app", "test"}
        ]
    )
    return render(
        "prompt.md.j2",
        {
            "id": name,
            "unit": unit(cluster.tests),
            "cluster": cluster,
            "tests": cluster.tests[:MAX_TESTS],
            "more": max(0, len(cluster.tests) - MAX_TESTS),
            "files": list(files)[:10],
            "traceback": render_short(failure) if failure else "",
            "command": pytest_command(cluster.tests, MAX_TESTS),
        },
        overrides,
    )
