"""How clusters stand against the base branch and in the history: what triage is told, and what is said of its clusters.

"Flaky" and "real" are meant as the history can tell them: a cluster is flaky when at least half of its tests both failed by it
and passed on one clean commit in one environment. One flaky test among forty that fail now must not hide a regression. Running
the tests again, which decides this better, is diagnosis.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from pytest_tracetriage.model.history import Evidence
from pytest_tracetriage.triage.analyze import KnownCluster

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from pytest_tracetriage.model.analysis import Analysis, Cluster, Frequency
    from pytest_tracetriage.model.history import Condensed, Seen


def known_clusters(everywhere: Sequence[Seen], base: Sequence[Seen], branch: str) -> tuple[KnownCluster, ...]:
    """Return what triage is told of earlier runs, oldest first.

    Ids come from all branches, so that a cluster keeps its name from push to push. Whether it is known is decided by the
    `base` branch alone, and only what is open there, or on this very `branch`, can be fixed by this run.
    """
    on_base = {seen.cluster.id: seen for seen in base}
    return tuple(_known(seen, on_base.get(seen.cluster.id), branch) for seen in everywhere)


def _known(seen: Seen, on_base: Seen | None, branch: str) -> KnownCluster:
    shown = on_base or seen
    may_be_fixed = on_base.open if on_base is not None else seen.open and branch in seen.branches
    return KnownCluster(
        id=seen.cluster.id,
        name=seen.cluster.name,
        signatures=seen.signatures,
        tests=shown.tests,
        since=shown.first_commit[:8] or shown.first_run[:8],
        runs=shown.runs,
        last=msgspec.structs.replace(seen.cluster, seen="known" if may_be_fixed else "fixed"),
        episodes=shown.episodes,
        elsewhere=on_base is None,
    )


def with_standing(
    analysis: Analysis,
    base: Sequence[Seen],
    evidence: Sequence[Evidence],
    frequencies: Mapping[str, Frequency],
    *,
    compared: bool,
    passing: Collection[str] = frozenset(),
) -> Analysis:
    """Return the analysis with the status of each cluster. Fixed ones stay only where the base branch had them for good.

    What is flaky, or was fixed and came back before, passes now and then: no merit of this change.
    `compared` says whether any run of the base branch is known: without one nothing is called new. `passing` are tests that
    passed in the newest whole workflow run of the base branch.
    """
    on_base = {seen.cluster.id: seen for seen in base}
    lasting = {seen.cluster.id for seen in base if seen.open and seen.episodes == 1}
    proofs: dict[str, list[Evidence]] = {}
    for proof in evidence:
        proofs.setdefault(proof.cluster, []).append(proof)
    clusters = tuple(
        _stands(
            _beside(cluster, on_base.get(cluster.id), passing),
            proofs.get(cluster.id, []),
            frequencies.get(cluster.id),
            compared=compared,
        )
        for cluster in analysis.clusters
        if cluster.seen != "fixed" or (cluster.id in lasting and not _flaky(cluster, proofs.get(cluster.id, [])))
    )
    return msgspec.structs.replace(analysis, clusters=clusters)


def _beside(cluster: Cluster, on_base: Seen | None, passing: Collection[str]) -> Cluster:
    """Return the cluster with its course beside the base branch.

    A cause known by two tests is no excuse for two hundred: where more than twice as many tests fail as there, and more than
    half of them pass there, this change broke something, under a known name.
    """
    if cluster.seen == "fixed" or on_base is None or not on_base.runs:
        return cluster
    if cluster.seen == "new":
        return msgspec.structs.replace(cluster, course="back")
    fresh = len(set(cluster.tests).intersection(passing) - on_base.tests)
    if 2 * fresh > len(cluster.tests) > 2 * len(on_base.tests):
        return msgspec.structs.replace(cluster, seen="new", course="grown")
    return cluster if on_base.open else msgspec.structs.replace(cluster, course="on and off")


def _stands(cluster: Cluster, proofs: Sequence[Evidence], frequency: Frequency | None, *, compared: bool) -> Cluster:
    if cluster.seen == "fixed":
        return cluster
    flaky = {proof.nodeid for proof in proofs} & set(cluster.tests)
    changes: dict[str, object] = {"frequency": frequency}
    if not compared:
        changes["seen"] = "first-run"
    if _flaky(cluster, proofs):
        proof = max((proof for proof in proofs if proof.nodeid in flaky), key=lambda proof: (proof.passed, proof.nodeid))
        changes |= {
            "status": "flaky",
            "status_evidence": f"on {proof.commit[:8]} it failed {_times(proof.failed)} and passed {_times(proof.passed)}",
        }
    elif cluster.owner == "infrastructure":
        changes |= {"status": "infrastructure", "status_evidence": cluster.classified}
    else:
        few = f"only {len(flaky)} of its {len(cluster.tests)} tests ever passed and failed on one commit" if flaky else ""
        changes |= {"status": "real", "status_evidence": few}
    return msgspec.structs.replace(cluster, **changes)


def _flaky(cluster: Cluster, proofs: Sequence[Evidence]) -> bool:
    flaky = {proof.nodeid for proof in proofs} & set(cluster.tests)
    return bool(flaky) and 2 * len(flaky) >= len(cluster.tests)


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"


def evidence_in(clusters: Mapping[str, Collection[str]], runs: Sequence[Condensed]) -> list[Evidence]:
    """Return what these runs alone prove: tests that failed by a cluster and passed on one clean commit and environment."""
    passed: dict[tuple[str, str, str], int] = {}
    failed: dict[tuple[str, str, str, str], int] = {}
    for item in runs:
        if not item.run.commit or item.run.dirty:
            continue
        here = (item.run.commit, item.run.environment)
        for test in item.tests:
            if test.outcome == "passed":
                key = (*here, test.nodeid)
                passed[key] = passed.get(key, 0) + 1
        for record in item.clusters:
            if record.cluster.seen != "fixed":
                for nodeid in (*record.tests, *record.retried):
                    which = (*here, nodeid, record.cluster.id)
                    failed[which] = failed.get(which, 0) + 1
    asked = {identity: frozenset(tests) for identity, tests in clusters.items()}
    return [
        Evidence(cluster, nodeid, commit, count, passed[(commit, environment, nodeid)])
        for (commit, environment, nodeid, cluster), count in sorted(failed.items())
        if nodeid in asked.get(cluster, ()) and (commit, environment, nodeid) in passed
    ]


def retried_only(retried: Sequence[Cluster], analysis: Analysis, frequencies: Mapping[str, Frequency]) -> tuple[Cluster, ...]:
    """Return the causes of attempts that passed when they were run again, without those that still fail other tests."""
    failing = {cluster.id for cluster in analysis.clusters if cluster.seen != "fixed"}
    return tuple(
        msgspec.structs.replace(
            cluster,
            status="flaky",
            status_evidence="passed when it was run again",
            frequency=frequencies.get(cluster.id),
        )
        for cluster in retried
        if cluster.id not in failing and cluster.seen != "fixed"
    )
