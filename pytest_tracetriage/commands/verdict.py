"""Whether a review fails the job: what `--fail-on` asks for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pytest_tracetriage.report.text import plural

if TYPE_CHECKING:
    from pytest_tracetriage.model.analysis import Cluster
    from pytest_tracetriage.model.review import Review

FailOn = Literal["new", "real", "any", "never"]
_EXPLAINED = frozenset({0, 1})
"""Exit statuses of pytest that its tests explain: all passed, some failed."""


def reason_to_fail(review: Review, fail_on: FailOn, suite_exit: int | None) -> str:
    """Return in a line why the job fails, "" where it does not.

    `suite_exit` is what the suite's own command ended with, None where only traces are reported. A suite that did not get as
    far as its tests, or is red without a failure that could be triaged, fails whatever is asked for, but for `never`.
    """
    if fail_on == "never":
        return ""
    red = _red(review)
    died = [leg for leg in review.legs if not leg.finished]
    reason = unexplained(review, suite_exit)
    if died and (suite_exit is None or suite_exit in _EXPLAINED):
        return f"{plural(len(died), 'run')} did not finish"
    if reason:
        return reason
    if fail_on == "any":
        return f"{plural(len(red), 'root cause')} of failures" if red else ""
    counted = [cluster for cluster in red if cluster.muted is None and _counts(cluster, fail_on)]
    word = "new" if fail_on == "new" else "real"
    return f"{plural(len(counted), f'{word} root cause')}" if counted else ""


def unexplained(review: Review, suite_exit: int | None) -> str:
    """Return in a line that the suite failed by something that its tests do not show, "" where it did not."""
    if suite_exit is not None and suite_exit not in _EXPLAINED:
        return f"the suite ended with exit status {suite_exit}"
    return "the suite failed, and not by a test" if suite_exit and not _red(review) else ""


def _red(review: Review) -> list[Cluster]:
    return [cluster for cluster in review.analysis.clusters if cluster.seen != "fixed"]


def _counts(cluster: Cluster, fail_on: FailOn) -> bool:
    """Return whether a red cluster counts. Where nothing is known of the base branch, everything may be new."""
    if fail_on == "new":
        return cluster.seen in {"new", "first-run"} and cluster.status != "flaky"
    return cluster.status not in {"flaky", "infrastructure"}
