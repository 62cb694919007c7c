"""Where a command's text goes: a file, or the terminal with or without colour."""

from __future__ import annotations

import os
import shutil
import sys
from typing import TYPE_CHECKING

import click

from pytest_tracetriage.report import terminal
from pytest_tracetriage.report.text import spent_text

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from pytest_tracetriage.model.analysis import Analysis
    from pytest_tracetriage.report.text import Line


def emit(text: str | bytes, output: Path | None) -> None:
    """Write `text` to a file or to standard output. Bytes stay as they are. Raises click.FileError (exit status 2)."""
    if isinstance(text, bytes):
        if output is None:
            click.echo(text if text.endswith(b"\n") else text + b"\n", nl=False)
            return
        try:
            output.write_bytes(text)
        except OSError as error:
            raise click.FileError(str(output), error.strerror or str(error)) from None
        return
    text = text if text.endswith("\n") else text + "\n"
    if output is None:
        click.echo(text, nl=False, color=wants_colour())
        return
    try:
        output.write_text(text, encoding="utf-8")
    except OSError as error:
        raise click.FileError(str(output), error.strerror or str(error)) from None


def wants_colour() -> bool:
    """Return whether standard output is a terminal that shows colour (https://no-color.org)."""
    if os.environ.get("NO_COLOR"):
        return False
    return bool(os.environ.get("FORCE_COLOR")) or (sys.stdout.isatty() and os.environ.get("TERM") != "dumb")


def width() -> int:
    """Return how many columns the terminal has, 80 where there is none."""
    return shutil.get_terminal_size((80, 24)).columns


def styled(lines: Iterable[Line], *, colour: bool) -> str:
    """Return lines as text, with or without ANSI colour."""
    out = []
    for line in lines:
        for text, style in line:
            names = style.split()
            foreground = next((name for name in names if name not in {"bold", "dim"}), None)
            out.append(
                click.style(text, fg=foreground, bold="bold" in names or None, dim="dim" in names or None)
                if colour and names
                else text
            )
        out.append("\n")
    return "".join(out)


def terminal_text(analysis: Analysis, verbosity: int, output: Path | None) -> str:
    """Return an analysis for the terminal."""
    colour = output is None and wants_colour()
    columns = width()
    title = terminal.headline(analysis)
    head: Line = (
        (
            f" {title} ".center(columns, "=") if verbosity >= 0 else title,
            "red bold" if analysis.totals.failures else "green bold",
        ),
    )
    paid: list[Line] = [((f"LLM: {spent_text(analysis.spent)}", ""),)] if analysis.spent else []
    lines = [head, *terminal.body(analysis, columns, verbosity), *paid, *terminal.problems(analysis)]
    return styled(lines, colour=colour)
