"""One test or one cluster, in full, for the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_tracetriage.report.terminal import HANDFUL, pytest_command, state_of
from pytest_tracetriage.report.text import Line, plural, printable, printable_lines, spent_text, unit
from pytest_tracetriage.report.traceback import render_long

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pytest_tracetriage.model.analysis import Cluster, FailingTrace
    from pytest_tracetriage.model.hypotheses import Shared
    from pytest_tracetriage.model.trace import Failure, Source, Trace, Warned

LISTED = 20
_TAKES_TIME = 0.0005
"""What is shown as 0.000 s: no fixture of the project that is itself parametrized is known by anything else."""


def cluster_lines(
    cluster: Cluster,
    name: str,
    sources: Mapping[str, Source],
    run: str,
    component: str = "",
    shared: Shared | None = None,
) -> list[Line]:
    """Return a cluster with its evidence, suspects, tests, what they share, and the first traceback.

    `component`: where all of its tests broke.
    """
    owner = f"{cluster.owner}, component {component}" if component else cluster.owner
    state = state_of(cluster)
    lines: list[Line] = [
        ((name, "cyan bold"), ("  ", ""), (printable(cluster.name), "bold")),
        _field("tests", f"{plural(cluster.count, unit(cluster.tests))}{', ' + state if state else ''} (run {run})"),
        _field("category", f"{cluster.category}, owner {owner}: {cluster.classified}"),
    ]
    if cluster.codeowners:
        lines.append(_field("owner", " ".join(cluster.codeowners)))
    if cluster.fix:
        lines.append(_field("fix", cluster.fix))
    lines += [
        _field("why" if not index else "", f"{why.evidence}{': ' + why.detail if why.detail else ''}")
        for index, why in enumerate(cluster.why[:10])
    ]
    for index, suspect in enumerate(cluster.suspects[:5]):
        place = f"{suspect.file}:{suspect.line}" if suspect.line else suspect.file
        lines.append(
            _field("suspects" if not index else "", f"{place}  {suspect.function}  {suspect.score:.2f}  {suspect.evidence}")
        )
    if shared is not None:
        lines += [_field("" if index else "shared", text) for index, text in enumerate(shared_texts(shared))]
    for index, test in enumerate(cluster.tests[:LISTED]):
        lines.append(_field("" if index else "which", test))
    if len(cluster.tests) > LISTED:
        lines.append(_field("", f"… and {len(cluster.tests) - LISTED} more"))
    if cluster.spent:
        lines.append(_field("LLM", spent_text(cluster.spent)))
    if cluster.waiting:
        lines.append(_field("not run", f"{plural(len(cluster.waiting), 'test')} of earlier runs"))
    lines.append(_field("again", f"pytest --tracetriage-rerun={name}"))
    if len(cluster.tests) <= HANDFUL:
        lines.append(_field("", pytest_command(cluster.tests)))
    if cluster.exemplar is not None:
        lines.append((("", ""),))
        lines += _failure(cluster.exemplar.nodeid, cluster.exemplar.failure, sources)
    return lines


def trace_lines(
    traces: Sequence[Trace],
    sources: Mapping[str, Source],
    run: str,
    warnings: Mapping[str, Sequence[Warned]],
    trees: Mapping[str, Sequence[Line]] | None = None,
    broken: Mapping[str, FailingTrace] | None = None,
) -> list[Line]:
    """Return every recorded attempt of a test, its failures rendered as pytest would.

    `warnings`, the `trees` of spans, and where they were `broken`, stand by trace.
    """
    lines: list[Line] = []
    for trace in traces:
        attempt = f", attempt {trace.attempt}" if trace.attempt > 1 or trace.rerun else ""
        subtest = f" {trace.subtest}" if trace.subtest else ""
        title = f"{printable(trace.nodeid + subtest)}: {trace.outcome}{attempt} (run {run})"
        lines.append(((title, "bold"),))
        timing = ", ".join(f"{phase} {seconds:.3f} s" for phase, seconds in trace.phases.items())
        if timing:
            lines.append(_field("phases", timing))
        if fixtures := _fixtures(trace):
            lines.append(_field("fixtures", ", ".join(f"{name} {seconds:.3f} s" for name, seconds in fixtures)))
        if trace.params:
            lines.append(_field("params", ", ".join(f"{name}={value}" for name, value in trace.params.items())))
        if trace.reason:
            lines.append(_field("reason", trace.reason))
        lines += _place((broken or {}).get(trace.id))
        lines += (trees or {}).get(trace.id, ())
        for failure in ([trace.failure] if trace.failure is not None else []) + list(trace.later):
            lines += _failure(trace.nodeid, failure, sources)
        for name, content in trace.sections:
            lines.append(((f" {printable(name)} ".center(79, "-"), ""),))
            lines += [((line, ""),) for line in printable_lines(content)]
        for warning in warnings.get(trace.id, ()):
            lines.append(_field("warning", f"{warning.category}: {warning.message} ({warning.file}:{warning.line})"))
        lines.append((("", ""),))
    return lines


def shared_texts(shared: Shared) -> list[str]:
    """Return what inputs have to do with a cluster, a text a line."""
    texts = []
    for one in shared.associations:
        alike = f", and so {', '.join(one.alike[:3])}" if one.alike else ""
        counts = f"{one.failing} of {one.of_failing} failing tests, {one.passing} of {one.of_passing} passing"
        texts.append(f"{one.text}: {counts}{alike}")
    if shared.indifferent:
        verb = "does" if len(shared.indifferent) == 1 else "do"
        texts.append(f"{', '.join(shared.indifferent)} {verb} not matter")
    return texts


def _place(place: FailingTrace | None) -> list[Line]:
    """Return in which component and at which step a trace broke."""
    if place is None:
        return []
    named = [_field("component", place.component)] if place.component else []
    return [*named, _field("broke at", place.evidence)] if place.step else named


def _fixtures(trace: Trace) -> list[tuple[str, float]]:
    """Return a test's fixtures with their seconds, without those that only hand over a value of `parametrize`."""
    return [(name, seconds) for name, seconds in trace.fixtures.items() if name not in trace.params or seconds >= _TAKES_TIME]


def _failure(nodeid: str, failure: Failure, sources: Mapping[str, Source]) -> list[Line]:
    where = f" at {failure.phase}" if failure.phase != "call" else ""
    through = f" through fixture {printable(failure.fixture)}" if failure.fixture else ""
    lines: list[Line] = [((f" {printable(nodeid)}{where}{through} ".center(79, "_"), "red bold"),), (("", ""),)]
    for line in render_long(failure, sources).split("\n"):
        lines.append(((line, "red bold" if line.startswith("E ") else "bold" if line.startswith(">") else ""),))
    return lines


def _field(name: str, value: str) -> Line:
    return (f"  {name:<9} ", "dim"), (printable(value), "")
