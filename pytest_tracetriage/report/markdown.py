"""What templates render: an analysis and patterns over time as Markdown, a cluster as a text to paste into a coding agent.

A project's own templates come first, then those of the package. What has nothing to say is left out.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jinja2
from jinja2.sandbox import SandboxedEnvironment

from pytest_tracetriage.report import text
from pytest_tracetriage.report.diagnosis import basis, waste_text
from pytest_tracetriage.report.history import ISSUES, NAME, evidence_text, listed
from pytest_tracetriage.report.show import render_short, shared_texts
from pytest_tracetriage.report.terminal import (
    causes,
    component_of,
    components_by_test,
    headline,
    place_of,
    pytest_command,
    rerun_command,
    state_of,
)
from pytest_tracetriage.report.text import short_ids, shorten, unit

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pytest_tracetriage.model.analysis import Analysis, Cluster
    from pytest_tracetriage.model.diagnosis import Diagnosis, Issue, Patterns


DETAILED = 20
LISTED = 20


def analysis_markdown(analysis: Analysis, overrides: Path | None = None) -> str:
    """Return an analysis as Markdown."""
    names = short_ids(cluster.id for cluster in analysis.clusters)
    components = components_by_test(analysis)
    found = [_cause(cluster, names, component_of(cluster, components)) for cluster in causes(analysis)]
    tests = {cluster.id: cluster.tests for cluster in analysis.clusters}
    return render(
        "report.md.j2",
        {
            "headline": headline(analysis),
            "totals": analysis.totals,
            "buckets": [(bucket.name, bucket.count, [names[i] for i in bucket.clusters]) for bucket in analysis.buckets],
            "units": {bucket.name: unit([test for i in bucket.clusters for test in tests[i]]) for bucket in analysis.buckets},
            "causes": found[:DETAILED],
            "more": found[DETAILED:],
            "fixed": [(names[c.id], c.name, len(c.tests), c.since) for c in analysis.clusters if c.seen == "fixed"],
            "problems": analysis.problems[:LISTED],
            "more_problems": max(0, len(analysis.problems) - LISTED),
        },
        overrides,
    )


def diagnosis_markdown(found: Diagnosis, overrides: Path | None = None) -> str:
    """Return a diagnosis as Markdown: of each cause its status, suspects, what its failures share, and what may be wrong."""
    names = short_ids(cluster.id for cluster in found.clusters)
    return render(
        "diagnosis.md.j2",
        {
            "headline": headline(found),
            "causes": [_diagnosed(found, cluster, names[cluster.id]) for cluster in causes(found)],
            "wastes": [waste_text(waste) for waste in found.wastes],
            "basis": basis(found),
            "problems": found.problems[:LISTED],
            "more_problems": max(0, len(found.problems) - LISTED),
        },
        overrides,
    )


def _diagnosed(found: Diagnosis, cluster: Cluster, name: str) -> dict[str, object]:
    patterns = [one.words for one in found.patterns if one.subject == cluster.id or one.subject in cluster.tests]
    return {
        "id": name,
        "name": cluster.name,
        "count": cluster.count,
        "unit": unit(cluster.tests),
        "state": state_of(cluster),
        "status": cluster.status or "not run again",
        "status_evidence": cluster.status_evidence,
        "suspects": cluster.suspects[:5],
        "shared": [text for one in found.shared if one.cluster == cluster.id for text in shared_texts(one)],
        "patterns": patterns[:5],
        "prompts": [one for one in found.prompts if one.cluster == cluster.id],
        "hypotheses": [one for one in found.hypotheses if one.cluster == cluster.id],
        "evidence": found.evidence.get(cluster.id, ()),
        "rerun": rerun_command(cluster, name),
    }


def patterns_markdown(found: Patterns, overrides: Path | None = None) -> str:
    """Return patterns and issues as Markdown."""
    return render(
        "patterns.md.j2",
        {
            "window": found.window,
            "patterns": [
                {
                    **listed(pattern),
                    "evidence": [evidence_text(point.commit, point.run) for point in pattern.evidence],
                    "more": pattern.points - len(pattern.evidence),
                }
                for pattern in found.patterns
            ],
            "issues": [
                (name, [_issue(issue) for issue in found.issues if issue.kind == kind]) for kind, name in ISSUES.items()
            ],
            "notes": found.notes,
        },
        overrides,
    )


def _issue(issue: Issue) -> dict[str, str]:
    return {"id": issue.id, "name": shorten(issue.subject, NAME), "words": issue.words}


def _cause(cluster: Cluster, names: dict[str, str], component: str) -> dict[str, object]:
    failure = cluster.exemplar.failure if cluster.exemplar else None
    return {
        "id": names[cluster.id],
        "name": cluster.name,
        "count": cluster.count,
        "unit": unit(cluster.tests),
        "state": state_of(cluster),
        "signatures": cluster.signatures[:5],
        "more_signatures": max(0, len(cluster.signatures) - 5),
        "category": cluster.category,
        "owner": cluster.owner,
        "component": component,
        "codeowners": cluster.codeowners,
        "classified": cluster.classified,
        "place": place_of(cluster),
        "fixture": failure.fixture if failure else "",
        "why": cluster.why[:5],
        "suspects": cluster.suspects[:3],
        "fix": cluster.fix,
        "tests": cluster.tests[:LISTED],
        "more_tests": max(0, len(cluster.tests) - LISTED),
        "exemplar": cluster.exemplar.nodeid if cluster.exemplar else "",
        "traceback": render_short(failure) if failure else "",
        "rerun": rerun_command(cluster, names[cluster.id]),
    }


MAX_TESTS = 30


def cluster_prompt(cluster: Cluster, name: str, overrides: Path | None = None) -> str:
    """Return the prompt for a cluster. What came from tests stands fenced, and is announced as data."""
    failure = cluster.exemplar.failure if cluster.exemplar else None
    files = dict.fromkeys(
        [suspect.file for suspect in cluster.suspects if suspect.kind != "dependency"]
        + [
            frame.file
            for error in (failure.errors if failure else ())
            for frame in reversed(error.frames)
            if frame.origin in {"app", "test"}
        ]
    )
    return render(
        "prompt.md.j2",
        {
            "id": name,
            "unit": unit(cluster.tests),
            "cluster": cluster,
            "tests": cluster.tests[:MAX_TESTS],
            "more": max(0, len(cluster.tests) - MAX_TESTS),
            "files": list(files)[:10],
            "traceback": render_short(failure) if failure else "",
            "command": pytest_command(cluster.tests, MAX_TESTS),
        },
        overrides,
    )


_PACKAGE = Path(__file__).resolve().parent.parent
SHIPPED = (_PACKAGE / "templates", _PACKAGE.parent / "templates")
"""In an installed wheel, and in a checkout."""


def render(name: str, values: Mapping[str, Any], overrides: Path | None = None) -> str:
    """Return template `name` with `values`; a file of that name in `overrides` replaces the shipped one.

    Nothing is escaped by itself: templates pass what came from a test through `md`, `code`, `block`,
    `cell` (code in a table) or `html` (code in HTML).
    """
    rendered = _environment(overrides).get_template(name).render(values)
    return rendered.strip("\n") + "\n"


@cache
def _environment(overrides: Path | None) -> SandboxedEnvironment:
    folders = [str(folder) for folder in ((overrides,) if overrides is not None else ()) + SHIPPED]
    environment = SandboxedEnvironment(
        loader=jinja2.FileSystemLoader(folders),
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
        autoescape=False,
    )
    environment.filters |= {
        "md": text.markdown,
        "code": text.code_span,
        "cell": text.code_cell,
        "html": text.code_html,
        "block": text.code_block,
        "plain": text.printable,
    }
    environment.globals |= {"plural": text.plural}
    return environment
