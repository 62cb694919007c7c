"""Tests run at commits: one worktree that moves between them, an environment for each set of dependencies, results kept."""

from __future__ import annotations

import os
import time
from contextlib import ExitStack, contextmanager, suppress
from hashlib import blake2b
from typing import TYPE_CHECKING

import msgspec

from pytest_tracetriage.diagnose.culprit import Told
from pytest_tracetriage.diagnose.drift import InstallError, install
from pytest_tracetriage.execute.claims import ExecuteError
from pytest_tracetriage.execute.process import prepare
from pytest_tracetriage.execute.run import DEFAULT_COMMAND, run_tests
from pytest_tracetriage.execute.worktree import checkout, switch
from pytest_tracetriage.model.diagnosis import Executions
from pytest_tracetriage.triage.signature import signature_id

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from pytest_tracetriage.diagnose.commits import Commit, Repository
    from pytest_tracetriage.execute.worktree import Worktree
    from pytest_tracetriage.model.execution import TestRun


class Where(msgspec.Struct, frozen=True):
    """How tests are run. `environment` names what is installed here: results of another are not used."""

    project: Path
    folder: Path
    """The project's `.tracetriage`."""
    cache: Path
    """The folder that worktrees and environments lie in."""
    environment: str
    command: tuple[str, ...] = DEFAULT_COMMAND
    prepare: tuple[str, ...] = ()
    """Builds what git ignores, once at each commit."""
    timeout: float = 300.0
    """Seconds that one process may take."""
    install: bool = False
    remember: bool = True


class Visits:
    """Runs tests at commits until the deadline. Whoever makes one closes it."""

    def __init__(self, where: Where, repository: Repository, deadline: float) -> None:
        """`deadline` is in seconds of `time.monotonic`."""
        self._where = where
        self._repository = repository
        self._deadline = deadline
        self._stack = ExitStack()
        self._worktree: Worktree | None = None
        self._known: dict[str, list[Told]] = {}
        self._dependencies: dict[str, str] = {}
        self._installed: dict[str, Path | InstallError | None] = {}
        self._own = ""
        self._ready = ""
        self.problems: dict[str, None] = {}
        self.executions = Executions()

    def close(self) -> None:
        """Remove the worktree."""
        self._stack.close()

    def here(self, commit: str) -> None:
        """Say for which commit the dependencies are installed that tests otherwise run with."""
        self._own = self._needs(commit)

    def observe(self, commit: Commit, tests: Sequence[str]) -> Told | None:
        """Run these tests at a commit in one process; return what they did, None where the time is over."""
        key = self._key(commit, tests)
        known = self._known.setdefault(key, self._remembered(key))
        if known:
            self._count(cached=1)
            return known.pop(0)
        left = self._deadline - time.monotonic()
        if left <= 0:
            return None
        told = self._visit(commit, tests, min(self._where.timeout, left))
        if told is not None:
            self._remember(key, told)
        return told

    def suite(self, commit: Commit) -> TestRun | None:
        """Run the whole suite at a commit, None where the time is over. Raises ExecuteError. Nothing of it is remembered."""
        left = self._deadline - time.monotonic()
        return self._run(commit, None, left) if left > 0 else None

    def _visit(self, commit: Commit, tests: Sequence[str], seconds: float) -> Told | None:
        try:
            run = self._run(commit, tests, seconds)
        except (ExecuteError, InstallError) as error:
            return Told(void=str(error))
        if run.timed_out and time.monotonic() >= self._deadline:
            return None  # the budget ended it, not the test
        return _told(run)

    def _run(self, commit: Commit, tests: Sequence[str] | None, seconds: float) -> TestRun:
        worktree = self._at(commit.id)
        for name in worktree.problems:
            self.problems[name] = None
        began = time.monotonic()
        with self._environment(commit.id) as python:
            command = self._where.command
            if python and command == DEFAULT_COMMAND:
                command = (python, *command[1:])
            run = run_tests(
                worktree,
                tests,
                sign=signature_id,
                timeout=seconds,
                command=command,
                arguments=_files(worktree, tests) if self._where.command == DEFAULT_COMMAND else (),
            )
        self._count(pytest_runs=1, tests=len(run.outcomes), seconds=time.monotonic() - began)
        for name in run.neutralised:
            self.problems[f"left out of the project's options, since it would spoil a rerun: {name}"] = None
        return run

    def _at(self, commit: str) -> Worktree:
        """Return the worktree, moved to a commit and prepared. Raises ExecuteError."""
        where = self._where
        ignored = not where.prepare
        if commit != self._ready:
            self._ready = ""  # whatever fails now leaves a tree that is no commit's
        if self._worktree is None:
            made = checkout(where.project, commit, dirty=False, cache=where.cache, folder=where.folder, take_ignored=ignored)
            self._worktree = self._stack.enter_context(made)
            self._count(checkouts=1)
        elif not self._ready:
            self._count(checkouts=1)
            self._worktree = switch(self._worktree, commit, take_ignored=ignored)
        if where.prepare and not self._ready:
            prepare(self._worktree, where.prepare, timeout=max(1.0, self._deadline - time.monotonic()))
        self._ready = commit
        return self._worktree

    def _count(self, **more: float) -> None:
        counted = {name: getattr(self.executions, name) + value for name, value in more.items()}
        self.executions = msgspec.structs.replace(self.executions, **counted)

    # -- dependencies

    def _needs(self, commit: str) -> str:
        if commit not in self._dependencies:
            self._dependencies[commit] = self._repository.dependencies(commit)
        return self._dependencies[commit]

    @contextmanager
    def _environment(self, commit: str) -> Iterator[str]:
        """Let what a commit needs be found first, where that is another than here; yield its Python, "" for this one."""
        needs = self._needs(commit)
        if needs == self._own:
            yield ""
            return
        if not self._where.install:
            self.problems[
                "dependency files differ between the commits, and tests ran with what is installed here: "
                "--install gives each set of dependencies an environment of its own"
            ] = None
            yield ""
            return
        if needs not in self._installed:
            assert self._worktree is not None
            try:
                self._installed[needs] = install(self._worktree.project, needs, self._where.cache, self.problems)
            except InstallError as error:
                self._installed[needs] = error
        folder = self._installed[needs]
        if isinstance(folder, InstallError):
            raise folder
        if folder is None:
            yield ""
            return
        path = os.environ.get("PATH", "")
        os.environ["PATH"] = os.pathsep.join(filter(None, (str(folder), path)))
        try:
            yield str(folder / ("python.exe" if os.name == "nt" else "python"))
        finally:
            os.environ["PATH"] = path

    # -- what earlier searches left

    def _key(self, commit: Commit, tests: Sequence[str]) -> str:
        where = self._where
        own = self._needs(commit.id) if where.install else ""
        parts = (commit.tree, str(where.project.relative_to(self._repository.top)), where.environment, own)
        text = "\0".join((*parts, *where.command, "", *where.prepare, "", *sorted(tests)))
        return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()

    def _file(self, key: str) -> Path:
        return self._where.folder / "cache" / "culprit" / f"{key}.jsonl"

    def _remembered(self, key: str) -> list[Told]:
        """Return what earlier searches saw of these tests in this tree, each to be used once: one process is one witness."""
        if not self._where.remember:
            return []
        found = []
        with suppress(OSError):
            for text in self._file(key).read_bytes().splitlines():
                with suppress(msgspec.MsgspecError):
                    found.append(msgspec.json.decode(text, type=Told))
        return found

    def _remember(self, key: str, told: Told) -> None:
        if not self._where.remember or told.void:
            return
        path = self._file(key)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("ab") as file:
                file.write(msgspec.json.encode(told) + b"\n")
        except OSError as error:
            self.problems[f"{path}: results cannot be kept: {error.strerror}"] = None


def _told(run: TestRun) -> Told:
    """Return what a run says of each test, and of each file that could not be collected."""
    if run.void:
        return Told(void=run.void)
    unread = {one.nodeid: one for one in run.uncollected}
    outcomes = {**{nodeid: one.outcome for nodeid, one in unread.items()}, **run.outcomes}
    signatures = {**{nodeid: (one.signature,) for nodeid, one in unread.items() if one.signature}, **run.signatures}
    return Told(outcomes, signatures)


def _files(worktree: Worktree, tests: Sequence[str] | None) -> tuple[str, ...]:
    """Return what makes pytest collect only the files that these tests lie in."""
    if tests is None:
        return ()
    files = dict.fromkeys(test.partition("::")[0] for test in tests)
    there = [file for file in files if "[redacted " not in file and (worktree.project / file).is_file()]
    return (f"--rootdir={worktree.project}", *there) if len(there) == len(files) else ()
