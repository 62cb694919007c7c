"""A run as the history keeps it: the last word on each test, and the attempts that failed before it."""

from __future__ import annotations

from hashlib import blake2b
from typing import TYPE_CHECKING

import msgspec

from pytest_tracetriage.collect.formats import lines, open_source
from pytest_tracetriage.collect.runs import open_run, unfinished
from pytest_tracetriage.collect.totals import count
from pytest_tracetriage.model.history import RunRecord, TestRecord
from pytest_tracetriage.model.run import Totals
from pytest_tracetriage.model.trace import FAILING, Trace

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence
    from pathlib import Path

    from pytest_tracetriage.model.run import Context, Run

_OWN = frozenset({"pytest-tracetriage"})
_WORST_LAST = ("skipped", "xfailed", "passed", "xpassed", "failed", "error", "timeout", "stuck", "crashed")
_BADNESS = {outcome: rank for rank, outcome in enumerate(_WORST_LAST)}


class _Head(msgspec.Struct, gc=False):
    """What a history asks of a trace: decoding no more than this takes a tenth of the time."""

    nodeid: str
    outcome: str
    phases: dict[str, float] = {}
    rerun: bool = False
    subtest: str = ""


def run_record(run: Run) -> RunRecord:
    """Return a run without its tests. A lone run is a group of its own."""
    ci, git = run.context.ci, run.context.git
    return RunRecord(
        id=run.id,
        group=run.group or run.id,
        started=run.started,
        finished=run.finished,
        totals=run.totals,
        commit=git.commit,
        branch=git.branch,
        base=git.base,
        dirty=git.dirty,
        event=ci.event,
        workflow=ci.workflow,
        job=ci.job,
        leg=ci.leg,
        ci_run=ci.run_id,
        attempt=number(ci.attempt) or 1,
        repository=ci.repository,
        pull_request=ci.pull_request,
        python=run.context.python,
        platform=run.context.platform,
        environment=environment(run.context),
        exit_status=run.exit_status,
        metrics={name: figure.value for name, figure in run.metrics.items()},
    )


def number(text: str) -> int:
    """Return the number that a text of CI is, 0 where it is none: nobody counts to 19 digits, and Python reads no 4,301."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else 0


def environment(context: Context) -> str:
    """Return a hash of all that two runs of one commit must share before a difference between them means flaky."""
    parts = [context.python, context.implementation, context.platform, context.ci.job, context.ci.leg]
    parts += [f"{name}={version}" for name, version in sorted(context.packages.items()) if name not in _OWN]
    return blake2b("\n".join(parts).encode("utf-8", "surrogatepass"), digest_size=6).hexdigest()


def tests_of(folder: Path) -> tuple[TestRecord, ...]:
    """Return the last word on each test of a run's folder, by node id. Lines that cannot be read are left out."""
    found: dict[str, TestRecord] = {}
    for head in _heads(folder):
        before = found.get(head.nodeid)
        found[head.nodeid] = _later(before, head)
    return tuple(found[nodeid] for nodeid in sorted(found))


def _heads(folder: Path) -> Iterator[_Head | Trace]:
    decode = msgspec.json.Decoder(_Head).decode
    files = open_run(folder)
    for path in files.traces:
        try:
            with open_source(path) as file:
                for _, line in lines(file):
                    if line is not None and b'"record":"trace"' in line[:32]:
                        try:
                            yield decode(line)
                        except (msgspec.MsgspecError, RecursionError):
                            continue  # told by whoever analyses the run
        except (OSError, EOFError):
            continue
    yield from unfinished(files)


def _later(before: TestRecord | None, head: _Head | Trace) -> TestRecord:
    """Return what is known of a test after one more of its traces: a red one outweighs a green one of the same attempt."""
    seconds = sum(head.phases.values())
    if before is None:
        before = TestRecord(head.nodeid, "", 0.0)
    if head.rerun:
        retried = before.retried + (head.outcome in FAILING)
        return TestRecord(before.nodeid, before.outcome, max(before.duration, seconds), retried)
    outcome = head.outcome
    if before.outcome in FAILING or (head.subtest and outcome not in FAILING):
        outcome = before.outcome or outcome
    return TestRecord(before.nodeid, outcome, max(before.duration, seconds), before.retried)


def distinct_totals(runs: Sequence[Sequence[TestRecord]], counted: Totals) -> Totals:
    """Return totals in which a test that several legs ran counts once, by its worst outcome. `failures` stay as counted."""
    worst: dict[str, str] = {}
    for tests in runs:
        for test in tests:
            before = worst.get(test.nodeid)
            if before is None or _BADNESS.get(test.outcome, 0) > _BADNESS.get(before, 0):
                worst[test.nodeid] = test.outcome
    counts: dict[str, int] = {}
    for outcome in worst.values():
        count(counts, outcome, rerun=False, subtest=False)
    return Totals(**counts, failures=counted.failures, flaky=counted.flaky)


def retried_traces(folder: Path) -> Iterator[Trace]:
    """Yield the failed attempts of a run whose test passed in a later attempt, as if they had been the last word."""
    passed = {test.nodeid for test in tests_of(folder) if test.retried and test.outcome == "passed"}
    for trace in _traces(folder, b'"rerun":true'):
        if trace.rerun and trace.nodeid in passed:
            yield msgspec.structs.replace(trace, rerun=False)


def failed_traces(folder: Path, tests: Collection[str]) -> Iterator[Trace]:
    """Yield the red traces of these tests."""
    for trace in _traces(folder, b'"failure":'):
        if trace.nodeid in tests:
            yield trace


def _traces(folder: Path, holding: bytes) -> Iterator[Trace]:
    """Yield the traces of a run whose line holds these bytes; what cannot be read is told by whoever analyses the run."""
    decode = msgspec.json.Decoder(Trace).decode
    for path in open_run(folder).traces:
        try:
            with open_source(path) as file:
                for _, line in lines(file):
                    if line is not None and holding in line and b'"record":"trace"' in line[:32]:
                        try:
                            yield decode(line)
                        except (msgspec.MsgspecError, RecursionError):
                            continue
        except (OSError, EOFError):
            continue
