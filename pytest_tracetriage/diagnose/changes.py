"""Which commits changed which functions between two commits. Git is only read: one log, and the files' contents."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_tracetriage.collect.functions import bodies_of

if TYPE_CHECKING:
    from pytest_tracetriage.store.history.git_plumbing import Git

    Place = tuple[str, str]

SHORT = 8
READ = 1500
"""Versions of files that are looked into; what more commits changed is not told."""
LARGEST = 1_000_000


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
    for blob, content in git.blobs(list(wanted)[:READ], LARGEST):
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
        return {body.function.name: body.function.digest for body in bodies_of("", content)}
    except ValueError:
        return {}
