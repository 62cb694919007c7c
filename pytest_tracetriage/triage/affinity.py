"""Affinity: how likely two clusters share their cause, what forbids that they do, and the parts of signatures that it makes.

By spectrum and text together:

    log-odds(A, B) = -3 + 6 overlap + 3.5 messages alike + 4.5 suspects shared
        + 3 [the one's error stands inside the other's] - 1 [no overlap]

overlap, the mean over all pairs of tests: Jaccard index of the elements that they run, each weighing
(ln((N+1)/(p+1)) / ln(N+1))^2, where p of N passing tests run it: what every test runs says nothing.
messages alike, the mean over all pairs: the cosine of triage/vectors.py.
suspects shared: the share of the one cluster's tests that run the other's suspects, the ten best weighed by how suspicious they
are, both ways, the mean.
Where a test stands in no map its pairs are judged by text alone. The constants are round numbers on a plateau: fits that leave
out one of eight packages agree (docs/explanation/how-clustering-works.md), so do not tune them to a project.

Vetoes stand above all likeness, that of words alone included. A part is some tests of a signature, where what they run shows
that it hides several causes.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import msgspec

from pytest_tracetriage.triage.evidence import is_module, resources
from pytest_tracetriage.triage.signature import Key, identify
from pytest_tracetriage.triage.summary import EXEMPLARS, sample_rank
from pytest_tracetriage.triage.vectors import MESSAGE as MESSAGE_SCALE
from pytest_tracetriage.triage.vectors import log_odds

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from collections.abc import Set as AbstractSet

    from pytest_tracetriage.model.analysis import Cluster
    from pytest_tracetriage.triage.join import Fact
    from pytest_tracetriage.triage.localise import Crowd
    from pytest_tracetriage.triage.spectrum import Executed
    from pytest_tracetriage.triage.vectors import Vector


BASE, OVERLAP, MESSAGE, SHARED, INSIDE, DISJOINT = -3.0, 6.0, 3.5, 4.5, 3.0, 1.0
SUSPECTS = 10
STEPS = 16
"""The weight of an element is rounded to so many steps, so that a sum of weights is a few counts of bits."""


class Likeness:
    """Log-odds of two parts of signatures. `inside` are pairs of signatures (by index), one's error inside the other's."""

    def __init__(self, executed: Executed, vectors: Sequence[Vector], base: float, inside: Collection[tuple[int, int]]) -> None:
        self._executed, self._vectors, self._base, self._inside = executed, vectors, base, inside
        self._weights = _weights(executed)
        self._sums: dict[int, int] = {}
        self._texts: dict[tuple[int, int], tuple[float, float]] = {}

    def messages(self, left: int, right: int) -> float:
        """Return how far the messages of two signatures are alike."""
        return self._text(left, right)[0]

    def pair(self, left: int, left_runs: int, right: int, right_runs: int) -> float:
        """Return the log-odds of two tests by signature and elements run, but for the suspects that their clusters share."""
        messages, odds = self._text(left, right)
        extra = INSIDE if (min(left, right), max(left, right)) in self._inside else 0.0
        if not left_runs or not right_runs:
            return odds + extra
        overlap = self.overlap(left_runs, right_runs)
        return BASE + (OVERLAP * overlap if overlap else -DISJOINT) + MESSAGE * messages + extra

    def _text(self, left: int, right: int) -> tuple[float, float]:
        """Return (cosine of the messages, log-odds by text alone) of two signatures."""
        key = (min(left, right), max(left, right))
        found = self._texts.get(key)
        if found is None:
            ours, theirs = self._vectors[key[0]], self._vectors[key[1]]
            found = self._texts[key] = _messages(ours, theirs), log_odds(ours, theirs, self._base)
        return found

    def overlap(self, left: int, right: int) -> float:
        """Return the weighted Jaccard index of two sets of elements."""
        both = self._sum(left & right)
        union = self._known_sum(left) + self._known_sum(right) - both
        return both / union if union else 0.0

    def shared(self, left: Crowd, left_top: Top, right: Crowd, right_top: Top) -> float:
        """Return what shared suspects add to the log-odds of two clusters."""
        if not left_top or not right_top:
            return 0.0
        there = self._run(left_top, right.tests) / right.tests.bit_count()
        here = self._run(right_top, left.tests) / left.tests.bit_count()
        covered = left.tests.bit_count() * right.tests.bit_count() / (left.count * right.count)
        return SHARED * covered * (here + there) / 2

    def _run(self, top: Top, tests: int) -> float:
        """Return how many of the tests run these elements, the weighted mean."""
        elements = self._executed.elements
        return sum([weight * (elements[number].failing & tests).bit_count() for weight, number in top])

    def _sum(self, elements: int) -> int:
        return sum([weight * (elements & mask).bit_count() for weight, mask in self._weights])

    def _known_sum(self, elements: int) -> int:
        found = self._sums.get(elements)
        if found is None:
            found = self._sums[elements] = self._sum(elements)
        return found


Top = list[tuple[float, int]]
"""Elements with their weights, which add up to 1."""


def weighed(ranked: Sequence[tuple[float, int]]) -> Top:
    """Return ranked elements (log-odds, number) with their shares of belief."""
    beliefs = [math.exp(odds - ranked[0][0]) for odds, _ in ranked]
    total = math.fsum(beliefs)
    return [(belief / total, number) for belief, (_, number) in zip(beliefs, ranked, strict=True)]


def _weights(executed: Executed) -> list[tuple[int, int]]:
    """Return (weight, elements of that weight), the weight in units of 1 / STEPS^2."""
    all_of_them = math.log(executed.passing + 1)
    masks: dict[int, int] = {}
    for number, ran in enumerate(executed.elements):
        rarity = math.log((executed.passing + 1) / (ran.passing + 1)) / all_of_them if all_of_them else 1.0
        if step := round(STEPS * rarity):
            masks[step * step] = masks.get(step * step, 0) | 1 << number
    return sorted(masks.items())


def _messages(left: Vector, right: Vector) -> float:
    """Return the cosine of two signatures' messages."""
    return sum([value * right.terms.get(term, 0.0) for term, value in left.terms.items() if term[0] == "m"]) / MESSAGE_SCALE


class Vetoes:
    """What speaks against joining two clusters, each given as the indices of its facts."""

    def __init__(self, facts: Sequence[Fact], cannot: Sequence[Mapping[str, str]]) -> None:
        self._apart = [{n: parts[fact.id] for n, fact in enumerate(facts) if fact.id in parts} for parts in cannot]
        self._resources = [resources(fact) for fact in facts]
        self._uncalled = frozenset(number for number, fact in enumerate(facts) if fact.failure.uncalled is not None)
        self._kinds = {number: kind for number, fact in enumerate(facts) if (kind := _kind(fact))}

    def split(self, left: Sequence[int], right: Sequence[int]) -> bool:
        """Return whether people split what stands on the two sides."""
        for parts in self._apart:
            here = {parts[member] for member in left if member in parts}
            there = {parts[member] for member in right if member in parts}
            if len(here | there) > 1 and here and there:
                return True
        return False

    def oppose(self, left: Sequence[int], right: Sequence[int]) -> bool:
        """Return whether anything speaks against joining by soft evidence."""
        return (
            self.split(left, right)
            or self._different_resources(left, right)
            or self._one_uncalled(left, right)
            or self._different_kinds(left, right)
        )

    def _different_resources(self, left: Sequence[int], right: Sequence[int]) -> bool:
        ours: frozenset[str] = frozenset().union(*(self._resources[member] for member in left))
        theirs: frozenset[str] = frozenset().union(*(self._resources[member] for member in right))
        if ours & theirs:
            return False
        # A missing module explains its failures whole: what names none has another cause, however like the tests are.
        return bool(ours and theirs) or any(is_module(resource) for resource in ours | theirs)

    def _one_uncalled(self, left: Sequence[int], right: Sequence[int]) -> bool:
        """Return whether only one side is of a `setup()` that was not called: the words differ by an attribute only."""
        return self._uncalled.isdisjoint(left) != self._uncalled.isdisjoint(right)

    def _different_kinds(self, left: Sequence[int], right: Sequence[int]) -> bool:
        """Return whether steps failed on both sides, in ways that have nothing in common."""
        ours = {self._kinds[member] for member in left if member in self._kinds}
        theirs = {self._kinds[member] for member in right if member in self._kinds}
        return bool(ours and theirs) and ours.isdisjoint(theirs)


def _kind(fact: Fact) -> str:
    """Return the type of the failing step, "" where none is known."""
    return fact.broken.answer[0] if fact.broken is not None and fact.broken.answer is not None else ""


SPLIT = "split by spectrum"
"""The evidence of a part of a signature that was split off: most tests of that signature are in another cluster."""


def part_of(fact: Fact, members: AbstractSet[str]) -> Fact:
    """Return some tests of a fact as a fact. Where none of its exemplars is among them, one stands in under their name."""
    kept = [number for number, sample in enumerate(fact.samples) if sample.member in members]
    if kept:
        samples = tuple(fact.samples[number] for number in kept)
        failures = tuple(fact.failures[number] for number in kept if number < len(fact.failures))
        return replace(fact, members=members, samples=samples, failures=failures or (samples[0].failure(),))
    rank, member = min((sample_rank(member), member) for member in members)
    return replace(
        fact,
        members=members,
        samples=(msgspec.structs.replace(fact.samples[0], rank=rank, member=member),),
        failures=fact.failures[:1],
    )


def whole_of(parts: Sequence[Fact]) -> Fact:
    """Return parts of one signature as one fact, with the exemplars of all."""
    if len(parts) == 1:
        return parts[0]
    members = set[str]().union(*(part.members for part in parts))
    pairs = {sample: failure for part in parts for sample, failure in zip(part.samples, part.failures, strict=False)}
    kept = sorted(pairs)[:EXEMPLARS]
    return replace(parts[0], members=members, samples=tuple(kept), failures=tuple(pairs[sample] for sample in kept))


def split_off(cluster: Cluster) -> frozenset[str]:
    """Return the signatures of which a cluster holds a part that was split off."""
    return frozenset(signature for why in cluster.why if why.evidence == SPLIT for signature in why.signatures)


def split_ids(cluster: Cluster, signature: str) -> list[str]:
    """Return the ids that a part of a signature may have: of the signature and each suspect, the most suspicious first."""
    places = [(suspect.file, suspect.function) for suspect in cluster.suspects[:5]]
    return [identify(Key(SPLIT, signature, *place)) for place in (*places, ("", min(cluster.tests)))]
