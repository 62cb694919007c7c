"""A tree of a commit in a folder of its own, with a repository of its own that borrows the objects of the user's.

`git worktree add` would write into the user's `.git`. Here the user's repository is only read: it may be read-only, busy, or
bare of anything but objects.
"""

from __future__ import annotations

import os
import re
import shutil
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import Struct
from msgspec.structs import replace

from pytest_tracetriage.execute.claims import ExecuteError, claimed
from pytest_tracetriage.execute.copying import copy_folder, copy_ignored, copy_work_tree, reading
from pytest_tracetriage.store.history import HistoryError
from pytest_tracetriage.store.history.git_plumbing import Git, GitError, git_environment

if TYPE_CHECKING:
    from collections.abc import Iterator

CHECKOUT_LIMIT = 900.0
"""Seconds that git may take to write a tree."""
_CARRIED = r"^core\.(autocrlf|eol|safecrlf|symlinks|filemode|ignorecase|precomposeunicode|longpaths|bigfilethreshold)$"
_POINTER = re.compile(rb"version https://git-lfs\S*\n(?:ext-.*\n)*oid sha256:([0-9a-f]{64})\n")


class Worktree(Struct, frozen=True):
    """Where tests are run again."""

    root: Path
    """The top of the tree."""
    project: Path
    """The folder in it that stands for the user's project: pytest's current folder."""
    commit: str
    """The commit's full id; "" where there is no repository."""
    dirty: bool
    """Whether it holds the files as they lay in the user's tree, with what is not committed."""
    original: Path
    """The top of the user's tree."""
    folder: Path
    """The claimed folder that the tree lies in; what runs leave lies there too."""
    key_file: Path | None = None
    """The user's redaction key: under it secrets in node ids have the same stand-ins."""
    ignored: tuple[str, ...] = ()
    """Modules taken over from the user's tree although git ignores them."""
    problems: tuple[str, ...] = ()
    """What the tree lacks: submodules and LFS files that are not on this machine."""


class _Repository(Struct, frozen=True):
    top: Path
    common: Path
    objects: Path
    format: str


@contextmanager
def checkout(
    project: Path, commit: str, *, dirty: bool, cache: Path, folder: Path | None = None, take_ignored: bool = True
) -> Iterator[Worktree]:
    """Yield a tree of `commit` ("": the one that is checked out) of the repository that `project` lies in.

    With `dirty` its files are those of the user's tree as they are now, which only the checked-out commit can have. Without a
    repository it is a copy of the folder. `folder` is the project's `.tracetriage`. `take_ignored` takes over modules that git
    ignores, where no `prepare` builds them. The tree is removed in the end. Raises ExecuteError.
    """
    project = project.resolve()
    with claimed(cache) as claim:
        try:
            tree = _make(project, commit, claim, dirty, take_ignored)
        except HistoryError as error:
            raise ExecuteError(f"{project}: {error}") from None
        except GitError as error:
            raise ExecuteError(f"{project}: no worktree of {commit or 'HEAD'}: {error}") from None
        except OSError as error:
            raise ExecuteError(f"{error.filename or claim}: the worktree cannot be written: {error.strerror}") from None
        key = (folder or project / ".tracetriage") / "redaction.key"
        yield replace(tree, key_file=key if key.is_file() else None)


def switch(worktree: Worktree, commit: str, *, take_ignored: bool = True) -> Worktree:
    """Turn a tree of a commit into that of another; whatever was built or left in it is gone. Raises ExecuteError."""
    if worktree.dirty or not worktree.commit:
        raise ExecuteError(f"{worktree.original}: a copy of uncommitted changes cannot become another commit")
    try:
        repository = _repository(worktree.original)
        assert repository is not None
        commit = _resolve(repository, commit)
        problems = _check_out(repository, commit, worktree.root)
        ignored = _ignored(repository, commit, worktree.root) if take_ignored else ()
    except (GitError, HistoryError) as error:
        raise ExecuteError(f"{worktree.original}: no worktree of {commit}: {error}") from None
    except OSError as error:
        raise ExecuteError(f"{error.filename}: the worktree cannot be written: {error.strerror}") from None
    return replace(worktree, commit=commit, problems=problems, ignored=ignored)


def head(project: Path) -> str:
    """Return the commit that is checked out in the user's tree, "" where there is none. Raises ExecuteError."""
    try:
        repository = _repository(project)
        return _head(repository) if repository is not None else ""
    except (GitError, HistoryError) as error:
        raise ExecuteError(f"{project}: {error}") from None


def _make(project: Path, commit: str, claim: Path, dirty: bool, take_ignored: bool) -> Worktree:
    root = claim / "tree"
    repository = _repository(project)
    if repository is None:
        if commit:
            raise ExecuteError(f"{project}: is in no git repository, so there is no commit {commit} of it")
        copy_folder(project, root, without=(claim.parent,))
        return Worktree(root, root, "", True, project, claim)
    top = repository.top
    inside = root / project.relative_to(top)
    checked_out = _head(repository)
    commit = _resolve(repository, commit) if commit else checked_out
    if not dirty and commit:
        problems = _check_out(repository, commit, root)
        ignored = _ignored(repository, commit, root) if take_ignored else ()
        if not inside.is_dir():
            raise ExecuteError(f"{project}: the folder does not exist in commit {commit[:12]}")
        return Worktree(root, inside, commit, False, top, claim, ignored=ignored, problems=problems)
    if commit != checked_out:
        raise ExecuteError(
            f"{top}: uncommitted changes belong to {checked_out[:12]}, which is checked out, and not to {commit[:12]}"
        )
    root.mkdir()
    git = _new_repository(root, repository, commit) if commit else None
    copy_work_tree(top, root)
    if not any(inside.glob("*")):  # git knows nothing of the project: it lies in an ignored folder
        copy_folder(project, inside, without=(claim.parent,))
    if git is not None:
        git.run("read-tree", commit, limit=CHECKOUT_LIMIT)
    ignored = tuple(copy_ignored(top, root, compiled=True)) if take_ignored else ()
    return Worktree(root, inside, commit, True, top, claim, ignored=ignored)


# -- the user's repository, which is only read ----------------------------------------------------------------------------


def _repository(project: Path) -> _Repository | None:
    if not any((folder / ".git").exists() for folder in (project, *project.parents)):
        return None
    if shutil.which("git") is None:
        raise ExecuteError(f"{project}: is in a git repository, and git was not found on PATH: install it")
    git = reading(project)

    def ask(*arguments: str) -> str:
        return git.run("rev-parse", *arguments).removesuffix("\n")

    top = ask("--show-toplevel")
    if not top:
        return None
    common = project / ask("--git-common-dir")
    return _Repository(Path(top), common.resolve(), (project / ask("--git-path", "objects")).resolve(), _format(git))


def _format(git: Git) -> str:
    return git.run("rev-parse", "--show-object-format").strip() or "sha1"


def _head(repository: _Repository) -> str:
    try:
        return reading(repository.top).run("rev-parse", "--verify", "--quiet", "HEAD^{commit}").strip()
    except GitError:
        return ""  # nothing was committed so far


def _resolve(repository: _Repository, commit: str) -> str:
    if commit.startswith("-") or "\0" in commit:
        raise ExecuteError(f"{commit!r} is no commit")
    try:
        return reading(repository.top).run("rev-parse", "--verify", "--quiet", f"{commit}^{{commit}}").strip()
    except GitError:
        raise ExecuteError(f"{repository.top}: there is no commit {commit} here: fetch it, or name another") from None


# -- our own repository ---------------------------------------------------------------------------------------------------


def _own(root: Path) -> Git:
    """Return git in a tree of ours. No setting of the user's is read: a filter could reach the network."""
    environment = git_environment((("advice.detachedHead", "false"), ("core.fsmonitor", "false")))
    environment |= {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1", "GIT_LFS_SKIP_SMUDGE": "1"}
    return Git(("-C", str(root)), environment)


def _new_repository(root: Path, repository: _Repository, commit: str) -> Git:
    """Make a repository in `root` that has the user's objects and tags, with `commit` as its HEAD."""
    git = _own(root)
    git.run("init", "--quiet", "--template=", f"--object-format={repository.format}")
    own = root / ".git"
    (own / "objects" / "info").mkdir(exist_ok=True)
    alternates = "".join(f"{_quoted(path)}\n" for path in _object_folders(repository.objects))
    (own / "objects" / "info" / "alternates").write_bytes(os.fsencode(alternates))
    user = reading(repository.top)
    tags = user.run("for-each-ref", "--format=%(objectname) %(refname)", "refs/tags", limit=CHECKOUT_LIMIT)
    (own / "packed-refs").write_bytes(os.fsencode(tags))
    (own / "HEAD").write_text(f"{commit}\n", encoding="ascii")
    for name in ("shallow", "info/attributes", "info/exclude"):
        if (repository.common / name).is_file():
            (own / name).parent.mkdir(exist_ok=True)
            shutil.copyfile(repository.common / name, own / name)
    for line in _carried(user):
        key, _, value = line.partition("\n")
        git.run("config", key, value)
    return git


def _carried(user: Git) -> list[str]:
    try:
        return [line for line in user.run("config", "-z", "--get-regexp", _CARRIED).split("\0") if line]
    except GitError:
        return []


def _object_folders(objects: Path) -> list[Path]:
    """Return an object folder and those that it borrows from: git follows no relative ones of another repository."""
    found: list[Path] = []
    waiting = [objects]
    while waiting:
        folder = waiting.pop()
        if folder in found:
            continue
        found.append(folder)
        try:
            text = os.fsdecode((folder / "info" / "alternates").read_bytes())
        except OSError:
            continue
        waiting += [(folder / line).resolve() for line in text.splitlines() if line and not line.startswith(("#", '"'))]
    return found


def _quoted(path: Path) -> str:
    text = str(path)
    if not any(character in text for character in '\n\t\r"\\#'):
        return text
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\t", "\\t").replace("\r", "\\r")
    return f'"{escaped}"'


def _check_out(repository: _Repository, commit: str, root: Path) -> tuple[str, ...]:
    """Make `root` the tree of a commit, submodules included; return what it lacks."""
    if (root / ".git").exists():
        git = _own(root)
        git.run("clean", "-ffdxq", limit=CHECKOUT_LIMIT)
    else:
        root.mkdir(parents=True, exist_ok=True)
        git = _new_repository(root, repository, commit)
    git.run("checkout", "--quiet", "--force", "--detach", commit, "--", limit=CHECKOUT_LIMIT)
    git.run("clean", "-ffdxq", limit=CHECKOUT_LIMIT)
    lacking = _large_files(git, repository, root)
    for entry in git.run("ls-files", "-z", "--stage", limit=CHECKOUT_LIMIT).split("\0"):
        if entry.startswith("160000 "):
            facts, _, path = entry.partition("\t")
            lacking += _submodule(repository, path, facts.split()[1], root)
    return tuple(lacking)


def _submodule(repository: _Repository, path: str, commit: str, root: Path) -> list[str]:
    target = root / path
    for found in _modules(repository, path, root):
        try:
            found_commit = Git(("--git-dir", str(found.common)), git_environment()).run("cat-file", "-t", commit).strip()
            if found_commit == "commit":
                return [f"{path}/{lack}" for lack in _check_out(found, commit, target)]
        except GitError:
            continue
    shutil.rmtree(target, ignore_errors=True)  # what it was at the commit before
    target.mkdir(parents=True, exist_ok=True)
    return [f"submodule {path}: commit {commit[:12]} is not on this machine"]


def _modules(repository: _Repository, path: str, root: Path) -> Iterator[_Repository]:
    """Yield where the repository of a submodule may lie: checked out, or kept by git under the submodule's name."""
    checked_out = repository.top / path
    try:
        if (checked_out / ".git").exists() and (known := _repository(checked_out)) is not None:
            yield known
        names = _own(root).run("config", "-z", "-f", ".gitmodules", "--get-regexp", r"^submodule\..*\.path$")
    except GitError:
        return
    kept = repository.common / "modules"
    for entry in names.split("\0"):
        key, _, value = entry.partition("\n")
        folder = Path(os.path.normpath(kept / key[len("submodule.") : -len(".path")]))
        if value == path and folder.is_relative_to(kept) and (folder / "objects").is_dir():
            kind = _format(Git(("--git-dir", str(folder)), git_environment()))
            yield _Repository(checked_out, folder, folder / "objects", kind)


def _large_files(git: Git, repository: _Repository, root: Path) -> list[str]:
    """Put the contents of LFS files in the place of their pointers, where the user's repository keeps them."""
    try:
        names = git.run("ls-files", "-z", ":(attr:filter=lfs)", limit=CHECKOUT_LIMIT).split("\0")
    except GitError:
        return []
    lacking = []
    for name in filter(None, names):
        path = root / name
        if path.is_symlink() or not path.is_file() or path.stat().st_size > 1024:
            continue
        pointer = _POINTER.match(path.read_bytes())
        if pointer:
            oid = pointer[1].decode()
            kept = repository.common / "lfs" / "objects" / oid[:2] / oid[2:4] / oid
            if kept.is_file():
                shutil.copyfile(kept, path)
            else:
                lacking.append(f"{name}: its LFS content is not on this machine")
    return lacking


def _ignored(repository: _Repository, commit: str, root: Path) -> tuple[str, ...]:
    """Take over ignored modules; compiled ones only where they were built from this commit."""
    return tuple(copy_ignored(repository.top, root, compiled=commit == _head(repository)))
