"""One exception as pytest prints it: its traceback entries, and what they say of function, code, type and message."""

from __future__ import annotations

import itertools
import re
import textwrap
from typing import TYPE_CHECKING

from msgspec import Struct

from pytest_tracetriage.collect.bounds import bounded_error, bounded_frame, plain

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_tracetriage.model.trace import Error, Frame


class Entry(Struct, frozen=True):
    """One entry: its source lines with the `E` lines below them, and the place printed with it.

    `note` is what stands behind the place: `in NAME` of a short entry, the exception's name at the end of a long one.
    """

    lines: Sequence[str]
    file: str = ""
    line: int = 0
    note: str = ""


_MARKED = re.compile(r">(?:   |$)")
_DEFINITION = re.compile(r"(\s*)(?:async\s+def|def|class)\s+(\w+)")
_TYPED = re.compile(r"([^\W\d][\w.<>]*)(?=:(?: |$)|$)", re.MULTILINE)
_QUALIFIER = re.compile(r"(?:[\w<>]+\.)*$")
CLASS_NAME = re.compile(r"[^\W\d][\w.]*(?:[(\[<].*[)\]>])?$")
"""A class's name; those made at run time may say what they were made for."""
_SYNTAX = re.compile(r'\s*File "([^"\n]*)", line (\d+)')
_SYNTAX_TYPE = re.compile(r"^(\w*(?:Error|Warning))(?:: (.*))?$", re.MULTILINE)


def error_of(entries: Sequence[Entry], crash: str = "") -> Error | None:
    """Return the exception that `entries` show; `crash` is its text where it is known apart from them.

    The files of its frames stand as printed. `None` where nothing names an exception.
    """
    frames = [frame_of(entry) for entry in entries if entry.file]
    last = entries[-1] if entries else Entry(())
    named = last.note if CLASS_NAME.match(last.note) else ""
    text = crash or _marked_text(last.lines, placed=bool(last.file))
    if not (text or named):
        return None
    type_, message = split_text(plain(text), named)
    return bounded_error(type_, message, frames)


def split_text(text: str, named: str = "") -> tuple[str, str]:
    """Return type and message of an exception's printed text. `named` is the type's bare name where it is known.

    The type is "" where the text names none.
    """
    if text.lstrip().startswith('File "'):
        return _split_syntax_error(text)
    if named:
        at = text.find(named)
        end = at + len(named)
        if at >= 0 and _QUALIFIER.match(text[:at]) and (end == len(text) or text[end] in ":\n"):
            return text[:end], _message(text[end:])
        return named, text
    typed = _TYPED.match(text)
    if typed and _is_type(typed[1]):
        return typed[1], _message(text[typed.end() :])
    return ("AssertionError" if text.startswith("assert ") else ""), text


def _message(rest: str) -> str:
    """Return the message from what follows an exception's type."""
    return rest[1:].removeprefix(" ") if rest.startswith(":") else rest[1:]


def _is_type(name: str) -> bool:
    bare = name.rpartition(".")[2].lstrip("_")
    return "." in name or bare[:1].isupper() or bare.endswith(("error", "exception"))


def _split_syntax_error(text: str) -> tuple[str, str]:
    place = _SYNTAX.match(text)
    typed = None
    for typed in _SYNTAX_TYPE.finditer(text):  # noqa: B007 - the last one
        pass
    if place is None or typed is None:
        return "SyntaxError", text
    file = re.split(r"[/\\]", place[1])[-1]
    return typed[1], f"{typed[2] or ''} ({file}, line {place[2]})".lstrip()


def _marked_text(lines: Sequence[str], *, placed: bool) -> str:
    """Return what the `E` lines say, without their indentation; else nothing.

    An entry without a place (`--tb=line`) marks only the first of them.
    """
    # A local variable may be called E as well: its line stands apart, below a blank one.
    start = _mark(lines) + 1
    first = next((i for i in range(start, len(lines)) if _is_marked(lines[i])), -1)
    if first < 0:
        return ""
    found = list(itertools.takewhile(lambda line: _is_marked(line) or not (placed or line[:1].strip()), lines[first:]))
    width = len(found[0]) - len(found[0][1:].lstrip(" "))
    if found[0][width:].startswith('File "'):
        width -= 2
    return "\n".join(line[width:] if not line[1:width].strip() else line[1:].lstrip() for line in found).rstrip("\n")


def _is_marked(line: str) -> bool:
    return line.startswith("E") and (len(line) == 1 or line[1] == " ")


def _mark(lines: Sequence[str]) -> int:
    return next((i for i, line in enumerate(lines) if line[:1] == ">" and _MARKED.match(line)), -1)


def frame_of(entry: Entry) -> Frame:
    """Return the frame that an entry shows."""
    if entry.note.startswith("in "):
        code = next((line for line in entry.lines if line.strip()), "")
        return bounded_frame(entry.file, entry.note[3:].strip(), entry.line, "" if _is_marked(code) else code)
    mark = _mark(entry.lines)
    if mark < 0:
        return bounded_frame(entry.file, "", entry.line, "")
    first = mark
    while first and entry.lines[first - 1].startswith("    "):
        first -= 1
    source = [" " + line[1:] for line in entry.lines[first : mark + 1]]
    code = source[-1].strip()
    if code == "???":
        return bounded_frame(entry.file, "", entry.line, "")
    function = _defined(source)
    if not function and len(source) == entry.line:
        function = "<module>"  # which pytest prints from its first line on
    if not function:
        rest = itertools.takewhile(lambda line: line.startswith("    "), entry.lines[mark + 1 :])
        function = _nameless("\n".join((*source, *rest)))
    printed = textwrap.dedent("\n".join(source)) if len(source) > 1 else ""
    return bounded_frame(entry.file, function, entry.line, code, printed)


def _defined(source: Sequence[str]) -> str:
    """Return the function or class that `source` begins with and whose body, or heading, its last line is."""
    at = len(source) - 1
    indent = len(source[at]) - len(source[at].lstrip())
    for index, line in enumerate(source):
        if found := _DEFINITION.match(line):
            return found[2] if index == at or len(found[1]) < indent else ""
    return ""


def _nameless(source: str) -> str:
    if re.search(r"\blambda\b", source):
        return "<lambda>"
    loop = re.search(r"\bfor\b", source)
    if loop is None:
        return ""
    before = source[: loop.start()]
    opened = max(range(3), key=lambda i: before.rfind("[{("[i]))
    if before.rfind("[{("[opened]) < 0:
        return ""
    return ("<listcomp>", "<dictcomp>" if ":" in before.rpartition("{")[2] else "<setcomp>", "<genexpr>")[opened]
