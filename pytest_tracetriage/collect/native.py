"""Tracebacks as Python itself prints them, with chains and exception groups."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from msgspec import Struct
from msgspec.structs import replace

from pytest_tracetriage.collect.bounds import bounded_error, bounded_frame, plain
from pytest_tracetriage.collect.entries import split_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_tracetriage.model.trace import Error, Frame

HEADER = re.compile(r"(?: *\+ Exception Group )?Traceback \(most recent call last\):\s*$")
LINKS = {
    "The above exception was the direct cause of the following exception:": "cause",
    "During handling of the above exception, another exception occurred:": "context",
}
"""What is printed between two exceptions of a chain, and what it makes the first one."""

_MARGIN = re.compile(r"((?:  )+)[|+] ?(?!-)")
_MEMBER = re.compile(r"( *)(?:\+-)?\+-{3,}(?: (\d+|\.\.\.) -{3,})?\s*$")
_FRAME = re.compile(r'  File "(.*)", line (\d+)(?:, in (.*))?$')
_MAX_DEPTH = 50


class _Open:
    """A traceback that is being read: the lines of one exception at one depth."""

    def __init__(self) -> None:
        self.frames: list[Frame] = []
        self.text: list[str] = []
        self.place = ""

    def feed(self, line: str) -> None:
        if self.text:
            self.text.append(line)
        elif found := _FRAME.match(line):
            self.place = line if found[3] is None else ""
            if found[3] is not None:
                self.frames.append(bounded_frame(found[1], found[3].strip(), int(found[2][:9]), ""))
        elif line.startswith("    ") and self.frames and not self.place:
            if not self.frames[-1].code and line.strip(" ^~"):
                self.frames[-1] = replace(self.frames[-1], code=line.strip()[:500])
        elif line[:1] not in {" ", ""}:
            self.text.append(line)

    def error(self) -> Error | None:
        text = plain("\n".join(self.text).rstrip())
        if not text:
            return None
        type_, message = split_text(f"{self.place}\n{text}" if self.place else text)
        if not type_:
            # The first word before a colon is a type here, whatever it looks like.
            head, colon, rest = text.partition(": ")
            type_, message = (head, rest) if colon and " " not in head and "\n" not in head else ("", text)
        return bounded_error(type_, message, self.frames)


class _Node(Struct):
    """A finished exception: the index of what it led to or stands in, and how."""

    error: Error
    link: str
    parent: int


class _Reader:
    """Builds the tree of a printed traceback line by line. Depth 1 is the outermost, as of a group without members."""

    def __init__(self) -> None:
        self.nodes: list[_Node] = []
        self.open: _Open | None = None
        self.depth = 1
        self.grouped = False
        self.last: dict[int, int] = {}
        self.link: dict[int, str] = {}

    def read(self, line: str) -> None:
        self.grouped = self.grouped or line.startswith("  + Exception Group Traceback (most recent call last)")
        margin = _MARGIN.match(line) if self.grouped else None
        member = _MEMBER.match(line) if self.grouped and margin is None else None
        if member:
            self.close()
            depth = min(max(1, line.rfind("+") // 2), _MAX_DEPTH)
            self.last.pop(depth, None)
            self.link.pop(depth, None)
            return
        depth = min(len(margin[1]) // 2, _MAX_DEPTH) if margin else 1
        text = line[len(margin[0]) :] if margin else line
        link = LINKS.get(text.rstrip(), "")
        if link:
            self.close()
            if depth in self.last:
                self.link[depth] = link
        elif HEADER.match(text) or text.startswith("Exception Group Traceback (most recent call last)"):
            self._header(depth, text)
        elif self.open is not None and depth == self.depth:
            self.open.feed(text)
        elif self.open is None and text.strip() and self._awaits(depth):
            # An exception that was never raised has no header.
            self.depth, self.open = depth, _Open()
            self.open.feed(text)

    def _awaits(self, depth: int) -> bool:
        return bool(self.nodes) and (depth in self.link or (depth not in self.last and depth - 1 in self.last))

    def _header(self, depth: int, text: str) -> None:
        if self.open is not None and depth == self.depth and depth not in self.link and self.open.text:
            self.open.feed(text)  # a traceback that the message quotes
            return
        self.close()
        self.depth, self.open = depth, _Open()

    def close(self) -> None:
        error = self.open.error() if self.open is not None else None
        self.open = None
        if error is None:
            return
        index = len(self.nodes)
        group = self.last.get(self.depth - 1, -1) if self.depth > 1 else -1
        self.nodes.append(_Node(error, "member" if group >= 0 else "raised", group))
        older, link = self.last.get(self.depth), self.link.pop(self.depth, "")
        if older is not None:
            self.nodes[older].link, self.nodes[older].parent = link or "context", index
        self.last[self.depth] = index


def native_errors(lines: Sequence[str]) -> list[Error]:
    """Return the exceptions of a traceback printed by Python, the last raised first; files stand as printed.

    Each is followed by what it was caused by, then by its members. Empty where there is none.
    """
    reader = _Reader()
    start = next((i for i, line in enumerate(lines) if HEADER.match(line)), len(lines))
    for line in lines[start:]:
        reader.read(line)
    reader.close()
    return _ordered(reader.nodes)


def _ordered(nodes: Sequence[_Node]) -> list[Error]:
    below: dict[int, list[int]] = {}
    for index, node in enumerate(nodes):
        below.setdefault(node.parent, []).append(index)
    roots = below.get(-1, [])
    todo = [(roots[-1], -1)] if roots else []
    errors: list[Error] = []
    while todo:
        index, parent = todo.pop()
        node = nodes[index]
        number = len(errors)
        errors.append(replace(node.error, link=node.link, parent=parent))
        inner = sorted(below.get(index, []), key=lambda i: (nodes[i].link != "member", -i))
        todo += [(i, number) for i in inner]
    return errors
