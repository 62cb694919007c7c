"""How each cause stands to this change, and in which order people should hear of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from msgspec import Struct

from pytest_tracetriage.model.analysis import Cluster  # noqa: TC001 (msgspec reads the annotations)
from pytest_tracetriage.report.terminal import causes, component_of, components_by_test
from pytest_tracetriage.report.text import short_ids

if TYPE_CHECKING:
    from pytest_tracetriage.model.review import Review

Standing = Literal["new", "failing", "known", "flaky", "muted"]
"""failing: it is not known whether it is new, since there is nothing to compare with."""
SHOWN: tuple[Standing, ...] = ("new", "failing", "known", "flaky", "muted")
"""All of them, in the order that they are shown in."""


class Cause(Struct, frozen=True):
    """A cluster as it stands in this review. `short` is its id as people type it."""

    cluster: Cluster
    standing: Standing
    short: str
    again: bool = False
    """Its tests passed when they were run again."""
    component: str = ""
    """Of an agent: where all of its tests broke."""


def stand(review: Review) -> list[Cause]:
    """Return the causes of a review: new (real before infrastructure), known, flaky, muted; the larger first."""
    red = causes(review.analysis)
    short = short_ids(cluster.id for cluster in (*red, *review.retried))
    components = components_by_test(review.analysis)
    found = [
        Cause(cluster, _standing(cluster), short[cluster.id], component=component_of(cluster, components)) for cluster in red
    ]
    found += [
        Cause(cluster, "muted" if cluster.muted else "flaky", short[cluster.id], again=True) for cluster in review.retried
    ]
    return sorted(found, key=_order)


def _standing(cluster: Cluster) -> Standing:
    if cluster.muted is not None:
        return "muted"
    if cluster.status == "flaky":
        return "flaky"
    if cluster.seen == "first-run":
        return "failing"
    return "new" if cluster.seen == "new" else "known"


def _order(cause: Cause) -> tuple[int, bool, bool, int, str]:
    cluster = cause.cluster
    return SHOWN.index(cause.standing), cause.again, cluster.status == "infrastructure", -cluster.count, cluster.id
