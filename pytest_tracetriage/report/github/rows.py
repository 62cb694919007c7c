"""A cause as templates are given it: a row of the table, and its folded detail."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from pytest_tracetriage.report.github import words
from pytest_tracetriage.report.github.bounds import NODEID, bounded, runnable, traceback
from pytest_tracetriage.report.github.places import Place, link, look_at
from pytest_tracetriage.report.markdown import cluster_prompt
from pytest_tracetriage.report.terminal import pytest_command
from pytest_tracetriage.report.text import code_cell, code_span, shorten, unit

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_tracetriage.model.analysis import Cluster, Suspect
    from pytest_tracetriage.model.review import Review
    from pytest_tracetriage.report.github.standing import Cause

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

    Plain text, but `history`, `fix`, `status_evidence`, `muted_reason` and all `evidence`, which are Markdown.
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


def _suspect(suspect: Suspect, review: Review) -> dict[str, Any]:
    place = Place(suspect.file, suspect.line)
    return {
        "place": str(place),
        "link": link(place, review.links),
        "function": suspect.function,
        "evidence": words.prose(suspect.evidence),
    }
