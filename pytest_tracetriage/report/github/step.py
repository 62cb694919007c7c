"""What to do next, in one line."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_tracetriage.report.github.places import link, look_at
from pytest_tracetriage.report.github.rows import first_command, folder
from pytest_tracetriage.report.text import code_span, plural, shorten, unit

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_tracetriage.model.analysis import Cluster
    from pytest_tracetriage.model.review import Review
    from pytest_tracetriage.report.github.standing import Cause

_COMMAND = 160


def next_step(causes: Sequence[Cause], review: Review) -> str:
    """Return where to begin and how to see it fail, as Markdown; "" where there is nothing to do."""
    if not causes:
        died = [leg.job or leg.run for leg in review.legs if not leg.finished]
        return f"see in the log of {code_span(shorten(died[0], 80))} why it did not finish" if died else ""
    first = causes[0]
    if first.standing in {"new", "failing"}:
        return _again(first.cluster, review) if first.cluster.status == "infrastructure" else _look(first.cluster, review)
    open_causes = [cause for cause in causes if cause.standing != "muted"]
    if all(cause.again for cause in open_causes):
        return ""
    known = [cause for cause in open_causes if cause.standing == "known"]
    gone = [cause for cause in known if cause.cluster.course == "on and off"]
    if gone:
        return _once_more(gone[0].cluster, review)
    if known:
        base = code_span(shorten(review.base, 40)) if review.base else "the base branch"
        here = "nothing to mend here" if review.pull_request else "nothing new to look at"
        return f"{here}: the known causes fail on {base} too" + (
            ", and what is flaky may pass when the job is run again" if any(c.standing == "flaky" for c in open_causes) else ""
        )
    return "run the job again: what is flaky may pass"


def _look(cluster: Cluster, review: Review) -> str:
    place = _where(cluster, review)
    tests = plural(cluster.count, unit(cluster.tests))
    look = f"look at {place} ({tests})" if place else f"begin with the first cause ({tests})"
    return f"{look}{_shown(cluster, review)}"


def _again(cluster: Cluster, review: Review) -> str:
    place = _where(cluster, review)
    return "run the job again: this looks like infrastructure" + (f"; if it stays, look at {place}" if place else "")


def _once_more(cluster: Cluster, review: Review) -> str:
    base = code_span(shorten(review.base, 40)) if review.base else "the base branch"
    place = _where(cluster, review)
    again = f"run the job again: what comes and goes on {base} is not there at the moment"
    return again + (f"; if it stays here, look at {place}" if place else "")


def _shown(cluster: Cluster, review: Review) -> str:
    command = first_command(cluster)
    where = f" in {code_span(folder(review))}" if folder(review) else ""
    return f" and see it fail{where}: {code_span(command)}" if command and len(command) <= _COMMAND else ""


def _where(cluster: Cluster, review: Review) -> str:
    place = look_at(cluster, review.links)
    if place is None:
        return ""
    text, page = code_span(shorten(str(place), 80)), link(place, review.links)
    return f"[{text}]({page})" if page else text
