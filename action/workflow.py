"""What a step tells the runner: outputs, notices, warnings and errors; and what event it works for."""

from __future__ import annotations

import json
import os
import secrets
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
"""The action's own checkout, from which the package is installed."""


def home() -> Path:
    """Return the folder of the action outside the workspace, where it may write."""
    return Path(os.environ["RUNNER_TEMP"]) / "tracetriage"


def output(**values: str) -> None:
    """Set outputs of this step; `_` in a name becomes `-`. A value may hold any text."""
    with Path(os.environ["GITHUB_OUTPUT"]).open("a", encoding="utf-8", newline="\n") as stream:
        for name, value in values.items():
            end = secrets.token_hex(16)  # so that no value can end itself and begin another
            stream.write(f"{name.replace('_', '-')}<<{end}\n{value}\n{end}\n")


def say(level: str, message: str) -> None:
    """Print a line that the runner shows as an annotation: `notice`, `warning` or `error`."""
    escaped = message.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
    print(f"::{level} title=TraceTriage::{escaped}", flush=True)


def event() -> dict[str, Any]:
    """Return the payload of the event, or an empty one where it cannot be read."""
    try:
        payload = json.loads(Path(os.environ["GITHUB_EVENT_PATH"]).read_bytes())
    except (OSError, KeyError, ValueError):
        return {}
    return payload if isinstance(payload, dict) else {}


def foreign(payload: dict[str, Any], repository: str) -> bool:
    """Return whether the code that ran came from outside the repository: a fork, or one that is gone."""
    pull = payload.get("pull_request")
    if isinstance(pull, dict):
        source = (pull.get("head") or {}).get("repo")
    elif isinstance(payload.get("workflow_run"), dict):
        source = payload["workflow_run"].get("head_repository")
    else:
        return False
    return str((source or {}).get("full_name", "")).lower() != repository.lower()
