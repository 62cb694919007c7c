"""The `tracetriage` command: one thin module a subcommand, imported only when it is called."""

from __future__ import annotations

import importlib
import io
import os
import sys
from typing import Any

import click

from pytest_tracetriage import __version__

SUBCOMMANDS = {
    "analyze": "root causes of recorded runs (own runs, pytest-reportlog, JUnit XML)",
    "diagnose": "is it real, flaky or order-dependent, and where is the cause",
    "show": "one failure or cluster: traceback, evidence, where to look",
    "culprit": "the commit that broke each cluster, or what drifted where none did",
    "report": "what GitHub would show of a group of runs: comment, summary, annotations",
    "publish": "the same on GitHub, from a workflow's job",
    "history": "earlier runs: clusters, pass rate, slow and flaky tests; add, compact, prune",
    "join": "two clusters have one root cause: remember that",
    "split": "the signatures of a cluster have different root causes: remember that",
    "mute": "look away from a cluster, with owner, reason and expiry",
    "schema": "the JSON Schema of every record",
}
_DECISIONS = frozenset({"join", "split", "mute"})


class _Lazy(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(SUBCOMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in SUBCOMMANDS:
            return None
        module = importlib.import_module(f"pytest_tracetriage.commands.{'decisions' if name in _DECISIONS else name}")
        command: click.Command = getattr(module, name if name in _DECISIONS else "command")
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(SUBCOMMANDS.items()))


@click.group(cls=_Lazy, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="tracetriage")
def cli() -> None:
    """From a red test run to its root causes.

    Exit status: 0 nothing found, 1 failures or problems found, 2 the call cannot be carried out.
    """


def main() -> None:
    """Run the command. A user's mistake ends in one line and exit status 2."""
    from pytest_tracetriage.config import ConfigError  # noqa: PLC0415
    from pytest_tracetriage.store.history import HistoryError  # noqa: PLC0415
    from pytest_tracetriage.store.runs import StoreError  # noqa: PLC0415

    _print_whatever_comes()
    try:
        result: Any = cli.main(standalone_mode=False, prog_name="tracetriage")
    except click.exceptions.Exit as stop:
        result = stop.exit_code
    except click.Abort:
        result = 130
    except click.ClickException as mistake:
        mistake.show()
        result = 2
    except (ConfigError, HistoryError, StoreError) as mistake:
        click.echo(f"tracetriage: {mistake}", err=True)
        result = 2
    except BrokenPipeError:  # the reader (`| head`) has seen enough
        sys.stderr.close()
        result = 0
    except OSError as error:  # a folder that cannot be written, a disk that is full
        where = f"{error.filename}: " if error.filename else ""
        click.echo(f"tracetriage: {where}{error.strerror or error}", err=True)
        result = 2
    sys.exit(result if isinstance(result, int) else 0)


def _print_whatever_comes() -> None:
    """Let no character that the output's encoding lacks, as a pipe's on Windows, end a command. GitHub reads UTF-8."""
    encoding = "utf-8" if os.environ.get("GITHUB_ACTIONS") == "true" else None
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding=encoding, errors="replace")
