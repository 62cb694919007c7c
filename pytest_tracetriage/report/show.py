"""One test or one cluster in full, for the terminal; a recorded failure as `--tb=long` prints it, or short."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_tracetriage.report.terminal import HANDFUL, pytest_command, state_of
from pytest_tracetriage.report.text import Line, plural, printable, printable_lines, spent_text, unit

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pytest_tracetriage.model.analysis import Cluster, FailingTrace
    from pytest_tracetriage.model.hypotheses import Shared
    from pytest_tracetriage.model.trace import Error, Failure, Frame, Source, Trace, Warned


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


SEPARATOR = "_ " * 39 + "_"
_BRIDGES = {
    "cause": "The above exception was the direct cause of the following exception:",
    "context": "During handling of the above exception, another exception occurred:",
}


def render_long(failure: Failure, sources: Mapping[str, Source]) -> str:
    """Return a failure as pytest would render it with `--tb=long`; where a source is missing, that is said."""
    if not failure.errors:
        return "\n".join(printable_lines(failure.text))
    blocks: list[str] = []
    for index in _print_order(failure):
        error = failure.errors[index]
        if error.link == "member":
            blocks.append(f"--- in exception group: {printable(error.type)} ---")
        blocks.append(_long_error(error, sources))
        bridge = _BRIDGES.get(error.link)
        if bridge is not None and index:
            blocks.append(bridge)
    return "\n\n".join(blocks)


def _print_order(failure: Failure) -> list[int]:
    """Return indices with causes before what they caused, as Python prints them; members follow their group."""
    errors = failure.errors
    before: dict[int, list[int]] = {}
    members: dict[int, list[int]] = {}
    for index, error in enumerate(errors):
        if index:
            (members if error.link == "member" else before).setdefault(error.parent, []).append(index)
    order: list[int] = []
    todo: list[tuple[int, bool]] = [(0, False)]
    while todo:
        index, ready = todo.pop()
        if ready:
            order.append(index)
            todo += [(member, False) for member in reversed(members.get(index, []))]
            continue
        todo.append((index, True))
        todo += [(cause, False) for cause in before.get(index, [])]
    return order


def _long_error(error: Error, sources: Mapping[str, Source]) -> str:
    entries = []
    for position, frame in enumerate(error.frames):
        last = position == len(error.frames) - 1
        entries.append(
            "\n".join([*_entry(frame, sources, error if last else None), "", _location(frame, error if last else None)])
        )
        if error.omitted and position == len(error.frames) // 2 - 1:
            entries.append(f"... {error.omitted} frames left out ...")
    if not error.frames:
        entries.append("\n".join(_message_lines(error, 0)))
    return f"\n{SEPARATOR}\n\n".join(entries)


def _entry(frame: Frame, sources: Mapping[str, Source], error: Error | None) -> list[str]:
    source = sources.get(frame.source)
    lines: list[str] = []
    indent = 0
    if source is not None:
        text = printable_lines(source.text)
        for number, line in enumerate(text[: max(0, frame.line - source.line) + 1], source.line):
            marker = ">" if number == frame.line else " "
            lines.append(f"{marker}   {line[0:]}" if line.strip() else "")
        indent = (
            len(text[frame.line - source.line]) - len(text[frame.line - source.line].lstrip())
            if 0 <= frame.line - source.line < len(text)
            else 0
        )
    elif frame.printed:
        *above, line = printable_lines(frame.printed)
        lines += [f"    {text}" if text.strip() else "" for text in above] + [f">   {line}"]
        indent = len(line) - len(line.lstrip())
    elif frame.code:
        lines.append(f">   {printable(frame.code)}")
    else:
        lines.append(f">   ??? (the source of {printable(frame.function)} was not recorded)")
    if error is not None:
        lines += _message_lines(error, indent)
    return lines


def _message_lines(error: Error, indent: int) -> list[str]:
    message = error.message
    head = "" if error.type == "AssertionError" and message.startswith("assert ") else f"{error.type}: "
    text = head + message if message else error.type
    pad = " " * indent
    lines = [f"E   {pad}{line}" for line in printable_lines(text)] or [f"E   {pad}{printable(error.type)}"]
    return lines + [f"E   {pad}{line}" for note in error.notes for line in printable_lines(note)]


def _location(frame: Frame, error: Error | None) -> str:
    bare = error.type.rpartition(".")[2] if error is not None else f"in {frame.function}" if not frame.source else ""
    return f"{printable(frame.file)}:{frame.line}: {printable(bare)}"


def render_short(failure: Failure, limit: int = 12) -> str:
    """Return a failure as a short traceback: a line per frame, the innermost `limit` of the raised error, then the message."""
    if not failure.errors:
        return "\n".join(printable_lines(failure.text)[-limit:])
    lines = []
    for index in _print_order(failure)[-3:]:
        error = failure.errors[index]
        for frame in error.frames[-limit:]:
            lines.append(f"{printable(frame.file)}:{frame.line}: in {printable(frame.qualname or frame.function)}")
            if frame.code:
                lines.append(f"    {printable(frame.code)}")
        lines += _message_lines(error, 0)[:20]
        if index and error.link in _BRIDGES:
            lines += ["", _BRIDGES[error.link], ""]
    return "\n".join(lines)
