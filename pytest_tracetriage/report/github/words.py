"""Numbers and short phrases, as a comment words them."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

from pytest_tracetriage.report.history import brief
from pytest_tracetriage.report.text import code_span, markdown, percent, plural, shorten, wilson

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_tracetriage.model.analysis import Frequency
    from pytest_tracetriage.model.diagnosis import Culprit
    from pytest_tracetriage.model.review import Review
    from pytest_tracetriage.report.github.headline import Cause

    Quote = Callable[[str], str]
    """How a name that may hold anything is made safe where it stands."""

COMMIT = re.compile(r"[0-9a-f]{7,64}")
# What GitHub expands in text, and no character between would stop for certain: formulas, and commits by their name.
_EXPANDED = re.compile(r"\$|(?<![0-9A-Za-z_])[0-9A-Fa-f]{7,64}(?![0-9A-Za-z_])")


def prose(text: str, limit: int = 500) -> str:
    """Return `text` for a sentence of Markdown: as it is where it can be, else as code, which GitHub leaves alone."""
    text = shorten(text, limit)
    return code_span(text) if _EXPANDED.search(text) else markdown(text)


def short_commit(commit: str) -> str:
    """Return the first 7 characters of a commit's name; anything else as it is, so far as it is short."""
    return commit[:7] if COMMIT.fullmatch(commit) else shorten(commit, 30)


def duration(seconds: float) -> str:
    """Return `3 min 12 s`, `2 h 05 min`, `4.2 s`."""
    if seconds < 9.95:
        return f"{max(0.0, seconds):.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def often(frequency: Frequency) -> str:
    """Return `fails 14 % [6, 27] of runs`: with its Wilson 95 % interval."""
    low, high = wilson(frequency.failed, frequency.runs)
    share = frequency.failed / frequency.runs if frequency.runs else 0.0
    return f"fails {100 * share:.0f} % [{100 * low:.0f}, {100 * high:.0f}] of runs"


def history(cause: Cause, review: Review, quote: Quote) -> str:
    """Return what is known of a cause: `real, since 9f31c07 (this PR, 99 %)`, `not on main`, `on main for 6 runs`."""
    cluster = cause.cluster
    told = review.diagnosed.get(cluster.id)
    since = broken_by(told.culprits[0], quote, brought=told.brought) if told is not None and told.culprits else ""
    base = quote(shorten(review.base, 40)) if review.base else "the base branch"
    parts = []
    if cause.standing == "muted" and cluster.muted is not None:
        until = f" until {quote(shorten(cluster.muted.until, 20))}" if cluster.muted.until else ""
        parts.append(f"muted by {quote(shorten(cluster.muted.owner, 40))}{until}")
    if cause.again:
        parts.append("passed when run again")
    if told is not None and told.rerun and cause.standing == "flaky":
        parts.append(quote(shorten(cluster.status_evidence.partition(";")[0], 80)))
    elif cluster.status == "infrastructure" or (told is not None and told.rerun):
        parts.append(cluster.status)
    if since:
        parts.append(since)
    elif told is not None and cluster.suspects and cluster.suspects[0].kind == "dependency":
        drift = cluster.suspects[0]
        parts.append(f"drift: {quote(shorten(f'{drift.file} {drift.function}', 60))}")
    if cause.standing == "flaky" and cluster.frequency is not None and cluster.frequency.failed:
        parts.append(often(cluster.frequency))
    elif cluster.seen == "known":
        known = f"on {base}" if cause.standing == "known" and review.base else "known"
        known = f"comes and goes {known}" if cluster.course == "on and off" else known
        parts.append(f"{known} for {plural(cluster.runs, 'run')}" if cluster.runs else known)
        if cluster.since and not since:
            parts[-1] += f", since {quote(short_commit(cluster.since))}"
    elif cluster.course == "grown":
        parts.append(f"on {base} by few tests, most of these pass there")
    elif cluster.seen == "new" and cluster.course == "back":
        parts.append(f"back: was on {base} since {quote(short_commit(cluster.since))}, and fixed")
    elif cluster.seen == "new":
        parts.append(f"not on {base}" if review.base != review.branch or review.pull_request else "new")
        if cluster.since and cluster.since != review.commit and not since:
            parts[-1] += f", since {quote(short_commit(cluster.since))}"
    elif cause.standing == "failing":
        parts.append("nothing to compare with")
    if patterns := brief(cluster, review.patterns, flaky=cause.standing == "flaky"):
        parts.append(patterns)
    return ", ".join(parts)


def broken_by(culprit: Culprit, quote: Quote, *, brought: bool = False) -> str:
    """Return `since 9f31c07 (this PR, 99 %)`, "" where the search has not come to an end."""
    sure = f"{int(100 * culprit.confidence)} %"
    if culprit.finding == "commit":
        return f"since {quote(short_commit(culprit.commit))} ({'this PR, ' if brought else ''}{sure})"
    if culprit.finding == "commits":
        return f"since one of {plural(len(culprit.candidates), 'commit')} ({sure})"
    if culprit.finding == "older":
        return "older than the commits that were searched"
    if culprit.finding == "nothing committed" and culprit.drift:
        drift = culprit.drift[0]
        changed = f"{shorten(drift.name, 40)} {shorten(drift.before, 20) or 'none'} -> {shorten(drift.after, 20) or 'none'}"
        return f"nothing committed since it passed, but {quote(changed)}"
    return ""


def trend(review: Review) -> str:
    """Return the last line: tests, shards, time and pass rate, each beside the base branch, and the commit."""
    totals, base = review.analysis.totals, review.baseline
    beside = f"({code_span(shorten(base.branch, 40))} {{}})" if base is not None else ""
    first = [plural(totals.tests, "test")]
    if len(review.legs) > 1:
        first.append(legs(review))
    if review.legs:
        time = duration(max(leg.duration for leg in review.legs))
        first.append(f"{time} {beside.replace('{}', duration(base.duration))}" if base is not None else time)
    rate = f"pass rate {percent(totals.passed, totals.tests)}" if totals.tests else ""
    if rate and base is not None and base.tests:
        rate += " " + beside.replace("{}", percent(base.passed, base.tests))
    updated = f"updated for {review.commit[:7]}" if COMMIT.fullmatch(review.commit) else ""
    if updated and review.attempt > 1:
        updated += f", attempt {review.attempt}"
    return " · ".join(part for part in (", ".join(first), rate, updated) if part)


def legs(review: Review) -> str:
    """Return `4 shards`, or `6 jobs` where a matrix tells them apart."""
    return plural(len(review.legs), "job" if len({leg.leg for leg in review.legs}) > 1 else "shard")


def matrix(leg: str) -> str:
    """Return `os=linux, python=3.14` for the JSON of a matrix, and anything else as it is."""
    try:
        read = json.loads(leg) if leg else {}
    except (ValueError, RecursionError):
        return leg
    if not isinstance(read, dict):
        return leg
    return ", ".join(f"{name}={value}" for name, value in read.items())
