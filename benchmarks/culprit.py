"""How many test processes `tracetriage culprit` needs, and how often it is right, beside a bisection for each cluster.

  python benchmarks/culprit.py [--seeds N] [--live FOLDER…]

Simulated: a line of 64 commits with five faults in random ones, two of them flaky at 30 %. The bisections beside it count a
commit as good only after ceil(ln alpha / ln(1 - p)) passing processes; p and alpha are given to them, and to the search in
the rows with "rate given". What the commits changed says nothing at first; in the rows "traceback" it mostly points to the
culprit, and in the rows "misled" always to three other commits, and never to it.

Live: each FOLDER has `tree`, a git repository with the tags `good` and `bad`, `runhere.sh`, which runs its suite in the current
folder with any arguments for pytest, and `truth.json`: {fault: {"commit", "tests", "flaky": rate or null}}. The suite is
recorded at `good` once, with coverage, and at `bad` until every flaky fault has shown; then `tracetriage culprit` is called as
a person would, and told the rate of the flaky faults as the bisections are.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import shutil
import statistics
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from pytest_tracetriage.diagnose.search import Line, Observation, Prior, answer, next_step, rates

COMMITS = 64
RATES = {"a": 1.0, "b": 1.0, "c": 1.0, "d": 0.3, "e": 0.3}
FLAKY = 0.3
ALPHA = 0.05


def weighed(culprit: int, commits: int, changes: str, chance: random.Random) -> tuple[float, ...]:
    """Return what the commits after the good end changed, in the weights of a search: 20 in the traceback, 6 in its files."""
    if changes == "alike":
        return (1.0,) * (commits - 1)
    found = chance.choices((20.0, 6.0, 1.0, 0.05), (0.05, 0.15, 0.5, 0.3), k=commits - 1)
    found[culprit - 1] = chance.choices((20.0, 6.0, 1.0), (0.5, 0.3, 0.2))[0]
    if changes == "misled":
        found = [min(weight, 1.0) for weight in found]
        for other in chance.sample([place for place in range(commits - 1) if place != culprit - 1], 3):
            found[other] = 20.0
    return tuple(found)


def simulate(seed: int, *, given: bool, confidence: float, changes: str = "alike", commits: int = COMMITS) -> dict:
    """Return one search: processes, tests, and which culprits it named right, wrong, or not."""
    chance = random.Random(seed)
    truth = dict(zip(RATES, chance.sample(range(1, commits), len(RATES)), strict=True))
    believed = rates(flaky=(FLAKY,)) if given else rates()
    lines = {name: Line(Prior(weighed(truth[name], commits, changes, chance), rates=believed)) for name in RATES}
    processes = tests = checkouts = 0
    where = -1
    while (step := next_step(lines, confidence)) is not None and processes < 1000:
        processes += 1
        tests += len(step.clusters)
        checkouts += step.position != where
        where = step.position
        for name in step.clusters:
            fails = step.position >= truth[name] and chance.random() < RATES[name]
            line = lines[name]
            lines[name] = Line(line.prior, (*line.observations, Observation(step.position, "failed" if fails else "passed")))
    found = {name: answer(line, confidence) for name, line in lines.items()}
    right = sum(item.finding == "commit" and item.positions == (truth[name],) for name, item in found.items())
    silent = sum(item.finding not in {"commit", "commits"} for item in found.values())
    flaky_right = sum(found[name].positions == (truth[name],) for name in RATES if RATES[name] < 1)
    return {
        "flaky right": flaky_right,
        "flaky said": sum(found[name].finding == "commit" for name in RATES if RATES[name] < 1),
        "processes": processes,
        "tests": tests,
        "checkouts": checkouts,
        "right": right,
        "silent": silent,
        "of": len(RATES),
        "separate": separate(truth, RATES, chance, commits),
    }


def separate(truth: dict[str, int], rates: dict[str, float], chance: random.Random, commits: int) -> tuple[int, int]:
    """Return processes and right answers of one binary search a fault."""
    processes = right = 0
    for name, culprit in truth.items():
        passes = 1 if rates[name] >= 1 else math.ceil(math.log(ALPHA) / math.log(1 - rates[name]))
        good, bad = 0, commits - 1
        while bad - good > 1:
            middle = (good + bad) // 2
            for _ in range(passes):
                processes += 1
                if middle >= culprit and chance.random() < rates[name]:
                    bad = middle
                    break
            else:
                good = middle
        right += bad == culprit
    return processes, right


def row(name: str, seeds: int, **options: object) -> None:
    with ProcessPoolExecutor() as pool:
        runs = list(pool.map(_one, [(seed, options) for seed in range(seeds)], chunksize=10))
    ratio, named = _ratio(runs), _named(runs)
    blocks = [runs[start : start + 20] for start in range(0, seeds - 19, 20)] or [runs]
    ours = sorted(run["processes"] for run in runs)
    print(
        f"{name:<22} named {named:.3f} (worst 20 seeds {min(map(_named, blocks)):.2f})  of separate {ratio:.3f}"
        f" (worst {max(map(_ratio, blocks)):.2f})  processes {statistics.mean(ours):.0f}, p95 {ours[seeds * 95 // 100]}"
    )
    tests, checkouts = statistics.mean(run["tests"] for run in runs), statistics.mean(run["checkouts"] for run in runs)
    silent = sum(run["silent"] for run in runs) / sum(run["of"] for run in runs)
    stated = sum(run["flaky right"] for run in runs) / sum(run["flaky said"] for run in runs)
    print(
        f"{'':<22} tests {tests:.0f}  checkouts {checkouts:.0f}  nothing said of {silent:.3f}"
        f"  right, of the flaky ones named {stated:.3f}"
    )
    theirs = [run["separate"] for run in runs]
    right = sum(count for _, count in theirs) / sum(run["of"] for run in runs)
    print(
        f"{'  separate bisections':<22} named {right:.3f}  processes {statistics.mean(count for count, _ in theirs):.1f}",
        flush=True,
    )


def _ratio(runs: list[dict]) -> float:
    return sum(run["processes"] for run in runs) / sum(run["separate"][0] for run in runs)


def _named(runs: list[dict]) -> float:
    return sum(run["right"] for run in runs) / sum(run["of"] for run in runs)


def _one(job: tuple[int, dict]) -> dict:
    return simulate(job[0], **job[1])


def live(folder: Path) -> None:
    """Record the suite of a folder, search its culprits, and print what became of each fault."""
    tree, truth = folder / "tree", json.loads((folder / "truth.json").read_text())
    command = f"sh {folder / 'runhere.sh'}"
    environment = {**os.environ, "PYTHON": os.environ.get("PYTHON", sys.executable)}
    shutil.rmtree(tree / ".tracetriage", ignore_errors=True)
    record = [*command.split(), "-q", "--tracetriage", "--tb=no"]
    subprocess.run(["git", "checkout", "-q", "good"], cwd=tree, check=True)
    subprocess.run([*record, "--tracetriage-coverage"], cwd=tree, env=environment, capture_output=True, check=False)
    subprocess.run(["git", "checkout", "-q", "bad"], cwd=tree, check=True)
    shown: set[str] = set()
    recorded = 0
    flaky = {fault for fault, item in truth.items() if item["flaky"]}
    while not recorded or (recorded < 8 and not shown >= flaky):
        recorded += 1
        subprocess.run(record, cwd=tree, env=environment, capture_output=True, check=False)
        run = max((tree / ".tracetriage" / "runs").iterdir())
        clusters = json.loads((run / "analysis.json").read_text())["clusters"]
        shown |= {fault for fault in truth for cluster in clusters if _of(cluster, truth) == fault}
    call = [
        Path(sys.executable).with_name("tracetriage"),
        "culprit",
        "--good=good",
        "--bad=bad",
        f"--pytest={command}",
        "--format=json",
        "--budget=60",
        *{f"--flake-rate={truth[fault]['flaky']}" for fault in shown if truth[fault]["flaky"]},
    ]
    begun = time.monotonic()
    done = subprocess.run(call, cwd=tree, env=environment, capture_output=True, text=True, check=False)
    if done.returncode > 1:
        print(folder.name, done.stderr.strip())
        return
    found = json.loads(done.stdout)
    right = dict.fromkeys(shown, False)
    wrong = 0
    for culprit in found["culprits"]:
        fault = _of(culprit, truth)
        if fault is not None and culprit["commit"]:
            wrong += culprit["commit"] != truth[fault]["commit"]
            right[fault] = right.get(fault, False) or culprit["commit"] == truth[fault]["commit"]
    commits = subprocess.run(
        ["git", "rev-list", "--reverse", "good..bad"], cwd=tree, capture_output=True, text=True, check=True
    ).stdout.split()
    places = {fault: commits.index(truth[fault]["commit"]) + 1 for fault in shown}
    rates = {fault: truth[fault]["flaky"] or 1.0 for fault in shown}
    theirs = statistics.mean(separate(places, rates, random.Random(seed), len(commits) + 1)[0] for seed in range(200))
    runs = found["executions"]
    print(
        f"{folder.name:<20} faults {len(shown)} of {len(truth)} (flaky {len(flaky & shown)})  named {sum(right.values())}  "
        f"clusters {len(found['culprits'])}, wrong {wrong}  processes {runs['pytest_runs']}  "
        f"of separate {runs['pytest_runs'] / theirs:.2f}  checkouts {runs['checkouts']}  "
        f"alone {theirs:.0f}  tests {runs['tests']}  {time.monotonic() - begun:.0f} s  recorded {recorded}",
        flush=True,
    )
    for culprit in found["culprits"]:
        fault = _of(culprit, truth)
        if fault is None or culprit["commit"] != truth[fault]["commit"]:
            print(
                "   ",
                fault,
                culprit["cluster"][:5],
                culprit["name"],
                culprit["finding"],
                culprit["confidence"],
                *culprit["evidence"],
                sep=" | ",
            )


def _of(cluster: dict, truth: dict) -> str | None:
    """Return the fault that most of a cluster's tests fail by."""
    counts = {fault: len(set(cluster["tests"]) & set(item["tests"])) for fault, item in truth.items()}
    best = max(counts, key=counts.__getitem__)
    return best if counts[best] else None


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--seeds", type=int, default=1000)
    options.add_argument("--live", type=Path, nargs="+", default=[])
    options.add_argument("--confidence", type=float, default=0.95)
    seeds, confidence = (given := options.parse_args()).seeds, given.confidence
    for folder in given.live:
        live(folder.resolve())
    if given.live:
        return
    for changes in ("alike", "traceback", "misled"):
        row(f"{changes}, rate given", seeds, given=True, confidence=confidence, changes=changes)
        row(f"{changes}, rate unknown", seeds, given=False, confidence=confidence, changes=changes)


if __name__ == "__main__":
    main()
