"""The JSON lines that pytest-reportlog writes (`pytest --report-log=FILE`)."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, BinaryIO

import msgspec
from msgspec import Raw, Struct, field

from pytest_tracetriage.collect.bounds import CODE, MESSAGE, NAME, bounded_chain, chained, clip, few_problems, plain, sections
from pytest_tracetriage.collect.entries import Entry, error_of
from pytest_tracetriage.collect.formats import Format, Item, complaint, lines
from pytest_tracetriage.collect.native import LINKS
from pytest_tracetriage.collect.printed import printed_errors
from pytest_tracetriage.collect.reports import Places, failure_of, reason_of, red_outcome
from pytest_tracetriage.model.analysis import Problem
from pytest_tracetriage.model.trace import Error, Failure, FailurePhase, Outcome, Trace

if TYPE_CHECKING:
    from collections.abc import Iterator

_NULL = Raw(b"null")


class _Location(Struct, frozen=True):
    path: str = ""
    lineno: int | None = 0
    message: str | None = ""


class _EntryData(Struct, frozen=True):
    lines: list[str] = []
    reprfileloc: _Location | None = None


class _Entry(Struct, frozen=True):
    type: str = ""
    data: _EntryData = field(default_factory=_EntryData)


class _Traceback(Struct, frozen=True):
    reprentries: list[_Entry] = []


class _Longrepr(Struct, frozen=True):
    reprtraceback: Raw = _NULL
    """The last of the chain once more, or, without a chain, all there is."""
    reprcrash: _Location | None = None
    chain: list[tuple[_Traceback, _Location | None, str | None]] | None = None


class _Subtest(Struct, frozen=True):
    msg: str | None = None
    kwargs: dict[str, Any] = {}


class _Report(Struct, frozen=True):
    kind: str = field(name="$report_type", default="")
    nodeid: str = ""
    outcome: str = ""
    when: str | None = ""
    longrepr: Raw = _NULL
    sections: Raw = _NULL
    duration: float = 0.0
    start: float | None = 0.0
    wasxfail: str | None = None
    rerun: int | None = 0
    subtest: _Subtest | None = field(name="_subtest.context", default=None)


_report = msgspec.json.Decoder(_Report)
_longrepr = msgspec.json.Decoder(_Longrepr | str | list[str | int | None] | None)
_traceback = msgspec.json.Decoder(_Traceback | None)
_sections = msgspec.json.Decoder(list[tuple[str, str]])
_KINDS = frozenset({"TestReport", "SubTestReport", "SubtestReport", "CollectReport", ""})


def _sniff(head: bytes) -> bool:
    start = head.lstrip()
    fields = (b'"nodeid"', b'"outcome"', b'"longrepr"')
    return start.startswith(b"{") and (b'"$report_type"' in head or all(name in head for name in fields))


def _read(file: BinaryIO, name: str) -> Iterator[Item]:
    return few_problems(_items(file, name), name)


def _items(file: BinaryIO, name: str) -> Iterator[Item]:
    """Yield a trace for each report that says something: not for setups and teardowns that passed.

    Sections are kept for tests that did not pass. A trace's id is the number of its line.
    """
    places = Places()
    for number, line in lines(file):
        if line is not None and not line.strip():
            continue
        try:
            report = _report.decode(line) if line is not None else None
        except (ValueError, RecursionError) as error:
            report = _repaired(line or b"")
            reason = str(error)
        else:
            reason = ""
        if report is None:
            yield Problem(name, number, complaint(line) or f"not a line of a report log: {clip(reason, CODE)}")
        elif trace := _trace(report, str(number), places):
            yield trace


def _repaired(line: bytes) -> _Report | None:
    """Return the report of a line that Python writes and JSON forbids: NaN, halves of surrogate pairs."""
    try:
        value = json.loads(line, parse_constant=lambda _: None)
        return _report.decode(json.dumps(value, ensure_ascii=False).encode("utf-8", "replace"))
    except (ValueError, RecursionError):
        return None


def _trace(report: _Report, number: str, places: Places) -> Trace | None:
    phase = _phase(report)
    collected = report.kind == "CollectReport"
    if report.kind not in _KINDS or not (report.nodeid or collected):
        return None
    if report.outcome == "passed" and phase != "call" and report.wasxfail is None:
        return None
    outcome, failure, reason = _verdict(report, phase, places)
    if outcome is None:
        return None
    return Trace(
        id=number,
        nodeid=clip(report.nodeid, NAME) or ".",
        outcome=outcome,
        start=report.start or 0.0,
        phases={} if collected else {phase: report.duration},
        attempt=max(0, report.rerun or 0) + 1,
        rerun=report.outcome == "rerun",
        subtest=_subtest(report.subtest),
        failure=failure,
        reason=reason,
        sections=() if outcome == "passed" else _captured(report.sections),
    )


def _phase(report: _Report) -> FailurePhase:
    """Return what pytest was doing; xdist, which cannot know when a worker died, is taken to mean the call."""
    if report.kind == "CollectReport":
        return "collect"
    return "setup" if report.when == "setup" else "teardown" if report.when == "teardown" else "call"


def _verdict(report: _Report, phase: FailurePhase, places: Places) -> tuple[Outcome | None, Failure | None, str]:
    """Return outcome, failure and reason; no outcome where the report is of no known kind."""
    expected = clip((report.wasxfail or "").removeprefix("reason: "), MESSAGE)
    if report.outcome == "passed":
        return ("passed" if report.wasxfail is None else "xpassed"), None, expected
    if report.outcome == "skipped":
        if report.wasxfail is not None:
            return "xfailed", None, expected
        return "skipped", None, _skip_reason(report, places)
    if report.outcome not in {"failed", "rerun"}:
        return None, None, ""
    errors, text = _errors(report, places)
    outcome = red_outcome(phase, errors, text)
    if report.outcome == "rerun":
        outcome = "failed"
    return outcome, failure_of(phase, errors, text), reason_of(outcome, text)


def _subtest(context: _Subtest | None) -> str:
    if context is None:
        return ""
    parts = [f"[{context.msg}]"] if context.msg is not None else []
    if context.kwargs:
        parts.append(f"({', '.join(f'{key}={value}' for key, value in context.kwargs.items())})")
    return clip(" ".join(parts) or "(<subtest>)", CODE)


def _captured(raw: Raw) -> tuple[tuple[str, str], ...]:
    try:
        return sections(_sections.decode(raw))
    except (ValueError, RecursionError):
        return ()


def _skip_reason(report: _Report, places: Places) -> str:
    found = _decoded_longrepr(report)
    if not isinstance(found, list):
        return clip(found, MESSAGE) if isinstance(found, str) else ""
    places.learn(_test_file(report), [found[0]] if isinstance(found[0], str) else [])
    return clip(str(found[-1]).removeprefix("Skipped: "), MESSAGE)


def _decoded_longrepr(report: _Report) -> _Longrepr | str | list[str | int | None] | None:
    try:
        found = _longrepr.decode(report.longrepr)
    except (ValueError, RecursionError):
        # A plugin's own shape: what it holds is still the only word on the failure.
        return bytes(report.longrepr).decode("utf-8", "replace")
    return found or None


def _test_file(report: _Report) -> str:
    return report.nodeid.partition("::")[0]


def _errors(report: _Report, places: Places) -> tuple[tuple[Error, ...], str]:
    """Return the exceptions of a failed report, and, where there are none, its text."""
    found = _decoded_longrepr(report)
    if not isinstance(found, _Longrepr):
        text = found if isinstance(found, str) else ""
        errors = printed_errors(text)
    else:
        text = plain(found.reprcrash.message or "") if found.reprcrash else ""
        errors = _chain_errors(found)
    test_file = _test_file(report)
    places.learn(test_file, [frame.file for error in errors for frame in error.frames])
    if isinstance(found, _Longrepr) and found.reprcrash and errors:
        crash = found.reprcrash
        places.learn(test_file, [crash.path] if crash.path.startswith(("/", "\\")) or crash.path[1:2] == ":" else [])
        for frame in errors[0].frames[-1:]:
            places.learn_root(crash.path, frame.file)
    return places.settle(errors), text


def _chain_errors(found: _Longrepr) -> tuple[Error, ...]:
    chain = found.chain or [(_only_traceback(found.reprtraceback), found.reprcrash, None)]
    parts = [_part_errors(traceback, crash) for traceback, crash, _ in chain]
    links = [LINKS.get(description or "", "context") for _, _, description in chain]
    return bounded_chain(chained(parts, links))


def _only_traceback(raw: Raw) -> _Traceback:
    try:
        return _traceback.decode(raw) or _Traceback()
    except (ValueError, RecursionError):
        return _Traceback()


def _part_errors(traceback: _Traceback, crash: _Location | None) -> list[Error]:
    if any(entry.type == "ReprEntryNative" for entry in traceback.reprentries):
        text = "".join(line for entry in traceback.reprentries for line in entry.data.lines)
        if errors := printed_errors(text):
            return list(errors)
        found = error_of([], text.strip())
    else:
        entries = [_entry(entry.data) for entry in traceback.reprentries]
        if crash and not any(entry.file for entry in entries):  # --tb=line prints no places
            entries = [Entry(entries[-1].lines if entries else (), crash.path, crash.lineno or 0)]
        found = error_of(entries, (crash.message or "") if crash else "")
    return [found] if found else []


def _entry(data: _EntryData) -> Entry:
    place = data.reprfileloc
    if place is None:
        return Entry(data.lines)
    return Entry(data.lines, place.path, place.lineno or 0, place.message or "")


FORMAT = Format("reportlog", _sniff, _read)
