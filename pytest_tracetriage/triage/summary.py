"""What triage keeps of a shard: per signature its tests, first and last seen, and a few exemplars.

Everything in a summary is a set, a minimum, a maximum or the smallest k of a set, so `merge` is associative, commutative and
idempotent: shards may arrive in any order, in any grouping, and twice. (Bottom-k by hash: Cohen and Kaplan, "Summarizing data
using bottom-k sketches", PODC 2007.)
"""

from __future__ import annotations

from dataclasses import dataclass, field
from hashlib import blake2b
from typing import TYPE_CHECKING

import msgspec

from pytest_tracetriage.collect.totals import count
from pytest_tracetriage.model.analysis import Problem
from pytest_tracetriage.model.analysis import Source as Shard
from pytest_tracetriage.model.run import Totals
from pytest_tracetriage.model.trace import FAILING, Failure, Source, Trace
from pytest_tracetriage.triage.signature import Key, identify, key, signature_id
from pytest_tracetriage.triage.steps import Step, smallest

if TYPE_CHECKING:
    from collections.abc import Iterable

EXEMPLARS = 3
MANY = 2_000
"""Of more signatures than this one exemplar each is looked at. A shard of more need not keep others: nor has a union less."""
TEXTS = 50_000
MAX_TEXT = 8_000
MAX_RED = 2_000
"""Red traces of which it is looked at where they broke: of more, those of the lowest ranks."""
SUBTEST = "\0"
"""Separates a node id from the description of a subtest inside a member's name."""


class Sample(msgspec.Struct, frozen=True, order=True):
    """One exemplar. Its order (hash first) decides which samples a summary keeps."""

    rank: bytes
    member: str
    encoded: bytes
    """The failure as JSON: decides between two failures of one test."""
    outcome: str = ""
    reason: str = ""

    def failure(self) -> Failure:
        """Return the failure."""
        return msgspec.json.decode(self.encoded, type=Failure)

    @property
    def nodeid(self) -> str:
        """Return the test's node id."""
        return self.member.partition(SUBTEST)[0]


@dataclass
class Occurrences:
    """Where one signature was seen. `later` holds tests that had failed before, in the same attempt (a teardown)."""

    key: Key
    members: set[str] = field(default_factory=set)
    later: set[str] = field(default_factory=set)
    first: float = float("inf")
    last: float = 0.0
    samples: tuple[Sample, ...] = ()


TraceKey = tuple[str, str]
"""A trace's run (its id, or the path of a file that stands alone) and its id in it."""


class Red(msgspec.Struct, frozen=True, order=True):
    """A red trace. Its order (hash of the test first) decides which a summary keeps. `signature` is "" without a failure."""

    rank: bytes
    member: str
    signature: str
    outcome: str

    @property
    def nodeid(self) -> str:
        """Return the test's node id."""
        return self.member.partition(SUBTEST)[0]


@dataclass
class Summary:
    """All that triage needs to know of some shards. `totals` and `sources` are kept by shard key."""

    signatures: dict[str, Occurrences] = field(default_factory=dict)
    totals: dict[str, dict[str, int]] = field(default_factory=dict)
    sources: dict[str, Shard] = field(default_factory=dict)
    problems: set[tuple[str, int, str]] = field(default_factory=set)
    passed: set[str] = field(default_factory=set)
    """Which of the watched tests passed."""
    uncollected: set[str] = field(default_factory=set)
    """What could not be collected: every xdist worker and every shard says so, and it counts once."""
    texts: dict[str, tuple[int, str]] = field(default_factory=dict)
    """(first line, text) of functions by content hash: the smallest `TEXTS` hashes of all."""
    red: dict[TraceKey, Red] = field(default_factory=dict)
    steps: dict[TraceKey, frozenset[Step]] = field(default_factory=dict)
    """Of red traces, and of those whose record stands in another shard, or nowhere: nobody looks at these."""


def summarize(
    traces: Iterable[Trace | Problem], shard: str, source: Shard, watch: frozenset[str] = frozenset(), run: str = ""
) -> Summary:
    """Return the summary of one shard, named `shard` with its content's etag; `watch` are tests whose passing matters.

    `run` is what the traces' ids are unique in, the source's id where it is not given.
    """
    summary = Summary(sources={shard: source})
    counts: dict[str, int] = {}
    for trace in traces:
        if isinstance(trace, Problem):
            summary.problems.add((trace.file, trace.line, trace.message))
            continue
        if trace.failure is not None and trace.failure.phase == "collect":
            summary.uncollected.add(trace.nodeid)
        else:
            count(counts, trace.outcome, rerun=trace.rerun, subtest=bool(trace.subtest))
        add_trace(summary, trace, run or source.id)
        if watch and trace.outcome == "passed":
            summary.passed |= watched(trace.nodeid, watch)
    summary.totals[shard] = counts
    return summary


def watched(nodeid: str, watch: frozenset[str]) -> set[str]:
    """Return what a passing test shows to be well again: itself, and its module that once could not be collected."""
    return {nodeid, nodeid.partition("::")[0]} & watch


def keep_text(summary: Summary, source: Source) -> None:
    """Keep the source of a function, as long as its hash is among the smallest."""
    summary.texts[source.id] = (source.line, source.text[:MAX_TEXT])
    if len(summary.texts) > 2 * TEXTS:
        summary.texts = dict(sorted(summary.texts.items())[:TEXTS])


def add_trace(summary: Summary, trace: Trace, run: str) -> None:
    """Add the failures of one trace. An attempt that was run again is not a failure of its test."""
    if trace.rerun or trace.outcome not in FAILING:
        return
    member = member_of(trace)
    signature = signature_id(trace.failure) if trace.failure is not None else ""
    note_red(summary, (run, trace.id), Red(sample_rank(member), member, signature, trace.outcome))
    if trace.failure is not None:
        # A text format reports a teardown by itself; there, only the phase tells that the test may have failed before.
        later = trace.failure.phase == "teardown"
        add_failure(summary, trace.failure, member, trace.start, trace.outcome, trace.reason, later=later)
    for failure in trace.later:
        add_failure(summary, failure, member, trace.start, "error", "", later=True)


def add_failure(
    summary: Summary, failure: Failure, member: str, start: float, outcome: str, reason: str, *, later: bool
) -> None:
    """Add one failure of one test (`member`: its node id, for a subtest followed by NUL and its description)."""
    parts = key(failure)
    found = occurrences(summary, identify(parts), parts)
    seen(found, member, start, later=later)
    rank = sample_rank(member)
    if wanted(found, rank):
        offer(found, Sample(rank, member, msgspec.json.encode(failure), outcome, reason))


def note_red(summary: Summary, key: TraceKey, red: Red) -> None:
    """Keep a red trace, as long as it is among those of the lowest ranks."""
    known = summary.red.get(key)
    summary.red[key] = red if known is None else min(known, red)
    if len(summary.red) > 2 * MAX_RED:
        few_red(summary)


def few_red(summary: Summary) -> None:
    """Drop the red traces that are too many, with their steps."""
    if len(summary.red) > MAX_RED:
        ordered = sorted(summary.red.items(), key=lambda item: (item[1].rank, item[0]))
        for key, _ in ordered[MAX_RED:]:
            summary.steps.pop(key, None)
        summary.red = dict(ordered[:MAX_RED])


def sample_of(trace: Trace, failure: Failure, rank: bytes) -> Sample:
    """Return a trace's failure as a sample."""
    return Sample(rank, member_of(trace), msgspec.json.encode(failure), trace.outcome, trace.reason)


def member_of(trace: Trace) -> str:
    """Return what stands for a test among the members of a signature."""
    return f"{trace.nodeid}{SUBTEST}{trace.subtest}" if trace.subtest else trace.nodeid


def occurrences(summary: Summary, signature: str, parts: Key) -> Occurrences:
    """Return the (possibly new) occurrences of a signature."""
    found = summary.signatures.get(signature)
    if found is None:
        found = summary.signatures[signature] = Occurrences(parts)
    return found


def seen(found: Occurrences, member: str, start: float, *, later: bool) -> None:
    """Note that a test showed the signature at `start`."""
    (found.later if later else found.members).add(member)
    if start and start < found.first:
        found.first = start
    found.last = max(found.last, start)


def sample_rank(member: str) -> bytes:
    """Return what decides whether a member becomes an exemplar: a hash, so that any shard decides alike."""
    return blake2b(member.encode("utf-8", "surrogatepass"), digest_size=8).digest()


def wanted(found: Occurrences, rank: bytes) -> bool:
    """Return whether a sample of this rank may be among the smallest k."""
    return len(found.samples) < EXEMPLARS or rank <= found.samples[-1].rank


def offer(found: Occurrences, sample: Sample) -> None:
    """Keep `sample` if it is among the smallest k."""
    found.samples = tuple(sorted({*found.samples, sample})[:EXEMPLARS])


def merge(*summaries: Summary) -> Summary:
    """Return the summary of all shards of all. No argument is changed."""
    merged = Summary()
    for side in summaries:
        absorb(merged, side)
    return merged


def absorb(target: Summary, side: Summary) -> None:
    """Merge `side` into `target`, which is changed; where `target` has none of a signature, `side` is copied."""
    target.totals.update(side.totals)
    target.sources.update(side.sources)
    target.problems |= side.problems
    target.passed |= side.passed
    target.uncollected |= side.uncollected
    target.texts.update(side.texts)
    if len(target.texts) > TEXTS:
        target.texts = dict(sorted(target.texts.items())[:TEXTS])
    for name, red in side.red.items():
        known = target.red.get(name)
        target.red[name] = red if known is None else min(known, red)
    for name, steps in side.steps.items():
        target.steps[name] = smallest(steps | target.steps[name]) if name in target.steps else steps
    few_red(target)
    for signature, found in side.signatures.items():
        into(occurrences(target, signature, found.key), found)


def into(target: Occurrences, found: Occurrences) -> None:
    """Merge `found` into `target`, which is changed."""
    target.members |= found.members
    target.later |= found.later
    target.first = min(target.first, found.first)
    target.last = max(target.last, found.last)
    target.samples = tuple(sorted({*target.samples, *found.samples})[:EXEMPLARS])


def resolve_later(summary: Summary) -> dict[str, set[str]]:
    """Return the members by signature: a later failure counts only where the test had not failed before."""
    members = {signature: found.members for signature, found in summary.signatures.items() if found.members}
    if any(found.later for found in summary.signatures.values()):
        failed = set().union(*members.values()) if members else set()
        for signature, found in summary.signatures.items():
            alone = found.later - failed
            if alone:
                members[signature] = members.get(signature, set()) | alone
    return members


def totals(summary: Summary) -> Totals:
    """Return the totals over all shards."""
    added: dict[str, int] = {}
    for counts in summary.totals.values():
        for name, number in counts.items():
            added[name] = added.get(name, 0) + number
    failures = len(set().union(*resolve_later(summary).values())) if summary.signatures else 0
    missing = len(summary.uncollected)
    added["errors"] = added.get("errors", 0) + missing
    added["tests"] = added.get("tests", 0) + missing
    return Totals(**{**added, "failures": failures})
