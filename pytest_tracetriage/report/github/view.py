"""What the templates of a comment, a job summary and a check are given, with and without what had to be left out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from msgspec import Struct

from pytest_tracetriage.report.github import words
from pytest_tracetriage.report.github.bounds import Cut, bounded, cuts, left_out
from pytest_tracetriage.report.github.headline import SHOWN, Cause, headline, next_step, stand
from pytest_tracetriage.report.github.rows import detail, row, safe_url
from pytest_tracetriage.report.history import listed
from pytest_tracetriage.report.text import figure_text, money, percent, plural, shorten, spent_text, unit

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from pytest_tracetriage.model.analysis import Bucket
    from pytest_tracetriage.model.review import Leg, Review
    from pytest_tracetriage.model.run import Figure, Spent

BAR = 20
_NOTES, _LEGS, _FIXED = 10, 100, 20
_METRICS, _MODELS, _PATTERNS = 30, 20, 10


class Size(Struct, frozen=True):
    """How much to show at most."""

    rows: int
    """Causes in the table at once."""
    folded: int
    """Causes in the folded rest of the table."""
    details: int
    """Causes with a detail."""
    tests: int
    """Tests listed of each."""


class View(Struct, frozen=True):
    """All that may be shown of a review."""

    frame: dict[str, Any]
    causes: tuple[Cause, ...]
    rows: dict[str, dict[str, Any]]
    details: dict[str, dict[str, Any]]
    size: Size

    def cuts(self) -> list[Cut]:
        """Return what may be left out, in order."""
        detailed = [cause for cause in self.causes if cause.cluster.id in self.details]
        return cuts(self.causes[: len(self.rows)], detailed)

    def values(self, cut: frozenset[Cut] = frozenset()) -> dict[str, Any]:
        """Return the values of a template without what was cut."""
        kept = [identity for identity in self.rows if Cut("row", identity) not in cut]
        first = kept[: self.size.rows]
        unlisted = len(self.causes) - len(kept)
        gone = [left_out(cut)] if cut else []
        if undetailed := len(self.causes) - len(self.details):
            gone.append(f"details of {plural(undetailed, 'more cause')}")
        return {
            **self.frame,
            "rows": [self.rows[identity] for identity in first],
            "folded": [self.rows[identity] for identity in kept[len(first) :]],
            "more": len(self.causes) - len(first),
            "more_kinds": _kinds(self.causes[len(first) :]),
            "unlisted": unlisted,
            "details": [
                _without(values, identity, cut)
                for identity, values in self.details.items()
                if Cut("detail", identity) not in cut
            ],
            "left_out": ", ".join(gone),
        }


def view(review: Review, size: Size, overrides: Path | None = None) -> View:
    """Return what may be shown of a review."""
    causes = tuple(stand(review))
    return View(
        frame=_frame(review, causes),
        causes=causes,
        rows={cause.cluster.id: row(cause, review) for cause in causes[: size.rows + size.folded]},
        details={cause.cluster.id: detail(cause, review, size.tests, overrides) for cause in causes[: size.details]},
        size=size,
    )


def bar(part: float, whole: float, width: int = BAR) -> str:
    """Return a bar of `width` characters; what is not nothing has a mark, what is not all has a gap."""
    if whole <= 0:
        return "░" * width
    filled = round(width * part / whole)
    filled = min(max(filled, 1 if part > 0 else 0), width - (1 if part < whole else 0))
    return "█" * filled + "░" * (width - filled)


def _frame(review: Review, causes: Sequence[Cause]) -> dict[str, Any]:
    fixed = [cluster for cluster in review.analysis.clusters if cluster.seen == "fixed"]
    return {
        "headline": headline(review),
        "next": next_step(causes, review),
        "trend": words.trend(review),
        "notes": [words.prose(note) for note in review.notes[:_NOTES]],
        "more_notes": max(0, len(review.notes) - _NOTES),
        "url": safe_url(review.url),
        "workflow": shorten(review.workflow, 80),
        "buckets": [_bucket(bucket, review) for bucket in review.analysis.buckets[:5]],
        "legs": [_leg(leg) for leg in review.legs[:_LEGS]],
        "more_legs": max(0, len(review.legs) - _LEGS),
        "metrics": [_metric(name, figure) for name, figure in list(review.metrics.items())[:_METRICS]],
        "more_metrics": max(0, len(review.metrics) - _METRICS),
        "spent": [_spent(each) for each in review.spent[:_MODELS]],
        "more_models": max(0, len(review.spent) - _MODELS),
        "llm": spent_text(review.spent) if review.spent else "",
        "patterns": [listed(pattern) for pattern in review.patterns[:_PATTERNS]],
        "more_patterns": max(0, len(review.patterns) - _PATTERNS),
        "fixed": [{"name": bounded(cluster).name, "tests": len(cluster.tests)} for cluster in fixed[:_FIXED]],
        "more_fixed": max(0, len(fixed) - _FIXED),
    }


def _bucket(bucket: Bucket, review: Review) -> dict[str, Any]:
    whole = sum(each.count for each in review.analysis.buckets)
    members = [cluster for cluster in review.analysis.clusters if cluster.id in bucket.clusters]
    return {
        "name": shorten(bucket.name, 100),
        "tests": bucket.count,
        "unit": unit([test for cluster in members for test in cluster.tests]),
        "causes": len(bucket.clusters),
        "bar": bar(bucket.count, whole),
    }


def _leg(leg: Leg) -> dict[str, Any]:
    return {
        "name": shorten(" ".join(part for part in (leg.job, words.matrix(leg.leg)) if part) or leg.run, 100),
        "python": shorten(leg.python, 40),
        "platform": shorten(leg.platform, 60),
        "tests": leg.totals.tests,
        "failures": leg.totals.failures,
        "rate": percent(leg.totals.passed, leg.totals.tests) if leg.totals.tests else "",
        "duration": words.duration(leg.duration),
        "finished": leg.finished,
    }


def _metric(name: str, figure: Figure) -> dict[str, str]:
    return {"name": shorten(name, 100), "value": shorten(figure_text(figure), 60)}


def _spent(each: Spent) -> dict[str, str]:
    usage = each.usage
    counts = {name: f"{getattr(usage, name):,}" for name in ("requests", "input", "cache_read", "output", "reasoning")}
    return {"model": shorten(usage.model, 100), "cost": "no price" if each.cost is None else money(each.cost), **counts}


def _kinds(causes: Sequence[Cause]) -> str:
    counts = [(word, sum(cause.standing == word for cause in causes)) for word in SHOWN]
    return ", ".join(f"{count:,} {word}" for word, count in counts if count)


def _without(values: dict[str, Any], identity: str, cut: frozenset[Cut]) -> dict[str, Any]:
    names = {"prompt": "prompt", "traceback": "traceback", "list of tests": "listed"}
    return values | {name: "" for what, name in names.items() if Cut(what, identity) in cut}
