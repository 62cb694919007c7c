"""Parts of a signature: some of its tests, where what they run shows that it hides several causes."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import msgspec

from pytest_tracetriage.triage.signature import Key, identify
from pytest_tracetriage.triage.summary import EXEMPLARS, sample_rank

if TYPE_CHECKING:
    from collections.abc import Sequence
    from collections.abc import Set as AbstractSet

    from pytest_tracetriage.model.analysis import Cluster
    from pytest_tracetriage.triage.join import Fact

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
