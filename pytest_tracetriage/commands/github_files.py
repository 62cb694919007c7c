"""What a step tells the runner: workflow commands on its output, and the files that GitHub names in its environment."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Literal

import click

if TYPE_CHECKING:
    from collections.abc import Mapping


def append(variable: str, text: str) -> None:
    """Append `text` to the file that an environment variable names; nothing where it names none. Raises OSError."""
    path = os.environ.get(variable)
    if path:
        # On Windows, too, a line ends as it was counted: the summary is cut to what GitHub takes.
        with open(path, "a", encoding="utf-8", errors="replace", newline="\n") as file:
            file.write(text if text.endswith("\n") else text + "\n")


def outputs(values: Mapping[str, object]) -> None:
    """Set the step's outputs. A value stands on one line: what would begin another is left out. Raises OSError."""
    lines = [f"{name}={' '.join(str(value).split())}" for name, value in values.items()]
    append("GITHUB_OUTPUT", "\n".join(lines))


def say(level: Literal["notice", "warning"], title: str, text: str) -> None:
    """Print a workflow command under GitHub, a line on standard error elsewhere."""
    if os.environ.get("GITHUB_ACTIONS") != "true":
        click.echo(f"tracetriage: {text}", err=True)
        return
    escaped = text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
    click.echo(f"::{level} title={title}::{escaped}")
