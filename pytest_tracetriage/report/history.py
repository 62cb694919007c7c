"""The history of runs for the terminal, as lines of styled text."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import TYPE_CHECKING

from pytest_tracetriage.report.intervals import percent
from pytest_tracetriage.report.text import Line, plural, printable, short_ids, shorten

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_tracetriage.model.history import ClusterHistory, FlakyTest, Overview, Rate, RunRecord, Seen, SlowTest

SLOW = 0.1
"""Seconds below which no test is worth naming."""
_BARS = "▁▂▃▄▅▆▇█"
_WORDS = {"red": ("failed", "red"), "retried": ("passed when run again", "yellow"), "fixed": ("fixed", "green")}


def overview_lines(asked: Overview, width: int, limit: int) -> list[Line]:
    """Return the latest runs, their clusters, the pass rate, slow and flaky tests, at most `limit` rows each."""
    where = f" of {printable(asked.branch)}" if asked.branch else ""
    if not asked.runs:
        return [((f"no run{where} in the last {plural(asked.days, 'day')}", ""),)]
    lines: list[Line] = [((f"runs{where}", "bold"),), *(_run(run, width) for run in asked.runs[:limit])]
    lines += _clusters(asked.clusters, width, limit)
    lines += _pass_rate(asked.rates, width)
    lines += _slow(asked.slow[:limit], width)
    return lines + _flaky(asked.flaky[:limit], width)


def _day(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, timezone.utc):%Y-%m-%d}"


def _minute(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, timezone.utc):%Y-%m-%d %H:%M}"


def _run(run: RunRecord, width: int) -> Line:
    branch = shorten(printable(run.branch or "-"), 20)
    pull = f" #{printable(run.pull_request)}" if run.pull_request else ""
    leg = shorten(printable(" ".join(part for part in (run.job, run.leg) if part)), max(0, width - 75))
    failures = run.totals.failures
    ended = (f"{plural(failures, 'failure')}", "red") if failures else ("green", "green")
    left = f"  {_minute(run.started)}  {run.commit[:8]:<8}  {shorten(branch + pull, 24):<24}  {run.totals.tests:>7,} tests  "
    return (left, ""), ended, (f"  {leg}".rstrip(), "dim")


def _clusters(found: Sequence[Seen], width: int, limit: int) -> list[Line]:
    if not found:
        return []
    names = short_ids(seen.cluster.id for seen in found)
    ordered = sorted(found, key=lambda seen: (not seen.open, -seen.last_time, seen.cluster.id))
    lines: list[Line] = [(("clusters", "bold"),)]
    for seen in ordered[:limit]:
        state, style = ("open", "red") if seen.open else ("fixed", "green")
        back = f", came {seen.episodes} times" if seen.episodes > 1 else ""
        first = f"{_day(seen.first_time)} {seen.first_commit[:8]}".strip()
        last = f"{_day(seen.last_time)} {seen.last_commit[:8]}".strip()
        lines.append(
            (
                (f"  {names[seen.cluster.id]}  ", "cyan bold"),
                (f"{state:<7}", style),
                (shorten(printable(seen.cluster.name), max(20, width - 19)), ""),
            )
        )
        lines.append(((f"         {'':<7}{plural(seen.runs, 'run')}, first {first}, last {last}{back}", "dim"),))
    if len(ordered) > limit:
        lines.append(((f"  … and {len(ordered) - limit} more", ""),))
    return lines


def _pass_rate(rates: Sequence[Rate], width: int) -> list[Line]:
    counted = [rate for rate in rates if rate.tests]
    if not counted:
        return []
    shares = [rate.passed / rate.tests for rate in counted][-max(10, width - 30) :]
    low, high = min(shares), max(shares)
    bars = "".join(_BARS[round((share - low) / (high - low) * 7) if high > low else 7] for share in shares)
    newest = counted[-1]
    said = f"  {percent(newest.passed, newest.tests)} now, {_share(low)} to {_share(high)} over {plural(len(shares), 'run')}"
    return [(("pass rate", "bold"),), ((f"  {bars}", "green"),), ((said, ""),)]


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
    for item in found.runs:
        word, style = _WORDS[item.word]
        branch = shorten(printable(item.run.branch or "-"), 20)
        left = f"  {_minute(item.run.started)}  {item.run.commit[:8]:<8}  {branch:<20}  "
        lines.append(((left, ""), (word, style), (f"  {plural(item.tests, 'test')}", "dim")))
    return lines
