"""Buckets: at most five headings that a report opens with, and the visible tail."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_tracetriage.model.analysis import Bucket, Cluster

if TYPE_CHECKING:
    from collections.abc import Sequence

MAX_BUCKETS = 5
COVERAGE = 0.8
INTERRUPTED = "INTERRUPTED"
"""The category of tests that somebody stopped: nothing has to be done about them."""

LABELS = {
    "ACTION_FAILED": "failed actions", "AUTH": "keys and rights at the model's API", "CONTEXT_LENGTH": "too long contexts",
    "DEPLOY_FAILED": "failed deployments", "INVALID_OUTPUT": "answers that cannot be used", "INVALID_PATCH": "invalid patches",
    "LOCALIZATION_FAILED": "faults not located", "LOOP": "loops", "LOST_HISTORY": "lost histories",
    "MISCLASSIFICATION": "wrong classes", "RATE_LIMIT": "rate limits", "REFUSAL": "refusals",
    "RESOURCE_NOT_FOUND": "missing models", "SERVICE_ERROR": "errors of the model's API", "SESSION_ERROR": "broken sessions",
    "STUCK": "stuck agents", "TEST_STILL_FAILS": "fixes that do not help", "TOOL_DEFINITION": "tool definitions",
    "TOOL_ERROR": "failing tools", "TURN_LIMIT": "turn limits", "WRONG_FIX": "wrong fixes",
    "API_MISUSE": "calls that do not fit", "ASSERTION": "wrong results", "COLLECTION": "modules that cannot be collected", "CRASH": "crashed processes",
    "DATA_SHAPE": "unexpected data", "DEPRECATION": "deprecated calls", "DISK": "disk", "EMPTY_DATA": "missing data", "ERROR": "errors",
    "FIXTURE": "broken fixtures", "INTERRUPTED": "interrupted", "MISSING_DEPENDENCY": "missing dependencies", "MISSING_FILE": "missing files",
    "NETWORK": "network", "PERMISSION": "permissions", "RECURSION": "endless recursion", "REMOVED_API": "removed from Python",
    "RESOURCE": "resources", "SYNTAX": "syntax",
    "TIMEOUT": "time-outs", "TYPE_MISMATCH": "wrong types", "WARNING": "warnings as errors", "XPASS_STRICT": "unexpected passes",
}  # fmt: skip


def impact(cluster: Cluster) -> float:
    """Return tests x blocked runs x recency. What fails now is recent (1), what is muted, fixed or was interrupted weighs nothing."""
    if cluster.muted is not None or cluster.seen == "fixed" or cluster.category == INTERRUPTED:
        return 0.0
    return float(cluster.count * (1 + min(cluster.runs, 20)))


def order(clusters: Sequence[Cluster]) -> tuple[Cluster, ...]:
    """Return the clusters by falling number of tests, those that need no look last; ties by id."""
    return tuple(sorted(clusters, key=lambda c: (impact(c) == 0, c.seen == "fixed", -c.count, c.id)))


def buckets(clusters: Sequence[Cluster]) -> tuple[Bucket, ...]:
    """Return the smallest number of buckets, at most five, that covers 80 % of the impact; heaviest first."""
    groups: dict[tuple[str, str], list[Cluster]] = {}
    for cluster in order(clusters):
        if impact(cluster):
            groups.setdefault((cluster.owner, cluster.category), []).append(cluster)
    weights = {key: sum(map(impact, members)) for key, members in groups.items()}
    total, covered = sum(weights.values()), 0.0
    chosen: list[Bucket] = []
    for key in sorted(groups, key=lambda key: (-weights[key], key)):
        if len(chosen) == MAX_BUCKETS or covered >= COVERAGE * total:
            break
        owner, category = key
        members = groups[key]
        label = LABELS.get(category, category.lower().replace("_", " "))
        chosen.append(Bucket(f"{owner}: {label}", sum(c.count for c in members), tuple(c.id for c in members)))
        covered += weights[key]
    return tuple(chosen)
