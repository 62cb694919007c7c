"""Everything outside the tests that a failure may depend on: commit, CI job, Python, platform, packages."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from typing import TYPE_CHECKING, Any

from pytest_tracetriage.model.run import CI, Context, Git

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

GIT_TIMEOUT = 3.0
"""Seconds; a repository too large to answer in that time is recorded without `dirty`."""


def observe(rootdir: Path, environ: Mapping[str, str], pytest_version: str, leg: str = "") -> Context:
    """Return the context of a run that starts now, as one `leg` of a matrix."""
    ci = read_ci(environ, leg)
    return Context(
        git=read_git(rootdir, environ),
        ci=ci,
        python=platform.python_version(),
        implementation=platform.python_implementation(),
        platform=f"{sys.platform}-{platform.machine()}",
        pytest=pytest_version,
        packages=installed_packages(sys.path),
    )


def group_of(ci: CI) -> str:
    """Return what joins the shards and legs of one workflow run and attempt, "" outside CI."""
    return f"{ci.provider}:{ci.repository}:{ci.run_id}:{ci.attempt or '1'}" if ci.run_id else ""


def read_git(rootdir: Path, environ: Mapping[str, str]) -> Git:
    """Return the checked-out commit; all empty where there is no repository, or no git."""
    status = git(rootdir, "status", "--porcelain=v2", "--branch", "--untracked-files=no", "--ignore-submodules=all")
    commit = branch = ""
    dirty = False
    if status is None:
        commit = git(rootdir, "rev-parse", "HEAD") or ""
    for line in (status or "").splitlines():
        if line.startswith("# branch.oid "):
            commit = line[13:].replace("(initial)", "")
        elif line.startswith("# branch.head "):
            branch = line[14:].replace("(detached)", "")
        elif not line.startswith("#"):
            dirty = True
    # A CI checkout is detached: there, the environment knows the branch.
    branch = branch or environ.get("GITHUB_HEAD_REF") or environ.get("GITHUB_REF_NAME") or environ.get("CI_COMMIT_REF_NAME", "")
    base = base_branch(environ)
    return Git(commit=commit or environ.get("GITHUB_SHA", ""), branch=branch, base=base, dirty=dirty)


def base_branch(environ: Mapping[str, str]) -> str:
    """Return the branch that a CI job's outcome is compared with, "" where the environment does not know it."""
    if base := environ.get("GITHUB_BASE_REF") or environ.get("CI_MERGE_REQUEST_TARGET_BRANCH_NAME"):
        return base
    event = github_event(environ)
    queued, repository = event.get("merge_group"), event.get("repository")
    if isinstance(queued, dict) and isinstance(queued.get("base_ref"), str):
        return str(queued["base_ref"]).removeprefix("refs/heads/")
    default = repository.get("default_branch") if isinstance(repository, dict) else ""
    return default if isinstance(default, str) and default else environ.get("CI_DEFAULT_BRANCH", "")


def git(rootdir: Path, *args: str, timeout: float = GIT_TIMEOUT) -> str | None:
    """Return what git prints, without space around it; None where it fails, is missing, or takes over `timeout` seconds."""
    try:
        done = subprocess.run(
            ["git", "--no-optional-locks", *args],
            cwd=rootdir,
            capture_output=True,
            timeout=timeout,
            check=False,
            stdin=subprocess.DEVNULL,
            env={**os.environ, "GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C"},
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.decode("utf-8", "replace").strip() if done.returncode == 0 else None


def read_ci(environ: Mapping[str, str], leg: str = "") -> CI:
    """Return the CI job from its environment: GitHub Actions, else what most others set, else empty."""
    if environ.get("GITHUB_ACTIONS") == "true":
        repository, run_id = environ.get("GITHUB_REPOSITORY", ""), environ.get("GITHUB_RUN_ID", "")
        pull = github_event(environ).get("pull_request")
        pull = pull if isinstance(pull, dict) else {}
        head = pull.get("head")
        return CI(
            provider="github",
            event=environ.get("GITHUB_EVENT_NAME", ""),
            workflow=environ.get("GITHUB_WORKFLOW", ""),
            job=environ.get("GITHUB_JOB", ""),
            leg=leg,
            run_id=run_id,
            attempt=environ.get("GITHUB_RUN_ATTEMPT", ""),
            url=f"{environ.get('GITHUB_SERVER_URL', 'https://github.com')}/{repository}/actions/runs/{run_id}",
            repository=repository,
            pull_request=str(pull.get("number", "")),
            head=str(head.get("sha", "")) if isinstance(head, dict) else "",
        )
    if environ.get("CI", "").lower() in {"", "0", "false"}:
        return CI(leg=leg)

    def first(*names: str) -> str:
        return next((environ[name] for name in names if environ.get(name)), "")

    return CI(
        provider="gitlab" if "GITLAB_CI" in environ else "generic",
        workflow=first("CI_PIPELINE_NAME", "JOB_NAME", "CIRCLE_WORKFLOW_ID", "BUILDKITE_PIPELINE_SLUG"),
        job=first("CI_JOB_NAME", "CIRCLE_JOB", "BUILDKITE_LABEL", "TRAVIS_JOB_NAME"),
        leg=leg,
        run_id=first(
            "CI_PIPELINE_ID", "BUILD_ID", "CIRCLE_WORKFLOW_ID", "BUILDKITE_BUILD_ID", "TRAVIS_BUILD_ID", "BUILD_NUMBER"
        ),
        url=first("CI_PIPELINE_URL", "BUILD_URL", "CIRCLE_BUILD_URL", "BUILDKITE_BUILD_URL", "TRAVIS_BUILD_WEB_URL"),
        repository=first("CI_PROJECT_PATH", "CIRCLE_PROJECT_REPONAME", "BUILDKITE_REPO", "TRAVIS_REPO_SLUG"),
        pull_request=first("CI_MERGE_REQUEST_IID", "CIRCLE_PR_NUMBER", "BUILDKITE_PULL_REQUEST", "TRAVIS_PULL_REQUEST"),
    )


def github_event(environ: Mapping[str, str]) -> dict[str, Any]:
    """Return the event that started a GitHub workflow, empty where there is none or it cannot be read."""
    try:
        with open(environ.get("GITHUB_EVENT_PATH", ""), encoding="utf-8") as file:
            event = json.load(file)
    except (OSError, ValueError):
        return {}
    return event if isinstance(event, dict) else {}


def installed_packages(path: list[str]) -> dict[str, str]:
    """Return versions by normalised name, from the names of the `.dist-info` folders: no metadata is opened."""
    packages: dict[str, str] = {}
    for entry in path:
        try:
            names = os.listdir(entry or ".")
        except OSError:
            continue
        for name in names:
            stem, dot, kind = name.rpartition(".")
            if dot and kind == "dist-info":
                project, _, version = stem.rpartition("-")
                packages.setdefault(project.lower().replace("_", "-").replace(".", "-"), version)
    return dict(sorted(packages.items()))
