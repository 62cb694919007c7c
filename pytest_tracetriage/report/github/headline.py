"""What a reviewer hears first: how the causes stand to this change, the one sentence, and what to do next."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from msgspec import Struct

from pytest_tracetriage.model.analysis import Cluster
from pytest_tracetriage.report.github.rows import first_command, folder, link, look_at
from pytest_tracetriage.report.github.words import legs
from pytest_tracetriage.report.terminal import causes, component_of, components_by_test
from pytest_tracetriage.report.text import code_span, plural, short_ids, shorten, unit

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_tracetriage.model.analysis import Cluster
    from pytest_tracetriage.model.review import Review
    from pytest_tracetriage.report.github.words import Quote

Standing = Literal["new", "failing", "known", "flaky", "muted"]
"""failing: it is not known whether it is new, since there is nothing to compare with."""
SHOWN: tuple[Standing, ...] = ("new", "failing", "known", "flaky", "muted")
"""All of them, in the order that they are shown in."""
_COMMAND = 160


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


def headline(review: Review, quote: Quote = code_span) -> str:
    """Return `31 of 812 tests fail from 4 causes: this PR brings 2 of them`, without a mark of Markdown but `quote`'s."""
    found = stand(review)
    red = [cause for cause in found if not cause.again]
    fixed = sum(cluster.seen == "fixed" for cluster in review.analysis.clusters)
    parts = []
    if died := sum(not leg.finished for leg in review.legs):
        parts.append(f"{died} of {legs(review)} did not finish")
    if any(cluster.category == "INTERRUPTED" for cluster in review.analysis.clusters):
        parts.append("the run was interrupted")
    if review.failed:
        parts.append(review.failed)
    if red:
        text = f"{_failing(review)} from {plural(len(red), 'cause')}{_kinds(red)}: {_verdict(review, red, fixed, quote)}"
    else:
        text = _green(review, whole=not parts)
        if fixed:
            text += f": this PR fixes {plural(fixed, 'cause')}" if review.pull_request else f": {_are(fixed)} fixed"
        if again := len(found):
            text += f"; {plural(again, 'flaky cause')} passed when run again"
    parts.append(text)
    sentence = "; ".join(parts)
    return sentence[:1].upper() + sentence[1:]


def _failing(review: Review) -> str:
    totals = review.analysis.totals
    broken = {test for cause in stand(review) if not cause.again for test in cause.cluster.tests if "::" not in test}
    failing = max(0, totals.failures - len(broken))
    parts = []
    if failing > totals.tests:
        parts.append(f"{plural(failing, 'failure')} in {plural(totals.tests, 'test')}")
    elif failing:
        parts.append(f"{failing:,} of {plural(totals.tests, 'test')} {'fails' if failing == 1 else 'fail'}")
    if broken:
        parts.append(f"{plural(len(broken), unit(sorted(broken)))} cannot be collected")
    return " and ".join(parts) or plural(totals.failures, "failure")


def _green(review: Review, *, whole: bool) -> str:
    totals = review.analysis.totals
    if totals.failures:
        return plural(totals.failures, "failure")
    if not totals.tests:
        return "no tests were run" if review.legs else "nothing was recorded"
    if not whole:
        return f"none of the {plural(totals.tests, 'test')} that were recorded {'fails' if totals.tests == 1 else 'fail'}"
    if totals.passed >= totals.tests:
        return f"all {plural(totals.tests, 'test')} pass" if totals.tests > 1 else "1 test passes"
    return f"none of {plural(totals.tests, 'test')} fails"


def _kinds(red: list[Cause]) -> str:
    kinds = [(word, sum(cause.standing == word for cause in red)) for word in ("flaky", "muted")]
    said = [f"all {word}" if count == len(red) > 1 else f"{count} {word}" for word, count in kinds if count]
    return f" ({', '.join(said)})" if said else ""


def _verdict(review: Review, red: list[Cause], fixed: int, quote: Quote) -> str:
    new = sum(cause.standing == "new" for cause in red)
    unknown = any(cause.standing == "failing" for cause in red)
    one = len(red) == 1
    if unknown and not new:
        base = f"no run of {quote(shorten(review.base, 40))} is known" if review.base else "no earlier run is known"
        return f"whether {_this(review)} brings {'it' if one else 'them'} cannot be told, since {base}"
    if not new:
        if review.pull_request:
            return ("not from this PR" if one else "none is from this PR") + (f", which fixes {fixed}" if fixed else "")
        return ("not new" if one else "none is new") + (f", {_are(fixed)} fixed" if fixed else "")
    if review.pull_request:
        text = f"this PR brings {'it' if one else 'all of them' if new == len(red) else f'{new} of them'}"
        return f"{text} and fixes {fixed}" if fixed else text
    some = f"{new} of them {'is' if new == 1 else 'are'} new"
    text = "it is new" if one else "all are new" if new == len(red) else some
    return f"{text}, {_are(fixed)} fixed" if fixed else text


def _this(review: Review) -> str:
    return "this PR" if review.pull_request else "this commit"


def _are(count: int) -> str:
    return f"{count} is" if count == 1 else f"{count} are"


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
