"""Makes sure that a fix is one, and brings it to where it runs."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import weave
from pytest_tracetriage import metric

from qa_agent.models import REVIEW
from qa_agent.tools import suite

if TYPE_CHECKING:
    from pathlib import Path

    from qa_agent.cache import Cache
    from qa_agent.models import Models
    from qa_agent.project import Project

_REVIEWING = "Is this patch good enough to be deployed without a person who reads it? Answer `approve` or `reject: REASON`."
_START = "import sys; sys.path.insert(0, '.'); import shop"


class TestsStillFail(Exception):
    """The suite is red after the patch."""


class DeployFailed(Exception):
    """The release does not start."""


class Verifier:
    """Has patches reviewed, runs the whole suite, and deploys."""

    def __init__(self, models: Models, cache: Cache, releases: Path) -> None:
        self._models = models
        self._cache = cache
        self._releases = releases

    def __repr__(self) -> str:
        return "Verifier()"

    @weave.op
    async def review(self, patch: str) -> dict[str, str]:
        """Return what each model says of a patch, all asked at the same time."""
        async with self._models.waiting() as client:
            said = await asyncio.gather(*(self._opinion(client, model, patch) for model in REVIEW))
        return dict(zip(REVIEW, said))

    async def _opinion(self, client, model: str, patch: str) -> str:
        messages = [{"role": "system", "content": _REVIEWING}, {"role": "user", "content": patch}]
        answer = await client.chat.completions.create(model=model, messages=messages)
        return answer.choices[0].message.content

    @weave.op
    def verify(self, project: Project) -> None:
        """Run the whole suite. Raises TestsStillFail."""
        failures = suite(project, self._cache)
        if failures:
            names = ", ".join(failure["test"] for failure in failures)
            raise TestsStillFail(f"{len(failures)} of the tests still fail: {names}")

    @weave.op
    def deploy(self, project: Project) -> str:
        """Copy a project to where it runs, and start it there; return the name of the release. Raises DeployFailed."""
        began = time.monotonic()
        release = f"{project.name}-{len(list(self._releases.glob('*'))) + 1}"
        for path in project.root.rglob("*.py"):
            target = self._releases / release / path.relative_to(project.root)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
        command = [sys.executable, "-I", "-B", "-c", _START]
        done = subprocess.run(
            command, cwd=self._releases / release, capture_output=True, text=True, encoding="utf-8", check=False
        )
        if done.returncode:
            raise DeployFailed(f"release {release} does not start: {done.stderr.strip().splitlines()[-1]}")
        metric("deployment_time", time.monotonic() - began, "s")
        return release
