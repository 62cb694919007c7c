"""Patterns and what costs most: for the terminal, as templates list them, and in a few words beside a cause."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import TYPE_CHECKING

from pytest_tracetriage.report.text import Line, plural, printable, shorten

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_tracetriage.model.analysis import Cluster
    from pytest_tracetriage.model.diagnosis import Issue, Pattern, Patterns

_POINTS = 3
NAME = 300
_ID = 20
_STYLES = {"FLAKY": "yellow", "REGRESSION": "red", "OSCILLATING_FIX": "red"}
ISSUES = {
    "COST_SINK": "cost sinks", "RETRY_PATTERN": "retry patterns", "FAILURE_MODE": "failure modes", "SLOW_TEST": "slow tests",
}  # fmt: skip


def pattern_lines(found: Patterns, width: int, limit: int = 0) -> list[Line]:
    """Return patterns, issues and what there is too little of; with a `limit`, so many patterns and no issues."""
    window = found.window
    where = f" of {printable(window.branch)}" if window.branch else ""
    title = f"patterns{where}, last {plural(window.days, 'day')}"
    lines: list[Line] = [((title, "bold"), (f"  {plural(window.runs, 'run')}, judged by {plural(window.past, 'day')}", "dim"))]
    shown = found.patterns[:limit] if limit else found.patterns
    for pattern in shown:
        lines += _pattern(pattern, width)
    if not found.patterns:
        lines.append((("  none", ""),))
    if len(shown) < len(found.patterns):
        lines.append(((f"  … and {len(found.patterns) - len(shown)} more: tracetriage history patterns", ""),))
    if not limit:
        for kind, name in ISSUES.items():
            issues = [issue for issue in found.issues if issue.kind == kind]
            if issues:
                lines.append(((name, "bold"),))
            lines += [line for issue in issues for line in _issue(issue, width)]
    lines += [((shorten(f"  {printable(note)}", width), "dim"),) for note in found.notes]
    return lines


def listed(pattern: Pattern) -> dict[str, str]:
    """Return a pattern as templates list it, all plain text."""
    return {
        "id": pattern.id,
        "name": shorten(pattern.name, NAME),
        "words": pattern.words,
        "since": _since(pattern),
        "confidence": sure(pattern.confidence),
    }


def evidence_text(commit: str, run: str) -> str:
    """Return what a point of evidence is called: the short name of its commit, else its run."""
    return shorten(commit[:8] or run, _ID)


def sure(confidence: float) -> str:
    """Return `97 %`, at most `99.9 %`: nothing is certain."""
    return f"{min(100 * confidence, 99.9):.3g} %"


def brief(cluster: Cluster, patterns: Sequence[Pattern], *, flaky: bool) -> str:
    """Return what patterns add to what is said of a cause anyhow, in a few words; "" for nothing.

    `flaky` says that it is called flaky already, and how often it fails.
    """
    own = {pattern.kind: pattern for pattern in patterns if pattern.subject == cluster.id}
    tests = {pattern.subject: pattern for pattern in patterns if pattern.of == "test" and pattern.kind == "FLAKY"}
    members = [tests[test] for test in cluster.tests if test in tests]
    fails = [own["FLAKY"]] if "FLAKY" in own else members if 2 * len(members) >= len(cluster.tests) else []
    parts = []
    if fails and not flaky:
        worst = max(fails, key=lambda pattern: (pattern.frequency.mean, pattern.subject))
        parts.append(f"flaky, {worst.words.partition(' of attempts')[0]}")
    found = own.get("OSCILLATING_FIX") or (own.get("REGRESSION") if cluster.course not in {"back", "on and off"} else None)
    if found:
        parts.append(found.words.partition(";")[0])
    if slow := own.get("SLOW_CONVERGENCE"):
        parts.append(slow.words)
    return ", ".join(parts)


def _since(pattern: Pattern) -> str:
    if pattern.change is None:
        return ""
    where = evidence_text(pattern.change.commit, pattern.change.run)
    return f"since {datetime.fromtimestamp(pattern.since, timezone.utc):%Y-%m-%d} {where}"


def _pattern(pattern: Pattern, width: int) -> list[Line]:
    left, confidence = f"  {pattern.id:<{_ID}}", f"{sure(pattern.confidence):>6}  "
    short = f"{pattern.subject[:5]}  " if pattern.of == "cluster" else ""
    name = shorten(printable(short + pattern.name), max(20, width - len(left) - len(confidence)))
    points = [evidence_text(point.commit, point.run) for point in pattern.evidence[-_POINTS:]]
    more = f" and {pattern.points - len(points)} more" if pattern.points > len(points) else ""
    began = "; ".join(part for part in (_since(pattern), f"failed at {', '.join(points)}{more}") if part)
    return [
        ((left, _STYLES.get(pattern.kind, "cyan")), (confidence, ""), (name, "")),
        *_under(pattern.words, width),
        *_under(began, width),
    ]


def _issue(issue: Issue, width: int) -> list[Line]:
    left = f"  {issue.id:<{_ID}}"
    return [((left, "cyan"), (shorten(printable(issue.subject), max(20, width - len(left))), "")), *_under(issue.words, width)]


def _under(text: str, width: int) -> Sequence[Line]:
    return [((shorten(f"  {'':<{_ID}}{printable(text)}", width), "dim"),)]
