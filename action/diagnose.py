"""Run the failing tests again, and search the commits, within the budgets given; what that finds goes beside the traces.

It happens in the job that ran the command, in the project's environment. Whatever fails here is one warning: the job's
result is that of the suite.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import commits
import inputs
import suite
import workflow

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

GRACE = 30.0
"""Seconds beyond its budget after which a command is killed."""
_START = "import sys; sys.path[:] = filter(None, sys.path); from pytest_tracetriage.commands import main; main()"
_PYTEST = frozenset({"pytest", "py.test"})
_PYTHON = re.compile(r"(python|pypy)[0-9.]*")
_ENVIRONMENTS = frozenset({"uv", "poetry", "pdm", "pipenv", "hatch", "rye"})
_AROUND = frozenset({"env", "nice", "timeout", "xvfb-run", "dbus-run-session"})
_PASSES_ALONE = frozenset({"order-dependent", "environment", "time-dependent"})
"""What a search, which runs tests alone, here, and now, would never see fail."""
_FORK = "diagnose and culprit are off for the pull request of a fork: they would run a stranger's code for long"
_UNKNOWN = (
    "tests cannot be run again by {!r}, which does not say how it calls pytest: "
    "give the setting `pytest`, as in `settings: pytest = python -m pytest`"
)
_SHALLOW = "the checkout has no earlier commits: give actions/checkout `fetch-depth: 0`"


class Failed(Exception):  # noqa: N818 - it is what became of a command
    """Why nothing was found, in one line."""


def main() -> int:
    """Put what was found into the folders of `RECORDED`. Exit status always 0."""
    gathered = Path(os.environ.get("RECORDED") or os.devnull)
    red = suite.red_runs(gathered)
    if not red:
        return 0
    if workflow.foreign(workflow.event(), os.environ.get("GITHUB_REPOSITORY", "")):
        workflow.say("notice", _FORK)
        return 0
    budgets = {name: 60 * inputs.minutes(name) for name in ("diagnose", "culprit")}
    asked = [name for name, seconds in budgets.items() if seconds]
    with reported(" and ".join(asked)):
        os.environ.update(inputs.settings())
        places = {folder.name: folder for parent in suite.folders_of_runs(Path.cwd()) for folder in parent.glob("*T*Z-*")}
        runs = [Run(folder, places[folder.name]) for folder in red if folder.name in places]
        commands = {run: run.command() for run in runs}
        if "culprit" not in asked and runs and commits.shallow(runs[0].root):
            workflow.say("notice", f"diagnose: {_SHALLOW}, and it tells better what is suspect")
        for name in asked:
            with reported(name):
                deadline = time.monotonic() + budgets[name]
                for number, run in enumerate(runs):
                    share = (deadline - time.monotonic()) / (len(runs) - number)
                    (diagnose if name == "diagnose" else culprit)(run, commands[run], max(share, 1.0))
    return 0


@contextlib.contextmanager
def reported(what: str) -> Iterator[None]:
    """Turn whatever goes wrong into one warning."""
    try:
        yield
    except Failed as failed:
        workflow.say("warning", f"{what}: {failed}")
    except Exception as error:
        workflow.say("warning", f"{what}: {error!r}")


class Run:
    """A red run: the folder that is handed on, and the one that its project keeps."""

    def __init__(self, gathered: Path, kept: Path) -> None:
        """`kept` is `runs/ID` in the project's folder of TraceTriage."""
        self.gathered, self.kept = gathered, kept
        self.root = suite.root_of(gathered)

    def command(self) -> list[str]:
        """Return the option that says how tests are run again, none where a setting says it. Raises Failed."""
        if configured(self.root):
            return []
        words = rerunnable(inputs.command())
        if not words:
            raise Failed(_UNKNOWN.format(shlex.join(inputs.command())))
        return [f"--pytest={shlex.join(moved(words, self.root))}"]


def configured(root: Path) -> bool:
    """Return whether the project says itself how its tests are run."""
    try:
        from pytest_tracetriage.commands.project import open_project  # noqa: PLC0415 - what the suite was recorded with

        return bool(open_project(root).pytest)
    except Exception:  # the command will say what is wrong with the settings
        return False


def rerunnable(words: Sequence[str]) -> list[str]:
    """Return the command that runs pytest, to which its options can be appended; empty where there is none to be seen."""
    names = [Path(word).name.removesuffix(".exe") for word in words]
    first = names[0]
    if first in _PYTEST:
        return list(words)
    modules = [place for place in range(1, len(words)) if words[place - 1] == "-m" and words[place] == "pytest"]
    if _PYTHON.fullmatch(first) or first == "coverage":
        # `coverage run -m pytest`, too: coverage is measured by ourselves, and two at once do not go together.
        python = words[0] if first != "coverage" else sys.executable
        plain = [*words[1 : modules[0]], "pytest"] if modules and "coverage" not in names else ["-m", "pytest"]
        return [python, *plain, *words[modules[0] + 1 :]] if modules else []
    called = [place for place, name in enumerate(names) if name in _PYTEST]
    if not called or not (first in _AROUND or (first in _ENVIRONMENTS and "run" in words[1:2])):
        return []
    if first in _ENVIRONMENTS and Path(sys.prefix).is_relative_to(Path.cwd()):
        # This Python is the project's environment: in another folder these programs would look for another, or make one.
        return [sys.executable, "-m", "pytest", *words[called[0] + 1 :]]
    return list(words)


def moved(words: Sequence[str], root: Path) -> list[str]:
    """Return the words of a command that ran here with the paths in them as they are from `root`, where tests run again."""
    if root.resolve() == Path.cwd().resolve():
        return list(words)
    found = list(words)
    for place, word in enumerate(words):
        path, colons, test = word.partition("::")
        there = Path(path).resolve()
        if place and path and path[0] not in "-/" and there.exists() and there.is_relative_to(root.resolve()):
            found[place] = os.path.relpath(there, root.resolve()) + colons + test
    return found


def diagnose(run: Run, command: Sequence[str], seconds: float) -> None:
    """Let the tests of a run be run again. Raises Failed."""
    before = problems(run.kept)
    tracetriage("diagnose", run.kept.name, *command, run=run, seconds=seconds)
    copy(run.kept / "analysis.json", run.gathered / "analysis.json")
    told = [problem for problem in problems(run.kept) if problem not in before]
    clusters = _read(run.kept / "analysis.json").get("clusters", [])
    if told and not any(cluster.get("status") for cluster in clusters if isinstance(cluster, dict)):
        raise Failed(told[0])


def culprit(run: Run, command: Sequence[str], seconds: float) -> None:
    """Search for the commits that broke what fails in a run. Raises Failed."""
    good = os.environ.get("GOOD", "")
    if not good and commits.shallow(run.root):
        raise Failed(_SHALLOW)
    if not good:
        raise Failed("no earlier commit is known that may be good: a history would know, see the input `history`")
    clusters = _read(run.kept / "analysis.json").get("clusters", [])
    known = {cluster["id"]: cluster.get("status") for cluster in clusters if cluster.get("seen") != "fixed"}
    chosen = [name for name, status in known.items() if status not in _PASSES_ALONE]
    if not chosen:
        return
    only = [f"--cluster={name}" for name in chosen] if len(chosen) < len(known) else []
    found = run.gathered / "culprit.json"
    options = [f"--run={run.kept.name}", f"--good={good}", *only, *command, "--format=json", f"--output={found}"]
    tracetriage("culprit", *options, run=run, seconds=seconds)


def tracetriage(name: str, *words: str, run: Run, seconds: float) -> None:
    """Run a command of TraceTriage in the project's environment, and end it where it does not end itself. Raises Failed."""
    words = (name, *words, f"--budget={math.ceil(seconds) / 60:.3f}")
    process = subprocess.Popen(
        [sys.executable, "-c", _START, *words],
        cwd=run.root,
        env=environment(run),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        errors="replace",
        start_new_session=os.name == "posix",
    )
    try:
        _, said = process.communicate(timeout=seconds + GRACE)
    except subprocess.TimeoutExpired:
        raise Failed(f"not at its end {GRACE:.0f} s after its budget of {seconds / 60:.1f} min, and was ended") from None
    finally:
        end(process)
    if process.returncode not in (0, 1):
        lines = [line.strip() for line in said.splitlines() if line.strip()]
        raise Failed(f"ended with status {process.returncode}: {(lines or ['it said nothing'])[-1][:300]}")


def end(process: subprocess.Popen[str]) -> None:
    """Kill a command that has not ended; the tests that it runs end with it."""
    if process.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            if os.name == "posix":
                os.killpg(process.pid, signal.SIGKILL)
            else:
                process.kill()
        process.wait()
    if process.stderr is not None:
        process.stderr.close()


def environment(run: Run) -> dict[str, str]:
    """Return the environment of the suite, which is not recorded now, with the project's folder and the history to read."""
    kept: Mapping[str, str] = {name: value for name, value in os.environ.items() if name != "RECORD"}
    more = {"TRACETRIAGE_DIR": str(run.kept.parent.parent)}
    if inputs.text("history"):
        more["TRACETRIAGE_HISTORY"] = inputs.text("history")
    hidden = ("GOOD", "RECORDED")
    return {name: value for name, value in suite.environment(kept).items() if name not in hidden} | more


def problems(folder: Path) -> list[str]:
    """Return what could not be done, as the analysis of a run says."""
    told = _read(folder / "analysis.json").get("problems", [])
    return [str(problem.get("message", "")) for problem in told if isinstance(problem, dict)]


def copy(source: Path, target: Path) -> None:
    """Put a file in the place of another, which may be a hard link to what it was before. Raises OSError."""
    fresh = target.with_name(f"{target.name}.new")
    shutil.copyfile(source, fresh)
    fresh.replace(target)


def _read(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


if __name__ == "__main__":
    sys.exit(main())
