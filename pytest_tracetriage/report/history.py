"""The history of runs for the terminal; patterns and what costs most: there, for templates, in a few words beside a cause."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import TYPE_CHECKING

from pytest_tracetriage.model.run import PASS_RATE
from pytest_tracetriage.report.text import Line, number_text, percent, plural, printable, short_ids, shorten

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_tracetriage.model.analysis import Cluster
    from pytest_tracetriage.model.diagnosis import Issue, Pattern, Patterns
    from pytest_tracetriage.model.history import ClusterHistory, FlakyTest, Overview, Rate, RunRecord, Seen, SlowTest


SLOW = 0.1
"""Seconds below which no test is worth naming."""
BRANCH, MIN_BRANCH, MIN_LEG = 24, 8, 8
"""Columns that a branch with its pull request has at most and at least, and those below which a leg is not worth naming."""
_BARS = "▁▂▃▄▅▆▇█"
_WORDS = {"red": ("failed", "red"), "retried": ("passed when run again", "yellow"), "fixed": ("fixed", "green")}
_LAST = 34  # columns of the longest of these words and of thousands of tests


def overview_lines(asked: Overview, width: int, limit: int) -> list[Line]:
    """Return the latest runs, their clusters, the pass rate, slow and flaky tests, patterns, at most `limit` rows each."""
    where = f" of {printable(asked.branch)}" if asked.branch else ""
    if not asked.runs:
        hint = "" if where else "; `tracetriage history add` adds the latest"
        return [((f"no run{where} in the last {plural(asked.days, 'day')}{hint}", ""),)]
    lines: list[Line] = [((f"runs{where}", "bold"),), *_runs(asked.runs[:limit], width)]
    lines += _clusters(asked.clusters, width, limit)
    lines += _pass_rate(asked.rates, width)
    lines += _metrics(asked.runs, width, limit)
    lines += _slow(asked.slow[:limit], width)
    lines += _flaky(asked.flaky[:limit], width)
    return lines + pattern_lines(asked.patterns, width, limit) if asked.patterns is not None else lines


def _day(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, timezone.utc):%Y-%m-%d}"


def _minute(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, timezone.utc):%Y-%m-%d %H:%M}"


def _runs(runs: Sequence[RunRecord], width: int) -> list[Line]:
    """Return a line a run. Where there are legs, they get what room short branches leave."""
    legs = [printable(" ".join(part for part in (run.job, run.leg) if part)) for run in runs]
    ended = [plural(run.totals.failures, "failure") if run.totals.failures else "green" for run in runs]
    tests = [f"{run.totals.tests:>7,} tests  " for run in runs]
    begun = _begun(runs, width - max(map(len, tests)) - max(map(len, ended)), BRANCH if not any(legs) else 0)
    lines: list[Line] = []
    for left, run, leg, word in zip(map(str.__add__, begun, tests), runs, legs, ended, strict=True):
        room = width - len(left) - len(word) - 2
        style = "red" if run.totals.failures else "green"
        lines.append(((left, ""), (word, style), (f"  {shorten(leg, room)}" if leg and room >= MIN_LEG else "", "dim")))
    return lines


def _begun(runs: Sequence[RunRecord], width: int, least: int = 0) -> list[str]:
    """Return how the line of each run begins: when, commit and branch, in columns; the commit only where there is room."""
    pulls = [f" #{printable(run.pull_request)}" if run.pull_request else "" for run in runs]
    names = [shorten(printable(run.branch or "-"), 20) + pull for run, pull in zip(runs, pulls, strict=True)]
    commits = width >= 40 + MIN_BRANCH
    longest = max(least, MIN_BRANCH, *map(len, names))
    room = min(BRANCH, longest, max(MIN_BRANCH, width - (32 if commits else 22)))
    return [
        f"  {_minute(run.started)}  {f'{run.commit[:8]:<8}  ' if commits else ''}{shorten(name, room):<{room}}  "
        for run, name in zip(runs, names, strict=True)
    ]


def _clusters(found: Sequence[Seen], width: int, limit: int) -> list[Line]:
    if not found:
        return []
    names = short_ids(seen.cluster.id for seen in found)
    ordered = sorted(found, key=lambda seen: (not seen.open, -seen.last_time, seen.cluster.id))
    lines: list[Line] = [(("clusters", "bold"),)]
    for seen in ordered[:limit]:
        state, style = ("open", "red") if seen.open else ("fixed", "green")
        back = f", came {seen.episodes} times" if seen.episodes > 1 else ""
        first, last = _day(seen.first_time), _day(seen.last_time)
        told = f"first {first} {seen.first_commit[:8]}".rstrip() + f", last {last} {seen.last_commit[:8]}".rstrip() + back
        said = f"         {'':<7}{plural(seen.runs, 'run')}, "
        if len(said + told) > width:
            told = f"first {first}, last {last}{back}"
        lines.append(
            (
                (f"  {names[seen.cluster.id]}  ", "cyan bold"),
                (f"{state:<7}", style),
                (shorten(printable(seen.cluster.name), max(20, width - 19)), ""),
            )
        )
        lines.append(((shorten(said + told, width), "dim"),))
    if len(ordered) > limit:
        lines.append(((f"  … and {len(ordered) - limit} more", ""),))
    return lines


def _pass_rate(rates: Sequence[Rate], width: int) -> list[Line]:
    counted = [rate for rate in rates if rate.tests]
    if not counted:
        return []
    shares = [rate.passed / rate.tests for rate in counted][-max(10, width - 30) :]
    low, high = min(shares), max(shares)
    bars = _bars(shares)
    newest = counted[-1]
    said = f"  {percent(newest.passed, newest.tests)} now, {_share(low)} to {_share(high)} over {plural(len(shares), 'run')}"
    return [(("pass rate", "bold"),), ((f"  {bars}", "green"),), ((said, ""),)]


def _metrics(runs: Sequence[RunRecord], width: int, limit: int) -> list[Line]:
    """Return what the latest runs have logged: the newest value of each metric, and the range it came from."""
    names = sorted({name for run in runs for name in run.metrics if name != PASS_RATE})
    if not names:
        return []
    lines: list[Line] = [(("metrics", "bold"),)]
    column = min(max(len(name) for name in names[:limit]), 40)
    for name in names[:limit]:
        values = [run.metrics[name] for run in reversed(runs) if name in run.metrics]
        shown = shorten(printable(name), column)
        newest, low, high = (number_text(value) for value in (values[-1], min(values), max(values)))
        said = f"  {newest:>12} now, {low} to {high} over {plural(len(values), 'run')}"
        room = max(0, width - column - len(said) - 4)
        bars = _bars(values[max(0, len(values) - room) :]) if len(values) > 1 else ""
        lines.append(((f"  {shown:<{column}}", ""), (said, ""), (f"  {bars}".rstrip(), "green")))
    if len(names) > limit:
        lines.append(((f"  … and {len(names) - limit} more", ""),))
    return lines


def _bars(values: Sequence[float]) -> str:
    low, high = min(values, default=0.0), max(values, default=0.0)
    return "".join(_BARS[round((value - low) / (high - low) * 7) if high > low else 7] for value in values)


def _share(share: float) -> str:
    return percent(round(share * 100_000), 100_000)


def _slow(found: Sequence[SlowTest], width: int) -> list[Line]:
    found = [test for test in found if test.median >= SLOW]
    if not found:
        return []
    lines: list[Line] = [(("slow tests (median, 95 %)", "bold"),)]
    for test in found:
        left = f"  {test.median:>8.2f} s {test.p95:>8.2f} s  "
        lines.append(((left, ""), (shorten(printable(test.nodeid), max(20, width - len(left))), "dim")))
    return lines


def _flaky(found: Sequence[FlakyTest], width: int) -> list[Line]:
    if not found:
        return []
    lines: list[Line] = [(("flaky tests (passed and failed on one commit)", "bold"),)]
    for test in found:
        left = f"  {test.failed} of {test.failed + test.passed} attempts on {plural(test.commits, 'commit')}  "
        lines.append(((left, "yellow"), (shorten(printable(test.nodeid), max(20, width - len(left))), "dim")))
    return lines


def cluster_lines(found: ClusterHistory, width: int) -> list[Line]:
    """Return one cluster and every run that said something of it, oldest first."""
    name = shorten(printable(found.cluster.name), max(20, width - 10))
    lines: list[Line] = [((found.cluster.id[:8], "cyan bold"), ("  ", ""), (name, "bold"))]
    begun = _begun([item.run for item in found.runs], width - _LAST, least=20)
    for left, item in zip(begun, found.runs, strict=True):
        word, style = _WORDS[item.word]
        tests = f"  {plural(item.tests, 'test')}"
        lines.append(((left, ""), (word, style), (tests if len(left + word + tests) <= width else "", "dim")))
    return lines


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
