"""Run the command without a shell, recording, and put the traces of its runs where they can be uploaded."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import inputs
import workflow

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_SKIPPED = frozenset({".git", "node_modules", "__pycache__", ".tox", ".nox", "site-packages"})


def main() -> int:
    """Set `exit-status`, `traces` and `tests-failed`. Exit status 0, as the last step decides, unless it cannot be told."""
    began = time.time()
    status = run(inputs.command(), environment(os.environ))
    try:
        workflow.output(exit_status=str(status))
    except OSError as error:  # the disk is full: then this step is the last word
        workflow.say("warning", f"there is no report: {error.strerror or error}")
        return 0 if inputs.text("fail-on") == "never" else status
    if os.environ.get("RECORD"):
        try:
            hand_on(recorded(Path.cwd(), since=began - 1), status)
        except Exception as error:
            workflow.say("warning", f"the traces could not be gathered, so there is no report: {error}")
    return 0


def hand_on(folders: list[Path], status: int) -> None:
    """Set `traces` and `tests-failed`, or `unrecorded` where the command broke before its tests. Raises OSError."""
    if folders:
        workflow.output(traces=str(gather(folders)), tests_failed=str(only_tests_failed(folders, status)).lower())
    elif status > 1:
        before = ", before its tests began" if status == 4 else ""
        workflow.say("warning", f"no run of pytest was recorded: the command ended with exit status {status}{before}")
        workflow.output(unrecorded="true")
    else:  # with 1, tests have failed whose traces are lost: nobody knows why
        workflow.say("warning", "no run of pytest was recorded, so there is no report, and an older comment stays as it is")


def environment(given: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of the command: settings, leg, keys, and recording switched on."""
    kept = {name: value for name, value in given.items() if not name.startswith("INPUT_") and name != "RECORD"}
    kept["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), kept.get("PATH", os.defpath)])
    for name, key in (("WANDB_API_KEY", "weave-api-key"), ("OPENAI_API_KEY", "openai-api-key")):
        if inputs.text(key):
            kept[name] = inputs.text(key)
    if given.get("RECORD"):
        kept.update(inputs.settings())
        kept["PYTEST_ADDOPTS"] = f"{kept.get('PYTEST_ADDOPTS', '')} --tracetriage".strip()
        kept["TRACETRIAGE_LEG"] = leg(inputs.text("leg"))
    return kept


def leg(value: str) -> str:
    """Return the leg as compact JSON with sorted keys, "" without a matrix. What is no JSON is a text."""
    try:
        parsed = json.loads(value) if value else None
    except ValueError:
        parsed = value
    return "" if parsed in (None, {}, "") else json.dumps(parsed, sort_keys=True, separators=(",", ":"))


def run(words: list[str], variables: dict[str, str]) -> int:
    """Run a command to its end and return its exit status, as a shell would give it."""
    # A cancelled job interrupts the whole group: the command ends by itself, and what it recorded is kept.
    signal.signal(signal.SIGINT, lambda *_: None)
    program = shutil.which(words[0], path=variables["PATH"])
    if program is None:
        workflow.say("error", f"command: {words[0]!r} was not found")
        return 127
    try:
        status = subprocess.Popen([program, *words[1:]], env=variables).wait()
    except (OSError, ValueError) as error:
        workflow.say("error", f"command: {words[0]!r} could not be started: {error}")
        return 126
    return 128 - status if status < 0 else status


def recorded(root: Path, since: float) -> list[Path]:
    """Return the folders of the runs below a folder that began since then, oldest first."""
    found = [folder for parent in folders_of_runs(root) for folder in parent.glob("*T*Z-*") if _started(folder) >= since]
    return sorted(found, key=lambda folder: folder.name)


def folders_of_runs(root: Path) -> Iterator[Path]:
    """Yield the folders named `runs` below a folder."""
    for place, names, files in os.walk(root):
        if "pyvenv.cfg" in files:
            names.clear()
        elif os.path.basename(place) == "runs":  # noqa: PTH119 - os.walk gives texts
            yield Path(place)
            names.clear()
        else:
            names[:] = [name for name in names if name not in _SKIPPED]


def read_run(folder: Path) -> dict[str, object]:
    """Return what a run says of itself, nothing where that cannot be read."""
    try:
        value = json.loads((folder / "run.json").read_bytes())
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def red_runs(gathered: Path) -> list[Path]:
    """Return the runs in a folder that ended, and in which tests failed, oldest first."""
    found = []
    for folder in sorted(gathered.glob("*T*Z-*")):
        run = read_run(folder)
        totals = run.get("totals")
        if run.get("status") == "finished" and isinstance(totals, dict) and totals.get("failures"):
            found.append(folder)
    return found


def root_of(folder: Path) -> Path:
    """Return the project's folder of a run, the current one where that is not known."""
    root = Path(str(read_run(folder).get("rootdir") or ""))
    return root if root.is_absolute() and root.is_dir() else Path.cwd()


def _started(folder: Path) -> float:
    value = read_run(folder).get("started")
    return float(value) if isinstance(value, int | float) else 0.0


def only_tests_failed(folders: list[Path], status: int) -> bool:
    """Return whether failing tests, which a report explains, are all that made the command fail, as far as pytest knows."""
    statuses = {read_run(folder).get("exit_status") for folder in folders}
    return 0 < status < 126 and 1 in statuses and statuses <= {0, 1}


def gather(folders: list[Path]) -> Path:
    """Return a new folder with these runs in it, by hard links where the disk allows. Raises OSError."""
    workflow.home().mkdir(parents=True, exist_ok=True)
    target = Path(tempfile.mkdtemp(prefix="traces-", dir=workflow.home()))
    for folder in folders:
        shutil.copytree(folder, target / folder.name, ignore=_symlinks, copy_function=_link, dirs_exist_ok=True)
    return target


def _symlinks(folder: str, names: list[str]) -> list[str]:
    """Return the names of symbolic links: an upload would follow them."""
    return [name for name in names if Path(folder, name).is_symlink()]


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # another disk, or one that knows no links
        shutil.copy2(source, target)


if __name__ == "__main__":
    sys.exit(main())
