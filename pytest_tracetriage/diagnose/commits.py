"""The commits between two: their line, and which files and functions each changed. Git is only read."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import Struct

from pytest_tracetriage.collect.functions import bodies_of, parsed
from pytest_tracetriage.store.history import HistoryError
from pytest_tracetriage.store.history.git_plumbing import Git, GitError, git_environment

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    Place = tuple[str, str]


READ_LIMIT = 1500
"""How many versions of files are looked into; beyond, a search takes a file as changed in all it holds."""
SIZE_LIMIT = 1_000_000
SHORT = 8
DEPENDENCY_FILES = ("pyproject.toml", "setup.py", "setup.cfg", "Pipfile", "Pipfile.lock", "poetry.lock", "uv.lock", "pdm.lock")
"""Files that say what a project needs, beside `requirements*.txt` and `constraints*.txt`."""
_PROSE = (".md", ".rst", ".png", ".jpg", ".jpeg", ".gif", ".svg", ".ico", ".adoc")
_PROSE_NAMES = ("license", "copying", "authors", "changelog", "changes", "notice", "readme", "codeowners")


class Changed(Struct, frozen=True):
    """One file that a commit changed. `functions` are qualified names that it changed or removed, of a Python file.

    `beside` says that it changed what stands in no function, or added a method or a decorated function, which may be called
    unasked; `added` that it has other functions which it had not; all without comments and layout. `unread` says that nobody
    looked into it.
    """

    file: str
    functions: tuple[str, ...] = ()
    beside: bool = False
    added: bool = False
    unread: bool = False


class Commit(Struct, frozen=True):
    """One commit of the line. `parents` and `tree` are full ids; `changed` is against its first parent."""

    id: str
    tree: str
    parents: tuple[str, ...]
    subject: str
    changed: tuple[Changed, ...] = ()


class UnsearchableError(Exception):
    """Nothing can be searched between these ends; the text is for people."""


class Repository:
    """A repository that is asked, and never written to."""

    def __init__(self, folder: Path) -> None:
        """`folder` lies in its work tree. Raises UnsearchableError."""
        settings = (("core.fsmonitor", "false"), ("core.quotePath", "false"))
        self.folder = folder
        self._git = Git(("-C", str(folder)), git_environment(settings))
        try:
            self.top = Path(self._git.run("rev-parse", "--show-toplevel").removesuffix("\n")).resolve()
        except (GitError, HistoryError) as error:
            raise UnsearchableError(f"{folder}: commits are searched in a git repository: {error}") from None

    def resolve(self, name: str) -> str:
        """Return the full id of a commit. Raises UnsearchableError."""
        if not name or name.startswith("-"):
            raise UnsearchableError(f"{name!r} is no commit")
        try:
            return self._git.run("rev-parse", "--verify", "--quiet", f"{name}^{{commit}}").strip()
        except GitError:
            raise UnsearchableError(f"{self.folder}: there is no commit {name} here: fetch it, or name another") from None
        except HistoryError as error:
            raise UnsearchableError(f"{self.folder}: {error}") from None

    def commit(self, name: str) -> Commit:
        """Return one commit, without what it changed. Raises UnsearchableError."""
        return self._log("--no-walk", self.resolve(name))[0]

    def is_ancestor(self, older: str, newer: str) -> bool:
        """Return whether `newer` contains `older`."""
        try:
            self._git.run("merge-base", "--is-ancestor", older, newer)
        except GitError:
            return False
        return True

    def line(self, good: str, bad: str) -> list[Commit]:
        """Return the good end and all after it up to `bad`, along first parents, without what they changed.

        The first is `good` itself, or, where `bad` did not grow from it in a straight line, the commit that they share.
        Raises UnsearchableError where `bad` has nothing that `good` lacks.
        """
        if good == bad:
            raise UnsearchableError("the good and the bad end are the same commit")
        after = self._log("--first-parent", "--reverse", f"{good}..{bad}")
        if not after:
            raise UnsearchableError(f"{bad[:12]} has no commit that {good[:12]} lacks: are good and bad the wrong way round?")
        if not after[0].parents:
            raise UnsearchableError(f"{good[:12]} and {bad[:12]} have no history in common")
        return [*self._log("--no-walk", after[0].parents[0]), *after]

    def branch_of(self, merge: Commit) -> list[Commit]:
        """Return the line that a merge brought in: from where it left, along its commits, to the merge. Empty for no merge."""
        if len(merge.parents) != 2:
            return []
        side = self._log("--first-parent", "--reverse", f"{merge.parents[0]}..{merge.parents[1]}")
        if not side or not side[0].parents:
            return []
        return [*self._log("--no-walk", side[0].parents[0]), *side, merge]

    def _log(self, *arguments: str) -> list[Commit]:
        try:
            text = self._git.run(
                "log", "-z", "--format=%H%x1f%T%x1f%P%x1f%s", "--no-show-signature", *arguments, "--", limit=300.0
            )
        except (GitError, HistoryError) as error:
            raise UnsearchableError(f"{self.folder}: {error}") from None
        found = []
        for record in filter(None, text.split("\0")):
            commit, tree, parents, subject = record.split("\x1f", 3)
            found.append(Commit(commit, tree, tuple(parents.split()), subject))
        return found

    def with_changes(self, line: Sequence[Commit]) -> list[Commit]:
        """Return the line with what each commit after the first changed. What cannot be read counts as changed whole."""
        by_commit = self._files(line[1:])
        listed = [(commit, by_commit.get(commit.id, [])) for commit in line[1:]]
        wanted: dict[str, None] = {}
        for _, files in listed:
            for name, before, after in files:
                if name.endswith(".py"):
                    wanted |= dict.fromkeys(blob for blob in (before, after) if blob.strip("0"))
        outlines = self._outlines(list(wanted)[:READ_LIMIT])
        return [line[0], *(_changed(commit, files, outlines) for commit, files in listed)]

    def _files(self, commits: Sequence[Commit]) -> dict[str, list[tuple[str, str, str]]]:
        """Return, by commit, name, blob before and blob after of each file that differs from its first parent."""
        asked = "".join(f"{' '.join((commit.id, *commit.parents[:1]))}\n" for commit in commits)
        arguments = ("diff-tree", "--stdin", "-r", "-z", "--root", "--raw", "--no-renames", "--no-abbrev")
        try:
            text = self._git.run(*arguments, stdin=asked.encode(), limit=300.0)
        except (GitError, HistoryError):
            return {}
        found: dict[str, list[tuple[str, str, str]]] = {}
        parts = iter(text.split("\0"))
        commit = ""
        for part in parts:
            if not part.startswith(":"):
                commit = part
                continue
            _, _, before, after, _ = part.split()
            found.setdefault(commit, []).append((next(parts), before, after))
        return found

    def _outlines(self, blobs: Sequence[str]) -> dict[str, Outline | None]:
        found: dict[str, Outline | None] = {}
        try:
            for blob, content in self._git.blobs(self._git.within(blobs, SIZE_LIMIT), SIZE_LIMIT):
                found[blob] = outline(content)
        except (GitError, HistoryError):
            pass
        return found

    def dependencies(self, commit: str) -> str:
        """Return what names the state of the files that say what the project needs: the same for the same files."""
        try:
            text = self._git.run("ls-tree", "-r", "-z", commit, limit=300.0)
        except (GitError, HistoryError):
            return ""
        entries = (entry.partition("\t") for entry in text.split("\0") if entry)
        return "\n".join(sorted(f"{name} {facts.split()[2]}" for facts, _, name in entries if is_dependency_file(name)))


class Outline(Struct, frozen=True):
    """What a Python file holds, without comments and layout: each function's digest, and that of the rest."""

    functions: dict[str, int]
    rest: int
    plain: frozenset[str] = frozenset()
    """Functions of the module itself without a decorator: nothing happens until somebody calls them."""


def outline(content: bytes) -> Outline | None:
    """Return the outline of a Python file, None where it cannot be parsed."""
    functions: dict[str, int] = {}
    try:
        tree = parsed(content)
        rest = _outlined(tree, "", functions)
    except (ValueError, RecursionError, MemoryError):
        return None
    plain = (node.name for node in tree.body if isinstance(node, ast.FunctionDef) and not node.decorator_list)
    return Outline(functions, hash(rest), frozenset(plain))


def _outlined(node: ast.AST, prefix: str, functions: dict[str, int]) -> str:
    """Return what a module or class holds beside its functions, and add those to `functions`."""
    rest = []
    for child in getattr(node, "body", []):
        if isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef)):
            if isinstance(child.body[0], ast.Expr) and isinstance(child.body[0].value, ast.Constant):
                del child.body[0]  # what it says of itself
            name = f"{prefix}{child.name}"
            functions[name] = hash((functions.get(name), ast.dump(child)))  # a getter and its setter share a name
        elif isinstance(child, ast.ClassDef):
            named = ast.ClassDef(child.name, child.bases, child.keywords, [], child.decorator_list)
            rest.append(ast.dump(named) + _outlined(child, f"{prefix}{child.name}.", functions))
        else:
            rest.append(ast.dump(child))
    return "\n".join(rest)


def _changed(commit: Commit, files: Iterable[tuple[str, str, str]], outlines: Mapping[str, Outline | None]) -> Commit:
    found = []
    nothing = Outline({}, hash(""))
    for name, before, after in files:
        old = outlines.get(before) if before.strip("0") else nothing
        new = outlines.get(after) if after.strip("0") else nothing
        if not name.endswith(".py") or old is None or new is None:
            found.append(Changed(name, unread=True))
            continue
        functions = tuple(key for key, digest in old.functions.items() if new.functions.get(key) != digest)
        added = new.functions.keys() - old.functions.keys()
        beside = old.rest != new.rest or bool(added - new.plain)
        found.append(Changed(name, functions, beside, bool(added)))
    return Commit(commit.id, commit.tree, commit.parents, commit.subject, tuple(found))


def is_dependency_file(name: str) -> bool:
    """Return whether a file says what a project needs."""
    last = name.rsplit("/", 1)[-1]
    return last in DEPENDENCY_FILES or (last.startswith(("requirements", "constraints")) and last.endswith(".txt"))


def is_prose(name: str) -> bool:
    """Return whether a file is for readers only, as far as its name tells."""
    last = name.rsplit("/", 1)[-1].lower()
    return last.endswith(_PROSE) or last.split(".")[0] in _PROSE_NAMES


# -- functions, by the commits that changed them --------------------------------------------------------------------------


def changed_by(git: Git, old: str, new: str, prefix: str = "") -> dict[Place, tuple[str, ...]]:
    """Return the functions (file, qualified name) that are new or other than in `old`, with the short ids of the commits.

    `prefix` is where the project lies in the repository: files are named from there. A change that was taken back is none.
    Raises GitError, HistoryError.
    """
    format_ = ("--format=%x01%H", "--raw", "-z", "--no-renames", "--no-abbrev", "--no-show-signature", "-m", "--first-parent")
    text = git.run("log", *format_, "--reverse", f"{old}..{new}", "--", f":(top){prefix}", limit=60.0)
    touched = _touched(text, prefix)
    wanted = dict.fromkeys(blob for _, _, before, after in touched for blob in (before, after) if blob.strip("0"))
    versions: dict[str, dict[str, str]] = {}
    for blob, content in git.blobs(git.within(list(wanted)[:READ_LIMIT], SIZE_LIMIT), SIZE_LIMIT):
        versions[blob] = _functions(content)
    first: dict[str, str] = {}
    last: dict[str, str] = {}
    found: dict[Place, dict[str, None]] = {}
    for commit, file, before, after in touched:
        if any(blob.strip("0") and blob not in versions for blob in (before, after)):
            continue
        first.setdefault(file, before)
        last[file] = after
        old_ones, new_ones = versions.get(before, {}), versions.get(after, {})
        for name, digest in new_ones.items():
            if old_ones.get(name) != digest:
                found.setdefault((file, name), {})[commit] = None
    return {
        (file, name): tuple(commits)
        for (file, name), commits in found.items()
        if (now := versions.get(last[file], {}).get(name)) is not None and now != versions.get(first[file], {}).get(name)
    }


def _touched(text: str, prefix: str) -> list[tuple[str, str, str, str]]:
    """Return commit, file, blob before and blob after of each change of a Python file, oldest first."""
    found = []
    commit = ""
    parts = iter(text.split("\0"))
    for part in parts:
        _, mark, name = part.rpartition("\x01")
        if mark:
            commit = name[:SHORT]
        elif part.lstrip("\n").startswith(":"):
            _, _, before, after, _ = part.split()
            name = next(parts)
            if name.endswith(".py") and name.startswith(prefix):
                found.append((commit, name[len(prefix) :], before, after))
    return found


def _functions(content: bytes) -> dict[str, str]:
    try:
        bodies = bodies_of("", content)
    except ValueError:
        return {}
    found: dict[str, str] = {}
    for body in bodies:  # a getter and its setter share a name
        found[body.function.name] = found.get(body.function.name, "") + body.function.digest
    return found
