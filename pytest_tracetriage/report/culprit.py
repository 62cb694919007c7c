"""A search for culprits for the terminal, as lines of styled text."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_tracetriage.report.text import Line, plural, printable, short_ids, shorten

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_tracetriage.model.diagnosis import Culprit, Drift, Search

SHOWN = 5


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
