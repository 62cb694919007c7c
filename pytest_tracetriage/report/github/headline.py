"""The one sentence that a reviewer reads: how much fails, from how many causes, and whether this change brings them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_tracetriage.report.github.standing import stand
from pytest_tracetriage.report.github.words import legs
from pytest_tracetriage.report.text import code_span, plural, shorten, unit

if TYPE_CHECKING:
    from pytest_tracetriage.model.review import Review
    from pytest_tracetriage.report.github.standing import Cause
    from pytest_tracetriage.report.github.words import Quote


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
