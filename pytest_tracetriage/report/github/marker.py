"""What a comment carries for machines: a marker to find it by, and our own numbers. Nothing in it came from a test."""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING, Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from pytest_tracetriage.model.analysis import Seen, Status  # noqa: TC001 (msgspec reads the annotations)
from pytest_tracetriage.report.github.standing import SHOWN, Standing, stand

if TYPE_CHECKING:
    from pytest_tracetriage.model.review import Review

LISTED = 100
"""So many causes are in the block, in the order of the table."""
_SCHEMA: Literal["tracetriage.comment/1"] = "tracetriage.comment/1"
_OPENING, _CLOSING = "<!-- tracetriage:data ", " -->"
_KEY = re.compile(r"(?!.*--)[A-Za-z0-9_.\-]{1,64}")
_COMMIT = re.compile(r"[0-9a-f]{7,64}")
_CLUSTER = re.compile(r"[A-Z2-7]{26}")

Count = Annotated[int, Meta(ge=0, le=2**53)]


class Item(Struct, frozen=True, forbid_unknown_fields=True):
    """One cause. `tests` counts them."""

    id: Annotated[str, Meta(pattern=rf"^{_CLUSTER.pattern}\Z")]
    standing: Standing
    seen: Seen
    status: Status
    tests: Count
    passed_again: bool = False


class Data(Struct, frozen=True, forbid_unknown_fields=True):
    """The block. `causes` is at most the first 100; `more` counts the rest."""

    schema: Literal["tracetriage.comment/1"]
    commit: Annotated[str, Meta(pattern=rf"^(?:{_COMMIT.pattern})?\Z")]
    ci_run: Count
    attempt: Count
    tests: Count
    failures: Count
    causes: Annotated[tuple[Item, ...], Meta(max_length=LISTED)] = ()
    fixed: Annotated[tuple[Annotated[str, Meta(pattern=rf"^{_CLUSTER.pattern}\Z")], ...], Meta(max_length=LISTED)] = ()
    more: Count = 0


def marker(key: str) -> str:
    """Return the hidden first line of the comment `key`: a comment is ours when it starts with it.

    A key that is no plain word, such as the name of a workflow, stands as its hash.
    """
    if not _KEY.fullmatch(key):
        key = hashlib.sha256(key.encode("utf-8", "replace")).hexdigest()[:32]
    return f"<!-- tracetriage:comment {key} -->"


def data_block(review: Review) -> str:
    """Return the hidden last line of a comment: ids, numbers, enumerations, the commit and the CI run."""
    causes = [cause for cause in stand(review) if cause.standing in SHOWN and _CLUSTER.fullmatch(cause.cluster.id)]
    fixed = [cluster.id for cluster in review.analysis.clusters if cluster.seen == "fixed" and _CLUSTER.fullmatch(cluster.id)]
    data = Data(
        schema=_SCHEMA,
        commit=review.commit if _COMMIT.fullmatch(review.commit) else "",
        ci_run=_count(review.ci_run),
        attempt=_count(review.attempt),
        tests=_count(review.analysis.totals.tests),
        failures=_count(review.analysis.totals.failures),
        causes=tuple(
            Item(
                id=cause.cluster.id,
                standing=cause.standing,
                seen=cause.cluster.seen,
                status=cause.cluster.status,
                tests=_count(cause.cluster.count),
                passed_again=cause.again,
            )
            for cause in causes[:LISTED]
        ),
        fixed=tuple(fixed[:LISTED]),
        more=max(0, len(causes) - LISTED),
    )
    return _OPENING + msgspec.json.encode(data).decode().replace(">", "\\u003e") + _CLOSING


def read_data(body: str) -> Data | None:
    """Return the block of a comment, or None where its last line is none of ours. Any text may be given.

    Only the last line counts: what a test printed stands above it, in whatever shape.
    """
    last = body.rstrip().rpartition("\n")[2].strip()
    if not (last.startswith(_OPENING) and last.endswith(_CLOSING)):
        return None
    try:
        return msgspec.json.decode(last[len(_OPENING) : -len(_CLOSING)].encode("utf-8", "surrogatepass"), type=Data)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None


def _count(number: int) -> int:
    return min(max(0, number), 2**53)
