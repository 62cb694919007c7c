"""The texts that GitHub is given: the comment with its marker for machines, the job summary, the check.

The comment says what a reviewer has to know on one screen, the rest folded; the summary has all causes in detail.
"""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING, Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from pytest_tracetriage.model.analysis import Seen, Status  # noqa: TC001 (msgspec reads the annotations)
from pytest_tracetriage.report.github.bounds import characters, encoded, fit, inert
from pytest_tracetriage.report.github.headline import SHOWN, Standing, headline, stand
from pytest_tracetriage.report.github.view import Size, view
from pytest_tracetriage.report.github.words import trend
from pytest_tracetriage.report.markdown import render
from pytest_tracetriage.report.text import printable, shorten

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_tracetriage.model.review import Review
    from pytest_tracetriage.report.github.view import View


COMMENT_LIMIT = 65_536
"""Characters of a comment: so many that no character can make it exceed 262,144 bytes."""
COMMENT_SIZE = Size(rows=10, folded=100, details=20, tests=10)


def comment(review: Review, key: str, overrides: Path | None = None) -> str:
    """Return the comment's Markdown: `marker(key)` first, `data_block(review)` last, at most 65,536 characters.

    What had to be left out is said. A template of the project's own that cannot be made short enough is not used.
    """
    head, foot = marker(key) + "\n", "\n" + data_block(review) + "\n"
    shown = view(review, COMMENT_SIZE, overrides)
    room = COMMENT_LIMIT - characters(head + foot)
    for folder in (overrides, None):
        body = fit(lambda cut: inert(render("comment.md.j2", shown.values(cut), folder)), shown.cuts(), characters, room)  # noqa: B023
        if body is not None:
            return head + body + foot
    return head + f"### {headline(review)}\n\n{trend(review)}\n" + foot


LISTED = 100
"""So many causes are in the block, in the order of the table."""
_SCHEMA: Literal["tracetriage.comment/1"] = "tracetriage.comment/1"
_OPENING, _CLOSING = "<!-- tracetriage:data ", " -->"
_KEY = re.compile(r"(?!.*--)[A-Za-z0-9_.\-]{1,64}")
_COMMIT = re.compile(r"[0-9a-f]{7,64}")
_CLUSTER = re.compile(r"[A-Z2-7]{26}")

Count = Annotated[int, Meta(ge=0, le=2**53)]


class Item(Struct, frozen=True, forbid_unknown_fields=True):
    """One cause. `tests` counts them."""

    id: Annotated[str, Meta(pattern=rf"^{_CLUSTER.pattern}\Z")]
    standing: Standing
    seen: Seen
    status: Status
    tests: Count
    passed_again: bool = False


class Data(Struct, frozen=True, forbid_unknown_fields=True):
    """The block. `causes` is at most the first 100; `more` counts the rest."""

    schema: Literal["tracetriage.comment/1"]
    commit: Annotated[str, Meta(pattern=rf"^(?:{_COMMIT.pattern})?\Z")]
    ci_run: Count
    attempt: Count
    tests: Count
    failures: Count
    causes: Annotated[tuple[Item, ...], Meta(max_length=LISTED)] = ()
    fixed: Annotated[tuple[Annotated[str, Meta(pattern=rf"^{_CLUSTER.pattern}\Z")], ...], Meta(max_length=LISTED)] = ()
    more: Count = 0


def marker(key: str) -> str:
    """Return the hidden first line of the comment `key`: a comment is ours when it starts with it.

    A key that is no plain word, such as the name of a workflow, stands as its hash.
    """
    if not _KEY.fullmatch(key):
        key = hashlib.sha256(key.encode("utf-8", "replace")).hexdigest()[:32]
    return f"<!-- tracetriage:comment {key} -->"


def data_block(review: Review) -> str:
    """Return the hidden last line of a comment: ids, numbers, enumerations, the commit and the CI run."""
    causes = [cause for cause in stand(review) if cause.standing in SHOWN and _CLUSTER.fullmatch(cause.cluster.id)]
    fixed = [cluster.id for cluster in review.analysis.clusters if cluster.seen == "fixed" and _CLUSTER.fullmatch(cluster.id)]
    data = Data(
        schema=_SCHEMA,
        commit=review.commit if _COMMIT.fullmatch(review.commit) else "",
        ci_run=_count(review.ci_run),
        attempt=_count(review.attempt),
        tests=_count(review.analysis.totals.tests),
        failures=_count(review.analysis.totals.failures),
        causes=tuple(
            Item(
                id=cause.cluster.id,
                standing=cause.standing,
                seen=cause.cluster.seen,
                status=cause.cluster.status,
                tests=_count(cause.cluster.count),
                passed_again=cause.again,
            )
            for cause in causes[:LISTED]
        ),
        fixed=tuple(fixed[:LISTED]),
        more=max(0, len(causes) - LISTED),
    )
    return _OPENING + msgspec.json.encode(data).decode().replace(">", "\\u003e") + _CLOSING


def read_data(body: str) -> Data | None:
    """Return the block of a comment, or None where its last line is none of ours. Any text may be given.

    Only the last line counts: what a test printed stands above it, in whatever shape.
    """
    last = body.rstrip().rpartition("\n")[2].strip()
    if not (last.startswith(_OPENING) and last.endswith(_CLOSING)):
        return None
    try:
        return msgspec.json.decode(last[len(_OPENING) : -len(_CLOSING)].encode("utf-8", "surrogatepass"), type=Data)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None


def _count(number: int) -> int:
    return min(max(0, number), 2**53)


SUMMARY_LIMIT = 1_048_576
"""Bytes of the summary of one step."""
SUMMARY_SIZE = Size(rows=50, folded=1000, details=100, tests=50)


def summary(review: Review, overrides: Path | None = None) -> str:
    """Return the job summary's Markdown in at most 1 MiB; what had to be left out is said."""
    shown = view(review, SUMMARY_SIZE, overrides)
    for folder in (overrides, None):
        body = fit(
            lambda cut: inert(render("job_summary.md.j2", shown.values(cut), folder)),  # noqa: B023
            shown.cuts(),
            encoded,
            SUMMARY_LIMIT,
        )
        if body is not None:
            return body
    return f"### {headline(review)}\n\n{trend(review)}\n"


CHECK_TITLE = 255
CHECK_LIMIT = 65_535
"""Characters of the summary, and again of the text."""
CHECK_SIZE = Size(rows=10, folded=100, details=20, tests=10)

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
    shown = view(review, CHECK_SIZE, overrides)
    return CheckText(
        title=shorten(printable(headline(review, str)), CHECK_TITLE),
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
            CHECK_LIMIT,
        )
        if body is not None:
            return body
    return None
