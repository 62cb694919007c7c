"""Joining: which signatures share one root cause, and by what evidence.

Hard evidence and people's decisions join first; then average-linkage agglomeration joins while the mean log-odds of two
clusters is not negative. Up to 300 signatures every pair is looked at; of more, each signature's best few among those that
share a rare feature.

`Fact` and `Group` are what joining works on: signatures with their tests and exemplars, and what they end up in.
"""

from __future__ import annotations

import heapq
import itertools
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pytest_tracetriage.model.analysis import Why
from pytest_tracetriage.triage.affinity import Vetoes
from pytest_tracetriage.triage.evidence import links
from pytest_tracetriage.triage.vectors import Vector, explain, log_odds, mean, vectors

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from collections.abc import Set as AbstractSet

    from pytest_tracetriage.model.trace import Failure
    from pytest_tracetriage.triage.agents import Broken
    from pytest_tracetriage.triage.signature import Key
    from pytest_tracetriage.triage.summary import Sample


ALL_PAIRS = 300
RARE, NEIGHBOURS, FAR = 16, 8, -1.0
"""Beyond: a feature of at most so many signatures is rare; so many candidates are kept a signature, unless so far off."""


@dataclass
class _State:
    """The clusters while they grow. A cluster is named by its first signature's index."""

    vectors: dict[int, Vector]
    weights: dict[int, float]
    members: dict[int, list[int]]
    near: dict[int, dict[int, float]]
    version: dict[int, int]
    base: float
    sparse: bool
    vetoes: Vetoes
    why: dict[int, list[Why]] = field(default_factory=dict)
    heap: list[tuple[float, int, int, int, int]] = field(default_factory=list)


def join(
    facts: Sequence[Fact],
    must: Iterable[tuple[str, str, str]],
    cannot: Iterable[Mapping[str, str]],
    sources: Mapping[str, tuple[int, str]],
) -> list[Group]:
    """Return the facts (sorted by id) as groups, with the evidence of each join.

    `must` are pairs of signature ids with their reason, `cannot` what was split, as the part of each id: no two of different
    parts may share a group (it wins), `sources` the (first line, text) of test functions by content hash.
    """
    if not facts:
        return []
    index = {fact.id: number for number, fact in enumerate(facts)}
    built, base = vectors(facts, sources)
    state = _State(
        vectors=dict(enumerate(built)),
        weights={number: math.sqrt(max(1, len(fact.members))) for number, fact in enumerate(facts)},
        members={number: [number] for number in range(len(facts))},
        near={number: {} for number in range(len(facts))},
        version=dict.fromkeys(range(len(facts)), 0),
        base=base,
        sparse=len(facts) > ALL_PAIRS,
        vetoes=Vetoes(facts, list(cannot)),
    )
    pairs = candidates(built)
    home = {number: number for number in range(len(facts))}
    decided = [(left, right, Why("decision", reason, (left, right))) for left, right, reason in must]
    decided += [(link.left, link.right, Why(link.evidence, link.detail, (link.left, link.right))) for link in links(facts)]
    for left, right, why in decided:
        _join_hard(state, home, index[left], index[right], why)
    _agglomerate(state, {(min(home[i], home[j]), max(home[i], home[j])) for i, j in pairs if home[i] != home[j]}, facts)
    return [
        Group(tuple(facts[number] for number in sorted(state.members[name])), tuple(state.why.get(name, ())))
        for name in sorted(state.members)
    ]


def _join_hard(state: _State, home: dict[int, int], left: int, right: int, why: Why) -> None:
    left, right = sorted((home[left], home[right]))
    if left == right or state.vetoes.split(state.members[left], state.members[right]):
        return
    state.vectors[left] = mean(state.vectors[left], state.weights[left], state.vectors.pop(right), state.weights[right])
    state.weights[left] += state.weights.pop(right)
    moved = state.members.pop(right)
    state.members[left] += moved
    state.near.pop(right)
    home.update(dict.fromkeys(moved, left))
    state.why[left] = [*state.why.get(left, []), *state.why.pop(right, []), why]


def candidates(built: Sequence[Vector]) -> list[tuple[int, int]]:
    """Return the pairs worth looking at, by index, in ascending order."""
    size = len(built)
    if size <= ALL_PAIRS:
        return [(i, j) for i in range(size) for j in range(i + 1, size)]
    bearers: dict[str, list[int]] = {}
    for number, vector in enumerate(built):
        for term in vector.terms:
            bearers.setdefault(term, []).append(number)
    scores: list[dict[int, float]] = [{} for _ in range(size)]
    for term in sorted(term for term, numbers in bearers.items() if len(numbers) > 1):
        numbers = bearers[term]
        # Of a common feature the bearers are chained, so that a large group of twins stays connected.
        pairs = (
            [(i, j) for position, i in enumerate(numbers) for j in numbers[position + 1 :]]
            if len(numbers) <= RARE
            else list(itertools.pairwise(numbers))
        )
        for i, j in pairs:
            row = scores[i]
            row[j] = row.get(j, 0.0) + built[i].terms[term] * built[j].terms[term]
    ranked: list[list[tuple[float, int]]] = [[] for _ in range(size)]
    for i, row in enumerate(scores):
        for j, score in row.items():
            ranked[i].append((-score, j))
            ranked[j].append((-score, i))
    found = {(min(i, j), max(i, j)) for i, row in enumerate(ranked) for _, j in heapq.nsmallest(NEIGHBOURS, row)}
    return sorted(found)


def _agglomerate(state: _State, pairs: Iterable[tuple[int, int]], facts: Sequence[Fact]) -> None:
    """Join the two clusters with the highest mean log-odds while it is not negative, ties by the lowest names."""
    for i, j in sorted(pairs):
        _note(state, i, j, log_odds(state.vectors[i], state.vectors[j], state.base))
    while state.heap:
        _, i, j, version_i, version_j = heapq.heappop(state.heap)
        if (
            state.version.get(i) != version_i
            or state.version.get(j) != version_j
            or i not in state.members
            or j not in state.members
        ):
            continue
        if state.vetoes.oppose(state.members[i], state.members[j]):
            continue
        signatures = (facts[state.members[i][0]].id, facts[state.members[j][0]].id)
        said = [Why(kind, detail, signatures) for kind, detail in explain(state.vectors[i], state.vectors[j])[:3]]
        _merge(state, i, j)
        state.why[i] = [*state.why.get(i, []), *state.why.pop(j, []), *said]


def _merge(state: _State, i: int, j: int) -> None:
    weight_i, weight_j = state.weights[i], state.weights.pop(j)
    near_i, near_j = state.near.pop(i), state.near.pop(j)
    vector_i, vector_j = state.vectors[i], state.vectors.pop(j)
    state.vectors[i] = mean(vector_i, weight_i, vector_j, weight_j)
    state.weights[i] = weight_i + weight_j
    state.members[i] += state.members.pop(j)
    state.version[i] += 1
    state.near[i] = {}
    for other in sorted((near_i.keys() | near_j.keys()) - {i, j}):
        state.near[other].pop(i, None)
        state.near[other].pop(j, None)
        third = state.vectors[other]
        # What was not a candidate is computed, not guessed: exact, since the linkage of a mean is the mean of the linkages.
        to_i = near_i[other] if other in near_i else log_odds(vector_i, third, state.base)
        to_j = near_j[other] if other in near_j else log_odds(vector_j, third, state.base)
        _note(state, i, other, (weight_i * to_i + weight_j * to_j) / (weight_i + weight_j))


def _note(state: _State, i: int, j: int, odds: float) -> None:
    odds = round(odds, 9)
    if state.sparse and odds < FAR:
        return
    state.near[i][j] = state.near[j][i] = odds
    if odds >= 0:
        low, high = min(i, j), max(i, j)
        heapq.heappush(state.heap, (-odds, low, high, state.version[low], state.version[high]))


@dataclass(frozen=True)
class Fact:
    """One signature of this analysis. `failures` are those of the first `samples`, in their order; there is at least one."""

    id: str
    key: Key
    members: AbstractSet[str]
    failures: tuple[Failure, ...]
    samples: tuple[Sample, ...]
    broken: Broken | None = None
    """Where in their spans most of its traces broke, None where they do not tell the same."""

    @property
    def failure(self) -> Failure:
        """Return the failure that stands for all: the first, unless another tells of a `setup()` that was not called.

        A text source of the same test cannot know that.
        """
        return next((failure for failure in self.failures if failure.uncalled is not None), self.failures[0])


@dataclass(frozen=True)
class Group:
    """Signatures that share one root cause, with the evidence of each join."""

    facts: tuple[Fact, ...]
    why: tuple[Why, ...]
