"""Hard evidence that two signatures are one failure seen twice: it joins whatever the words say.

The same resource, the same broken fixture, the same failing span, a `setup()` that pytest no longer calls, or the very error of the one standing inside
the other: as its cause, as a member of its exception group, or in a traceback that its message quotes (a subprocess's stderr, a
remote worker).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from pytest_tracetriage.triage.signature import bare, first_line, mask, place, server_named

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pytest_tracetriage.model.trace import Error, Failure
    from pytest_tracetriage.triage.join import Fact


class Link(NamedTuple):
    """Two signatures (ids) and what links them."""

    left: str
    right: str
    evidence: str
    detail: str


_MODULE = re.compile(r"No module named '?([\w.]+)'?|cannot import name '?(\w+)'? from '?([\w.]+)'?")
_MISSING = "module "
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
_TRACEBACK = "Traceback (most recent call last)"
_CHAINED = ("The above exception was the direct cause of", "During handling of the above exception, another")
_RAISED = re.compile(r"^([A-Za-z_][\w.]*(?:Error|Exception|Exit|Interrupt|Warning|Failed|Timeout))(?:: (.*))?$")


OUTSIDE = frozenset({"same resource", "shared fixture", "same failing span", "setup() not called"})
"""The evidence that names something outside of the code's lines: which lines ran says nothing against it."""


def marked(fact: Fact) -> bool:
    """Return whether a signature bears evidence of something outside of the code's lines."""
    return any(True for _ in (*_marks(fact.failure), *_span(fact)))


def links(facts: Sequence[Fact]) -> list[Link]:
    """Return the hard links between signatures, each signature to the first that bears the same evidence."""
    found: list[Link] = []
    bearers: dict[tuple[str, str], str] = {}
    for fact in facts:
        for kind, detail in dict.fromkeys((*_marks(fact.failure), *_span(fact))):
            first = bearers.setdefault((kind, detail), fact.id)
            if first != fact.id:
                found.append(Link(first, fact.id, kind, detail))
    own = _own(facts)
    for fact in facts:
        for kind, signed in _inside(fact.failure):
            other = own.get(signed)
            if other is not None and other != fact.id:
                found.append(Link(other, fact.id, kind, " ".join(part for part in (signed[0], signed[2]) if part)))
    return found


def _span(fact: Fact) -> Iterator[tuple[str, str]]:
    """Yield the failing span of a signature's traces: its component, name, and error with its message masked."""
    if fact.broken is not None and fact.broken.mark:
        yield "same failing span", fact.broken.mark


def resources(fact: Fact) -> frozenset[str]:
    """Return the resources that a signature's failures name: two that name different ones are not softly joined."""
    return frozenset(detail for failure in fact.failures for kind, detail in _marks(failure) if kind == "same resource")


def is_module(resource: str) -> bool:
    """Return whether a resource is a module that could not be imported."""
    return resource.startswith(_MISSING)


def _marks(failure: Failure) -> Iterator[tuple[str, str]]:
    """Yield (kind, detail) of the resources and fixtures that a failure names."""
    if failure.fixture and failure.phase == "setup" and failure.errors:
        yield "shared fixture", f"{failure.fixture} raises {bare(failure.errors[0].type)}"
    if failure.uncalled is not None:
        yield "setup() not called", "nose-style, which pytest 8 no longer calls"
    for error in failure.errors:
        message = error.message[:4_000]
        if bare(error.type) in _NETWORK and (server := server_named(message)):
            yield "same resource", server
        if bare(error.type) in {"ModuleNotFoundError", "ImportError"} and (module := _MODULE.search(message)):
            yield "same resource", f"{_MISSING}{module[1] or f'{module[3]}.{module[2]}'}"
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
        if _TRACEBACK in error.message:
            yield from (("quoted traceback", signed) for signed in quoted(error.message))


class Quoted(NamedTuple):
    """An error whose traceback a text quotes: bare type, first line of its message, the functions on its stack."""

    type: str
    message: str
    functions: tuple[str, ...]


def quoted(message: str) -> list[Signed]:
    """Return the errors whose tracebacks a text quotes, by type, each function on their stack, and masked message."""
    return [
        (error.type, function, mask(error.message))
        for error in _quotations(message)
        if error is not None
        for function in reversed(error.functions)
    ]


def quoted_error(failure: Failure) -> Quoted | None:
    """Return the error that a failure's messages quote, None where they quote none or several. Of a chain the last counts."""
    found: dict[tuple[str, str], Quoted] = {}
    for error in failure.errors:
        if _TRACEBACK in error.message:
            last: Quoted | None = None
            for quotation in _quotations(error.message):
                if quotation is None:  # what was read so far led to what follows
                    last = None
                    continue
                if last is not None:
                    found[last[:2]] = last
                last = quotation
            if last is not None:
                found[last[:2]] = last
    return next(iter(found.values())) if len(found) == 1 else None


def quoting(facts: Sequence[Fact]) -> tuple[frozenset[str], frozenset[str]]:
    """Return the ids of (signatures that quote another's error, signatures whose error is quoted by another)."""
    inside = [(fact.id, signed) for fact in facts for kind, signed in _inside(fact.failure) if kind == "quoted traceback"]
    if not inside:
        return frozenset(), frozenset()
    own = _own(facts)
    pairs = [(quoter, own[signed]) for quoter, signed in inside if signed in own and own[signed] != quoter]
    return frozenset(quoter for quoter, _ in pairs), frozenset(other for _, other in pairs)


def _own(facts: Sequence[Fact]) -> dict[Signed, str]:
    return {_signed(fact.failure.errors[0]): fact.id for fact in reversed(facts) if fact.failure.errors}


def _quotations(message: str) -> Iterator[Quoted | None]:
    """Yield the errors whose tracebacks a text quotes, None between two of one chain."""
    functions: list[str] = []
    inside = False
    for line in message[:40_000].splitlines():
        text = re.sub(r"^[\s|E>]*(?=Traceback \(most|File \"|[A-Za-z_])", "", line)
        if text.startswith(_TRACEBACK):
            inside, functions = True, []
        elif inside and (frame := _FILE.match(text)):
            functions.append(frame[2])
        elif inside and functions and (raised := _RAISED.match(text)):
            yield Quoted(bare(raised[1]), first_line(raised[2] or ""), tuple(functions))
            inside = False
        elif text.startswith(_CHAINED):
            yield None
