"""What the GitHub Action costs: installation, and a green run beyond its suite.

python benchmarks/action.py [--runs 5] [--tests 1000] [--json FILE]

The steps of `action/` run as a job runs them, in an environment made for it. With `--no-install` the installation is not
measured, and the environment of this Python is used. The network counts: say where it was measured.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tools import ROOT, add_json_option, clean_environment, table, write_json

ACTION = ROOT / "action"
INSTALLS = {"core": "", "all": "[all]"}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=5, help="how often a green run is measured")
    parser.add_argument("--tests", type=int, default=1000, help="how many tests it has")
    parser.add_argument("--no-install", action="store_true", help="use this environment")
    add_json_option(parser)
    options = parser.parse_args()
    figures: dict[str, object] = {}
    with tempfile.TemporaryDirectory(prefix="tracetriage-action-") as name:
        folder = Path(name)
        python = Path(sys.executable)
        if not options.no_install:
            figures["install"] = [installation(folder, what) for what in INSTALLS]
            table("installation (pip, a fresh environment with pytest)", figures["install"])
            python = folder / "core" / "bin" / "python"
        figures["run"] = overhead(folder, python, options.runs, options.tests)
        table(f"a green run of {options.tests:,} tests: seconds, median of {options.runs}", figures["run"])
    write_json(options.json, figures)


def installation(folder: Path, what: str) -> dict[str, object]:
    """Return seconds and MiB that an installation adds to an environment that has pytest, without and with kept downloads."""
    row: dict[str, object] = {"what": what}
    for column in ("cold", "warm"):
        environment = folder / what
        shutil.rmtree(environment, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", str(environment)], check=True)
        python = environment / "bin" / "python"
        variables = clean_environment(PIP_CACHE_DIR=str(folder / f"cache-{what}"), PIP_DISABLE_PIP_VERSION_CHECK="1")
        subprocess.run([python, "-m", "pip", "install", "--quiet", "pytest"], check=True, env=variables)
        before = size(environment)
        began = time.perf_counter()
        subprocess.run([python, "-m", "pip", "install", "--quiet", f"{ROOT}{INSTALLS[what]}"], check=True, env=variables)
        row[f"{column}, s"] = time.perf_counter() - began
        row["MiB"] = (size(environment) - before) / 2**20
    return row


def size(folder: Path) -> int:
    """Return the bytes of the files below a folder."""
    return sum(path.lstat().st_size for path in folder.rglob("*") if not path.is_dir())


def overhead(folder: Path, python: Path, runs: int, tests: int) -> list[dict[str, object]]:
    """Return the seconds of each step of a green job with a history, and of the suite alone."""
    workspace = folder / "workspace"
    (workspace / "tests").mkdir(parents=True)
    text = f"import pytest\n\n\n@pytest.mark.parametrize('n', range({tests}))\ndef test_n(n):\n    pass\n"
    (workspace / "tests" / "test_many.py").write_text(text, encoding="utf-8")
    (workspace / "pyproject.toml").write_text("[tool.pytest.ini_options]\naddopts = '-q'\n", encoding="utf-8")
    times: dict[str, list[float]] = {"the suite alone": []}
    for number in range(runs + 1):
        took = {"the suite alone": alone(workspace, python)} | job(folder, workspace, python)
        if number:  # the first installs, and warms caches
            for name, seconds in took.items():
                times.setdefault(name, []).append(seconds)
    rows = [{"step": name, "s": statistics.median(values)} for name, values in times.items()]
    beyond = [sum(step) - whole for whole, *step in zip(*times.values(), strict=True)]
    return [*rows, {"step": "all steps beyond the suite", "s": statistics.median(beyond)}]


def alone(workspace: Path, python: Path) -> float:
    """Return the seconds of the suite without TraceTriage."""
    began = time.perf_counter()
    subprocess.run(
        [python, "-m", "pytest", "-p", "no:tracetriage"],
        cwd=workspace,
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=clean_environment(),
    )
    return time.perf_counter() - began


def job(folder: Path, workspace: Path, python: Path) -> dict[str, float]:
    """Run the steps of the action as a job does and return the seconds of each."""
    output, event = folder / "output", folder / "event.json"
    event.write_text(json.dumps({"ref": "refs/heads/main", "repository": {"default_branch": "main"}}), encoding="utf-8")
    given = {
        "RUNNER_TEMP": str(folder / "temp"),
        "GITHUB_ACTIONS": "true",
        "GITHUB_EVENT_NAME": "push",
        "GITHUB_EVENT_PATH": str(event),
        "GITHUB_OUTPUT": str(output),
        "GITHUB_STEP_SUMMARY": str(folder / "summary.md"),
        "GITHUB_REF_NAME": "main",
        "INPUT_COMMAND": "python -m pytest",
        "INPUT_HISTORY": str(folder / "history"),
        "INPUT_HISTORY_WRITE": "true",
        "INPUT_COMMENT": "false",
        "INPUT_PUBLISH": "true",
        "INPUT_FAIL_ON": "any",
    }
    took = {}
    for step in ("start", "install", "suite", "report", "result"):
        output.write_bytes(b"")
        began = time.perf_counter()
        done = subprocess.run(
            [python, ACTION / f"{step}.py"],
            cwd=workspace,
            env=clean_environment(**given),
            capture_output=True,
            text=True,
            check=False,
        )
        took[step] = time.perf_counter() - began
        if done.returncode or "::warning" in done.stdout:
            sys.exit(f"{step}: {done.stdout}{done.stderr}")
        given |= handed_on(step, output.read_text(encoding="utf-8"))
    return took


def handed_on(step: str, text: str) -> dict[str, str]:
    """Return the environment that action.yml makes for later steps of a step's outputs."""
    lines = text.splitlines()
    found = {line.partition("<<")[0]: lines[place + 1] for place, line in enumerate(lines) if "<<" in line}
    names = {
        "start": {"packages": "PACKAGES", "read-only": "READ_ONLY"},
        "install": {"suite": "RECORD", "report": "TOOL"},
        "suite": {"traces": "RECORDED", "exit-status": "EXIT_STATUS", "tests-failed": "TESTS_FAILED"},
        "report": {"verdict": "VERDICT"},
    }
    return {variable: found[name] for name, variable in names.get(step, {}).items() if name in found}


if __name__ == "__main__":
    os.chdir(ROOT)
    main()
