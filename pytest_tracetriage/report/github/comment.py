"""The one comment on a pull request: what a reviewer has to know, on one screen; the rest folded."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_tracetriage.report.github.fit import characters, fit, inert
from pytest_tracetriage.report.github.headline import headline
from pytest_tracetriage.report.github.marker import data_block, marker
from pytest_tracetriage.report.github.view import Size, view
from pytest_tracetriage.report.github.words import trend
from pytest_tracetriage.report.markdown import render

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_tracetriage.model.review import Review

LIMIT = 65_536
"""Characters of a comment: so many that no character can make it exceed 262,144 bytes."""
SIZE = Size(rows=10, folded=100, details=20, tests=10)


def comment(review: Review, key: str, overrides: Path | None = None) -> str:
    """Return the comment's Markdown: `marker(key)` first, `data_block(review)` last, at most 65,536 characters.

    What had to be left out is said. A template of the project's own that cannot be made short enough is not used.
    """
    head, foot = marker(key) + "\n", "\n" + data_block(review) + "\n"
    shown = view(review, SIZE, overrides)
    room = LIMIT - characters(head + foot)
    for folder in (overrides, None):
        body = fit(lambda cut: inert(render("comment.md.j2", shown.values(cut), folder)), shown.cuts(), characters, room)  # noqa: B023
        if body is not None:
            return head + body + foot
    return head + f"### {headline(review)}\n\n{trend(review)}\n" + foot
