"""Install the action's own checkout: the core beside the tests, the rest into an environment of its own.

So what comments and keeps the history (DuckDB, PyGithub) never changes what is tested. An installation that fails costs the
report, never the tests.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import inputs
import workflow

_LIMIT = 900  # seconds


def main() -> int:
    """Set `suite` and `report` (the interpreter that can) and `installed`. Exit status always 0."""
    packages = Path(os.environ["PACKAGES"] or workflow.home() / "packages")
    environment = {
        **os.environ,
        "PIP_CACHE_DIR": str(packages / "pip"),
        "UV_CACHE_DIR": str(packages / "uv"),
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    }
    suite = report = ""
    installed = False
    try:
        if inputs.command():
            if not editable():
                install(sys.executable, requirement(inputs.extras()), environment)
                installed = True
            suite = "true"
        if inputs.flag("publish"):
            report, fresh = tool(packages / "tool", environment)
            installed |= fresh
    except Exception as error:
        workflow.say("warning", f"not installed, so there is no report; the tests run all the same: {reason(error)}")
    try:
        workflow.output(suite=suite, report=report, installed=str(installed).lower())
    except OSError as error:  # the disk is full: the suite does not hear that it could record, and runs as it is
        workflow.say("warning", f"there is no report; the tests run all the same: {error.strerror or error}")
    return 0


def editable() -> bool:
    """Return whether someone works on TraceTriage itself in this environment: then it is left alone."""
    try:
        found = metadata.distribution("pytest-tracetriage").read_text("direct_url.json")
        return bool(json.loads(found or "{}").get("dir_info", {}).get("editable"))
    except (metadata.PackageNotFoundError, ValueError, AttributeError):
        return False


def requirement(extras: list[str]) -> str:
    """Return what to install."""
    return f"{workflow.ROOT}[{','.join(extras)}]" if extras else str(workflow.ROOT)


def install(python: str, wanted: str, environment: dict[str, str]) -> None:
    """Install into the environment of an interpreter, by uv where it is on the path. Raises CalledProcessError."""
    uv = shutil.which("uv")
    if uv:
        command = [uv, "pip", "install", "--quiet", "--python", python, "--reinstall-package", "pytest-tracetriage", wanted]
    else:
        # -I: what lies in the workspace must not pass for a module.
        other = ["--python", python] if python != sys.executable else []
        command = [sys.executable, "-I", "-m", "pip", *other, "install", "--quiet", wanted]
    run(command, environment)


def tool(folder: Path, environment: dict[str, str]) -> tuple[str, bool]:
    """Return the interpreter that can report, and whether it had to be installed. Raises CalledProcessError."""
    python = str(folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python"))
    complete = folder / "complete"
    if complete.exists():
        try:
            run([python, "-I", "-c", ""], environment)
            return python, False
        except (OSError, subprocess.SubprocessError):  # kept from a machine that was different after all
            pass
    shutil.rmtree(folder, ignore_errors=True)
    run([sys.executable, "-I", "-m", "venv", "--without-pip", str(folder)], environment)
    install(python, requirement(["github", "history"]), environment)
    complete.touch()
    return python, True


def run(command: list[str], environment: dict[str, str]) -> None:
    """Run a command in silence. Raises CalledProcessError, with what it printed, or TimeoutExpired."""
    subprocess.run(
        command,
        env=environment,
        check=True,
        timeout=_LIMIT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
    )


def reason(error: Exception) -> str:
    """Return the last line that a command printed before it failed, or what the system said."""
    lines = (getattr(error, "stdout", None) or "").strip().splitlines()
    errors = [line for line in lines if line.lower().startswith("error")]
    return (errors or lines or [str(error)])[-1].strip()[:300]


if __name__ == "__main__":
    sys.exit(main())
