"""The orchestrator: from a red project to a release that works."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, TypedDict

import weave
from pytest_tracetriage import metric

from qa_agent.fixer import Fixer
from qa_agent.memory import Memory
from qa_agent.tester import Tester
from qa_agent.triage import Triage
from qa_agent.verifier import Verifier

if TYPE_CHECKING:
    from pathlib import Path

    from qa_agent.cache import Cache
    from qa_agent.models import Models
    from qa_agent.project import Project


class Report(TypedDict):
    """What became of a project: the tests that were mended, those that are still red, and the release, "" if there is none."""

    fixed: list[str]
    left: list[str]
    release: str


class Rejected(Exception):
    """A reviewer does not want a patch."""


class Healer:
    """Hands a project from one component to the next."""

    def __init__(self, models: Models, cache: Cache, releases: Path) -> None:
        self.cache = cache
        self.tester = Tester(models, cache)
        self.triage = Triage(models, cache)
        self.fixer = Fixer(models)
        self.verifier = Verifier(models, cache, releases)
        self.memory = Memory(models)

    def __repr__(self) -> str:
        return "Healer()"

    @weave.op
    def heal(self, project: Project) -> Report:
        """Mend what can be mended, and deploy. What is wrong with the environment is left to people."""
        report = Report(fixed=[], left=[], release="")
        bugs = self.tester.find_bugs(project)
        metric("bugs_found", len(bugs))
        for bug in bugs:
            if self.triage.classify(bug)["kind"] == "environment":
                continue
            patch = self.fixer.mend(project, bug, self.triage.locate(project, bug))
            opinions = asyncio.run(self.verifier.review(patch))
            if against := [said for said in opinions.values() if said != "approve"]:
                raise Rejected(f"the patch for {bug['test']} was rejected: {against[0]}")
            report["fixed"].append(bug["test"])
            noting = threading.Thread(target=self.memory.remember, args=(bug,))
            noting.start()
            noting.join()
        if report["fixed"]:
            self.verifier.verify(project)
            metric("bugs_fixed", len(report["fixed"]))
            report["release"] = self.verifier.deploy(project)
        report["left"] = [bug["test"] for bug in self.tester.find_bugs(project)]
        return report

    @weave.op
    def heal_all(self, projects: list[Project]) -> list[Report]:
        """Heal several projects at a time."""
        with weave.ThreadPoolExecutor(max_workers=2) as pool:
            return list(pool.map(self.heal, projects))

    def close(self) -> None:
        """Say how well the cache did."""
        if self.cache.hits + self.cache.misses:
            metric("redis_hit_rate", self.cache.hit_rate)
