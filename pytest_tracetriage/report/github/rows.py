"""A cause as templates are given it: a row of the table, its folded detail, and the places in the repository to look at."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from msgspec import Struct
from msgspec.structs import replace

from pytest_tracetriage.report.github import words
from pytest_tracetriage.report.github.bounds import NODEID, bounded, runnable, traceback
from pytest_tracetriage.report.markdown import cluster_prompt
from pytest_tracetriage.report.terminal import pytest_command
from pytest_tracetriage.report.text import code_cell, code_span, shorten, unit

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from pytest_tracetriage.model.analysis import Cluster, Suspect
    from pytest_tracetriage.model.review import Review
    from pytest_tracetriage.report.github.headline import Cause


IN_A_COMMAND = 20
_PLACE = 80
_FOLDER = 200


def row(cause: Cause, review: Review) -> dict[str, Any]:
    """Return the cells of a cause: plain text, but `history`, which is Markdown for a cell, and `link`, which is safe."""
    cluster = bounded(cause.cluster)
    place = look_at(cause.cluster, review.links)
    return {
        "id": cause.short,
        "standing": cause.standing,
        "name": cluster.name,
        "tests": cluster.count,
        "unit": unit(cluster.tests),
        "history": words.history(cause, review, code_cell),
        "place": shorten(str(place), _PLACE) if place else "",
        "link": link(place, review.links) if place else "",
        "codeowners": " ".join(cluster.codeowners),
    }


def detail(cause: Cause, review: Review, listed: int, overrides: Path | None) -> dict[str, Any]:
    """Return what is folded behind a cause, with up to `listed` of its tests.

    Plain text, but `history`, `fix`, `status_evidence`, `muted_reason`, all `evidence` and the `culprits`, which are Markdown.
    """
    cluster = bounded(cause.cluster)
    typed = runnable(cluster.tests)
    return {
        **row(cause, review),
        "history": words.history(cause, review, code_span),
        "owner": cluster.owner,
        "component": cause.component,
        "category": cluster.category,
        "classified": cluster.classified,
        "fix": words.prose(cluster.fix),
        "status_evidence": words.prose(cluster.status_evidence),
        "muted_reason": words.prose(cluster.muted.reason) if cluster.muted else "",
        "fixture": cluster.exemplar.failure.fixture if cluster.exemplar else "",
        "exemplar": shorten(cluster.exemplar.nodeid, NODEID) if cluster.exemplar else "",
        "traceback": traceback(cluster),
        "why": [{"evidence": words.prose(why.evidence), "detail": why.detail} for why in cluster.why],
        "suspects": [_suspect(suspect, review) for suspect in cluster.suspects],
        "folder": folder(review),
        "first": first_command(cluster),
        "command": pytest_command(typed, IN_A_COMMAND) if len(typed) > 1 else "",
        "culprits": _culprits(cause, review),
        "listed": [shorten(test, NODEID) for test in cluster.tests[:listed]] if len(cluster.tests) > 1 else [],
        "more_tests": max(0, len(cluster.tests) - listed),
        "prompt": cluster_prompt(replace(cluster, tests=typed), cause.short, overrides) if typed else "",
    }


def folder(review: Review) -> str:
    """Return where in the repository the commands of a review are typed, "" for its root."""
    return shorten(review.prefix.rstrip("/"), _FOLDER)


def first_command(cluster: Cluster) -> str:
    """Return the command that shows a cause by one test, "" where no test of it can be typed."""
    exemplar = (cluster.exemplar.nodeid,) if cluster.exemplar else ()
    tests = runnable((*exemplar, *cluster.tests[:IN_A_COMMAND]))
    return pytest_command(tests[:1]) if tests else ""


def _culprits(cause: Cause, review: Review) -> list[str]:
    """Return a line for each commit that was found, with its page, its subject, and what that rests on."""
    told = review.diagnosed.get(cause.cluster.id)
    lines = []
    for number, culprit in enumerate(told.culprits if told is not None else ()):
        said = words.broken_by(culprit, code_span, brought=told is not None and told.brought and not number)
        if not said:
            continue
        known = culprit.finding == "commit" and review.url and words.COMMIT.fullmatch(culprit.commit)
        page = safe_url(f"{review.url.partition('/actions/')[0]}/commit/{culprit.commit}") if known else ""
        parts = [f"[{said}]({page})" if page else said]
        parts += [words.prose(culprit.subject, 100)] if culprit.subject else []
        parts += [words.prose(text, 200) for text in culprit.evidence[:2]]
        lines.append("; ".join(parts))
    return lines


def _suspect(suspect: Suspect, review: Review) -> dict[str, Any]:
    place = Place(suspect.file, suspect.line)
    return {
        "place": str(place),
        "link": link(place, review.links) if suspect.kind != "dependency" else "",
        "function": suspect.function,
        "evidence": words.prose(suspect.evidence),
    }


_URL = re.compile(r"https?://[A-Za-z0-9.\-]+(?::\d+)?(?:/[A-Za-z0-9._~/?#@!$&'+,;=%:\-]*)?")
_LINE = 2**31


class Place(Struct, frozen=True):
    """A line of a file; `line` 0 where only the file is known."""

    file: str
    line: int

    def __str__(self) -> str:
        """Return `shop/cart.py:88`."""
        return f"{self.file}:{self.line}" if self.line else self.file


def in_repository(path: str, links: Mapping[str, str]) -> bool:
    """Return whether `path` may be one of a file of the repository; where the tracked files are known, whether it is one."""
    if links:
        return path in links and _plain(path)
    return _plain(path)


def _plain(path: str) -> bool:
    if not path or len(path) > 1000 or not path.isprintable() or path[0] in "/~<-" or "\\" in path or ":" in path:
        return False
    return all(part not in {"", ".", ".."} for part in path.split("/"))


def link(place: Place, links: Mapping[str, str]) -> str:
    """Return the page of a place, "" where there is none."""
    page = safe_url(links.get(place.file, "")) if _plain(place.file) else ""
    return f"{page}#L{place.line}" if page and place.line else page


def safe_url(url: str) -> str:
    """Return `url` if it is one that can stand between the parentheses of a Markdown link, else nothing."""
    return url if len(url) <= 2000 and _URL.fullmatch(url) else ""


def look_at(cluster: Cluster, links: Mapping[str, str]) -> Place | None:
    """Return the first place of a cluster that lies in the repository, else the first place at all."""
    places = list(_places(cluster))
    return next((place for place in places if in_repository(place.file, links)), places[0] if places else None)


def annotated(cluster: Cluster, links: Mapping[str, str]) -> Place | None:
    """Return the first suspect, or where the exemplar was raised: a line of the repository, else nothing."""
    return next((place for place in _places(cluster) if _exact(place, links)), None)


def own_line(cluster: Cluster, links: Mapping[str, str]) -> Place | None:
    """Return the line of the exemplar's test that failed, where the traceback went through it."""
    if cluster.exemplar is None or not cluster.exemplar.failure.errors:
        return None
    file = cluster.exemplar.nodeid.partition("::")[0]
    frames = cluster.exemplar.failure.errors[0].frames
    places = [Place(frame.file, frame.line) for frame in frames if frame.file == file]
    return next((place for place in places if _exact(place, links)), None)


def _exact(place: Place, links: Mapping[str, str]) -> bool:
    return 0 < place.line < _LINE and in_repository(place.file, links)


def _places(cluster: Cluster) -> Iterator[Place]:
    for suspect in cluster.suspects:
        if suspect.file and suspect.kind != "dependency":
            yield Place(suspect.file, suspect.line)
    if cluster.exemplar is not None and cluster.exemplar.failure.errors:
        for frame in reversed(cluster.exemplar.failure.errors[0].frames):
            if frame.origin in {"app", "test"}:
                yield Place(frame.file, frame.line)
