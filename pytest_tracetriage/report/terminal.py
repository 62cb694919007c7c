"""An analysis for the terminal, as lines of styled text: whoever prints them knows about colour."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from pytest_tracetriage.report.history import brief
from pytest_tracetriage.report.text import Line, plural, printable, short_ids, shorten, unit

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pytest_tracetriage.model.analysis import Analysis, Cluster
    from pytest_tracetriage.model.diagnosis import Pattern

BLOCKS = 5
TAIL = 15
HANDFUL = 5
COMPONENT = 60
"""Characters of the name that a component of an agent is shown by."""
"""Up to so many tests are named in a command, more go by their cluster."""
_INTERRUPTED = "INTERRUPTED"
_SEEN_STYLE = {"new": "red", "known": "yellow", "fixed": "green", "first-run": "red"}


def headline(analysis: Analysis) -> str:
    """Return `TraceTriage: 31 failures -> 4 root causes (2 new)`; "first run" where there is no history to compare with."""
    open_clusters = causes(analysis)
    fixed = sum(cluster.seen == "fixed" for cluster in analysis.clusters)
    failures = analysis.totals.failures
    if not failures:
        text = f"TraceTriage: {plural(analysis.totals.tests, 'test')}, no failures"
    else:
        text = f"TraceTriage: {plural(failures, 'failure')} -> {plural(len(open_clusters), 'root cause')}"
    notes = []
    if new := sum(cluster.seen == "new" for cluster in open_clusters):
        notes.append(f"{new} new")
    elif any(cluster.seen == "first-run" for cluster in open_clusters):
        notes.append("first run")
    if fixed:
        notes.append(f"{fixed} fixed")
    if silent := sum(cluster.muted is not None for cluster in open_clusters):
        notes.append(f"{silent} muted")
    if stopped := [test for cluster in analysis.clusters if cluster.category == _INTERRUPTED for test in cluster.tests]:
        names = ", ".join(shorten(printable(test.rpartition("::")[2]), 40) for test in stopped)
        notes.append(f"interrupted in {names if len(stopped) <= 3 else plural(len(stopped), 'test')}")
    if analysis.totals.flaky:
        notes.append(f"{plural(analysis.totals.flaky, 'attempt')} run again")
    return f"{text} ({', '.join(notes)})" if notes else text


def causes(analysis: Analysis) -> list[Cluster]:
    """Return the clusters that somebody has to do something about: neither fixed, nor only stopped by a Ctrl-C."""
    return [cluster for cluster in analysis.clusters if cluster.seen != "fixed" and cluster.category != _INTERRUPTED]


def body(
    analysis: Analysis, width: int, verbosity: int = 0, command: str = "pytest", patterns: Sequence[Pattern] = ()
) -> list[Line]:
    """Return the lines under the headline for a terminal of `width` characters.

    Below 0, `verbosity` gives one line a cause; above 0, the evidence that joined each. `patterns` are of earlier runs.
    """
    names = short_ids(cluster.id for cluster in analysis.clusters)
    components = components_by_test(analysis)
    lines: list[Line] = []
    if verbosity < 0:
        return [_title(cluster, names, width) for cluster in causes(analysis)]
    shown: set[str] = set()
    for bucket in analysis.buckets:
        members = [cluster for cluster in analysis.clusters if cluster.id in bucket.clusters][: BLOCKS - len(shown)]
        if members:
            lines.append(((bucket.name, "bold"),))
        for cluster in members:
            shown.add(cluster.id)
            lines += _block(cluster, names, width, verbosity, component_of(cluster, components), patterns)
    rest = [cluster for cluster in analysis.clusters if cluster.id not in shown and cluster.category != _INTERRUPTED]
    if rest and shown:
        lines.append((("more", "bold"),))
    lines += [_title(cluster, names, width) for cluster in rest[:TAIL]]
    if len(rest) > TAIL:
        lines.append(((f"  … and {plural(len(rest) - TAIL, 'more cause')}: tracetriage analyze --format markdown", ""),))
    for first in causes(analysis)[:1]:
        name = names[first.id]
        hints = [f"again: {command} --tracetriage-rerun={name}", f"more: tracetriage show {name}"]
        hints.append("where and since when: tracetriage diagnose")
        lines += [((text, "bold"),) for text in _wrap(hints, width)]
    return lines


def problems(analysis: Analysis, limit: int = 20) -> list[Line]:
    """Return one line per problem of the input: file, line, what is wrong."""
    lines: list[Line] = []
    for problem in analysis.problems[:limit]:
        where = f"{problem.file}:{problem.line}" if problem.line else problem.file
        lines.append(((f"{printable(where)}: {printable(problem.message)}", "yellow"),))
    if len(analysis.problems) > limit:
        lines.append(((f"… and {plural(len(analysis.problems) - limit, 'more problem')}", "yellow"),))
    return lines


def _title(cluster: Cluster, names: dict[str, str], width: int) -> Line:
    count = plural(len(cluster.tests) if cluster.seen == "fixed" else cluster.count, unit(cluster.tests))
    state = "muted" if cluster.muted else "" if cluster.seen == "first-run" else cluster.seen
    right = f"{count:>10}  {state:<5}"
    left = f"  {names[cluster.id]}  "
    room = max(20, width - len(left) - len(right) - 2)
    name = shorten(printable(cluster.name), room)
    dim = "dim" if cluster.muted else ""
    return (left, "cyan bold"), (f"{name:<{room}}", dim), ("  " + right.rstrip(), dim or _SEEN_STYLE[cluster.seen])


def state_of(cluster: Cluster) -> str:
    """Return `new`, `known for 6 runs, since a41f2c9`, `muted by ...`; nothing on a first run."""
    if cluster.muted is not None:
        until = f" until {cluster.muted.until}" if cluster.muted.until else ""
        return f"muted by {cluster.muted.owner}{until}"
    if cluster.seen == "known":
        return f"known for {plural(cluster.runs, 'run')}, since {cluster.since}"
    if cluster.seen == "new" and cluster.since:
        return f"new, first seen {cluster.since}"
    return "" if cluster.seen == "first-run" else cluster.seen


def components_by_test(analysis: Analysis) -> dict[str, set[str]]:
    """Return the components in which the traces of each test broke, "" among them where one is not known."""
    found: dict[str, set[str]] = {}
    for trace in analysis.traces:
        found.setdefault(trace.nodeid, set()).add(trace.component)
    return found


def component_of(cluster: Cluster, components: Mapping[str, set[str]]) -> str:
    """Return the component in which all tests of a cluster broke, "" where there are several or that of one is not known."""
    found = set[str]().union(*(components.get(test, {""}) for test in cluster.tests)) if components else set()
    return shorten(" ".join(found.pop()[: 4 * COMPONENT].split()), COMPONENT) if len(found) == 1 else ""


def _block(
    cluster: Cluster, names: dict[str, str], width: int, verbosity: int, component: str, patterns: Sequence[Pattern]
) -> list[Line]:
    indent = " " * (len(names[cluster.id]) + 4)
    lines = [_title(cluster, names, width)]
    parts = [place_of(cluster), f"component {component}" if component else ""]
    if cluster.muted or cluster.seen == "known":
        parts.append(state_of(cluster))
    if patterns:
        parts.append(brief(cluster, patterns, flaky=False))
    files = {test.partition("::")[0] for test in cluster.tests}
    if len(files) > 1:
        parts.append(plural(len(files), "test file"))
    if cluster.exemplar is not None and cluster.exemplar.failure.fixture:
        parts.append(f"through fixture {cluster.exemplar.failure.fixture}")
    if cluster.codeowners:
        parts.append("owner " + " ".join(cluster.codeowners))
    if cluster.exemplar is not None:
        parts.append(cluster.exemplar.nodeid)
    lines += [((indent + text, "dim"),) for text in _wrap([printable(part) for part in parts if part], width - len(indent))]
    if verbosity > 0:
        for why in cluster.why[: 5 * verbosity]:
            lines.append(((indent + shorten(printable(f"why: {why.evidence}: {why.detail}"), width - len(indent)), "dim"),))
        lines.append(((indent + shorten(printable(f"{cluster.category}: {cluster.classified}"), width - len(indent)), "dim"),))
    return lines


def _wrap(parts: Sequence[str], width: int) -> list[str]:
    """Return the parts joined by ` · `, as many a line as fit."""
    lines: list[str] = []
    for part in parts:
        if lines and len(lines[-1]) + len(part) + 3 <= width:
            lines[-1] += f" · {part}"
        else:
            lines.append(part)
    return lines


def place_of(cluster: Cluster) -> str:
    """Return `shop/cart.py:88`: the first suspect, else where the exemplar was raised."""
    if cluster.suspects:
        suspect = cluster.suspects[0]
        if suspect.kind == "dependency":
            return f"{suspect.file} {suspect.function}"
        return f"{suspect.file}:{suspect.line}" if suspect.line else suspect.file
    if cluster.exemplar is not None:
        for error in cluster.exemplar.failure.errors:
            if error.frames:
                return f"{error.frames[-1].file}:{error.frames[-1].line}"
    return ""


def rerun_command(cluster: Cluster, name: str) -> str:
    """Return the command that runs a cluster's tests again: by their ids while they are a handful, else by its `name`."""
    return pytest_command(cluster.tests) if len(cluster.tests) <= HANDFUL else f"pytest --tracetriage-rerun={name}"


def pytest_command(tests: Sequence[str], limit: int = 20) -> str:
    """Return a pytest command for these node ids, quoted for a POSIX shell."""
    more = f"  # and {plural(len(tests) - limit, 'more test')}" if len(tests) > limit else ""
    return "pytest " + " ".join(shlex.quote(printable(test)) for test in tests[:limit]) + more
