"""What the agent can do to a project: read a file, run its tests, apply a patch."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import weave

if TYPE_CHECKING:
    from qa_agent.cache import Cache
    from qa_agent.project import Bug, Project

RUNNER = Path(__file__).with_name("suite_runner.py")
SHOWN = 40
"""Lines of a file that a model is shown."""
_BLOCK = re.compile(r"^(\S+)\n<<<<<<< SEARCH\n(.*?)\n=======\n(.*?)\n>>>>>>> REPLACE", re.DOTALL | re.MULTILINE)


class PatchError(Exception):
    """A patch that is none, or does not apply."""


@weave.op(kind="tool")
def read_file(project: Project, path: str) -> str:
    """Return a file as models read it best: without tabs, and not too long."""
    lines = project.read(path).expandtabs(4).splitlines()
    return "\n".join(lines[:SHOWN])


@weave.op(kind="tool")
def run_tests(project: Project, only: str = "") -> list[Bug]:
    """Run a project's tests, or one of them, in a process of their own; return those that fail."""
    command = [sys.executable, "-I", "-B", str(RUNNER), *([only] if only else [])]
    done = subprocess.run(command, cwd=project.root, capture_output=True, text=True, encoding="utf-8", check=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


def suite(project: Project, cache: Cache) -> list[Bug]:
    """Return the tests that fail, from the cache if this version of the project was tested before."""
    key = f"suite:{project.name}:{project.version()}"
    found = cache.get(key)
    if found is None:
        found = run_tests(project)
        cache.set(key, found)
    return found


@weave.op(kind="tool")
def apply_patch(project: Project, patch: str) -> str:
    """Replace the lines that a patch names, and return the file that was changed.

    Raises PatchError where the text is no patch, and where the file has no such lines.
    """
    found = _BLOCK.search(patch)
    if found is None:
        raise PatchError("no patch in the answer: SEARCH and REPLACE are missing")
    path, old, new = found.groups()
    if path not in project.files():
        raise PatchError(f"the patch does not apply: there is no {path}")
    text = project.read(path)
    if old not in text:
        raise PatchError(f"the patch does not apply: {path} has no lines {old.strip().splitlines()[0]!r}")
    project.write(path, text.replace(old, new, 1))
    return path
