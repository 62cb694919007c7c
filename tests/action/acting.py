"""Run a real workflow file by act, without containers, against the test server for GitHub; and what came of it."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from world import INSTALLATION, git, git_environment

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from server import GitHubServer

ROOT = Path(__file__).resolve().parents[2]
WORKFLOWS = ROOT / "docs" / "how-to" / "github-action"
OWN = "tracetriage/pytest-tracetriage"
SHIPPED = ("action", "pytest_tracetriage", "templates", "pyproject.toml", "README.md", "LICENSE")
HISTORY = "tracetriage-history"
_PATIENCE = "\nBUDGET = 45.0\n"
LEVELS = ("notice", "warning", "error")
_COMMAND = re.compile(r"::(\w+)(?: (.*?))?::(.*)")
_USES = re.compile(r"uses: ([\w.-]+/[\w.-]+)[\w./-]*@(\S+)")
_ACT = Path(sys.executable).with_name("act")


def only(items: Sequence[Any]) -> Any:
    """Return the only item."""
    assert len(items) == 1, items
    return items[0]


def act() -> str | None:
    """Return the runner: that of this environment, else the one on the path."""
    return str(_ACT) if _ACT.exists() else shutil.which("act")


@dataclass(frozen=True)
class Said:
    """A line that the runner shows as an annotation."""

    level: str
    title: str
    text: str
    file: str
    line: str


@dataclass(frozen=True)
class Ran:
    """A workflow run as people see it: results by job, job summaries, annotations, the log."""

    status: int
    records: Sequence[Mapping[str, Any]]

    @property
    def results(self) -> dict[str, str]:
        """By name of the job; act pads it, and appends a number to the legs of a matrix."""
        name = re.compile(r"(-\d+)? *$")
        return {name.sub("", r["job"].partition("/")[2]): r["jobResult"] for r in self.records if "jobResult" in r}

    @property
    def summary(self) -> str:
        return "".join(r["content"] for r in self.records if r.get("command") == "summary")

    @property
    def said(self) -> list[Said]:
        found = [_COMMAND.fullmatch(r["raw"].strip()) for r in self.records if r.get("command") in LEVELS]
        return [_said(match) for match in found if match]

    @property
    def warnings(self) -> list[str]:
        return [said.text for said in self.said if said.level == "warning" and not said.file]

    @property
    def outputs(self) -> dict[str, str]:
        """What steps put out, the last word of each."""
        return {r["name"]: r["arg"] for r in self.records if r.get("command") == "set-output"}

    @property
    def log(self) -> str:
        return "\n".join(str(r.get("msg", "")).rstrip() for r in self.records)


def _said(match: re.Match[str]) -> Said:
    # act itself takes the last `::` of the line for the end of the properties; the runner of GitHub takes the first.
    level, properties, text = match.groups()
    place = dict(part.partition("=")[::2] for part in (properties or "").split(","))
    for sign, escaped in (("\n", "%0A"), ("%", "%25")):
        text = text.replace(escaped, sign)
    return Said(level, place.get("title", ""), text, place.get("file", ""), place.get("line", ""))


class Project:
    """A repository on the test server, and a runner that has checked it out."""

    def __init__(self, folder: Path, server: GitHubServer, action: Path, packages: Path) -> None:
        self.folder, self.server, self.action, self.packages = folder, server, action, packages
        self.full_name = server.world.full_name
        self.artifacts = folder / "artifacts"
        self.workspace = folder / "workspace"
        self.bin = folder / "bin"
        self.bin.mkdir()
        self._runs = 0
        _script(
            self.bin / "python",
            f'case "$1 $2 $3" in "-m pip install") exit 0;; esac\nexec {sys.executable} "$@"\n',
        )
        self.git_config = folder / "gitconfig"
        self.git_config.write_text(
            f'[url "{server.url}/"]\n\tinsteadOf = https://github.com/\n[safe]\n\tdirectory = *\n', encoding="utf-8"
        )

    def commit(self, files: Mapping[str, str], branch: str = "main", full_name: str = "") -> str:
        """Commit files on a branch of the repository (or of a fork) on the server and return the SHA."""
        return self.server.world.commit(dict(files), branch, full_name)

    def branch(self, name: str, files: Mapping[str, str], start: str = "main") -> str:
        """Commit files on a new branch that starts at another."""
        git("branch", name, start, cwd=self.server.world.git_folder())
        return self.commit(files, name)

    def checkout(self, commit: str, full_name: str = "") -> None:
        """Check a commit out, as actions/checkout would: a detached head, the repository as origin."""
        shutil.rmtree(self.workspace, ignore_errors=True)
        git("clone", "--quiet", "--no-checkout", str(self.server.world.git_folder(full_name)), str(self.workspace))
        git("checkout", "--quiet", "--detach", commit, cwd=self.workspace)
        git("remote", "set-url", "origin", f"https://github.com/{self.full_name}.git", cwd=self.workspace)

    def run(
        self,
        workflow: Path | str,
        event: str,
        payload: Mapping[str, Any],
        *,
        commit: str,
        head: str = "",
        run_id: int = 0,
        attempt: int = 1,
        token: str = INSTALLATION,
        packages: bool = True,
        environment: Mapping[str, str] | None = None,
    ) -> Ran:
        """Run a workflow at `commit`, taken from the repository `head` (default: the project's own)."""
        self.checkout(commit, head)
        self._runs += 1
        file = WORKFLOWS / workflow
        repository = {"full_name": self.full_name, "default_branch": "main", "name": self.full_name.split("/")[1]}
        event_file = self.folder / f"event-{self._runs}.json"
        event_file.write_text(json.dumps({"repository": repository, **payload}), encoding="utf-8")
        given = {
            "GITHUB_API_URL": self.server.api_url,
            "GITHUB_RUN_ID": str(run_id or 500 + self._runs),
            "GITHUB_RUN_ATTEMPT": str(attempt),
            "GIT_CONFIG_GLOBAL": str(self.git_config),
            "NO_COLOR": "1",
            "TEST_ARTIFACTS": str(self.artifacts),
            "TEST_BIN": str(self.bin),
            "TEST_PACKAGES": str(self.packages) if packages else "",
            **(environment or {}),
        }
        program = act()
        assert program
        command = [program, event, "-W", str(file), "-P", "ubuntu-latest=-self-hosted", "-e", str(event_file), "--json"]
        command += ["--secret", f"GITHUB_TOKEN={token}", "--actor", "octocat", "--no-cache-server"]
        command += ["--action-cache-path", str(self.folder / f"act-{self._runs}")]
        command += [f"--env={name}={value}" for name, value in given.items()]
        command += [f"--local-repository={uses}={folder}" for uses, folder in self._substitutes(file).items()]
        done = subprocess.run(
            command,
            cwd=self.workspace,
            env={**git_environment(), "HOME": str(self.folder)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            timeout=300,
            check=False,
        )
        records = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
        assert records, done.stdout
        return Ran(done.returncode, records)

    def variant(self, workflow: str, old: str, new: str) -> Path:
        """Return a copy of a workflow in which one line is another."""
        text = (WORKFLOWS / workflow).read_text(encoding="utf-8")
        assert text.count(old) == 1
        path = self.folder / f"variant-{self._runs}.yml"
        path.write_text(text.replace(old, new), encoding="utf-8")
        return path

    def push(self, commit: str, workflow: Path | str = "tests.yml", **more: Any) -> Ran:
        """Run a workflow for a push to main."""
        return self.run(workflow, "push", {"ref": "refs/heads/main", "after": commit}, commit=commit, **more)

    def pull(self, pull: Any, workflow: Path | str = "tests.yml", **more: Any) -> Ran:
        """Run a workflow for a pull request of the test server."""
        head = {"sha": pull.head_sha, "ref": pull.head_branch, "repo": {"full_name": pull.head_repository}}
        base = {"ref": pull.base, "repo": {"full_name": self.full_name}}
        payload = {"number": pull.number, "pull_request": {"number": pull.number, "head": head, "base": base}}
        return self.run(workflow, "pull_request", payload, commit=pull.head_sha, head=pull.head_repository, **more)

    def after(self, pull: Any, run_id: int, workflow: Path | str = "fork-report.yml", **more: Any) -> Ran:
        """Run a workflow that the end of a pull request's run triggers. For a fork GitHub names no pull request."""
        triggered = {
            "id": run_id,
            "name": "Tests",
            "event": "pull_request",
            "conclusion": "failure",
            "head_sha": pull.head_sha,
            "head_branch": pull.head_branch,
            "head_repository": {"full_name": pull.head_repository},
            "run_attempt": 1,
            "pull_requests": [],
        }
        commit = self.server.world.commit_of("main")
        return self.run(workflow, "workflow_run", {"workflow_run": triggered}, commit=commit, **more)

    def open_pull(self, branch: str, files: Mapping[str, str], fork: str = "") -> Any:
        """Open a pull request that changes files, from a branch here or in a fork."""
        world = self.server.world
        if fork:
            home = world.create_repository(fork)
            git("fetch", "--quiet", str(world.git_folder()), "refs/heads/main:refs/heads/main", cwd=home)
            git("branch", branch, "main", cwd=home)
            return world.open_pull(branch, self.commit(files, branch, fork), fork)
        return world.open_pull(branch, self.branch(branch, files))

    def history(self) -> list[dict[str, Any]]:
        """Return the runs that the history branch holds, read by DuckDB from the branch as it was pushed."""
        import duckdb

        repository = self.server.world.git_folder()
        if not self.server.world.commit_of(HISTORY):
            return []
        folder = self.folder / "history"
        shutil.rmtree(folder, ignore_errors=True)
        git("clone", "--quiet", "--branch", HISTORY, str(repository), str(folder))
        files = [str(path) for path in folder.rglob("*.run.parquet")]
        found = duckdb.execute("select record from read_parquet($files) order by run", {"files": files}).fetchall()
        return [json.loads(record) for (record,) in found]

    def _substitutes(self, workflow: Path) -> dict[str, Path]:
        texts = workflow.read_text(encoding="utf-8") + (self.action / "action" / "action.yml").read_text(encoding="utf-8")
        stand_ins = Path(__file__).with_name("stand_ins")
        found = {f"{name}@{ref}": stand_ins / name.partition("/")[2] for name, ref in _USES.findall(texts)}
        return {
            uses: self.action if uses.startswith(OWN) else folder
            for uses, folder in found.items()
            if folder.is_dir() or uses.startswith(OWN)
        }


def _script(path: Path, text: str) -> None:
    path.write_text(f"#!/bin/sh\n{text}", encoding="utf-8")
    path.chmod(0o755)


def checkout_of_the_action(folder: Path) -> Path:
    """Return a copy of what the action's own checkout holds, but waits for GitHub one second only."""
    for name in SHIPPED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy2(source, folder / name)
    publish = folder / "pytest_tracetriage" / "commands" / "publish.py"
    text = publish.read_text(encoding="utf-8")
    assert text.count(_PATIENCE) == 1
    publish.write_text(text.replace(_PATIENCE, "\nBUDGET = 1.0\n"), encoding="utf-8")
    return folder


def texts_of_the_action() -> dict[str, str]:
    """Return what the action's own checkout holds, to commit it."""
    files = [path for name in SHIPPED for path in ((ROOT / name).rglob("*") if (ROOT / name).is_dir() else [ROOT / name])]
    kept = [path for path in files if path.is_file() and path.parent.name != "__pycache__"]
    return {path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8") for path in kept}


def prepared_packages(folder: Path) -> Path:
    """Return kept packages as a cache would bring them: an interpreter that can report."""
    tool = folder / "tool" / "bin"
    tool.mkdir(parents=True)
    _script(tool / "python", f'exec {sys.executable} "$@"\n')
    (folder / "tool" / "complete").touch()
    return folder
