"""Names of clusters (`KeyError in Cart.total: missing 'sku'`, never `Cluster 3`), and the at most five headings above them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_tracetriage.model.analysis import Bucket, Cluster
from pytest_tracetriage.triage.evidence import quoted_error
from pytest_tracetriage.triage.signature import Key, first_line, mask, place

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_tracetriage.model.trace import Failure


MAX_NAME = 110


def name(key: Key, failures: Sequence[Failure], *, placed: bool = True, setups: int = 1) -> str:
    """Return the name of a cluster from its leading signature and some of that signature's failures.

    Without `placed` the place is left out: the cluster's tests fail in many. `setups` is how many `setup()` were not called.
    """
    kind, where, what = key.type, _where(key, failures) if placed else "", _message(key, failures)
    told = {quoted_error(failure) for failure in failures}
    if (setup := failures[0].uncalled) is not None:
        whose = setup.qualname.rpartition(".")[0] or setup.file
        where, what = "", f"pytest 8 no longer calls setup() of {f'{setups} classes' if setups > 1 else whose}"
    elif len(told) == 1 and (error := told.pop()) is not None:
        kind, where, what = error.type, error.functions[-1], f"{error.message or 'raised'}, quoted by {key.type}"
    text = kind + (f" in {where}" if where else "") + (f": {what}" if what else "")
    text = "".join(character if character.isprintable() else " " for character in text)
    return text if len(text) <= MAX_NAME else text[: MAX_NAME - 1].rstrip() + "…"


def _where(key: Key, failures: Sequence[Failure]) -> str:
    """Return the function as people call it: qualified where all failures agree on one."""
    names = set()
    for failure in failures:
        frame = place(failure.errors)
        if frame is not None and frame.function == key.function:
            names.add(frame.qualname.replace("<locals>.", "") or frame.function)
    where = names.pop() if len(names) == 1 else key.function
    return where if where not in {"<module>", "<lambda>"} else key.file


def _message(key: Key, failures: Sequence[Failure]) -> str:
    """Return the message as it was raised where it does not vary, else with its varying parts masked."""
    raw = {first_line(failure.errors[0].message if failure.errors else failure.text) for failure in failures}
    text = raw.pop() if len(raw) == 1 else key.message
    if key.type == "KeyError" and text:
        return f"missing {text}"
    if "redacted" in text:
        text = mask(text)
    return text


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
