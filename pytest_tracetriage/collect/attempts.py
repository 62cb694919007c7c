"""The tests of a run in the order in which they ran, process by process: what a rerun in context needs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from pytest_tracetriage.collect.opening import lines, open_source
from pytest_tracetriage.collect.runs import open_run

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path


class Attempt(msgspec.Struct, frozen=True, gc=False):
    """The last attempt at a test. `process` is `main` or the name of an xdist worker."""

    nodeid: str
    outcome: str
    start: float
    seconds: float
    process: str


class _Head(msgspec.Struct, gc=False):
    """As much of a trace as matters here."""

    nodeid: str
    outcome: str
    start: float = 0.0
    phases: dict[str, float] = {}
    rerun: bool = False
    subtest: str = ""


def attempts_of(folder: Path) -> list[Attempt]:
    """Return the tests of a run's folder by the time at which they began, those of one process in its order.

    What cannot be read is left out.
    """
    found: dict[str, Attempt] = {}
    for path in open_run(folder).traces:
        process = path.name.partition(".")[0]
        for head in _heads(path):
            if not head.rerun and not head.subtest and "::" in head.nodeid:
                found.pop(head.nodeid, None)
                found[head.nodeid] = Attempt(head.nodeid, head.outcome, head.start, sum(head.phases.values()), process)
    return sorted(found.values(), key=lambda attempt: attempt.start)


def before(nodeid: str, attempts: Sequence[Attempt]) -> tuple[str, ...]:
    """Return what had run before a test in its process, in that order; nothing for a test that did not run."""
    place = next((number for number, attempt in enumerate(attempts) if attempt.nodeid == nodeid), 0)
    return tuple(one.nodeid for one in attempts[:place] if one.process == attempts[place].process)


def _heads(path: Path) -> Iterator[_Head]:
    decode = msgspec.json.Decoder(_Head).decode
    try:
        with open_source(path) as file:
            for _, line in lines(file):
                if line is not None and line.startswith(b'{"record":"trace"'):
                    try:
                        yield decode(line)
                    except (msgspec.MsgspecError, RecursionError):
                        continue
    except (OSError, EOFError):
        return
