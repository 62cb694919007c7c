"""First step: are the inputs usable, may the token write, and which packages may be kept from an earlier job."""

from __future__ import annotations

import hashlib
import os
import platform
import sys
from pathlib import Path

import inputs
import workflow

_SEVERAL = (
    "each leg of this matrix writes its report over that of the others: give the legs `publish: false`, "
    "and report them together in one job, as matrix.yml of the documentation does"
)


def main() -> int:
    """Check the inputs, and set outputs for the steps after this. Exit status 1 for an input that cannot be used."""
    try:
        check()
    except inputs.InputError as error:
        workflow.say("error", str(error))
        return 1
    if several_reports():
        workflow.say("warning", _SEVERAL)
    event = os.environ.get("GITHUB_EVENT_NAME", "")
    # Not Dependabot's: its token may only read by default, and whatever the job's `permissions:` say where they say it.
    foreign = workflow.foreign(workflow.event(), os.environ.get("GITHUB_REPOSITORY", ""))
    try:
        workflow.output(
            read_only=str(event == "pull_request" and foreign).lower(),
            packages=str(workflow.home() / "packages"),
            diagnose=str(bool(inputs.minutes("diagnose") or inputs.minutes("culprit"))).lower(),
            culprit=str(bool(inputs.minutes("culprit"))).lower(),
            key=key(suite=bool(inputs.text("command")), report=inputs.flag("publish")),
        )
    except OSError:
        pass  # the disk is full: the steps after this one find it so, and say it
    return 0


def check() -> None:
    """Raise InputError for the first input that cannot be used."""
    for name in ("publish", "comment", "history-write"):
        inputs.flag(name)
    inputs.choice("fail-on", inputs.FAIL_ON)
    inputs.choice("result", inputs.RESULTS)
    for name in ("diagnose", "culprit"):
        inputs.minutes(name)
    inputs.settings()
    inputs.extras()
    if not inputs.command() and not inputs.traces():
        raise inputs.InputError("give a command to run, or traces to report")
    if os.environ.get("GITHUB_EVENT_NAME") == "workflow_run":
        here = Path.cwd().resolve()
        for folder in inputs.traces():
            # Files of an artifact beside the project's own could pass for its settings, which name modules to load.
            if here.is_relative_to(Path(folder).resolve()):
                raise inputs.InputError(f"traces: {folder!r} is the workspace: download to a folder of its own, outside it")


def several_reports() -> bool:
    """Return whether this is one of several legs that would all write the same comment and the same check."""
    legs = os.environ.get("LEGS", "")
    return legs.isdecimal() and int(legs) > 1 and inputs.flag("publish") and inputs.flag("comment")


def key(*, suite: bool, report: bool) -> str:
    """Return the name under which the packages are kept: the same only where they can be used as they are."""
    wanted = hashlib.sha256((workflow.ROOT / "pyproject.toml").read_bytes())
    wanted.update(f"{sys.base_prefix}\0{workflow.home()}\0{inputs.text('extras')}".encode())
    what = "-".join(name for name, needed in (("suite", suite), ("report", report)) if needed)
    # A wheel for glibc does not run on musl, and images of both have the same Python at the same place.
    machine = "-".join([platform.system(), platform.machine(), *filter(None, platform.libc_ver()), platform.python_version()])
    return f"tracetriage-{what}-{machine}-{wanted.hexdigest()[:16]}"


if __name__ == "__main__":
    sys.exit(main())
