"""Look for the commit that a search may begin at: the last green one of the base branch, or where the branch left it.

A step of its own, as it is given the token to read the history with, and runs no tests.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import inputs
import report
import suite
import workflow

_LIMIT = 60  # seconds
_RUNS = 500
_COMMIT = re.compile(r"[0-9a-f]{40,64}")


def main() -> int:
    """Set `good`, "" where no commit is known. Exit status always 0."""
    red = suite.red_runs(Path(os.environ.get("RECORDED") or os.devnull))
    if red and not workflow.foreign(workflow.event(), os.environ.get("GITHUB_REPOSITORY", "")):
        try:
            root = suite.root_of(red[0])
            workflow.output(good="" if shallow(root) else last_good(root, "HEAD"))
        except Exception as error:
            workflow.say("warning", f"culprit: {error!r}")
    return 0


def shallow(root: Path) -> bool:
    """Return whether the checkout was cut off, as actions/checkout does where nothing else is asked for."""
    return git(root, "rev-parse", "--is-shallow-repository") == "true"


def last_good(root: Path, bad: str) -> str:
    """Return the commit to search from: green in the history, else shared with the base, else before the push; "" for none."""
    base = base_branch()
    known = remembered(base) if os.environ.get("TOOL") else []
    green = [commit for commit, failures in known if not failures]
    for commit in green:
        if contains(root, bad, commit):
            return commit
    tip = git(root, "rev-parse", "--verify", "--quiet", f"{bad}^{{commit}}")
    for branch in (f"refs/remotes/origin/{base}", f"refs/heads/{base}"):
        shared = git(root, "merge-base", tip, branch) if base else ""
        if shared and shared != tip:
            return shared
    pushed = str(workflow.event().get("before") or "")
    for commit in (pushed, *(commit for commit, _ in known)):
        if commit != tip and contains(root, tip, commit):
            return commit
    return ""


def base_branch() -> str:
    """Return the branch to compare with: as asked for, that of the pull request, else the default branch."""
    repository = workflow.event().get("repository")
    default = repository.get("default_branch") if isinstance(repository, dict) else ""
    base = inputs.text("base") or os.environ.get("GITHUB_BASE_REF") or str(default or "")
    return "" if base.startswith("-") else base


def remembered(base: str) -> list[tuple[str, int]]:
    """Return commit and failures of the base branch's workflow runs in the history, the newest first; nothing is raised."""
    where = [f"--history={inputs.text('history')}"] if inputs.text("history") else []
    branch = [f"--branch={base}"] if base else []
    try:
        command, variables = report.invocation("history", *where, *branch, f"--limit={_RUNS}", "--format=json")
        done = subprocess.run(command, env=variables, capture_output=True, timeout=_LIMIT, check=False)
        runs = json.loads(done.stdout)["runs"] if done.returncode == 0 else []
    except (OSError, subprocess.SubprocessError, ValueError, KeyError, TypeError):
        return []  # the report will say what is wrong with the history
    groups: dict[str, list[dict[str, Any]]] = {}
    for run in runs:
        groups.setdefault(run.get("group") or run["id"], []).append(run)
    found = []
    for legs in groups.values():
        failures = sum(leg["totals"]["failures"] or int(leg.get("exit_status", -1) != 0) for leg in legs)
        if _COMMIT.fullmatch(legs[0].get("commit", "")) and not any(leg.get("dirty") for leg in legs):
            found.append((legs[0]["commit"], failures))
    return found


def contains(root: Path, newer: str, older: str) -> bool:
    """Return whether a commit is known here, and another has grown from it, or is it."""
    return bool(_COMMIT.fullmatch(older)) and git(root, "merge-base", newer, older) == older


def git(root: Path, *words: str) -> str:
    """Return what git prints, "" where it fails."""
    try:
        done = subprocess.run(
            ["git", "--no-optional-locks", *words],
            cwd=root,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=_LIMIT,
            check=False,
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


if __name__ == "__main__":
    sys.exit(main())
