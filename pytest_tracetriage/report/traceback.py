"""A recorded failure as text: as pytest's `--tb=long` prints it, or short."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_tracetriage.report.text import printable, printable_lines

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pytest_tracetriage.model.trace import Error, Failure, Frame, Source

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
