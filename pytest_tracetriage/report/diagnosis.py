"""A diagnosis, and a search for culprits, for the terminal, as lines of styled text."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

from pytest_tracetriage.report.show import shared_texts
from pytest_tracetriage.report.terminal import causes, headline, problems, state_of
from pytest_tracetriage.report.text import Line, plural, printable, short_ids, shorten, unit

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_tracetriage.model.analysis import Cluster, Suspect
    from pytest_tracetriage.model.diagnosis import Culprit, Diagnosis, Drift, Search
    from pytest_tracetriage.model.hypotheses import Waste


SUSPECTS = 3
ROWS = 3
"""Lines of a hypothesis."""
WASTES = 5
SHOWN = 5
"""Commits, and what drifted."""
_STYLES = {"real": "red", "infrastructure": "magenta", "": "dim"}


def diagnosis_lines(found: Diagnosis, width: int) -> list[Line]:
    """Return of each cause whether it is real, where it lies, what its failures share and what may be wrong."""
    style = "red bold" if found.totals.failures else "green bold"
    lines: list[Line] = [((f" {headline(found)} ".center(width, "="), style),)]
    names = short_ids(cluster.id for cluster in found.clusters)
    for cluster in causes(found):
        lines += _cause(found, cluster, names[cluster.id], width)
    lines += _wastes(found.wastes, width)
    lines += [((text, "dim"),) for text in basis(found)]
    return [*lines, *problems(found)]


def _cause(found: Diagnosis, cluster: Cluster, name: str, width: int) -> list[Line]:
    indent = " " * (len(name) + 2)
    status = cluster.status or "not run again"
    said = f"{status}: {printable(cluster.status_evidence)}" if cluster.status_evidence else status
    first, *rest = textwrap.wrap(said, max(20, width - len(indent))) or [""]
    lines: list[Line] = [((name, "cyan bold"), ("  ", ""), (first, _STYLES.get(cluster.status, "yellow")))]
    lines += [((indent + text, _STYLES.get(cluster.status, "yellow")),) for text in rest]
    count = f"  {plural(cluster.count, unit(cluster.tests))}" + (f", {state}" if (state := state_of(cluster)) else "")
    room = max(20, width - len(indent) - len(count))
    lines.append(((indent, ""), (shorten(printable(cluster.name), room), "bold"), (count, "")))
    last = ""
    for index, suspect in enumerate(cluster.suspects[:SUSPECTS]):
        name = "drift" if suspect.kind == "dependency" else "where"
        lines.append(_field(indent, "" if name == last else name, _suspect(suspect), width))
        last = name
        if not index:
            lines.append(_field(indent, "", suspect.evidence, width))
    for index, text in enumerate(text for one in found.shared if one.cluster == cluster.id for text in shared_texts(one)[:3]):
        lines.append(_field(indent, "" if index else "shared", text, width))
    patterns = [one.words for one in found.patterns if one.subject == cluster.id or one.subject in cluster.tests]
    for index, text in enumerate(patterns[:2]):
        lines.append(_field(indent, "" if index else "past", text, width))
    hypotheses = [one for one in found.hypotheses if one.cluster == cluster.id]
    for index, one in enumerate(hypotheses[:2]):
        by = f" ({one.source})" if one.source else ""
        text = printable(f"{one.text}{by} [{', '.join(one.cites)}]")
        for row, part in enumerate(textwrap.wrap(text, max(20, width - len(indent) - 8))[:ROWS]):
            lines.append(_field(indent, "" if index or row else "maybe", part, width))
    return lines


def _wastes(wastes: Sequence[Waste], width: int) -> list[Line]:
    """Return the dearest needless calls, one a line, with what they took."""
    if not wastes:
        return []
    lines: list[Line] = [(("calls that need not have been made", "bold"),)]
    lines += [((shorten(f"  {printable(waste_text(waste))}", width), ""),) for waste in wastes[:WASTES]]
    if len(wastes) > WASTES:
        lines.append(((f"  … and {len(wastes) - WASTES} more: tracetriage diagnose --format markdown", "dim"),))
    return lines


def waste_text(waste: Waste) -> str:
    """Return in a line what work need not have been done, and what it took."""
    of = " ".join(part for part in (waste.component, waste.name) if part)
    parts = [f"{plural(waste.times, 'call')} too many in {plural(waste.traces, 'trace')}"]
    parts += [f"${waste.cost:,.4f}"] if waste.cost else []
    parts += [f"{waste.tokens:,} tokens"] if waste.tokens else []
    return f"{waste.kind}, {of}: {', '.join([*parts, f'{waste.seconds:,.1f} s'])}"


def _suspect(suspect: Suspect) -> str:
    line = f" ({suspect.line})" if suspect.line else ""
    return f"{suspect.file}  {suspect.function}{line}  {suspect.score:.2f}"


def _field(indent: str, name: str, text: str, width: int) -> Line:
    return (f"{indent}{name:<7} ", "dim"), (shorten(printable(text), max(20, width - len(indent) - 8)), "")


def basis(found: Diagnosis) -> list[str]:
    """Return what the suspects rest on, and what was run, in lines."""
    lines = []
    if (used := found.coverage) is not None:
        origin = f"at {used.commit[:8]}" if used.commit else f"of run {used.run}" if used.run else ""
        knows = f"{used.failing} of {used.of_failing} failing tests"
        made = {"red run": "coverage of the red tree (no green run to compare with)", "recorded": f"coverage recorded {origin}"}
        text = made.get(used.source, f"coverage by {used.source} {origin}").strip()
        lines.append(f"{text}: {plural(used.tests, 'test')}, {knows}")
    if found.reruns.pytest_runs:
        runs = f"{plural(found.reruns.pytest_runs, 'test process', 'test processes')}, {plural(found.reruns.tests, 'test')}"
        left_out = f"; without {', '.join(found.reruns.neutralised)}" if found.reruns.neutralised else ""
        lines.append(f"{runs}, {found.reruns.seconds:.0f} s{left_out}")
    return lines


# -- a search for culprits ------------------------------------------------------------------------------------------------


def search_lines(found: Search, width: int) -> list[Line]:
    """Return what became of each cluster, what it rests on, and what the search cost."""
    between = f"{found.good[:12]}..{found.bad[:12]}, {plural(found.commits, 'commit')}" if found.commits else found.bad[:12]
    lines: list[Line] = [((f"culprits of {plural(len(found.culprits), 'cluster')} in {between}", "bold"),)]
    names = short_ids(culprit.cluster for culprit in found.culprits)
    for culprit in found.culprits:
        lines += [(), *_culprit(culprit, names[culprit.cluster], width, found.wanted)]
    cost = found.executions
    again = f", {plural(cost.cached, 'process', 'processes')} from earlier searches" if cost.cached else ""
    ran = f"{plural(cost.pytest_runs, 'test process', 'test processes')}, {plural(cost.tests, 'test')}"
    lines += [(), ((f"{ran}, {plural(cost.checkouts, 'checkout')}, {cost.seconds:.0f} s{again}", "dim"),)]
    return [*lines, *(((f"note: {printable(problem)}", "yellow"),) for problem in found.problems)]


def _culprit(culprit: Culprit, name: str, width: int, wanted: float) -> list[Line]:
    head = f"{name} {printable(culprit.name)}"
    lines: list[Line] = [((shorten(head, width), "bold"),)]
    sure = f"{culprit.confidence:.1%}"
    style = "red" if culprit.confidence >= wanted else "yellow"
    if culprit.finding == "commit":
        rate = "" if culprit.rate > 0.9 else f", fails in {culprit.rate:.0%} of processes since"
        said = f"broken by {culprit.commit[:12]} {printable(culprit.subject)}"
        tail = f" (confidence {sure}{rate})"
        lines.append(((f"  {shorten(said, max(20, width - len(tail) - 2))}", style), (tail, "")))
    elif culprit.finding == "commits":
        lines.append(
            ((f"  broken by one of {plural(len(culprit.candidates), 'commit')}", style), (f" (confidence {sure})", ""))
        )
        lines += _some(culprit.candidates, width)
    elif culprit.finding == "older":
        lines.append((("  older than the good end", style), (f" (confidence {sure})", "")))
    elif culprit.finding == "not reproduced":
        lines.append((("  did not fail here, at the bad end", style), (f" (confidence {sure})", "")))
    elif culprit.finding == "nothing committed":
        lines.append((("  nothing was committed since it was green", style),))
    else:
        lines.append((("  undecided; the likeliest:", "yellow"),))
        lines += _some(culprit.candidates, width)
    lines += [((f"    {shorten(printable(text), width - 4)}", "dim"),) for text in culprit.evidence]
    return [*lines, *_drift(culprit.drift, width)]


def _some(commits: Sequence[str], width: int) -> list[Line]:
    if not commits:
        return []
    more = f" and {len(commits) - SHOWN} more" if len(commits) > SHOWN else ""
    return [((shorten(f"    {', '.join(commit[:12] for commit in commits[:SHOWN])}{more}", width), ""),)]


def _drift(drift: Sequence[Drift], width: int) -> list[Line]:
    if not drift:
        return []
    lines: list[Line] = [(("  what else differs since it was green:", ""),)]
    for item in drift[:SHOWN]:
        change = f"{item.before or 'missing'} -> {item.after or 'missing'}"
        lines.append(
            ((shorten(f"    {item.name} {change}: {printable(item.evidence)}", width), "red" if item.score >= 0.5 else ""),)
        )
    if len(drift) > SHOWN:
        lines.append(((f"    and {len(drift) - SHOWN} more", "dim"),))
    return lines
