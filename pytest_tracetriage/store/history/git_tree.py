"""What a commit of the history branch holds: a flat list of files, and a list of those that were removed on purpose."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from msgspec import Struct

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

FILE_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,199}")
FILE_LIMIT = 256 * 1024 * 1024
"""Bytes of the largest file that is taken."""
REMOVED = ".removed"
"""The file of a tree that names what was removed: a file that is neither there nor named here was lost."""
REMOVED_KEPT = 5000
"""How many removed files are named before the oldest are forgotten."""
REMOVED_LIMIT = 4 * 1024 * 1024

_HEADER = "tracetriage-history 1"
_IDENTITY = "TraceTriage <tracetriage@users.noreply.invalid>"


class Removed(Struct, frozen=True):
    """Files that were removed on purpose, with the time of it in seconds since the epoch."""

    files: dict[str, int] = {}
    again: dict[str, int] = {}
    """Files that were put again after they had been removed."""
    since: int = 0
    """What was removed up to then may be missing here."""


class Tree(Struct, frozen=True):
    """A tree, as far as a history can use it."""

    files: dict[str, str]
    """File name -> blob id."""
    large: frozenset[str]
    """Files beyond the limit."""
    foreign: bool
    """Whether it holds what nobody would put into a history: folders, links, other kinds of files."""
    removed: str = ""
    """Blob id of the list of removed files; "" when there is none."""


def join_removed(old: Removed, new: Removed) -> Removed:
    """Return the last word on each file; where two are of one second, the one of `new`."""
    words = _words(old)
    for name, word in _words(new).items():
        if word[0] >= words.get(name, word)[0]:
            words[name] = word
    return Removed(
        files={name: time for name, (time, gone) in words.items() if gone},
        again={name: time for name, (time, gone) in words.items() if not gone},
        since=new.since,
    )


def _words(removed: Removed) -> dict[str, tuple[int, bool]]:
    again = {name: (time, False) for name, time in removed.again.items()}
    return again | {name: (time, True) for name, time in removed.files.items()}


def parse_tree(listing: bytes) -> Tree:
    """Return what `git ls-tree -z --long` lists. Only plain files with harmless names are taken."""
    files, large, foreign, removed = {}, set(), False, ""
    for line in listing.split(b"\0"):
        head, tab, raw = line.partition(b"\t")
        if not tab:
            continue
        mode, _, blob, size = head.decode("ascii", "replace").split()
        name = raw.decode("utf-8", "replace")
        if mode == "100644" and name == REMOVED and size.isdecimal() and int(size) <= REMOVED_LIMIT:
            removed = blob
        elif mode != "100644" or not FILE_NAME.fullmatch(name) or not size.isdecimal():
            foreign = True
        elif int(size) > FILE_LIMIT:
            large.add(name)
        else:
            files[name] = blob
            foreign |= not name.endswith((".parquet", ".coverage"))
    return Tree(files=files, large=frozenset(large), foreign=foreign, removed=removed)


def parse_removed(content: bytes) -> Removed | None:
    """Return the list that a `.removed` file holds, without its faulty lines; None when it is not one of ours."""
    lines = content.decode("utf-8", "replace").split("\n")
    found = re.fullmatch(rf"{_HEADER} ([0-9]{{1,12}})", lines[0])
    if not found:
        return None
    files: dict[str, int] = {}
    again: dict[str, int] = {}
    for line in lines[1:]:
        time, _, name = line.partition(" ")
        plain = name.removeprefix("+")
        if FILE_NAME.fullmatch(plain) and re.fullmatch(r"[0-9]{1,12}", time):
            (files if plain == name else again)[plain] = int(time)
    return Removed(files=files, again=again, since=int(found[1]))


def format_removed(removed: Removed) -> bytes:
    """Return the content of a `.removed` file; the oldest beyond the limit are left out, and the header says since when."""
    words = _words(removed).items()
    lines = sorted(((time, name if gone else f"+{name}") for name, (time, gone) in words), reverse=True)
    since = max([removed.since, *(time for time, _ in lines[REMOVED_KEPT:])])
    text = "".join(f"{time} {name}\n" for time, name in sorted(lines[:REMOVED_KEPT]))
    return f"{_HEADER} {since}\n{text}".encode()


def commit_stream(
    *,
    ref: str,
    message: str,
    time: int,
    parent: str,
    tree: str,
    contents: Iterable[bytes],
    files: Mapping[str, str],
    gone: Iterable[str],
    removed: Removed,
) -> bytes:
    """Return what tells `git fast-import` to write `contents` as blobs, and a commit of them at `ref`.

    The commit follows `parent`, or starts anew from a `tree` (both ids, "" for none), and changes it: `files` (name -> blob id)
    come in, those `gone` go.
    """
    text = _message(message).encode()
    parts = [b"blob\ndata %d\n%b\n" % (len(content), content) for content in contents]
    parts += [f"commit {ref}\ncommitter {_IDENTITY} {time} +0000\n".encode(), b"data %d\n%b\n" % (len(text), text)]
    if parent:
        parts.append(f"from {parent}\n".encode())
    elif tree:
        parts.append(f'M 040000 {tree} ""\n'.encode())
    parts += [f"D {name}\n".encode() for name in sorted(gone)]
    parts += [f"M 100644 {blob} {name}\n".encode() for name, blob in sorted(files.items())]
    listed = format_removed(removed)
    parts += [f"M 100644 inline {REMOVED}\n".encode(), b"data %d\n%b\n" % (len(listed), listed)]
    return b"".join(parts)


def _message(text: str) -> str:
    clean = "".join(character if character.isprintable() or character == "\n" else " " for character in text)
    return f"{clean.strip() or 'History of test runs'}\n"
