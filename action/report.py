"""Tell what the traces say: job summary, annotations, comment, check, history.

Whatever fails here costs a warning, never the job.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile

import inputs
import workflow

_LIMIT = 600  # seconds
# The code is that of this checkout, even where the kept environment holds that of an earlier one.
_START = """
import sys, traceback
sys.path.insert(0, sys.argv.pop(1))
try:
    from pytest_tracetriage.commands import main
    main()
except Exception:  # Python's own status for it is 1, which here says that root causes fail the job
    traceback.print_exc()
    sys.exit(3)
"""
_FORK = (
    "This pull request's token may only read: the summary and the annotations are here, "
    "the comment comes from a workflow on workflow_run, where the project has one."
)


def main() -> int:
    """Set `verdict`: the exit status that --fail-on asks for, "" where it is not known. Exit status always 0."""
    sources = list(filter(None, [os.environ.get("RECORDED", ""), *inputs.traces()]))
    if os.environ.get("UNRECORDED"):  # the suite broke before its tests: that is what there is to tell
        sources.append(tempfile.mkdtemp(prefix="no-traces-", dir=workflow.home()))
    if not sources:
        return 0  # the step before has said why
    read_only = os.environ.get("READ_ONLY") == "true"
    if read_only:
        workflow.say("notice", _FORK)
    status = tracetriage("publish", *options(read_only=read_only), "--", *sources)
    if status in (0, 1):
        with contextlib.suppress(OSError):  # a full disk: told already, and the suite's own exit status stands
            workflow.output(verdict=str(status))
    return 0


def options(*, read_only: bool) -> list[str]:
    """Return what `tracetriage publish` is called with."""
    found = [f"--fail-on={inputs.choice('fail-on', inputs.FAIL_ON)}", f"--output={workflow.home() / 'report.md'}"]
    if os.environ.get("EXIT_STATUS"):
        # Of `make test` the status is that of make: where pytest says "tests failed", this is what counts.
        found.append(f"--suite-exit={1 if os.environ.get('TESTS_FAILED') == 'true' else os.environ['EXIT_STATUS']}")
    elif inputs.text("result") == "failure":
        found.append("--legs-failed")
    for name in ("history", "base"):
        if inputs.text(name):
            found.append(f"--{name}={inputs.text(name)}")
    if read_only or not inputs.flag("comment"):
        found += ["--no-comment", "--no-check"]
    if read_only or not inputs.flag("history-write"):
        found.append("--no-remember")
    return found


def tracetriage(*words: str) -> int:
    """Run a command of TraceTriage and return its exit status; one that breaks is one warning."""
    command, variables = invocation(*words)
    try:
        done = subprocess.run(
            command, env=variables, stderr=subprocess.PIPE, encoding="utf-8", errors="replace", timeout=_LIMIT, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        workflow.say("warning", f"{words[0]}: {error}")
        return 2
    lines = done.stderr.strip().splitlines()
    if done.returncode not in (0, 1):
        workflow.say("warning", f"{words[0]} ended with status {done.returncode}: {(lines or ['it said nothing'])[-1][:300]}")
    else:
        sys.stderr.write(done.stderr)
    return done.returncode


def invocation(*words: str) -> tuple[list[str], dict[str, str]]:
    """Return how a command of TraceTriage is run in the environment that can report, and with which variables."""
    variables = {name: value for name, value in os.environ.items() if not name.startswith("INPUT_")}
    variables |= inputs.settings() | {"TRACETRIAGE_GITHUB_TOKEN": inputs.text("token")}
    return [os.environ["TOOL"], "-I", "-c", _START, str(workflow.ROOT), *words], variables


if __name__ == "__main__":
    sys.exit(main())
