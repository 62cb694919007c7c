"""docs/reference/command-line.md has every sub-command with every option, and none that is gone."""

from __future__ import annotations

import re
from pathlib import Path

import click
import pytest

from pytest_tracetriage.commands import SUBCOMMANDS, cli

PAGE = (Path(__file__).parents[2] / "docs" / "reference" / "command-line.md").read_text(encoding="utf-8")


def commands_of(name):
    command = cli.get_command(click.Context(cli), name)
    return [command, *(command.commands.values() if isinstance(command, click.Group) else ())]


@pytest.mark.parametrize("name", SUBCOMMANDS)
def test_every_option_is_told(name):
    section = PAGE.partition(f"### tracetriage {name}\n")[2].partition("\n##")[0]
    told = set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", section))
    params = [param for command in commands_of(name) for param in command.params if isinstance(param, click.Option)]
    assert told == {option for param in params for option in (*param.opts, *param.secondary_opts) if option.startswith("--")}


def test_sub_commands_of_the_history_are_told():
    assert all(f"tracetriage history [--history LOCATION] {command.name}" in PAGE for command in commands_of("history")[1:])
