"""What became of tests that were run again, what that says of their clusters, and which others to run before: decisions.

A test is run alone first, in a process where nothing ran before. One that fails each time is real; one that fails now and then
is flaky. One that passes each time is run after those tests after which it failed: if it fails there it depends on the order,
and the search for the polluter begins. If it passes there too, it failed by chance, by time, or by what differs between here
and there.

The search for the tests that make a later one fail (polluters), or pass (what a brittle test needs), asks for lists of tests to
run before it and is told, of each, whether the effect was there. In quarters, three of which are asked about at once and the
fourth is inferred: as many runs as halving takes at most, in half as many rounds.
"""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from pytest_tracetriage.model.analysis import Suspect
from pytest_tracetriage.model.trace import FAILING

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Mapping, Sequence

    from pytest_tracetriage.model.analysis import Cluster, Status
    from pytest_tracetriage.model.execution import Execution, Order
    from pytest_tracetriage.model.trace import Failure

    Tests = tuple[str, ...]
    Search = Generator[list[Tests], list[bool], Tests]
    """Yields lists to run before the test, gets for each whether the effect was there, returns the tests that cause it."""


TIMES = 3
"""How often a test is run alone."""
IN_CONTEXT = 2
AFTER_POLLUTER = 5
PER_CLUSTER = 2
MOST = 60
"""Tests that are run alone; of more clusters the first, which weigh most."""

_TIME = re.compile(
    r"""\b(?:\d{4}-\d\d-\d\d|\d{1,2}:\d\d:\d\d|time[ds]?[ -]?out|timeout(?:error|expired)?|deadline
    |elapsed|too\ slow|took\ [\d.]+
    |datetime|timezone|tzinfo|utc(?:now)?|strftime|monotonic|perf_counter|expired?
    |yesterday|today|tomorrow|midnight)\b""",
    re.IGNORECASE | re.VERBOSE,
)


@dataclass(frozen=True)
class Again:
    """How often a test was run again in one way, and how often it failed."""

    ran: int = 0
    failed: int = 0
    unlike: tuple[str, ...] = ()
    """What it failed by where that was not what it had failed by: `ValueError: no stock`."""

    @property
    def always(self) -> bool:
        """Return whether it failed each time."""
        return 0 < self.ran == self.failed

    @property
    def never(self) -> bool:
        """Return whether it ran, and passed each time."""
        return bool(self.ran) and not self.failed

    def __add__(self, other: Again) -> Again:
        """Return both counts as one."""
        return Again(self.ran + other.ran, self.failed + other.failed, (*self.unlike, *other.unlike))


@dataclass(frozen=True)
class Subject:
    """A test that was run again, and all that is known of it."""

    nodeid: str
    cluster: str
    signatures: frozenset[str]
    alone: Again = Again()
    context: Again = Again()
    """After the tests that had run before it."""
    before: int = 0
    """How many those were."""
    polluters: tuple[str, ...] = ()
    """After these alone it fails."""
    setters: tuple[str, ...] = ()
    """It fails unless these have run."""
    proof: Again = Again()
    """After the polluters, or the setters, alone; where no setter is known, after others after which it passes."""


@dataclass(frozen=True)
class Recorded:
    """How the run that is diagnosed differed from here, in words, and what the test said there."""

    elsewhere: tuple[str, ...] = ()
    """`Python 3.12.1, here 3.11.9`."""
    changed: tuple[str, ...] = ()
    """Files of the failures that were written since: what passes now may have been mended."""
    worker: str = ""
    """The xdist worker, where there were several."""
    failures: Mapping[str, Failure] = field(default_factory=dict)
    timed_out: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Verdict:
    """The status of a cluster and what it rests on, in words."""

    status: Status
    words: str


def exemplars(clusters: Iterable[Cluster], seconds: Mapping[str, float], failing: Mapping[str, str]) -> list[Subject]:
    """Return the tests that stand for clusters: of each the exemplar, and the quickest that failed in another way, or at all.

    `failing` is the signature of each failing test; what is not in it (a module that could not be collected) cannot be run.
    """
    found = []
    for cluster in clusters:
        signatures = frozenset(signature.id for signature in cluster.signatures)
        tests = [test for test in cluster.tests if test in failing]
        first = cluster.exemplar.nodeid if cluster.exemplar is not None else ""
        tests.sort(key=lambda test: (test != first, seconds.get(test, 0.0), test))
        chosen = tests[:1]
        others = sorted(tests[1:], key=lambda test: (failing[test] == failing[chosen[0]], seconds.get(test, 0.0), test))
        found += [Subject(test, cluster.id, signatures) for test in (*chosen, *others[: PER_CLUSTER - 1])]
    return found[:MOST]


def ended(subject: Subject, orders: Iterable[Order]) -> Again:
    """Return how the last run of a test in each of these orders went. One that never came to it does not count."""
    seen = Again()
    for order in orders:
        execution = next((one for one in reversed(order.executions) if one.nodeid == subject.nodeid), None)
        seen = seen + of_execution(subject, execution)
    return seen


def of_execution(subject: Subject, execution: Execution | None) -> Again:
    """Return one attempt as a count: nothing where there was none, or where it was skipped or ended by a limit of ours."""
    if execution is None or execution.outcome == "skipped" or (execution.outcome == "timeout" and execution.failure is None):
        return Again()
    if execution.outcome not in FAILING:
        return Again(1, 0)
    alike = not execution.signature or not subject.signatures or execution.signature in subject.signatures
    return Again(1, 1, () if alike else (_said(execution.failure),))


def _said(failure: Failure | None) -> str:
    error = failure.errors[0] if failure is not None and failure.errors else None
    if error is None:
        return "another failure"
    lines = error.message.splitlines()
    return f"{error.type}: {lines[0]}"[:120] if lines else error.type


# -- what it means --------------------------------------------------------------------------------------------------------


def verdict(cluster: Cluster, subjects: Sequence[Subject], recorded: Recorded) -> Verdict | None:
    """Return the status of a cluster by its tests that were run again; None where none was.

    A cluster is real where any test of it fails each time: the others may be flaky besides.
    """
    known = [(subject, found) for subject in subjects if (found := _verdict(cluster, subject, recorded)) is not None]
    if not known:
        return None
    ranked = sorted(known, key=lambda pair: _ORDER.index(pair[1].status))
    leading, found = ranked[0]
    words = found.words
    others = [
        f"{subject.nodeid} is {other.status}: {other.words}" for subject, other in ranked[1:] if other.status != found.status
    ]
    return replace(found, words="; ".join([words, *others[:2]])) if leading else found


_ORDER = ("real", "infrastructure", "order-dependent", "environment", "time-dependent", "flaky", "")


def _verdict(cluster: Cluster, subject: Subject, recorded: Recorded) -> Verdict | None:
    alone, context = subject.alone, subject.context
    if not alone.ran and not context.ran:
        return None
    if subject.setters:
        proof = f"{subject.proof.ran - subject.proof.failed} of {subject.proof.ran}"
        return Verdict("order-dependent", f"{_counts(alone, context)}; passes after {_named(subject.setters)} ({proof})")
    if subject.polluters:
        proof = f"{subject.proof.failed} of {subject.proof.ran}"
        return Verdict("order-dependent", f"passes alone; fails after {_named(subject.polluters)} ({proof})")
    if alone.always and subject.proof.never:
        after = f"after {subject.before:,} others ({subject.proof.ran} of {subject.proof.ran})"
        return Verdict("order-dependent", f"{_counts(alone, context)}; passes {after}; no test alone explains it")
    if (alone.ran and alone.always) or (not alone.ran and context.always):
        unlike = _unlike(alone + context)
        if cluster.owner == "infrastructure":
            return Verdict("infrastructure", f"{_counts(alone, context)}{unlike}; {cluster.classified}")
        return Verdict("real", f"{_counts(alone, context)}{unlike}")
    if alone.failed:
        return Verdict("flaky", f"{_counts(alone, context)}{_unlike(alone + context)}")
    if context.always and context.ran > 1:
        after = f"after the {subject.before:,} tests that ran before it" if subject.before else "in context"
        words = f"passes alone; fails {after} ({context.failed} of {context.ran}); no test alone explains it"
        return Verdict("order-dependent", words)
    if context.failed:
        return Verdict("flaky", _counts(alone, context))
    return _by_chance(subject, recorded)


def _by_chance(subject: Subject, recorded: Recorded) -> Verdict:
    """Return why a test may have failed there that passes here, alone and in context."""
    here = f"{_counts(subject.alone, subject.context)}; it failed in the run"
    if recorded.changed:
        return Verdict("", f"{here}; since then {', '.join(recorded.changed[:3])} changed")
    if subject.nodeid in recorded.timed_out:
        return Verdict("time-dependent", f"{here}, where it ran into its timeout")
    if recorded.elsewhere:
        return Verdict("environment", f"{here}, which had {', '.join(recorded.elsewhere[:3])}")
    failure = recorded.failures.get(subject.nodeid)
    if failure is not None and (word := _speaks_of_time(failure)):
        return Verdict("time-dependent", f"{here}, and its failure speaks of time ({word})")
    worker = f", on xdist worker {recorded.worker}" if recorded.worker else ""
    return Verdict("flaky", f"{here}{worker}")


def _speaks_of_time(failure: Failure) -> str:
    texts = [failure.text[-2000:]]
    for error in failure.errors[:4]:
        texts += [error.type, error.message[:2000], *(frame.code for frame in error.frames[-2:])]
    found = next((match for text in texts if (match := _TIME.search(text))), None)
    return found[0] if found else ""


def left_behind(subjects: Sequence[Subject]) -> list[Suspect]:
    """Return the tests after which others fail as suspects."""
    found: dict[str, Suspect] = {}
    for subject in subjects:
        for test in subject.polluters:
            file, _, name = test.partition("[")[0].partition("::")
            words = f"{subject.nodeid} fails after it, {subject.proof.failed} of {subject.proof.ran} times, and passes alone"
            found.setdefault(test, Suspect(file, name.replace("::", "."), 0, 1.0, words, "test"))
    return list(found.values())


def _counts(alone: Again, context: Again) -> str:
    """Return `fails 5 of 5 alone and in context`, `passes 3 of 3 alone, fails 1 of 2 in context`."""
    if alone.ran and context.ran and (alone + context).always:
        return f"fails {alone.failed + context.failed} of {alone.ran + context.ran} alone and in context"
    if alone.ran and context.ran and (alone + context).never:
        return f"passes {alone.ran + context.ran} of {alone.ran + context.ran} alone and in context"
    parts = []
    for seen, where in ((alone, "alone"), (context, "in context")):
        if seen.ran:
            parts.append(
                f"passes {seen.ran} of {seen.ran} {where}" if seen.never else f"fails {seen.failed} of {seen.ran} {where}"
            )
    return ", ".join(parts)


def _unlike(seen: Again) -> str:
    if not seen.unlike:
        return ""
    times = "each time" if len(seen.unlike) == seen.failed else f"{len(seen.unlike)} times" if len(seen.unlike) > 1 else "once"
    return f", {times} as another failure: {seen.unlike[0]}"


def _named(tests: Sequence[str]) -> str:
    return " and ".join(tests)


WAYS = 4
NEEDED = 3
"""Tests that may be needed together; a cause of more is not named."""


def causes_among(before: Sequence[str]) -> Search:
    """Search for the tests without which the effect is not there. It must be there after all of `before`.

    Returns them in their order, usually one; none where the effect comes and goes, or needs more than three together.
    """
    left = tuple(before)
    while len(left) > 1:
        parts = _parts(left)
        answers = yield parts[:-1]
        left = next((part for part, there in zip(parts, answers, strict=False) if there), parts[-1])
    if not left:
        return ()
    (alone,) = yield [left]
    if alone:
        return left
    return (yield from _together(tuple(before)))


def _together(before: Tests) -> Search:
    """Search for tests that have the effect together only: of the shortest beginning that has it, the last is needed."""
    needed: Tests = ()
    while len(needed) < NEEDED:
        low, high = 0, len(before)
        while high - low > 1:
            cuts = sorted({low + (high - low) * part // WAYS for part in range(1, WAYS)} - {low})
            answers = yield [before[:cut] + needed for cut in cuts]
            first = next((cut for cut, there in zip(cuts, answers, strict=True) if there), high)
            low = max([low, *(cut for cut in cuts if cut < first)])
            high = first
        if not high:
            return ()
        needed, before = (before[high - 1], *needed), before[: high - 1]
        (enough,) = yield [needed]
        if enough:
            return needed
    return ()


def _parts(tests: Tests) -> list[Tests]:
    number = min(WAYS, len(tests))
    bounds = [len(tests) * part // number for part in range(number + 1)]
    return [tests[start:end] for start, end in itertools.pairwise(bounds)]
