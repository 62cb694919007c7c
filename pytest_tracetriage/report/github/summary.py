"""The job summary: everything that the comment says, with all causes in detail, the buckets and the legs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_tracetriage.report.github.fit import encoded, fit, inert
from pytest_tracetriage.report.github.headline import headline
from pytest_tracetriage.report.github.view import Size, view
from pytest_tracetriage.report.github.words import trend
from pytest_tracetriage.report.markdown import render

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_tracetriage.model.review import Review

LIMIT = 1_048_576
"""Bytes of the summary of one step."""
SIZE = Size(rows=50, folded=1000, details=100, tests=50)


def summary(review: Review, overrides: Path | None = None) -> str:
    """Return the job summary's Markdown in at most 1 MiB; what had to be left out is said."""
    shown = view(review, SIZE, overrides)
    for folder in (overrides, None):
        body = fit(lambda cut: inert(render("job_summary.md.j2", shown.values(cut), folder)), shown.cuts(), encoded, LIMIT)  # noqa: B023
        if body is not None:
            return body
    return f"### {headline(review)}\n\n{trend(review)}\n"
