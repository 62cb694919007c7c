"""What the test server holds: accounts, tokens, pull requests, what was said of them, and real git repositories."""

from __future__ import annotations

import itertools
import os
import subprocess
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

ACTIONS = "github-actions[bot]"
ACTIONS_APP = 15368
WRITES = ("contents", "pull_requests", "checks", "statuses", "issues")

INSTALLATION = "ghs_" + "w" * 36
"""The token of a job that may write everything."""
READ_ONLY = "ghs_" + "r" * 36
"""The token of a job whose pull request comes from a fork."""
OTHER_APP = "ghs_" + "a" * 36
"""The token of another app that is installed here."""
PERSONAL = "ghp_" + "p" * 36
"""The classic token of a person who may write."""
FINE_GRAINED = "github_pat_" + "f" * 36
"""The same person's newer kind of token."""
STRANGER = "ghp_" + "s" * 36
"""The token of a person who may only comment."""


@dataclass(frozen=True)
class Token:
    value: str
    login: str
    writes: tuple[str, ...] = WRITES
    app: int = 0
    """The app behind an installation token."""


@dataclass
class Pull:
    number: int
    head_repository: str
    head_branch: str
    head_sha: str
    base: str = "main"
    state: str = "open"
    title: str = "A change"
    locked: bool = False


@dataclass
class Comment:
    id: int
    pull: int
    login: str
    body: str
    app: int = 0
    edits: int = 0


@dataclass
class Check:
    id: int
    app: int
    name: str
    head_sha: str
    external_id: str | None = None
    details_url: str | None = None
    status: str = "queued"
    conclusion: str | None = None
    title: str | None = None
    summary: str | None = None
    text: str | None = None
    annotations: list[dict[str, Any]] = field(default_factory=list)


@dataclass
class Status:
    id: int
    sha: str
    login: str
    state: str
    context: str = "default"
    description: str | None = None
    target_url: str | None = None


@dataclass
class WorkflowRun:
    id: int
    head_sha: str
    head_branch: str = "main"
    head_repository: str = ""
    event: str = "pull_request"
    attempt: int = 1
    conclusion: str = "failure"


@dataclass
class Artifact:
    id: int
    run: int
    name: str
    data: bytes = field(repr=False)
    expired: bool = False


class World:
    """The state of one repository on GitHub, with its forks."""

    def __init__(self, folder: Path, full_name: str) -> None:
        self.folder = folder
        self.full_name = full_name
        self.tokens = {
            token.value: token
            for token in (
                Token(INSTALLATION, ACTIONS, app=ACTIONS_APP),
                Token(READ_ONLY, ACTIONS, (), ACTIONS_APP),
                Token(OTHER_APP, "other-app[bot]", app=4711),
                Token(PERSONAL, "maintainer"),
                Token(FINE_GRAINED, "maintainer"),
                Token(STRANGER, "stranger", ("pull_requests", "issues")),
            )
        }
        self.pulls: dict[int, Pull] = {}
        self.comments: dict[int, Comment] = {}
        self.checks: dict[int, Check] = {}
        self.statuses: list[Status] = []
        self.runs: dict[int, WorkflowRun] = {}
        self.artifacts: dict[int, Artifact] = {}
        self.ids = itertools.count(1001)
        self.numbers: dict[str, int] = {}
        self._commits: set[str] = set()
        self.create_repository(full_name)

    def number(self, name: str) -> int:
        """Return the number of an account or a repository."""
        return self.numbers.setdefault(name.lower(), len(self.numbers) + 1)

    def git_folder(self, full_name: str = "") -> Path:
        """Return the bare repository of a full name (default: the one this world is about)."""
        return self.folder / f"{full_name or self.full_name}.git"

    def create_repository(self, full_name: str) -> Path:
        """Create an empty bare repository that can be pushed to; one that is there stays as it is."""
        folder = self.git_folder(full_name)
        if not folder.is_dir():
            folder.parent.mkdir(parents=True, exist_ok=True)
            git("init", "--quiet", "--bare", "--template=", "--initial-branch=main", str(folder))
            git("config", "http.receivepack", "true", cwd=folder)
            git("config", "uploadpack.allowAnySHA1InWant", "true", cwd=folder)
        return folder

    def commit(self, files: dict[str, str], branch: str = "main", full_name: str = "") -> str:
        """Commit files on top of a branch, made if need be; return the SHA."""
        folder = self.git_folder(full_name)
        parent = git("rev-parse", "--verify", "--quiet", f"refs/heads/{branch}", cwd=folder, check=False).strip()
        stream = f"commit refs/heads/{branch}\ncommitter Test <test@example.com> 1767323045 +0000\ndata 6\nchange\n"
        stream += f"from {parent}\n" if parent else ""
        for path, text in files.items():
            stream += f"M 100644 inline {path}\ndata {len(text.encode())}\n{text}\n"
        git("fast-import", "--quiet", "--force", cwd=folder, stdin=stream)
        return git("rev-parse", f"refs/heads/{branch}", cwd=folder).strip()

    def commit_of(self, name: str) -> str:
        """Return the SHA of a commit, branch or tag of the repository; "" where there is none."""
        if name not in self._commits:  # a commit that is there stays
            asked = ("rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}")
            sha = git(*asked, cwd=self.git_folder(), check=False).strip()
            if sha != name:
                return sha
            self._commits.add(sha)
        return name

    def open_pull(self, head_branch: str, head_sha: str, head_repository: str = "", number: int = 0, **more: Any) -> Pull:
        """Open a pull request; like GitHub, keep its head as `refs/pull/N/head`, also when it lives in a fork."""
        number = number or 1 + max(self.pulls, default=0)
        pull = Pull(number, head_repository or self.full_name, head_branch, head_sha, **more)
        self.pulls[number] = pull
        home, ref = self.git_folder(pull.head_repository), f"refs/pull/{number}/head"
        if home == self.git_folder() and self.commit_of(head_sha):
            git("update-ref", ref, head_sha, cwd=home)
        elif home.is_dir():
            git("fetch", "--quiet", str(home), f"+{head_sha}:{ref}", cwd=self.git_folder(), check=False)
        return pull

    def say(self, pull: int, login: str, body: str, app: int = 0) -> Comment:
        """Have somebody comment."""
        comment = Comment(next(self.ids), pull, login, body, app)
        self.comments[comment.id] = comment
        return comment


def git(*args: str, cwd: Path | None = None, stdin: str | None = None, check: bool = True) -> str:
    """Return the standard output of git, run without anybody's configuration."""
    done = subprocess.run(
        ["git", *args],
        cwd=cwd,
        input=stdin,
        env=git_environment(),
        capture_output=True,
        text=True,
        check=False,
        encoding="utf-8",
    )
    if check and done.returncode:
        raise RuntimeError(f"git {' '.join(args)}: {done.stderr}")
    return done.stdout


def git_environment() -> dict[str, str]:
    """Return an environment in which git knows nothing of this machine's user."""
    mine = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    return {**mine, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1", "LC_ALL": "C"}
