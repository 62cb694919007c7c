"""How well `tracetriage diagnose` finds known faults in suites that it runs itself, and what its test runs cost.

    python benchmarks/diagnose.py SCENARIO…
    python benchmarks/diagnose.py --histories SCENARIO…
    python benchmarks/diagnose.py SCENARIO… --keep DIR --json diagnose.json

A SCENARIO is a folder, named `<package>-<anything>`, that is only read:
  green/tree, red/tree                the project without and with its faults
  green/runhere.sh, red/runhere.sh    runs its suite in the current folder, with any arguments of pytest, by $PYTHON
  labels.json, faults.json            the truth, as benchmarks/clustering.py documents it
With `--histories`:
  tree                                a git repository: tag `good` without the faults, `bad` with all of them
  runhere.sh                          as above
  truth.json                          {label: {"tests": [node id, ...], "file", "function", ...}}

The suite runs green, plain and then with `--tracetriage-coverage`; red, recorded; then `diagnose` runs with the map of the
green run, and without any map. Without `--histories` what changed since the green run is left out of the evidence: only the
faulty files differ, which a real change never does. Cost is the CPU time of diagnose and all its processes over that of the
plain green run.

F1 and the suspects are scored as benchmarks/clustering.py scores them: F1 is the mean of the scenarios, function@k and file@1
the shares of all faults, the cost is the median. The Python that runs this runs the suites: install what they need beside it.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from clustering import AMBIGUOUS, BASELINES, OURS, Scenario, add_places, add_scores, mean
from tools import Cost, add_json_option, measure, program, table, write_json

VARIANTS = ("with the map", "without a map")
PLACES = ("function@1", "function@5", "file@1")


class Bench:
    """A copy of one scenario's project, with what it takes to run its suite and to diagnose it."""

    def __init__(self, folder: Path, work: Path, *, history: bool) -> None:
        self._folder, self._work, self._history = folder, work, history
        self._tree, self._recorded = work / "tree", work / "recorded"
        self.report = work / "red.xml"

    def turn(self, colour: str) -> None:
        """Put the green or the red project in place, with what was recorded so far."""
        ours, kept = self._tree / ".tracetriage", self._work / "kept"
        if ours.exists():
            ours.rename(kept)
        shutil.rmtree(self._tree, ignore_errors=True)
        shutil.copytree(self._folder / ("tree" if self._history else f"{colour}/tree"), self._tree, symlinks=True)
        if self._history:
            commit = "good" if colour == "green" else "bad"
            subprocess.run(["git", "checkout", "-q", commit], cwd=self._tree, check=True)
        shutil.rmtree(ours, ignore_errors=True)
        if kept.exists():
            kept.rename(ours)
        self._script = self._folder / "runhere.sh" if self._history else self._folder / colour / "runhere.sh"

    def suite(self, *arguments: str) -> Cost:
        """Run the suite."""
        return self._measure("suite.log", "sh", str(self._script), "-q", *arguments)

    def remember(self) -> None:
        """Keep what is recorded now, for `diagnose`."""
        shutil.copytree(self._tree / ".tracetriage", self._recorded)

    def diagnose(self, variant: str) -> tuple[Cost, dict[str, Any]]:
        """Diagnose the latest run from what was kept, and return the cost and the analysis."""
        shutil.rmtree(self._tree / ".tracetriage")
        shutil.copytree(self._recorded, self._tree / ".tracetriage")
        if variant != VARIANTS[0]:
            for file in self._tree.glob(".tracetriage/runs/*/coverage*.map"):
                file.unlink()
        output, log = self._work / f"{variant}.json", f"{variant}.log"
        command = [program(), "diagnose", "--pytest", f"sh {self._script}", "--format", "json", "--output", str(output)]
        cost = self._measure(log, *command, *([] if self._history else ["--no-changes"]), cache=variant)
        if not output.exists():
            sys.exit(f"{self._folder.name}: diagnose exited with {cost.status}:\n{(self._work / log).read_text()[-2000:]}")
        return cost, json.loads(output.read_bytes())

    def _measure(self, log: str, *command: str, cache: str = "") -> Cost:
        place = {"XDG_CACHE_HOME": str(self._work / "cache" / cache)}
        return measure(command, self._tree, self._work / log, PYTHON=sys.executable, **place)


def read_truth(folder: Path, *, history: bool) -> tuple[dict[str, str], list[dict[str, Any]]]:
    """Return the label of each failing test, and the faults."""
    if history:
        truth = json.loads((folder / "truth.json").read_bytes())
        labels = {nodeid: label for label, fault in truth.items() for nodeid in fault["tests"]}
        return labels, [{"id": label, **fault} for label, fault in truth.items()]
    labels = json.loads((folder / "labels.json").read_bytes())
    return {k: v for k, v in labels.items() if v != AMBIGUOUS}, json.loads((folder / "faults.json").read_bytes())


def run(folder: Path, work: Path, *, history: bool) -> list[dict[str, Any]]:
    """Measure one scenario: a row for each variant."""
    bench = Bench(folder, work, history=history)
    bench.turn("green")
    full = bench.suite()
    bench.suite("--tracetriage", "--tracetriage-coverage")
    bench.turn("red")
    bench.suite("--tracetriage", f"--junitxml={bench.report}", "-ojunit_family=xunit2")
    bench.remember()
    labels, faults = read_truth(folder, history=history)
    rows = []
    for variant in VARIANTS:
        cost, analysis = bench.diagnose(variant)
        scenario = Scenario(folder.name, bench.report, labels, faults)
        for cluster in analysis["clusters"]:
            if cluster["seen"] != "fixed":
                scenario.clusters.update(dict.fromkeys(cluster["tests"], cluster["id"]))
            scenario.suspects[cluster["id"]] = cluster["suspects"]
        add_scores(scenario, "junit")
        add_places(scenario)
        rows.append({"scenario": folder.name, "variant": variant, "cost": cost.cpu / full.cpu, "full": full.cpu})
        rows[-1] |= {
            "f1": scenario.scores[OURS].f1,
            "places": scenario.places,
            "clusters": len(set(scenario.clusters.values())),
        }
        rows[-1] |= {"causes": len(set(labels.values())), "tests": len(labels)}
        rows[-1] |= {"baselines": {name: scenario.scores[name].f1 for name in BASELINES}, "problems": analysis["problems"]}
    return rows


def by_scenario(rows: list[dict[str, Any]]) -> list[dict[str, object]]:
    """Return a line for each scenario and variant."""
    return [
        {"": f"{row['scenario']}, {row['variant']}"}
        | {name: row[name] for name in ("tests", "causes", "clusters", "f1")}
        | {name: mean([hit[name] for hit in row["places"]]) if row["places"] else None for name in PLACES}
        | {"cost": row["cost"]}
        for row in rows
    ]


def overall(rows: list[dict[str, Any]]) -> list[dict[str, object]]:
    """Return a line for each variant, and for each baseline."""
    lines: list[dict[str, object]] = []
    for variant in VARIANTS:
        ours = [row for row in rows if row["variant"] == variant]
        hits = [hit for row in ours for hit in row["places"]]
        lines.append({"": variant, "scenarios": len(ours), "f1": mean([row["f1"] for row in ours]), "faults": len(hits)})
        lines[-1] |= {name: mean([hit[name] for hit in hits]) for name in PLACES}
        lines[-1] |= {"cost": statistics.median(row["cost"] for row in ours), "dearest": max(row["cost"] for row in ours)}
    some = [row for row in rows if row["variant"] == VARIANTS[0]]
    return [*lines, *({"": name, "f1": mean([row["baselines"][name] for row in some])} for name in BASELINES)]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scenarios", type=Path, nargs="+")
    parser.add_argument(
        "--histories", action="store_true", help="the scenarios are git histories, and what changed is evidence"
    )
    parser.add_argument(
        "--keep", type=Path, metavar="DIR", help="work in this folder, and leave trees, runs and analyses there"
    )
    add_json_option(parser)
    given = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory(prefix="diagnose-") as scratch:
        for folder in given.scenarios:
            work = (given.keep or Path(scratch)).resolve() / folder.name
            shutil.rmtree(work, ignore_errors=True)
            work.mkdir(parents=True)
            rows += run(folder.resolve(), work, history=given.histories)
            write_json(given.json, rows)
            table(folder.name, by_scenario(rows[-len(VARIANTS) :]))
    table("By scenario", by_scenario(rows))
    table("Diagnosis; cost is the CPU time of diagnose over that of one full run", overall(rows))


if __name__ == "__main__":
    main()
