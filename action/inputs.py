"""The action's inputs: text from the environment to values, or one line that says what is wrong."""

from __future__ import annotations

import os
import re
import shlex

FAIL_ON = ("new", "real", "any", "never")
RESULTS = ("", "success", "failure", "cancelled", "skipped")
MOST = 360
"""Minutes that a job of GitHub may take at most."""
_MINUTES = re.compile(r"[0-9]{1,3}(\.[0-9]{1,3})?")
_SETTING = re.compile(r"([a-z][a-z0-9_]{0,40})\s*=\s*(.*)")
_EXTRA = re.compile(r"[a-z][a-z0-9-]*")
# What the action itself hands over in the environment: a setting must not replace it.
_RESERVED = ("GITHUB_TOKEN", "LEG")


class InputError(Exception):
    """An input that cannot be used, in one line."""


def text(name: str) -> str:
    """Return an input (`fail-on`), or "" where it is absent."""
    return os.environ.get("INPUT_" + name.upper().replace("-", "_"), "").strip()


def flag(name: str) -> bool:
    """Return an input that is true or false."""
    return choice(name, ("true", "false")) == "true"


def choice(name: str, allowed: tuple[str, ...]) -> str:
    """Return an input that is one of a few words."""
    value = text(name)
    if value not in allowed:
        raise InputError(f"{name}: {value!r} is none of {', '.join(filter(None, allowed))}")
    return value


def command() -> list[str]:
    """Return the words of the command, split as a shell would split them. Nothing is expanded."""
    try:
        return shlex.split(text("command"), comments=False)
    except ValueError as error:
        raise InputError(f"command: {text('command')!r} cannot be split into words: {error}") from None


def settings() -> dict[str, str]:
    """Return the settings as environment variables of TraceTriage."""
    found = {}
    for line in filter(None, map(str.strip, text("settings").splitlines())):
        match = _SETTING.fullmatch(line)
        if not match or match[1].upper() in _RESERVED or "\0" in line:
            raise InputError(f"settings: {line!r} is not of the form `name = value` with the name of a setting")
        found["TRACETRIAGE_" + match[1].upper()] = match[2]
    return found


def minutes(name: str) -> float:
    """Return a budget in minutes, 0 where there is none."""
    value = text(name)
    if not value:
        return 0.0
    if not _MINUTES.fullmatch(value) or float(value) > MOST:
        raise InputError(f"{name}: {value!r} is not a number of minutes from 0 to {MOST}")
    return float(value)


def extras() -> list[str]:
    """Return the extras to install, in the order given."""
    names = text("extras").replace(",", " ").split()
    for name in names:
        if not _EXTRA.fullmatch(name):
            raise InputError(f"extras: {name!r} is not the name of an extra")
    return names


def traces() -> list[str]:
    """Return the folders of downloaded traces."""
    return list(filter(None, map(str.strip, text("traces").splitlines())))
