"""A history on a git branch of its own, which shares nothing with the project's: `git:tracetriage-history`."""

from __future__ import annotations

import random
import re
import time
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from msgspec import Struct

from pytest_tracetriage.store.history import HistoryError, one_line
from pytest_tracetriage.store.history.git_cache import Cache, State
from pytest_tracetriage.store.history.git_plumbing import GitError
from pytest_tracetriage.store.history.git_remote import Remote, check_branch, explained, find_remote
from pytest_tracetriage.store.history.git_tree import FILE_LIMIT, FILE_NAME
from pytest_tracetriage.store.runs import write_atomically

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

PUT_LIMIT = 60.0
"""Seconds within which a push that others overtake is tried again."""
SAME_LIMIT = 4
"""How often a push may be refused although nobody was faster."""
REWRITE_FROM = 16
"""How many files must be removed at once, and half of all, for the branch to lose its past with them."""
UNUSED = 3600.0
"""Seconds after which a cached file that the history no longer holds is deleted."""
T = TypeVar("T")


class Refusal(Struct, frozen=True):
    """A push that the remote did not take, and that may be worth another try."""

    tip: str
    """What the branch ended with before it."""
    reason: str


class GitLocation:
    """A branch of the project's remote, or of its own repository when it has no remote, as a `Location`.

    The project's work tree, index, HEAD, settings and hooks are never touched: all happens in a bare repository of our own in
    `cache`. Files that the branch lost when somebody rewrote it are put back with the next `put`; `notes` then says so.
    """

    keeps_past = True
    """What is put here stays in the past of the branch when it is removed."""

    def __init__(self, branch: str, rootdir: Path, cache: Path, token: str = "", remote: str = "origin") -> None:
        """Nothing is read yet. `token` logs in over HTTP; it stands on no command line and in no message."""
        self.name = f"git:{branch}"
        self.notes: list[str] = []
        self._branch = branch
        self._rootdir = rootdir
        self._folder = cache
        self._token = token
        self._wanted = remote
        self._found: tuple[Remote, Cache] | None = None
        self._state: State | None = None

    def names(self) -> frozenset[str]:
        """Return the names of all files there now, and of those that the branch lost. Raises HistoryError."""
        return frozenset(self._working("read", self._refresh).files)

    def fetch(self, names: frozenset[str]) -> dict[str, str]:
        """Return the local path of each of these files, in `<cache>/files`; damaged ones are replaced. Raises HistoryError."""
        return self._working("read", lambda: self._bring(names)) if names else {}

    def put(self, files: dict[str, bytes], remove: frozenset[str] = frozenset(), message: str = "") -> None:
        """Write and remove files by one commit, on top of what others pushed meanwhile. Raises HistoryError."""
        for name, content in files.items():
            if not FILE_NAME.fullmatch(name) or len(content) > FILE_LIMIT:
                raise HistoryError(f"{one_line(name)!r}: not a file for branch {self._shown}: odd name, or beyond 256 MiB")
        remove -= files.keys()
        deadline = time.monotonic() + PUT_LIMIT
        before, same, pause, may_rewrite = Refusal("", ""), 0, 0.1, True
        while True:
            refusal = self._working("write", partial(self._try, files, remove, message, may_rewrite=may_rewrite))
            if refusal is None:
                return
            same = same + 1 if refusal.tip == before.tip else 1
            may_rewrite = may_rewrite and same < 2
            if same > SAME_LIMIT or time.monotonic() + pause > deadline:
                raise HistoryError(self._cannot("write", refusal.reason))
            before = refusal
            time.sleep(random.uniform(pause / 2, pause))  # noqa: S311
            pause = min(4.0, pause * 2)

    def _try(self, files: dict[str, bytes], remove: frozenset[str], message: str, *, may_rewrite: bool) -> Refusal | None:
        state = self._refresh()
        if not state.ours:
            raise HistoryError(
                f"branch {self._shown} of {self._remote.label} holds other things than a history: choose another branch"
            )
        cache = self._cache
        new = {name: content for name, content in files.items() if state.files.get(name) != cache.blob_id(content)}
        dropped = state.files.keys() & remove
        if not (new or remove - state.removed.files.keys() or state.lost or state.stale):
            return None
        anew = may_rewrite and bool(state.tip) and len(dropped) >= REWRITE_FROM and 2 * len(dropped) >= len(state.files)
        commit = cache.commit(state, message, new, remove, anew=anew)
        try:
            cache.push(commit, over=state.tip if anew else "")
        except GitError as error:
            found = re.search(r"^!\t.*\t(.*)$", error.output, re.MULTILINE)
            if not found:
                raise
            return Refusal(state.tip, f"{found[1]} {error}")
        if back := len(state.lost - remove):
            count = "1 file" if back == 1 else f"{back} files"
            self._note(
                f"{count} that branch {self._shown} lost when it was rewritten {'was' if back == 1 else 'were'} put back"
            )
        self._state = None
        self._forget(frozenset(state.files) - dropped | new.keys())
        return None

    def _bring(self, names: frozenset[str]) -> dict[str, str]:
        if self._state is not None and names <= self._state.files.keys():
            try:
                return self._copied(names, self._state)
            except GitError:  # damaged, or made anew by another process since
                pass
        state = self._refresh()
        if missing := sorted(names - state.files.keys()):
            raise HistoryError(f"branch {self._shown} of {self._remote.label} holds no file {one_line(missing[0])!r}")
        return self._copied(names, state)

    def _copied(self, names: frozenset[str], state: State) -> dict[str, str]:
        folder = self._folder / "files"
        folder.mkdir(parents=True, exist_ok=True)
        wanted: dict[str, list[Path]] = {}
        for name in names:
            if not self._is_cached(folder / name, state.files[name]):
                wanted.setdefault(state.files[name], []).append(folder / name)
        for blob, content in self._cache.blobs(set(wanted)):
            for path in wanted[blob]:
                write_atomically(path, content)
        return {name: str(folder / name) for name in names}

    def _is_cached(self, path: Path, blob: str) -> bool:
        try:
            if self._cache.blob_id(path.read_bytes()) != blob:
                return False
            path.touch()  # in use: not to be forgotten
        except OSError:
            return False
        return True

    def _forget(self, held: frozenset[str]) -> None:
        """Delete cached files that the history no longer holds, unless they were asked for lately."""
        for path in (self._folder / "files").glob("*"):
            try:
                if path.name not in held and time.time() - path.stat().st_mtime > UNUSED:
                    path.unlink()
            except OSError:
                pass

    def _refresh(self) -> State:
        self._state = self._cache.refresh()
        for name in sorted(self._state.large):
            self._note(f"{name} of branch {self._shown} is larger than 256 MiB and was left out")
        return self._state

    def _note(self, note: str) -> None:
        if note not in self.notes:
            self.notes.append(note)

    def _working(self, verb: str, step: Callable[[], T]) -> T:
        try:
            return self._cache.working(step)
        except GitError as error:
            raise HistoryError(self._cannot(verb, str(error))) from None
        except OSError as error:
            raise HistoryError(
                f"{self._folder}: {error.strerror or error}: the history of {self.name} needs this folder"
            ) from None

    def _cannot(self, verb: str, reason: str) -> str:
        return f"cannot {verb} branch {self._shown} of {self._remote.label}: {explained(reason)}"

    @property
    def _shown(self) -> str:
        return one_line(self._branch)

    @property
    def _remote(self) -> Remote:
        return self._open()[0]

    @property
    def _cache(self) -> Cache:
        return self._open()[1]

    def _open(self) -> tuple[Remote, Cache]:
        if self._found is None:
            remote = find_remote(self._rootdir, self._wanted, self._token)
            check_branch(remote.git("-C", str(self._rootdir)), self._branch)
            self._found = remote, Cache(self._folder, remote, self._branch)
        return self._found
