"""A bare repository of our own that follows one branch of a remote, and remembers what it once held."""

from __future__ import annotations

import contextlib
import hashlib
import random
import shutil
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from msgspec import Struct

from pytest_tracetriage.store.history.git_plumbing import GitError
from pytest_tracetriage.store.history.git_tree import (
    FILE_LIMIT,
    REMOVED_LIMIT,
    Removed,
    Tree,
    commit_stream,
    join_removed,
    parse_removed,
    parse_tree,
)
from pytest_tracetriage.store.history.locations import locked

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pytest_tracetriage.store.history.git_remote import Remote

LOCK_LIMIT = 180.0
"""Seconds to wait for another process that uses the same cache."""
T = TypeVar("T")


class State(Struct, frozen=True):
    """What the history holds: the branch as it is, and what it lost."""

    tip: str
    """The commit at the end of the branch; "" when there is no such branch."""
    tree: str
    """Its tree."""
    files: dict[str, str]
    """File name -> blob id, of the branch and of what it lost."""
    lost: frozenset[str]
    """Files that the branch once held and that nobody removed on purpose."""
    stale: frozenset[str]
    """Files of the branch that had been removed on purpose: somebody turned it back."""
    removed: Removed
    large: frozenset[str]
    ours: bool
    """Whether the branch may be written: it is not somebody's source code."""


class Commit(Struct, frozen=True):
    """A commit in the cache, with its tree and its time."""

    id: str
    tree: str
    time: int


class Cache:
    """The repository `<folder>/repository.git`, and in it what is known of one branch of one remote.

    It is there for speed and as a memory: one that was damaged is made anew. Every method but `working` wants to be called
    within `working`, raises GitError, and HistoryError for what trying again cannot change.
    """

    def __init__(self, folder: Path, remote: Remote, branch: str) -> None:
        """`folder` need not exist."""
        self._folder = folder
        self._repository = folder / "repository.git"
        self._remote = remote
        self._git = remote.git("--git-dir", str(self._repository))
        self._branch = branch
        key = remote.key(branch)
        self._tip, self._next, self._kept = (f"refs/tracetriage/{key}/{name}" for name in ("tip", "next", "kept"))

    def working(self, step: Callable[[], T]) -> T:
        """Return what `step` returns. One process at a time; faults that pass are waited for; a damaged cache is replaced."""
        with locked(self._folder / "lock", LOCK_LIMIT):
            self._prepare()
            for attempt in range(3):
                try:
                    return step()
                except GitError as error:
                    if error.passing and attempt < 2:
                        time.sleep(random.uniform(0.1, 1.0))  # noqa: S311
                    elif attempt or self._is_sound():
                        raise
                    else:
                        self._drop()
                        self._prepare()
            raise AssertionError

    def refresh(self) -> State:
        """Return what the history holds now, and remember it."""
        found = self._fetch()
        commits = self._commits()
        tip = commits.get(self._tip) if found else None
        kept = commits.get(self._kept)
        there, removed, marked = self._read(tip)
        if kept == tip or kept is None:
            before, forgotten = there, removed
        else:
            before, forgotten, _ = self._read(kept)
        state = _state(tip, there, before, removed, forgotten, since=kept.time if kept else 0, marked=marked)
        if tip and not state.lost and not state.stale and state.removed == removed:
            if kept is None or kept.id != tip.id:
                self._keep(tip.id)
        elif state.files != before.files or state.removed != forgotten:
            self._keep(self.commit(state, "What was seen", {}, frozenset(), anew=False))
        return state

    def commit(self, state: State, message: str, contents: dict[str, bytes], remove: frozenset[str], *, anew: bool) -> str:
        """Return a commit with these files more and those fewer, on top of the branch or `anew` without its past."""
        blobs = {name: self.blob_id(content) for name, content in contents.items()}
        gone = (remove | state.stale) - blobs.keys()
        now = int(time.time())
        old = state.removed
        new = Removed(
            files=dict.fromkeys(remove - blobs.keys() - old.files.keys(), now),
            again=dict.fromkeys(blobs.keys() & old.files.keys(), now),
            since=old.since,
        )
        back = {name: state.files[name] for name in state.lost - gone}
        stream = commit_stream(
            ref=self._next,
            message=message,
            time=now,
            parent="" if anew else state.tip,
            tree=state.tree,
            contents=contents.values(),
            files=back | blobs,
            gone=gone,
            removed=join_removed(old, new),
        )
        self._git.run("fast-import", "--quiet", "--force", stdin=stream)
        return self._git.run("rev-parse", "--verify", self._next).strip()

    def push(self, commit: str, *, over: str = "") -> None:
        """Make a commit the end of the remote's branch, in place of the commit `over` if given and still there."""
        ref = f"refs/heads/{self._branch}"
        options = ["--porcelain", "--no-verify", "--no-recurse-submodules"]
        if over:
            options.append(f"--force-with-lease={ref}:{over}")
        if self._remote.local:  # there, git would run the hooks and the housekeeping of the user's repository
            program = "git -c core.hooksPath=/dev/null -c receive.autogc=false -c gc.auto=0 receive-pack"
            options.append(f"--receive-pack={program}")
        self._git.run("push", *options, "--", self._remote.push_url, f"{commit}:{ref}")
        self._git.run("update-ref", "--stdin", stdin=f"update {self._tip} {commit}\nupdate {self._kept} {commit}\n".encode())

    def blobs(self, blobs: set[str]) -> Iterator[tuple[str, bytes]]:
        """Yield id and content of each blob. Raises GitError also for a damaged one."""
        for blob, content in self._git.blobs(sorted(blobs), FILE_LIMIT):
            if self.blob_id(content) != blob:
                raise GitError(f"object {blob} is damaged")
            yield blob, content

    def blob_id(self, content: bytes) -> str:
        """Return what git calls this content."""
        digest = hashlib.new(self._remote.object_format, b"blob %d\0" % len(content), usedforsecurity=False)
        digest.update(content)
        return digest.hexdigest()

    def _prepare(self) -> None:
        if not self._repository.exists():
            for left in (*self._folder.glob("new-*"), *self._folder.glob("old-*")):
                shutil.rmtree(left, ignore_errors=True)
            new = tempfile.mkdtemp(prefix="new-", dir=self._folder)
            form = () if self._remote.object_format == "sha1" else (f"--object-format={self._remote.object_format}",)
            self._remote.git().run("init", "--quiet", "--bare", "--template=", *form, "--", new)
            Path(new).rename(self._repository)
        # We alone work here: a lock of git's was left by one that was killed.
        for lock in (*self._repository.glob("*.lock"), *self._repository.glob("refs/tracetriage/**/*.lock")):
            lock.unlink(missing_ok=True)

    def _is_sound(self) -> bool:
        try:
            self._git.run("fsck", "--no-dangling", "--no-progress")
        except GitError:
            return False
        return True

    def _drop(self) -> None:
        old = tempfile.mkdtemp(prefix="old-", dir=self._folder)
        self._repository.rename(Path(old) / "repository.git")
        shutil.rmtree(old, ignore_errors=True)

    def _fetch(self) -> bool:
        """Bring the end of the branch, without its past; return whether there is such a branch."""
        options = ("--quiet", "--depth=1", "--no-tags", "--no-prune", "--no-auto-gc", "--no-recurse-submodules")
        try:
            self._git.run("fetch", *options, "--", self._remote.url, f"+refs/heads/{self._branch}:{self._tip}")
        except GitError as error:
            if "couldn't find remote ref" in str(error):
                return False
            raise
        return True

    def _commits(self) -> dict[str, Commit]:
        form = "%(refname) %(objectname) %(tree) %(committerdate:unix)"
        lines = self._git.run("for-each-ref", f"--format={form}", self._tip, self._kept).splitlines()
        return {ref: Commit(commit, tree, int(when)) for ref, commit, tree, when in map(str.split, lines)}

    def _read(self, commit: Commit | None) -> tuple[Tree, Removed, bool]:
        """Return the tree of a commit, its list of removed files, and whether it has one."""
        if commit is None:
            return Tree(files={}, large=frozenset(), foreign=False), Removed(), True
        tree = parse_tree(self._git.read("ls-tree", "-z", "--long", commit.tree))
        removed = None
        if tree.removed:
            removed = parse_removed(dict(self._git.blobs([tree.removed], REMOVED_LIMIT))[tree.removed])
        return tree, removed or Removed(), removed is not None

    def _keep(self, commit: str) -> None:
        """Remember what the history holds, should the branch be rewritten; now and then, tidy up."""
        self._git.run("update-ref", self._kept, commit)
        with contextlib.suppress(GitError):  # housekeeping that takes too long goes on next time
            self._git.run("-c", "gc.auto=6700", "-c", "gc.autoDetach=false", "gc", "--auto", "--quiet")


def _state(
    tip: Commit | None, there: Tree, before: Tree, removed: Removed, forgotten: Removed, *, since: int, marked: bool
) -> State:
    """Join what the branch holds with what it held before, at the time `since`."""
    if removed.since and since <= removed.since:  # too long ago to know what was removed on purpose
        before, forgotten = there, removed
    gone = join_removed(forgotten, removed)
    back = {name: blob for name, blob in before.files.items() if name not in there.files and name not in gone.files}
    stale = there.files.keys() & gone.files.keys()
    return State(
        tip=tip.id if tip else "",
        tree=tip.tree if tip else "",
        files={name: blob for name, blob in there.files.items() if name not in stale} | back,
        lost=frozenset(back) - there.large,
        stale=frozenset(stale),
        removed=gone,
        large=there.large,
        ours=marked or not there.foreign,
    )
