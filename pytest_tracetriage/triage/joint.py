"""Joining and splitting by spectrum and text together.

The atoms are failing tests equal in signature and in the elements that they run: so what one signature hides may be split.
Atoms are joined by average linkage while the log-odds of triage/affinity.py is not negative. What people decided stays, and so
does hard evidence that names something outside of the code's lines: a resource, a fixture, a `setup()` that is not called, a
step of an agent. That one error stands inside the other only speaks for joining: two causes can raise it.

Up to 300 atoms every pair is looked at. Where there are more, the tests of one signature that run its best suspect are one
atom, the rest likewise (a greedy cover); of more than 300 of these the pairs of one signature are looked at, those whose texts
are candidates, and those that share a suspect.
"""

from __future__ import annotations

import heapq
import itertools
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from pytest_tracetriage.model.analysis import Why
from pytest_tracetriage.triage.affinity import SPLIT, SUSPECTS, Likeness, Vetoes, part_of, weighed, whole_of
from pytest_tracetriage.triage.evidence import OUTSIDE, links, marked
from pytest_tracetriage.triage.join import ALL_PAIRS, RARE, Group, candidates
from pytest_tracetriage.triage.summary import SUBTEST
from pytest_tracetriage.triage.vectors import vectors

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from pytest_tracetriage.triage.affinity import Top
    from pytest_tracetriage.triage.join import Fact
    from pytest_tracetriage.triage.localise import Crowd, Localiser
    from pytest_tracetriage.triage.vectors import Vector


FEW = 3
"""Of many atoms those are compared that share one of so many first suspects."""


@dataclass
class _State:
    """The clusters while they grow. A cluster is named by its first atom's index."""

    atoms: list[Fact]
    signature: list[int]
    runs: list[int]
    likeness: Likeness
    where: Localiser
    vetoes: Vetoes
    members: dict[int, list[int]]
    weights: dict[int, int]
    crowds: dict[int, Crowd]
    tops: dict[int, Top]
    near: dict[int, dict[int, float]]
    version: dict[int, int]
    why: dict[int, list[Why]] = field(default_factory=dict)
    heap: list[tuple[float, int, int, int, int]] = field(default_factory=list)


def join_by_spectrum(
    facts: Sequence[Fact],
    must: Iterable[tuple[str, str, str]],
    cannot: Iterable[Mapping[str, str]],
    sources: Mapping[str, tuple[int, str]],
    where: Localiser,
) -> list[Group]:
    """Return the facts (sorted by id), some of them in parts, as groups, with the evidence of each join and split.

    `must` and `cannot` are as in triage/join.py; a pair of a signature with itself says that it is not to be split.
    """
    index = {fact.id: number for number, fact in enumerate(facts)}
    found = links(facts)
    inside = {_pair(index[link.left], index[link.right]) for link in found if link.evidence not in OUTSIDE}
    built, base = vectors(facts, sources)
    state = _begin(facts, Likeness(where.executed, built, base, inside), where, cannot)
    atoms_of: dict[int, list[int]] = {}
    for atom, signature in enumerate(state.signature):
        atoms_of.setdefault(signature, []).append(atom)
    for i, j in _candidates(state, built, atoms_of, inside):
        _set_near(state, i, j, state.likeness.pair(state.signature[i], state.runs[i], state.signature[j], state.runs[j]))
    glued = [(left, right, Why("decision", reason, (left, right))) for left, right, reason in must]
    glued += [(fact.id, fact.id, Why("same signature")) for fact in facts if marked(fact)]
    glued += [(a.left, a.right, Why(a.evidence, a.detail, (a.left, a.right))) for a in found if a.evidence in OUTSIDE]
    home = list(range(len(state.atoms)))
    for left, right, why in glued:
        _glue(state, home, [*atoms_of[index[left]], *atoms_of[index[right]]], why if left != right else None)
    _agglomerate(state)
    return _groups(state)


def _pair(left: int, right: int) -> tuple[int, int]:
    return (left, right) if left < right else (right, left)


def _begin(facts: Sequence[Fact], likeness: Likeness, where: Localiser, cannot: Iterable[Mapping[str, str]]) -> _State:
    """Return the atoms, each a cluster of its own."""
    parts = [_equal(fact, where) for fact in facts]
    if sum(map(len, parts)) > ALL_PAIRS:
        parts = [_covered(fact, where) for fact in facts]
    atoms: list[Fact] = []
    signature: list[int] = []
    runs: list[int] = []
    for number, fact in enumerate(facts):
        for members in sorted(parts[number], key=min):
            atoms.append(fact if len(parts[number]) == 1 else part_of(fact, members))
            signature.append(number)
            runs.append(where.executed.by_test.get(_test(min(members)), 0))
    numbers = range(len(atoms))
    crowds = {number: where.crowd(atoms[number]) for number in numbers}
    return _State(
        atoms=atoms,
        signature=signature,
        runs=runs,
        likeness=likeness,
        where=where,
        vetoes=Vetoes(atoms, list(cannot)),
        members={number: [number] for number in numbers},
        weights={number: crowds[number].count for number in numbers},
        crowds=crowds,
        tops={number: _top(where, crowds[number]) for number in numbers},
        near={number: {} for number in numbers},
        version=dict.fromkeys(numbers, 0),
    )


def _test(member: str) -> str:
    return member.partition(SUBTEST)[0]


def _equal(fact: Fact, where: Localiser) -> list[set[str]]:
    """Return the tests of a signature in parts that run the same elements."""
    parts: dict[int, set[str]] = {}
    for member in fact.members:
        parts.setdefault(where.executed.by_test.get(_test(member), 0), set()).add(member)
    return list(parts.values())


def _covered(fact: Fact, where: Localiser) -> list[set[str]]:
    """Return the tests of a signature in parts that run one suspect: the most suspicious takes all that run it, and so on."""
    left = set(fact.members)
    parts = []
    while left:
        ranked = where.ranked(where.crowd(replace(fact, members=left)), 1)
        hit = where.executed.elements[ranked[0][1]].failing if ranked else 0
        part = {member for member in left if where.executed.bits.get(_test(member), 0) & hit} or set(left)
        parts.append(part)
        left -= part
    return parts


def _top(where: Localiser, crowd: Crowd) -> Top:
    ranked = where.ranked(crowd, SUSPECTS)
    return weighed(ranked) if ranked else []


def _candidates(
    state: _State, built: Sequence[Vector], atoms_of: Mapping[int, list[int]], inside: Iterable[tuple[int, int]]
) -> Iterable[tuple[int, int]]:
    """Return the pairs of atoms worth looking at."""
    size = len(state.atoms)
    if size <= ALL_PAIRS:
        return itertools.combinations(range(size), 2)
    found: set[tuple[int, int]] = set()
    for atoms in atoms_of.values():
        found.update(_chained(atoms))
    for left, right in (*candidates(built), *inside):
        found.add(_pair(atoms_of[left][0], atoms_of[right][0]))
    bearers: dict[int, list[int]] = {}
    for atom in range(size):
        for _, number in state.tops[atom][:FEW]:
            bearers.setdefault(number, []).append(atom)
    for atoms in bearers.values():
        found.update(_chained(atoms))
    return sorted(found)


def _chained(atoms: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Return all pairs of a few atoms, of many each with the next: so that a large group of twins stays connected."""
    return itertools.combinations(atoms, 2) if len(atoms) <= RARE else itertools.pairwise(atoms)


def _set_near(state: _State, i: int, j: int, odds: float) -> None:
    state.near[i][j] = state.near[j][i] = odds


def _glue(state: _State, home: list[int], atoms: Sequence[int], why: Why | None) -> None:
    """Join what evidence from outside of the code, or a person, says to be one, unless people split it."""
    for atom in atoms[1:]:
        left, right = sorted((home[atoms[0]], home[atom]))
        if left == right or state.vetoes.split(state.members[left], state.members[right]):
            continue
        moved = list(state.members[right])
        _merge(state, left, right)
        for one in moved:
            home[one] = left
        if why is not None:
            state.why[left] = [*state.why.get(left, []), why]


def _agglomerate(state: _State) -> None:
    """Join the two clusters with the highest log-odds while it is not negative, ties by the lowest names."""
    for i in sorted(state.near):
        for j in sorted(state.near[i]):
            if i < j:
                _offer(state, i, j)
    while state.heap:
        _, i, j, version_i, version_j = heapq.heappop(state.heap)
        if i not in state.members or j not in state.members or (state.version[i], state.version[j]) != (version_i, version_j):
            continue
        if state.vetoes.oppose(state.members[i], state.members[j]):
            continue
        said = _said(state, i, j)
        _merge(state, i, j)
        state.why[i] = [*state.why.get(i, []), *said]
        for other in sorted(state.near[i]):
            _offer(state, i, other)


def _merge(state: _State, i: int, j: int) -> None:
    """Let cluster `i` take in `j`. The linkage of a union is the weighted mean of the linkages."""
    weight_i, weight_j = state.weights[i], state.weights.pop(j)
    near_i, near_j = state.near.pop(i), state.near.pop(j)
    state.near[i] = {}
    for other in sorted((near_i.keys() | near_j.keys()) - {i, j}):
        state.near[other].pop(j, None)
        to_i = near_i[other] if other in near_i else _founders(state, i, other)
        to_j = near_j[other] if other in near_j else _founders(state, j, other)
        _set_near(state, i, other, (weight_i * to_i + weight_j * to_j) / (weight_i + weight_j))
    state.weights[i] = weight_i + weight_j
    state.members[i] += state.members.pop(j)
    state.crowds[i] = state.crowds[i] + state.crowds.pop(j)
    state.tops[i] = _top(state.where, state.crowds[i])
    state.tops.pop(j)
    state.version[i] += 1
    state.why[i] = [*state.why.get(i, []), *state.why.pop(j, [])]


def _founders(state: _State, left: int, right: int) -> float:
    """Return what stands for the linkage of two clusters that was not a candidate: that of their first atoms."""
    return state.likeness.pair(state.signature[left], state.runs[left], state.signature[right], state.runs[right])


def _offer(state: _State, i: int, j: int) -> None:
    shared = state.likeness.shared(state.crowds[i], state.tops[i], state.crowds[j], state.tops[j])
    odds = round(state.near[i][j] + shared, 9)
    if odds >= 0:
        low, high = _pair(i, j)
        heapq.heappush(state.heap, (-odds, low, high, state.version[low], state.version[high]))


def _said(state: _State, i: int, j: int) -> list[Why]:
    """Return why two clusters are joined, in words that a reader can check."""
    ids = (state.atoms[i].id, state.atoms[j].id)
    said = []
    if state.tops[i] and state.tops[j]:
        union = state.crowds[i] + state.crowds[j]
        (_, number), *_ = state.where.ranked(union, 1)
        ran = state.where.executed.elements[number]
        hits, tests = (ran.failing & union.tests).bit_count(), union.tests.bit_count()
        few = f"{ran.passing} of {state.where.executed.passing} passing"
        said.append(Why("shared suspect", f"{ran.function.name}: run by {hits} of {tests} failing tests, {few}", ids))
        alike = state.likeness.overlap(state.runs[i], state.runs[j])
        said.append(Why("executed code", f"{alike:.0%} alike", ids))
    if (words := state.likeness.messages(state.signature[i], state.signature[j])) >= 0.15:
        said.append(Why("message template", f"messages {words:.0%} alike", ids))
    return said


def _groups(state: _State) -> list[Group]:
    """Return the clusters as groups: the atoms of one signature in one cluster are one fact again."""
    made = []
    main: dict[int, tuple[int, int]] = {}
    for name in sorted(state.members):
        parts: dict[int, list[int]] = {}
        for atom in sorted(state.members[name]):
            parts.setdefault(state.signature[atom], []).append(atom)
        made.append((name, parts))
        for signature, atoms in parts.items():
            size = sum(len(state.atoms[atom].members) for atom in atoms)
            main[signature] = max(main.get(signature, (0, 0)), (size, -name))
    groups = []
    for name, parts in made:
        facts, why = [], list(state.why.get(name, ()))
        for signature, atoms in sorted(parts.items()):
            whole = whole_of([state.atoms[atom] for atom in atoms])
            facts.append(whole)
            if main[signature][1] != -name:
                why.append(
                    Why(SPLIT, f"{len(whole.members)} tests of this signature run other code than the rest", (whole.id,))
                )
        groups.append(Group(tuple(facts), tuple(why)))
    return groups
