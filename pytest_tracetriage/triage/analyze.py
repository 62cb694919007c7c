"""Triage as a whole: a summary of traces, what is known and what people decided in; an analysis out."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import msgspec

from pytest_tracetriage.model.analysis import (
    Aliases,
    Analysis,
    Cluster,
    Exemplar,
    Muted,
    Problem,
    Seen,
    Signature,
    Suspect,
    Why,
)
from pytest_tracetriage.triage.affinity import split_ids, split_off
from pytest_tracetriage.triage.agents import answer_of, failing_traces, places_of, with_places
from pytest_tracetriage.triage.evidence import quoting
from pytest_tracetriage.triage.join import Fact, Group, join
from pytest_tracetriage.triage.names import INTERRUPTED, buckets, name, order
from pytest_tracetriage.triage.signature import place
from pytest_tracetriage.triage.summary import EXEMPLARS, MANY, SUBTEST, Summary, resolve_later, totals
from pytest_tracetriage.triage.suspects import OwnerRules, owners, suspects
from pytest_tracetriage.triage.taxonomy import Answer, fix

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from pytest_tracetriage.config import CustomRule
    from pytest_tracetriage.model.run import Totals
    from pytest_tracetriage.model.trace import Failure
    from pytest_tracetriage.triage.localise import Localiser
    from pytest_tracetriage.triage.spectrum import Spectrum


MAX_WAITING = 10_000


@dataclass(frozen=True)
class KnownCluster:
    """A cluster of earlier runs. `since` names the first run that showed it, `runs` counts those that did.

    `episodes` counts how often it came: 2 for one that was fixed and came back. `elsewhere` says that the runs to compare
    with (those of the base branch) never showed it.
    """

    id: str
    name: str
    signatures: frozenset[str]
    tests: frozenset[str]
    since: str
    runs: int
    last: Cluster
    episodes: int = 1
    elsewhere: bool = False

    @property
    def open(self) -> bool:
        """Return whether the last word on it was red."""
        return self.last.seen != "fixed"

    @property
    def seen(self) -> Seen:
        """Return what a cluster of now is called that is this one: new, where it was fixed once and is back."""
        return "known" if not self.elsewhere and (self.open or self.episodes > 1) else "new"


@dataclass(frozen=True)
class Given:
    """What triage is told beside the traces. `known` is oldest first, None where there is no earlier run.

    `prefix` is where the project lies in its repository (`services/shop/`, "" at its root). `today` is an ISO date.
    """

    known: tuple[KnownCluster, ...] | None = None
    aliases: Aliases = field(default_factory=Aliases)
    classifiers: tuple[Callable[[Failure], Answer | None], ...] = ()
    joiners: tuple[Callable[[Sequence[Signature]], Iterable[tuple[str, str, str]]], ...] = ()
    codeowners: OwnerRules = ()
    components: tuple[str, ...] = ()
    step_rules: tuple[CustomRule, ...] = ()
    prefix: str = ""
    today: str = ""
    coverage: Spectrum | None = None


def analyze(summary: Summary, given: Given) -> Analysis:
    """Return the analysis of all shards of a summary. The same input gives the same bytes, in whatever order it came."""
    found = _facts(summary)
    places = places_of(summary, {fact.id: fact.failure for fact in found}, given.components, given.step_rules)
    found = with_places(found, summary, places)
    facts = [fact for fact in found if not _interrupted(fact)]
    known = given.known or ()
    belongs = _belongs(known, given.aliases)
    where = _where(facts, given.coverage)
    groups = _joined(facts, _people(facts, belongs, given), summary.texts, where)
    groups += [Group((fact,), ()) for fact in found if _interrupted(fact)]
    clusters = [_cluster(group, given, where) for group in groups]
    clusters = _identify(clusters, belongs, known, given)
    clusters = _with_waiting(clusters, known, summary.passed)
    clusters += _fixed(clusters, known, summary.passed)
    ordered = order(clusters)
    return Analysis(
        runs=tuple(sorted(summary.sources.values(), key=lambda source: (source.started, source.id, source.path))),
        totals=_without(totals(summary), found, facts),
        buckets=buckets(ordered),
        clusters=ordered,
        problems=tuple(Problem(*parts) for parts in sorted(summary.problems)),
        traces=failing_traces(summary, places, found, given.classifiers),
    )


def _where(facts: Sequence[Fact], coverage: Spectrum | None) -> Localiser | None:
    """Return what ranks the code that the failing tests run, None where no map knows any of them."""
    if coverage is None:
        return None
    from pytest_tracetriage.triage.localise import localiser  # noqa: PLC0415 - few runs have a map
    from pytest_tracetriage.triage.spectrum import executed  # noqa: PLC0415

    ran = executed(coverage, {member.partition(SUBTEST)[0] for fact in facts for member in fact.members})
    return localiser(ran, coverage) if ran is not None and ran.elements else None


def _joined(
    facts: Sequence[Fact],
    decided: tuple[list[tuple[str, str, str]], list[dict[str, str]]],
    texts: Mapping[str, tuple[int, str]],
    where: Localiser | None,
) -> list[Group]:
    if where is None:
        return join(facts, *decided, texts)
    from pytest_tracetriage.triage.joint import join_by_spectrum  # noqa: PLC0415

    return join_by_spectrum(facts, *decided, texts, where)


def _interrupted(fact: Fact) -> bool:
    """Return whether a person ended the run while these tests ran: they would have gone on, and share no cause.

    What stood in a loop would have gone on for ever: that is a failure.
    """
    if fact.broken is not None and fact.broken.answer is not None and fact.broken.answer[0] == "STUCK":
        return False
    errors = fact.failure.errors
    return bool(errors) and errors[0].type in {"KeyboardInterrupt", "_pytest.outcomes.Exit"}


def _without(counted: Totals, found: Sequence[Fact], facts: Sequence[Fact]) -> Totals:
    """Return the totals without the tests that were only interrupted among their failures."""
    if len(found) == len(facts):
        return counted
    failing, all_of_them = (set[str]().union(*(fact.members for fact in some)) for some in (facts, found))
    return msgspec.structs.replace(counted, failures=counted.failures - len(all_of_them - failing))


def _facts(summary: Summary) -> list[Fact]:
    members = resolve_later(summary)
    looked_at = EXEMPLARS if len(members) <= MANY else 1
    return [
        Fact(
            id=signature,
            key=found.key,
            members=members[signature],
            failures=tuple(sample.failure() for sample in found.samples[:looked_at]),
            samples=found.samples,
        )
        for signature, found in sorted(summary.signatures.items())
        if signature in members
    ]


def _belongs(known: Sequence[KnownCluster], aliases: Aliases) -> dict[str, str]:
    """Return the cluster that each known signature belongs to: the oldest, unless people joined it to another."""
    belongs: dict[str, str] = {}
    for cluster in known:
        for signature in (cluster.id, *sorted(cluster.signatures - split_off(cluster.last))):
            belongs.setdefault(signature, cluster.id)
    for decision in aliases.joins:
        survivor = decision.clusters[0]
        absorbed = set(decision.clusters)
        belongs.update({signature: survivor for signature, owner in belongs.items() if owner in absorbed})
        belongs.update(dict.fromkeys((*decision.signatures, *decision.clusters), survivor))
    rejoined = {cluster for decision in aliases.joins for cluster in decision.clusters}
    for split in aliases.splits:
        belongs.update({signature: signature for signature in split.signatures if signature not in rejoined})
    return belongs


def _people(
    facts: Sequence[Fact], belongs: Mapping[str, str], given: Given
) -> tuple[list[tuple[str, str, str]], list[dict[str, str]]]:
    """Return (must-link pairs with their reason, the parts of each split of which no two may share a cluster)."""
    present = {fact.id for fact in facts}
    must: list[tuple[str, str, str]] = []
    for decision in given.aliases.joins:
        survivor = decision.clusters[0]
        ids = [fact.id for fact in facts if belongs.get(fact.id, fact.id) == survivor]
        # Each also with itself: what people joined is not split by what its tests run.
        must += [(ids[0], other, f"joined by {decision.by or 'a person'}") for other in ids]
        must += [(other, other, "") for other in ids[1:]]
    signatures = [describe(fact) for fact in facts] if given.joiners else []
    for joiner in given.joiners:
        must += [(a, b, why) for a, b, why in joiner(signatures) if a in present and b in present and a != b]
    return must, [_parts(facts, belongs, frozenset(decision.signatures)) for decision in given.aliases.splits]


def _parts(facts: Sequence[Fact], belongs: Mapping[str, str], split: frozenset[str]) -> dict[str, str]:
    """Return the part of a split that each signature is of: its own, or that of the cluster which history knows it in."""
    parts = {fact.id: fact.id if fact.id in split else belongs.get(fact.id, "") for fact in facts}
    return {signature: part for signature, part in parts.items() if part in split}


def describe(fact: Fact) -> Signature:
    """Return a fact as the model's signature."""
    return Signature(fact.id, *fact.key[:1], *fact.key[1:3], fact.key.message, len(fact.members))


def _cluster(group: Group, given: Given, where: Localiser | None) -> Cluster:
    """Return a group as a cluster founded by the signature with the most failures, not yet known to history."""
    facts = sorted(group.facts, key=lambda fact: (-len(fact.members), fact.id))
    members = set[str]().union(*(fact.members for fact in facts))
    telling = _telling(facts)
    lead = telling[0]
    category, owner, evidence = _majority(telling, given.classifiers)
    found = _suspects(facts, telling, where)
    sample = lead.samples[0]
    frame = place(lead.failures[0].errors)
    files = [suspect.file for suspect in found[:3]] + ([frame.file] if frame else [])
    files += [member.partition("::")[0] for member in sorted(members)[:1]]
    return Cluster(
        id=facts[0].id,
        name=name(
            lead.key,
            (lead.failure,) if lead.failure.uncalled else lead.failures,
            placed=_one_place(telling),
            setups=_setups(facts),
        ),
        category=category,
        owner=owner,
        codeowners=owners(given.codeowners, files, given.prefix),
        seen="first-run" if given.known is None else "new",
        muted=None,
        count=len(members),
        tests=tuple(sorted({member.partition(SUBTEST)[0] for member in members})),
        signatures=tuple(describe(fact) for fact in facts),
        why=_distinct(group.why) or (Why("same signature", _signature_text(lead), (lead.id,)),),
        suspects=found,
        exemplar=Exemplar(sample.nodeid, lead.failures[0], sample.reason),
        classified=evidence,
        fix=fix(category, lead.failure),
    )


def _suspects(facts: Sequence[Fact], telling: Sequence[Fact], where: Localiser | None) -> tuple[Suspect, ...]:
    """Return the suspects of a cluster: by the spectrum where a map knows its tests, else by the telling tracebacks."""
    if where is not None and telling[0].failure.uncalled is None:
        from pytest_tracetriage.triage.localise import localise  # noqa: PLC0415

        if found := localise(facts, where):
            return found
    return suspects(telling, len(set[str]().union(*(fact.members for fact in facts))))


def _distinct(said: Sequence[Why]) -> tuple[Why, ...]:
    """Return each piece of evidence once, with how many joins it stands for, every kind before the second of any."""
    grouped: dict[tuple[str, str], list[Why]] = {}
    for why in said:
        grouped.setdefault((why.evidence, why.detail), []).append(why)
    rounds: dict[str, int] = {}
    ranked = []
    for (kind, detail), same in grouped.items():
        rounds[kind] = rounds.get(kind, 0) + 1
        text = f"{detail} ({len(same)} joins)" if len(same) > 1 else detail
        ranked.append((rounds[kind], Why(kind, text, tuple(dict.fromkeys(i for why in same for i in why.signatures)))))
    return tuple(why for _, why in sorted(ranked, key=lambda pair: pair[0]))


def _setups(facts: Sequence[Fact]) -> int:
    """Return how many `setup()` that pytest no longer calls the failures speak of."""
    found = {fact.failure.uncalled for fact in facts} - {None}
    return len({(setup.file, setup.qualname) for setup in found if setup is not None})


def _telling(facts: Sequence[Fact]) -> Sequence[Fact]:
    """Return the signatures that tell the cause: where some only quote the traceback of another, the quoted."""
    quoters, quoted = quoting(facts)
    return [fact for fact in facts if fact.id in quoted - quoters] or facts


def _one_place(facts: Sequence[Fact]) -> bool:
    """Return whether the leading signature's place stands for the cluster: most of its tests fail there."""
    here = sum(len(fact.members) for fact in facts if fact.key[1:3] == facts[0].key[1:3])
    return 2 * here > sum(len(fact.members) for fact in facts)


def _signature_text(fact: Fact) -> str:
    parts = [fact.key.type, f"{fact.key.file}:{fact.key.function}" if fact.key.file else "", fact.key.message]
    return " · ".join(part for part in parts if part)


def _majority(facts: Sequence[Fact], classifiers: Sequence[Callable[[Failure], Answer | None]]) -> Answer:
    """Return the category that most tests of the cluster have; ties go to the leading signature's."""
    weights: dict[tuple[str, str], int] = {}
    answers: dict[tuple[str, str], Answer] = {}
    for fact in facts:
        answer = answer_of(fact, classifiers)
        weights[answer[:2]] = weights.get(answer[:2], 0) + len(fact.members)
        answers.setdefault(answer[:2], answer)
    return answers[max(weights, key=lambda kind: weights[kind])]


def _identify(
    clusters: list[Cluster], belongs: Mapping[str, str], known: Sequence[KnownCluster], given: Given
) -> list[Cluster]:
    """Give each cluster the oldest id that any of its signatures is known under; an id is given once, to the largest."""
    age = {cluster.id: index for index, cluster in enumerate(known)}
    for decision in given.aliases.joins:
        age.setdefault(decision.clusters[0], -1)
    history = {cluster.id: cluster for cluster in known}
    parted = any(split_off(cluster.last) for cluster in known)
    # A known founder goes to the cluster that holds it; where it is gone, the largest that knows it takes the id.
    founders = {signature.id for cluster in clusters for signature in cluster.signatures}
    taken: set[str] = set()
    named = []
    for cluster in sorted(clusters, key=lambda c: (-c.count, c.id)):
        apart = split_off(cluster)
        own = [signature.id for signature in cluster.signatures if signature.id not in apart]
        parts = _parts_known(cluster, age) if parted else []
        ids = {belongs[i] for i in own if i in belongs}
        free = (i for i in ids if i not in taken and i in age and (i in own or i not in founders))
        candidates = sorted(free, key=lambda i: (age[i], i))
        candidates = [i for i in parts if i not in taken] or candidates
        identity = candidates[0] if candidates else next(i for i in _founders(cluster, apart) if i not in taken)
        taken.add(identity)
        before = history.get(identity)
        changes: dict[str, object] = {"id": identity, "muted": muted(identity, given)}
        if before is not None:
            changes |= {"seen": before.seen, "since": before.since, "runs": before.runs}
        named.append(msgspec.structs.replace(cluster, **changes))
    return named


def _parts_known(cluster: Cluster, age: Mapping[str, int]) -> list[str]:
    """Return the ids under which earlier runs know this cluster as a part split off a signature, oldest first.

    The rest of the signature may be gone meanwhile: then nothing is split now.
    """
    found = {known for signature in cluster.signatures for known in split_ids(cluster, signature.id) if known in age}
    return sorted(found, key=lambda known: (age[known], known))


def _founders(cluster: Cluster, apart: frozenset[str]) -> Iterator[str]:
    """Yield the ids that a new cluster may have: its signatures, the most tests first, parts split off with a suspect."""
    for signature in cluster.signatures:
        yield from split_ids(cluster, signature.id) if signature.id in apart else (signature.id,)


def _with_waiting(clusters: Sequence[Cluster], known: Sequence[KnownCluster], passed: set[str]) -> list[Cluster]:
    """Return the clusters with their tests of earlier runs that were not run now: neither passed nor failed."""
    ran = passed.union(*(cluster.tests for cluster in clusters))
    missing = {cluster.id: sorted(cluster.tests - ran)[:MAX_WAITING] for cluster in known if cluster.open}
    return [
        msgspec.structs.replace(cluster, waiting=tuple(missing[cluster.id])) if missing.get(cluster.id) else cluster
        for cluster in clusters
    ]


def muted(cluster: str, given: Given) -> Muted | None:
    """Return the mute that holds for a cluster today."""
    for mute in reversed(given.aliases.mutes):
        if mute.cluster == cluster and (not mute.until or not given.today or given.today <= mute.until):
            return Muted(mute.owner, mute.reason, mute.until)
    return None


def _fixed(clusters: Sequence[Cluster], known: Sequence[KnownCluster], passed: set[str]) -> list[Cluster]:
    """Return the known clusters that are gone although their tests ran: all that are left of them passed."""
    present = {cluster.id for cluster in clusters}
    passed = passed - {test for cluster in clusters for test in cluster.tests}
    return [
        msgspec.structs.replace(
            cluster.last,
            seen="fixed",
            count=0,
            tests=tuple(sorted(cluster.tests & passed)),
            waiting=tuple(sorted(cluster.tests - passed)[:MAX_WAITING]),
            since=cluster.since,
            runs=cluster.runs,
        )
        for cluster in known
        if cluster.id not in present and cluster.open and cluster.tests & passed
        # What was interrupted was not broken.
        if cluster.last.category != INTERRUPTED
    ]
