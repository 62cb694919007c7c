"""JUnit XML as pytest writes it (`pytest --junitxml=FILE`, both families), and what others write alike."""

from __future__ import annotations

import math
import re
from datetime import datetime, timezone
from typing import TYPE_CHECKING, BinaryIO

from msgspec import Struct

from pytest_tracetriage.collect.bounds import MESSAGE, NAME, bounded_error, clip, plain, sections
from pytest_tracetriage.collect.elements import Element, Unreadable, elements
from pytest_tracetriage.collect.entries import split_text
from pytest_tracetriage.collect.formats import Format, Item
from pytest_tracetriage.collect.printed import printed_errors
from pytest_tracetriage.collect.reports import TEXT_ONLY, Places, failure_of, reason_of, red_outcome
from pytest_tracetriage.model.analysis import Problem
from pytest_tracetriage.model.trace import Error, Failure, FailurePhase, Outcome, Trace

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


_CASES = frozenset({"testcase"})
_RED = {"failure", "error"}
_RERUN = {"rerunFailure", "rerunError", "flakyFailure", "flakyError"}
_ROOT = re.compile(rb"<(?:\w+:)?(?:testsuites?|testcase)[\s/>]")
_ABBREVIATED = re.compile(r"\n\[(?:\+\d+ more lines?|truncated); full report in element text\]\"?$")
_UNEXPECTED = "xfail-marked test passes unexpectedly"
_PHASES: tuple[tuple[str, FailurePhase], ...] = (
    ("failed on setup with ", "setup"),
    ("failed on teardown with ", "teardown"),
    ("test setup failure", "setup"),
    ("test teardown failure", "teardown"),
    ("collection failure", "collect"),
)


def _sniff(head: bytes) -> bool:
    return head.lstrip().startswith(b"<") and _ROOT.search(head) is not None


def _read(file: BinaryIO, name: str) -> Iterator[Item]:
    """Yield a trace for each test case, and one for each earlier attempt that it holds, which stands before it.

    A trace's id is the number of its test case, an attempt's that and its own.
    """
    places = Places()
    number = 0
    try:
        for case in elements(file, _CASES):
            number += 1
            yield from _traces(case, str(number), places)
    except Unreadable as error:
        yield Problem(name, error.line, str(error))


def _traces(case: Element, number: str, places: Places) -> Iterator[Trace]:
    reports = [_report(child) for child in case.children if child.tag in _RED]
    earlier = [_report(child) for child in case.children if child.tag in _RERUN]
    files = [frame.file for report in reports + earlier for error in report.errors for frame in error.frames]
    attribute = case.attributes.get
    nodeid = clip(nodeid_of(attribute("classname", ""), attribute("name", ""), attribute("file", ""), files), NAME)
    if not nodeid:
        return
    places.learn(nodeid.partition("::")[0], files)
    for attempt, report in enumerate(earlier, 1):
        failure = report.failure(places)
        yield Trace(f"{number}.{attempt}", nodeid, "failed", attempt=attempt, rerun=True, failure=failure)
    outcome, reason = _verdict(case, reports)
    failures = [failure for report in reports if (failure := report.failure(places))]
    yield Trace(
        id=number,
        nodeid=nodeid,
        outcome=outcome,
        start=_start(attribute("timestamp", "")),
        phases=_phases(attribute("time", "")),
        attempt=len(earlier) + 1,
        failure=failures[0] if failures else None,
        later=tuple(failures[1:]),
        reason=reason,
        sections=() if outcome == "passed" else _captured(case),
    )


class _Report(Struct, frozen=True):
    """One `<failure>` or `<error>`: its phase, its exceptions with files as printed, and its text."""

    phase: FailurePhase
    errors: tuple[Error, ...]
    text: str

    def failure(self, places: Places) -> Failure | None:
        return failure_of(self.phase, places.settle(self.errors), self.text)


def _report(element: Element) -> _Report:
    message = element.attributes.get("message", "")
    phase: FailurePhase = "call"
    for prefix, named in _PHASES:
        if message.startswith(prefix):
            phase, message = named, message[len(prefix) :].removeprefix('"').removesuffix('"')
            break
    body = element.text.strip("\n")
    text = plain(body if body.strip() else message)
    errors = printed_errors(text)
    if not errors and not any(pattern.match(text) for pattern in TEXT_ONLY):
        errors = _named_errors(plain(message), text, element.attributes.get("type", ""))
    return _Report(phase, errors, text)


def _named_errors(message: str, text: str, type_: str) -> tuple[Error, ...]:
    """Return the exception that the attributes of a report name where its text shows none."""
    whole = _ABBREVIATED.sub("", message)
    bare = type_.rpartition(".")[2]
    found, said = split_text(whole, bare)
    if whole != message:  # cut short: the text has the rest of it
        said = text
    if not found or found == bare:
        found = type_
    return (bounded_error(found, said or text, ()),) if found else ()


def _verdict(case: Element, reports: list[_Report]) -> tuple[Outcome, str]:
    """Return the outcome of a test case and its reason."""
    if reports:
        first = next((report for report in reports if report.phase == "call"), reports[0])
        outcome = red_outcome(first.phase, first.errors, first.text)
        return outcome, reason_of(outcome, first.text)
    skipped = next((child for child in case.children if child.tag == "skipped"), None)
    if skipped is None:
        return "passed", ""
    reason = clip(skipped.attributes.get("message", "") or skipped.text.strip(), MESSAGE)
    if reason == _UNEXPECTED:
        return "xpassed", ""
    if reason == "collection skipped":
        reason = _collection_reason(skipped.text)
    return ("xfailed" if skipped.attributes.get("type") == "pytest.xfail" else "skipped"), reason


def _collection_reason(text: str) -> str:
    """Return why a module was skipped from the tuple that pytest writes: `('/a/test_b.py', 3, 'Skipped: why')`."""
    found = re.search(r", \d+, (['\"])(?:Skipped: )?(.*)\1\)\s*$", text, re.DOTALL)
    return clip(found[2] if found else text.strip(), MESSAGE)


def _captured(case: Element) -> tuple[tuple[str, str], ...]:
    return sections((child.tag, child.text) for child in case.children if child.tag in {"system-out", "system-err"})


def _phases(seconds: str) -> dict[str, float]:
    """Return the time of a test case, which is that of all its phases, as its call."""
    try:
        duration = float(seconds.replace(",", ""))
    except ValueError:
        return {}
    return {"call": duration} if math.isfinite(duration) else {}


def _start(timestamp: str) -> float:
    try:
        started = datetime.fromisoformat(timestamp)
        return (started if started.tzinfo else started.replace(tzinfo=timezone.utc)).timestamp()
    except (ValueError, OverflowError, OSError):
        return 0.0


FORMAT = Format("junit", _sniff, _read)


_MAX_PARTS = 100


def nodeid_of(classname: str, name: str, file: str, places: Iterable[str] = ()) -> str:
    """Return the node id of a test case.

    `file` is its attribute of that name, "" without. `places` are files of its traceback: where they name the module,
    they decide where its dotted name ends; else what begins with a capital letter is taken for a class.
    """
    file = file.replace("\\", "/")
    if not classname:
        return _module(name) if not file else file if _dotted(file) == name else f"{file}::{name}"
    if _is_text_file(classname, name):
        return f"{classname[: -len(name)].replace('.', '/')}{name}::{name}"
    parts = classname.split(".", _MAX_PARTS)
    for known in (file, *(place.replace("\\", "/") for place in places)):
        if length := _module_length(parts, known):
            return "::".join((_path(parts[:length], known), *parts[length:], name))
    length = len(parts)
    while length and parts[length - 1][:1].isupper():
        length -= 1
    if not length:
        return "::".join((file, *parts, name)) if file else f"{classname}::{name}"
    return "::".join(("/".join(parts[:length]) + ".py", *parts[length:], name))


def _is_text_file(classname: str, name: str) -> bool:
    """Return whether a test case is a doctest of a text file, whose id names the file twice."""
    suffix = name.rpartition(".")[2]
    return name.endswith((".rst", ".txt", ".md")) and bool(suffix) and f".{classname}".endswith(f".{name}")


def _dotted(file: str) -> str:
    return file.removesuffix(".py").replace("/", ".")


def _module_length(parts: list[str], file: str) -> int:
    """Return how many of `parts` name the module that `file` is, 0 when they name another."""
    dotted = _dotted(file)
    if not file.endswith(".py"):
        return 0
    for length in range(len(parts), 0, -1):
        module = ".".join(parts[:length])
        if dotted == module or dotted.endswith("." + module):
            return length
    return 0


def _path(parts: list[str], file: str) -> str:
    """Return the module's file as the node id names it: the end of `file` that `parts` spell."""
    return file[-len(".".join(parts)) - len(".py") :]


def _module(name: str) -> str:
    """Return the node id of a module that could not be collected."""
    if "." not in name or name.endswith((".rst", ".txt", ".md")):
        return f"{name}.py" if name.isidentifier() and name.startswith("test") else name
    return name.replace(".", "/") + ".py"
