"""What pytest or Python printed of a failure, as the exceptions that it shows."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from msgspec.structs import replace

from pytest_tracetriage.collect.bounds import bounded_chain, bounded_error, bounded_frame, chained, ends, plain
from pytest_tracetriage.collect.entries import CLASS_NAME, Entry, error_of, split_text
from pytest_tracetriage.collect.native import HEADER, LINKS, native_errors

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from pytest_tracetriage.model.trace import Error, Origin
    from pytest_tracetriage.origin import Project

LIMIT = 4_000_000
"""Of a longer text only the beginning and the end, together this many characters, are read."""

_SEPARATOR = re.compile(r"(?:_ ){3,}_?\s*$")
_PLACE = re.compile(r"([^\s:<>|](?::(?=[\\/]))?[^:]*|<[^<>:]+>):(\d{1,9}):(?: (.*))?$")
_REQUEST = re.compile(r"file (.+), line (\d{1,9})$")
_DEFINED = re.compile(r"\s*(?:async\s+def|def)\s+(\w+)")
_MAX_LINE = 4_000
_DOCTEST = "DocTestFailure"
_UNEXPECTED = "UnexpectedException"


def parse(text: str, project: Project) -> tuple[Error, ...]:
    """Return the exceptions that a printed failure shows, the one raised last first, then what it was caused by.

    Understands pytest's long, short, line and native tracebacks, Python's own, missing fixtures and doctests. Empty
    where the text shows none; never raises, and takes time linear in the length of the text.
    """
    return located(printed_errors(text), project.locate)


def located(errors: Iterable[Error], locate: Callable[[str], tuple[str, Origin]]) -> tuple[Error, ...]:
    """Return `errors` with the files of their frames named and told apart by `locate`."""
    found = []
    for error in errors:
        frames = []
        for frame in error.frames:
            file, origin = locate(frame.file)
            frames.append(replace(frame, file=file, origin=origin))
        found.append(replace(error, frames=tuple(frames)))
    return tuple(found)


def printed_errors(text: str) -> tuple[Error, ...]:
    """Return what `parse` returns, with files as they were printed and origins that say nothing."""
    if len(text) > LIMIT:
        text = f"{text[: LIMIT // 2]}\n{text[-LIMIT // 2 :]}"
    lines = _indented(plain(text).replace("\r\n", "\n").strip("\n").split("\n"))
    parts, links = _parts(lines)
    found = [_part_errors(part, alone=not links) for part in parts]
    return bounded_chain(chained(found, links))


def _indented(lines: list[str]) -> list[str]:
    """Return the lines with the indentation of the first, which pytest strips off a failure that is printed whole."""
    first, second = lines[0], lines[1] if len(lines) > 1 else ""
    if first.startswith("+ Exception Group Traceback"):
        lines[0] = "  " + first
    elif first[:1] not in {" ", ">", ""} and second.startswith(("    ", ">   ")) and not _place(first):
        lines[0] = "    " + first
    return lines


def _parts(lines: Sequence[str]) -> tuple[list[list[str]], list[str]]:
    """Return the exceptions of a printed chain as lines, and what each is to the next."""
    parts: list[list[str]] = [[]]
    links: list[str] = []
    for line in lines:
        link = LINKS.get(line.rstrip()) if line[:1] in {"T", "D"} else None
        if link:
            parts.append([])
            links.append(link)
        else:
            parts[-1].append(line)
    # What a chain left out is left out where it says least: in its middle.
    kept, omitted = ends(parts, 200)
    return list(kept), (links[:99] + links[-100:] if omitted else links)


def _part_errors(lines: Sequence[str], *, alone: bool) -> list[Error]:
    """Return one exception of a chain (with the members of a group); `alone` says that there is no other."""
    if doctest := _doctest_errors(lines):
        return doctest
    if any(line.startswith(("E   ", ">   ")) or line == "E" for line in lines):
        fixture = _missing_fixture(lines) if any(_REQUEST.match(line[:_MAX_LINE]) for line in lines) else None
        found = fixture or error_of(_entries(lines))
        return [found] if found else []
    if any(HEADER.match(line) for line in lines):
        return native_errors(lines)
    # An exception that was never raised has no traceback. It is recognised only beside one that has.
    type_, message = ("", "") if alone else split_text("\n".join(lines).strip())
    return [bounded_error(type_, message, ())] if type_ else []


def _entries(lines: Sequence[str]) -> list[Entry]:
    """Return the traceback entries that pytest printed, in long, short or mixed style."""
    entries: list[Entry] = []
    segment: list[str] = []
    for line in lines:
        if _SEPARATOR.match(line):
            entries += _segment_entries(segment)
            segment = []
        else:
            segment.append(line)
    return entries + _segment_entries(segment)


def _segment_entries(lines: Sequence[str]) -> list[Entry]:
    """Return the entries between two separators: one long one, which its place ends, or short ones, which it begins."""
    places = [(index, place) for index, line in enumerate(lines) if (place := _place(line))]
    last = next((i for i, place in reversed(places) if not place[2].startswith("in ")), -1)
    short = [(i, place) for i, place in places if place[2].startswith("in ")]
    if short and short[-1][0] > last:
        stops = [i for i, _ in short[1:]] + [len(lines)]
        return [Entry(lines[i + 1 : stop], *place) for (i, place), stop in zip(short, stops, strict=True)]
    if last >= 0:
        return [Entry(lines[:last], *dict(places)[last])]
    return [Entry(lines)] if any(line.startswith("E") for line in lines) else []


def _place(line: str) -> tuple[str, int, str] | None:
    """Return file, line number and note of a line like `a.py:3: KeyError` or `a.py:3: in f`."""
    found = _PLACE.match(line) if len(line) <= _MAX_LINE and line[:1] not in {" ", ">", ""} else None
    if found is None or " = " in found[1] or line.startswith("E "):
        return None
    note = (found[3] or "").strip()
    return (found[1], int(found[2]), note) if not note or note.startswith("in ") or CLASS_NAME.match(note) else None


def _missing_fixture(lines: Sequence[str]) -> Error | None:
    """Return the error of a fixture that could not be found; its frames are who asked for it."""
    frames = []
    for index, line in enumerate(lines):
        found = _REQUEST.match(line[:_MAX_LINE])
        if not found:
            continue
        code = next((_DEFINED.match(after) for after in lines[index + 1 : index + 50] if _DEFINED.match(after)), None)
        frames.append(bounded_frame(found[1], code[1] if code else "", int(found[2]), code.string if code else ""))
    message = "\n".join(line[1:].strip() for line in lines if line.startswith("E "))
    if "fixture" not in message:
        return None
    return bounded_error("FixtureLookupError", message, frames)


def _doctest_errors(lines: Sequence[str]) -> list[Error]:
    """Return the failure of a doctest, or what its example raised; nothing where the text is none."""
    end = next((i for i in range(len(lines) - 1, -1, -1) if lines[i].strip()), -1)
    place = _place(lines[end]) if end >= 0 else None
    if place is None or place[2] not in {_DOCTEST, _UNEXPECTED}:
        return []
    if place[2] == _UNEXPECTED:
        return native_errors(lines[:end])
    body = lines[:end]
    start = next((i for i, line in enumerate(body) if line.startswith(("Expected", "Got", "Differences"))), len(body))
    examples = [line[4:].strip() for line in body[:start] if line[4:].lstrip().startswith((">>> ", "... "))]
    message = " ".join(line.strip() for line in body[start:] if line.strip())
    frame = bounded_frame(place[0], "", place[1], examples[-1] if examples else "")
    return [bounded_error(_DOCTEST, message, [frame])]
