"""XML as a stream of elements, from files that nobody vouches for.

A document type or an entity is refused, since a few hundred bytes of them can ask for gigabytes or for other files.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, BinaryIO
from xml.parsers import expat

from msgspec import Struct

from pytest_tracetriage.collect.bounds import CODE, clip

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_DEPTH = 100
TEXT = 4_000_000
"""Of a longer text only the beginning and the end, together this many characters, are kept."""

_CHUNK = 64 * 1024
_MAX_CHILDREN = 200


class Element(Struct):
    """An element with its text and the elements directly in it."""

    tag: str
    attributes: dict[str, str]
    text: str = ""
    children: list[Element] = []


class Unreadable(Exception):  # noqa: N818 - it names what the document is
    """The document cannot be read further. `line` counts from 1."""

    def __init__(self, message: str, line: int) -> None:
        super().__init__(message)
        self.line = line


class _Text:
    """Collects the text of one element, without its middle when it is too long."""

    def __init__(self) -> None:
        self._head: list[str] = []
        self._tail: deque[str] = deque()
        self._room = TEXT // 2
        self._held = 0
        self._dropped = 0

    def add(self, text: str) -> None:
        if self._room > 0:
            self._head.append(text[: self._room])
            text, self._room = text[self._room :], self._room - len(text)
        if text:
            self._tail.append(text)
            self._held += len(text)
        while self._held > TEXT // 2:
            dropped = self._tail.popleft()
            self._held -= len(dropped)
            self._dropped += len(dropped)

    def whole(self) -> str:
        gap = f"\n… [{self._dropped} more characters]\n" if self._dropped else ""
        return "".join((*self._head, gap, *self._tail))


class _Tree:
    """Keeps one wanted element at a time; everything around it is read and forgotten."""

    def __init__(self, wanted: frozenset[str]) -> None:
        self._wanted = wanted
        self._open: list[tuple[Element, _Text]] = []
        self._depth = 0
        self.done: list[Element] = []
        self.parser = expat.ParserCreate(namespace_separator=None)
        self.parser.buffer_text = True
        self.parser.buffer_size = _CHUNK
        self.parser.StartElementHandler = self._start
        self.parser.EndElementHandler = self._end
        self.parser.CharacterDataHandler = self._characters
        self.parser.StartDoctypeDeclHandler = self._refuse
        self.parser.EntityDeclHandler = self._refuse
        self.parser.ExternalEntityRefHandler = self._refuse

    def _refuse(self, *_: object) -> int:
        raise Unreadable("the document declares a document type or entities, which is refused", self._line())

    def _line(self) -> int:
        return self.parser.CurrentLineNumber

    def _start(self, tag: str, attributes: dict[str, str]) -> None:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise Unreadable(f"elements stand more than {MAX_DEPTH} deep in one another", self._line())
        tag = tag.rpartition(":")[2]
        if self._open or tag in self._wanted:
            self._open.append((Element(tag, attributes, children=[]), _Text()))

    def _end(self, _tag: str) -> None:
        self._depth -= 1
        if not self._open:
            return
        element, text = self._open.pop()
        element.text = text.whole()
        if not self._open:
            self.done.append(element)
        elif len(self._open) == 1 and len(self._open[0][0].children) < _MAX_CHILDREN:
            self._open[0][0].children.append(element)

    def _characters(self, text: str) -> None:
        if self._open:
            self._open[-1][1].add(text)


def elements(file: BinaryIO, wanted: frozenset[str]) -> Iterator[Element]:
    """Yield each element whose tag is `wanted` and that stands in no other such one, as soon as it is complete.

    Memory is that of one of them and of 64 KiB of the document. Raises `Unreadable` with the line where the document
    ends early, is not well-formed, declares a document type or entities, or nests too deeply.
    """
    tree = _Tree(wanted)
    final = False
    while not final:
        chunk = file.read(_CHUNK)
        final = not chunk
        fault = None
        try:
            tree.parser.Parse(chunk, final)
        except Unreadable as refused:
            fault = refused
        except (expat.ExpatError, ValueError, LookupError) as error:
            fault = Unreadable(f"not well-formed XML: {clip(str(error), CODE)}", tree.parser.CurrentLineNumber)
        yield from tree.done
        tree.done.clear()
        if fault is not None:
            raise fault
