"""What per-test coverage costs, beside pytest-cov with contexts in the same rounds.

    python benchmarks/coverage.py
    python benchmarks/coverage.py --project ../jinja --source src/jinja2 --rounds 7 -- -p no:asyncio tests

Variants take turns, in an order that rotates and turns round. CPU time is that of the process and its children; a ratio is
taken within its round, and its median over rounds stands in the table. A test's share is what a variant takes beyond plain
pytest, divided by the number of tests. pytest-cov runs with the C tracer, without a report; once over all files below the
root, as TraceTriage does, and with --source once over these alone.
"""

from __future__ import annotations

import argparse
import os
import re
import statistics
import sys
import tempfile
from pathlib import Path

import suites
from tools import Cost, add_json_option, measure, table, write_json

from pytest_tracetriage.store.coverage import GREEN_FILE, decode

_COV = ("--cov-context=test", "--cov-report=", "-p", "pytest_cov")


def variants(source: str, scratch: Path) -> dict[str, tuple[str, ...]]:
    """Return the arguments of each variant."""
    ours = ("--tracetriage", "-o", f"tracetriage_dir={scratch / 'tracetriage'}")
    found = {
        "plain": (),
        "--tracetriage": ours,
        "--tracetriage-coverage": (*ours, "--tracetriage-coverage"),
        "pytest-cov --cov=.": ("--cov=.", *_COV),
        "both": (*ours, "--tracetriage-coverage", "--cov=.", *_COV),
    }
    if source:
        found[f"pytest-cov --cov={source}"] = (f"--cov={source}", *_COV)
    return found


def run(folder: Path, arguments: tuple[str, ...], more: list[str], scratch: Path, path: str) -> tuple[Cost, int]:
    """Run a suite once; return its cost and how many tests passed."""
    printed = scratch / "printed.txt"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments, *more]
    environment = {"COVERAGE_FILE": str(scratch / "coverage"), "COVERAGE_CORE": "ctrace", "PYTHONDONTWRITEBYTECODE": "1"}
    cost = measure(command, folder, printed, **environment, **({"PYTHONPATH": path} if path else {}))
    text = printed.read_text(encoding="utf-8", errors="replace")
    found = re.findall(r"(\d+) passed", text)
    if cost.status not in (0, 1) or not found:
        sys.exit(f"{' '.join(command)} exited with {cost.status}:\n{text[-2000:]}")
    return cost, int(found[-1])


def compare(folder: Path, given: argparse.Namespace, scratch: Path) -> list[dict[str, object]]:
    """Measure all variants on one suite."""
    asked = variants(given.source, scratch)
    names = list(asked)
    costs: dict[str, list[float]] = {name: [] for name in names}
    tests = 0
    for number in range(-1, given.rounds):  # the first only fills caches
        order = names[max(0, number) % len(names) :] + names[: max(0, number) % len(names)]
        for name in order if number % 2 == 0 else order[::-1]:
            cost, tests = run(folder, asked[name], given.arguments, scratch, given.path)
            if number >= 0:
                costs[name].append(cost.cpu)
                print(f"  round {number + 1} of {given.rounds}: {name:32} {cost.cpu:7.2f} s", file=sys.stderr, flush=True)
    rows: list[dict[str, object]] = []
    for name in names:
        shares = [(one - plain) / tests * 1e6 for one, plain in zip(costs[name], costs["plain"], strict=True)]
        rows.append(
            {
                "": name,
                "CPU s": statistics.median(costs[name]),
                "against plain": ratio(costs[name], costs["plain"]),
                "against pytest-cov": ratio(costs[name], costs["pytest-cov --cov=."]),
                "more a test, us": statistics.median(shares),
            }
        )
    table(f"{folder.name}: CPU time of {tests:,} tests, median of {given.rounds} rounds", rows)
    newest = max((scratch / "tracetriage" / "runs").glob(f"*/{GREEN_FILE}"))
    held = decode(newest.read_bytes())
    size = newest.stat().st_size
    print(
        f"\nmap: {len(held.tests):,} tests, {len(held.functions):,} functions, {len(held.elements):,} elements, "
        f"{size:,} bytes: {size / len(held.tests):.1f} a test"
    )
    return rows


def ratio(one: list[float], other: list[float]) -> float:
    """Return the median of the ratios within rounds."""
    return statistics.median(a / b for a, b in zip(one, other, strict=True))


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tests", type=int, default=2000, help="tests of the generated suite")
    parser.add_argument("--project", type=Path, help="measure this project's suite instead")
    parser.add_argument("--source", default="", help="of the project: what pytest-cov measures in one more variant")
    parser.add_argument("--path", default="", help="PYTHONPATH for the project")
    parser.add_argument("arguments", nargs="*", help="of pytest, after --")
    add_json_option(parser)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        if given.project:
            folder = given.project.resolve()
            given.path = os.pathsep.join(str((folder / part).resolve()) for part in given.path.split(os.pathsep) if part)
        else:
            folder = suites.priced(scratch / "priced", given.tests, max(1, given.tests // 100))
        write_json(given.json, compare(folder, given, scratch))


if __name__ == "__main__":
    main()
