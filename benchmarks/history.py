"""What a history of runs costs: adding to it, keeping it, and asking it.

    python benchmarks/history.py
    python benchmarks/history.py --runs 200 --tests 2000 --json history.json

Generates runs of one suite (seeded, so the same each time): durations are lognormal around a median of each test, with a
sigma of .3 from run to run; one run in a hundred is red with a few clusters; 20 flaky tests fail in 2 % of their attempts and
are run again once; two runs share each commit, and every third run is of a pull request. Reported:

- adding a run: encoding it, writing it, and packing what lies loose, which happens by itself after every 100 runs;
- bytes a run and a test, loose and packed, beside the same tests as gzipped lines of JSON;
- every question that the product asks, each in a process of its own that starts Python, imports DuckDB and opens the history:
  once over loose pieces (--loose), once over all runs, packed. `peak MiB` is the resident size of that process.
"""

from __future__ import annotations

import argparse
import gzip
import os
import platform
import random
import resource
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
from tools import add_json_option, measure, table, write_json

from pytest_tracetriage.diagnose.patterns import patterns
from pytest_tracetriage.model.analysis import Cluster, Signature
from pytest_tracetriage.model.history import ClusterRecord, Condensed, RunRecord, TestRecord
from pytest_tracetriage.model.run import Totals
from pytest_tracetriage.store.history import compact as packing
from pytest_tracetriage.store.history.history import History, open_history
from pytest_tracetriage.store.history.locations import FolderLocation
from pytest_tracetriage.store.runs import new_run_id

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

STARTED = 1_795_149_000.0
HOUR = 3600.0
CLUSTERS = 40
FLAKY = 20
ASKED = 30
"""Clusters that a question names at once."""


def nodeids(tests: int) -> list[str]:
    """Return the ids of a suite: files of 40 tests, classes of 8, one test in five with parameters."""
    ids = []
    for number in range(tests):
        test = f"tests/unit/area_{number // 400}/test_module_{number // 40}.py::TestThing{number // 8}::test_case_{number}"
        ids.append(f"{test}[param-{number % 7}]" if number % 5 == 0 else test)
    return ids


def cluster(number: int, seen: str = "known") -> Cluster:
    """Return a cluster of the suite."""
    identity = f"{number:026d}".translate(str.maketrans("0189", "ABCD"))
    signature = Signature(identity, "ValueError", f"src/part_{number}.py", f"load_{number}", f"part {number} has no price", 3)
    name = f"ValueError in load_{number}: part {number} has no price"
    return Cluster(identity, name, "ASSERTION", "product", ("@team",), seen, None, 3, (), (signature,), (), (), None)  # type: ignore[arg-type]


def members(number: int, ids: list[str]) -> list[str]:
    """Return the tests that fail by a cluster."""
    first = number * 7919 % max(1, len(ids) - 25)
    return ids[first : first + 25]


def generate(runs: int, tests: int) -> Iterator[Condensed]:
    """Yield the runs, oldest first."""
    chance = random.Random(20261120)
    ids = nodeids(tests)
    medians = [chance.lognormvariate(-4.5, 1.5) for _ in ids]
    flaky = {ids[position]: CLUSTERS + position % 5 for position in range(0, tests, max(1, tests // FLAKY))}
    for index in range(runs):
        started = STARTED + index * HOUR + chance.random() * 600
        identity = new_run_id(started)
        red = [chance.randrange(CLUSTERS) for _ in range(3)] if index % 100 == 50 else []
        failing = {nodeid: number for number in red for nodeid in members(number, ids)}
        records, retried, ended = [], {}, {}
        for nodeid, median in zip(ids, medians, strict=True):
            again, outcome = 0, "passed"
            if nodeid in failing:
                outcome = "failed"
                ended.setdefault(failing[nodeid], []).append(nodeid)
            elif nodeid in flaky and chance.random() < 0.02:
                again = 1
                retried.setdefault(flaky[nodeid], []).append(nodeid)
            records.append(TestRecord(nodeid, outcome, median * chance.lognormvariate(0, 0.3), again))
        pull = index % 3 == 2
        totals = Totals(tests=tests, passed=tests - len(failing), failed=len(failing))
        run = RunRecord(
            id=identity,
            group=f"ci:{index}:1",
            started=started,
            finished=started + 600,
            totals=totals,
            commit=f"{index // 2:040x}",
            branch=f"topic-{index}" if pull else "main",
            base="main" if pull else "",
            event="pull_request" if pull else "push",
            workflow="ci",
            job="test",
            ci_run=str(index),
            repository="shop/shop",
            pull_request=str(index) if pull else "",
            python="3.13.1",
            platform="Linux",
            environment="4f1c9a",
            exit_status=int(bool(failing)),
        )
        numbers = sorted(ended.keys() | retried.keys())
        shown = [ClusterRecord(identity, cluster(n), tuple(ended.get(n, ())), tuple(retried.get(n, ()))) for n in numbers]
        yield Condensed(run, tuple(records), tuple(shown))


def questions(tests: int) -> dict[str, Callable[[History], object]]:
    """Return every question that the product asks, under the name that the table gives it."""
    ids = nodeids(tests)
    asked = {cluster(number).id: members(number, ids) for number in range(ASKED)}
    every = {cluster(0).id: ids}
    return {
        "runs": lambda history: history.runs(),
        "seen, main": lambda history: history.seen("main"),
        "seen, all": lambda history: history.seen(),
        "baseline": lambda history: history.baseline("main"),
        "cluster_history": lambda history: history.cluster_history(cluster(CLUSTERS).id),
        f"frequencies of {ASKED}": lambda history: history.frequencies(asked, "main"),
        "frequencies, every test": lambda history: history.frequencies(every),
        f"evidence for {ASKED}": lambda history: history.evidence(asked),
        "evidence, flaky ones": lambda history: history.evidence({cluster(n).id: ids for n in range(CLUSTERS, CLUSTERS + 5)}),
        "pass_rate": lambda history: history.pass_rate(),
        "slow_tests": lambda history: history.slow_tests(),
        "flaky_tests": lambda history: history.flaky_tests(),
        "costs": lambda history: [history.costs()],
        "patterns": lambda history: list(patterns(history.trails(), 0.0, 0.005, 10)),
    }


def size(folder: Path) -> int:
    """Return the bytes of all files of a history."""
    return sum(path.stat().st_size for path in folder.iterdir())


def ask_all(folder: Path, given: argparse.Namespace, what: str) -> list[dict[str, object]]:
    """Ask each question in a fresh process, `--rounds` times; the slowest counts."""
    rows = []
    for name in questions(given.tests):
        command = [sys.executable, __file__, "--tests", str(given.tests), "--ask", name, "--folder", str(folder)]
        output = folder.with_name("answer.txt")
        costs = [measure(command, folder.parent, output) for _ in range(given.rounds)]
        if any(cost.status for cost in costs):
            sys.exit(output.read_text(encoding="utf-8", errors="replace")[-3000:])
        inside, answers, peak = output.read_text(encoding="utf-8").split()
        rows.append({
            what: name, "answers": int(answers), "question s": float(inside), "process s": max(cost.wall for cost in costs),
            "peak MiB": round(float(peak)),
        })  # fmt: skip
    return rows


def answer(given: argparse.Namespace) -> None:
    """Ask one question and print what it took, and how many answers there were: what a process of `ask_all` does."""
    question = questions(given.tests)[given.ask]
    began = time.perf_counter()
    history = open_history(FolderLocation(given.folder))
    found = question(history)
    if history.problems:
        sys.exit("\n".join(history.problems))
    print(time.perf_counter() - began, len(found) if isinstance(found, list | dict) else int(found is not None), peak())


def peak() -> float:
    """Return the largest resident size of this process so far, in MiB."""
    try:  # what wait4 and getrusage tell counts the parent's, before exec
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def gzipped(item: Condensed) -> int:
    """Return the size of a run's tests as gzipped lines of JSON."""
    return len(gzip.compress(b"\n".join(map(msgspec.json.encode, item.tests))))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=1000, help="how many in all (default: %(default)s)")
    parser.add_argument("--tests", type=int, default=10_000, help="how many a run (default: %(default)s)")
    parser.add_argument("--loose", type=int, default=200, help="how many to leave loose at first (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="how often each question is asked (default: %(default)s)")
    parser.add_argument("--folder", type=Path, help="where it is done (default: the system's temporary folder)")
    parser.add_argument("--ask", help=argparse.SUPPRESS)
    add_json_option(parser)
    given = parser.parse_args()
    if given.ask:
        answer(given)
        return
    root = Path(tempfile.mkdtemp(prefix="history-", dir=given.folder)).resolve()
    try:
        figures = measured(root, given)
    finally:
        shutil.rmtree(root, ignore_errors=True)
    write_json(given.json, figures)


def measured(root: Path, given: argparse.Namespace) -> dict[str, object]:
    """Build a history and measure it on the way. Return all tables."""
    where = f"Python {platform.python_version()}, {platform.platform()}, {os.cpu_count()} CPUs"
    runs = generate(given.runs, given.tests)
    loose = min(given.loose, given.runs)
    folder, usual = root / "history", packing.LOOSE
    history = open_history(FolderLocation(folder))
    packing.LOOSE = given.runs  # nothing is packed by itself yet
    taken, zipped = [], 0
    for _ in range(loose):
        item = next(runs)
        zipped = gzipped(item)
        taken.append(add(history, item))
    few = size(folder) / loose
    loose_rows = ask_all(folder, given, f"{loose} loose runs")
    packing.LOOSE = usual
    added = [add(history, item) for item in runs]
    began = time.perf_counter()
    last = history.compact()
    compacted = time.perf_counter() - began
    many = size(folder) / given.runs
    rows: list[dict[str, object]] = [
        {"run": "added, loose", **times(taken), "KB a run": few / 1000, "bytes a test": few / given.tests},
        {"run": "added, packed by itself", **times(added), "KB a run": many / 1000, "bytes a test": many / given.tests},
        {"run": "gzip of its tests as JSON", "KB a run": zipped / 1000, "bytes a test": zipped / given.tests},
    ]
    most = peak()
    packed_rows = ask_all(folder, given, f"{given.runs} packed runs")
    title = f"history of {given.runs:,} runs of {given.tests:,} tests; {where}"
    table(title, rows)
    print(f"\nthe last compaction packed {last.runs:,} runs in {compacted:.1f} s; files: {len(list(folder.iterdir()))}")
    print(f"adding and compacting: peak {most:,.0f} MiB, the generator's included")
    table("each question in a process of its own", loose_rows)
    table("the same", packed_rows)
    return {"adding": rows, "loose": loose_rows, "packed": packed_rows, "peak MiB": most}


def add(history: History, item: Condensed) -> float:
    """Return the seconds that adding a run takes."""
    began = time.perf_counter()
    history.add([item])
    return time.perf_counter() - began


def times(taken: list[float]) -> dict[str, object]:
    """Return mean, median and worst of what adding took."""
    if not taken:
        return {}
    return {"mean ms": statistics.mean(taken) * 1e3, "median ms": statistics.median(taken) * 1e3, "worst ms": max(taken) * 1e3}


if __name__ == "__main__":
    main()
