"""Hard evidence that two signatures are one failure seen twice: it joins whatever the words say.

The same resource, the same broken fixture, or the very error of the one standing inside the other: as its cause, as a member of
its exception group, or in a traceback that its message quotes (a subprocess's stderr, a remote worker).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from pytest_tracetriage.triage.signature import bare, first_line, mask, place, server_named

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pytest_tracetriage.model.trace import Error, Failure
    from pytest_tracetriage.triage.facts import Fact


class Link(NamedTuple):
    """Two signatures (ids) and what links them."""

    left: str
    right: str
    evidence: str
    detail: str


_MODULE = re.compile(r"No module named '?([\w.]+)'?|cannot import name '?(\w+)'? from '?([\w.]+)'?")
_PATH = re.compile(r"(?:No such file or directory|Permission denied|Read-only file system): '([^']+)'")
_NO_SPACE = re.compile(r"No space left on device|Disk quota exceeded")
_NETWORK = frozenset(
    [
        "ConnectionRefusedError",
        "ConnectionResetError",
        "ConnectionError",
        "ConnectError",
        "ConnectTimeout",
        "NewConnectionError",
        "MaxRetryError",
        "OperationalError",
        "TimeoutError",
        "gaierror",
        "OSError",
        "ConnectionAbortedError",
    ]
)
_FILE = re.compile(r'^\s*File "([^"\n]+)", line \d+, in (.+?)\s*$')
_RAISED = re.compile(r"^([A-Za-z_][\w.]*(?:Error|Exception|Exit|Interrupt|Warning|Failed|Timeout))(?:: (.*))?$")


def links(facts: Sequence[Fact]) -> list[Link]:
    """Return the hard links between signatures, each signature to the first that bears the same evidence."""
    found: list[Link] = []
    bearers: dict[tuple[str, str], str] = {}
    for fact in facts:
        for kind, detail in dict.fromkeys(_marks(fact.failures[0])):
            first = bearers.setdefault((kind, detail), fact.id)
            if first != fact.id:
                found.append(Link(first, fact.id, kind, detail))
    own = {_signed(failure.errors[0]): fact.id for fact in reversed(facts) for failure in fact.failures[:1] if failure.errors}
    for fact in facts:
        for kind, signed in _inside(fact.failures[0]):
            other = own.get(signed)
            if other is not None and other != fact.id:
                found.append(Link(other, fact.id, kind, " ".join(part for part in (signed[0], signed[2]) if part)))
    return found


def resources(fact: Fact) -> frozenset[str]:
    """Return the resources that a signature's failures name: two that name different ones are not softly joined."""
    return frozenset(detail for failure in fact.failures for kind, detail in _marks(failure) if kind == "same resource")


def _marks(failure: Failure) -> Iterator[tuple[str, str]]:
    """Yield (kind, detail) of the resources and fixtures that a failure names."""
    if failure.fixture and failure.phase == "setup" and failure.errors:
        yield "shared fixture", f"{failure.fixture} raises {bare(failure.errors[0].type)}"
    for error in failure.errors:
        message = error.message[:4_000]
        if bare(error.type) in _NETWORK and (server := server_named(message)):
            yield "same resource", server
        if bare(error.type) in {"ModuleNotFoundError", "ImportError"} and (module := _MODULE.search(message)):
            yield "same resource", f"module {module[1] or f'{module[3]}.{module[2]}'}"
        if bare(error.type) in {"FileNotFoundError", "PermissionError", "OSError"} and (path := _PATH.search(message)):
            if "<tmp>" not in mask(path[1]):
                yield "same resource", f"path {path[1]}"
        if bare(error.type) == "OSError" and _NO_SPACE.search(message):
            yield "same resource", "a full disk"


Signed = tuple[str, str, str]


def _signed(error: Error) -> Signed:
    """Return (type, function it was raised in, masked first line): what makes two errors the same error."""
    frame = place((error,))
    return bare(error.type), frame.function if frame is not None else "", mask(first_line(error.message))


def _inside(failure: Failure) -> Iterator[tuple[str, Signed]]:
    """Yield the errors that stand inside a failure: causes, members of groups, quoted tracebacks."""
    for error in failure.errors[1:]:
        if error.link == "cause" and place((error,)) is not None:
            yield "same cause", _signed(error)
        elif error.link == "member":
            yield "exception group", _signed(error)
    for error in failure.errors:
        if "Traceback (most recent call last)" in error.message:
            yield from (("quoted traceback", signed) for signed in quoted(error.message))


def quoted(message: str) -> list[Signed]:
    """Return the errors whose tracebacks a text quotes, by type, each function on their stack, and masked message."""
    found: list[Signed] = []
    functions: list[str] = []
    inside = False
    for line in message[:40_000].splitlines():
        text = re.sub(r"^[\s|E>]*(?=Traceback \(most|File \"|[A-Za-z_])", "", line)
        if text.startswith("Traceback (most recent call last)"):
            inside, functions = True, []
        elif inside and (frame := _FILE.match(text)):
            functions.append(frame[2])
        elif inside and functions and (raised := _RAISED.match(text)):
            said = mask(first_line(raised[2] or ""))
            found += [(bare(raised[1]), function, said) for function in reversed(functions)]
            inside = False
    return found
