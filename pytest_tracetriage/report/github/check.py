"""The check run (or commit status) of a commit: the headline as its title, the table, and the details."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from msgspec import Struct

from pytest_tracetriage.report.github.fit import characters, fit, inert
from pytest_tracetriage.report.github.headline import headline
from pytest_tracetriage.report.github.view import Size, view
from pytest_tracetriage.report.github.words import trend
from pytest_tracetriage.report.markdown import render
from pytest_tracetriage.report.text import printable, shorten

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_tracetriage.model.review import Review
    from pytest_tracetriage.report.github.view import View

TITLE = 255
LIMIT = 65_535
"""Characters of the summary, and again of the text."""
SIZE = Size(rows=10, folded=100, details=20, tests=10)

Conclusion = Literal["success", "failure", "neutral"]


class CheckText(Struct, frozen=True):
    """What a check says. `title` is plain text, `summary` and `text` are Markdown."""

    title: str
    summary: str
    text: str
    conclusion: Conclusion


def check(review: Review, failing: bool, overrides: Path | None = None) -> CheckText:
    """Return the check of a review; `failing` is the project's decision whether this may be merged.

    Where it may, but something fails or did not finish, the conclusion is neutral.
    """
    shown = view(review, SIZE, overrides)
    return CheckText(
        title=shorten(printable(headline(review, str)), TITLE),
        summary=_part("summary", shown, overrides) or f"{trend(review)}\n",
        text=_part("text", shown, overrides) or "",
        conclusion="failure" if failing else "success" if _clean(review, shown) else "neutral",
    )


def _clean(review: Review, shown: View) -> bool:
    totals = review.analysis.totals
    whole = all(leg.finished for leg in review.legs) and totals.tests > 0 and not review.failed
    return whole and not totals.failures and all(cause.again for cause in shown.causes)


def _part(part: str, shown: View, overrides: Path | None) -> str | None:
    order = [cut for cut in shown.cuts() if part == "text" or cut.what == "row"]
    for folder in (overrides, None):
        body = fit(
            lambda cut: inert(render("check.md.j2", shown.values(cut) | {"part": part}, folder)),  # noqa: B023
            order,
            characters,
            LIMIT,
        )
        if body is not None:
            return body
    return None
