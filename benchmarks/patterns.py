"""How well patterns are told apart: simulated histories whose truth is known.

    python benchmarks/patterns.py
    python benchmarks/patterns.py --seeds 1 --tests 300 --worlds usual

Each history has one line of commits. A run tests a push of some commits; some runs are of the commit before (a nightly run, a
merge), and some red runs are run again on their commit. Faults come in at a rate, break some tests until they are fixed, and
some come back after that; three tests in a hundred are hit by a third of all faults. Flaky tests fail in each attempt with a
rate of their own, some only from, or up to, a day in the middle. Now and then the infrastructure fails tests at random.
The model is given outcomes and clusters, as triage would find them if it never erred: not the truth, and none of the
parameters. The worlds vary each of them, far from its usual value.

Precision and recall are of all seeds together. `flipped`: it failed after it had passed, and passed again. `one commit`: it
failed and passed on one commit. `3 in a row`: not flaky, though it flipped, where it ever failed three times in a row; and of
clusters: a repeated failure where three runs in a row were red.
"""

from __future__ import annotations

import argparse
import random
import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from msgspec import structs
from tools import add_json_option, table, write_json

from pytest_tracetriage.diagnose.patterns import patterns
from pytest_tracetriage.model.diagnosis import Place, Trail, Trails

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

RATES = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5)
WIDE = 10
"""A failure that so many tests share in one run says nothing of one of them: as the history leaves it out."""


@dataclass(frozen=True)
class World:
    """What histories are made with. Probabilities are of one run, unless said."""

    name: str = "usual"
    tests: int = 1000
    runs: int = 300
    faults: float = 0.07
    """A push brings a fault."""
    delay: float = 3.0
    """Pushes until it is fixed, on average; of one fault in seven five times as long."""
    returns: float = 0.2
    """A fault that was fixed comes back; one that did, twice as likely."""
    repeated: float = 0.1
    """A run is of the commit before."""
    rerun: float = 0.3
    """A red run is run again."""
    flaky: int = 10
    """Flaky tests of each rate; twice as many begin or end in the middle."""
    outages: float = 0.01
    """The infrastructure fails tests: mostly hundreds, at times a handful."""
    faces: float = 0.15
    """A flaky failure has one of three other causes than usual."""


WORLDS = (
    World(),
    World("faults x 4", faults=0.28),
    World("faults / 4", faults=0.0175),
    World("fixed at once", delay=1.0),
    World("fixed late", delay=10.0),
    World("no commit twice", repeated=0.0, rerun=0.0),
    World("many twice", repeated=0.4, rerun=0.8),
    World("few flaky", flaky=2),
    World("many come back", returns=0.6),
    World("outages x 5", outages=0.05),
    World("fixed at once and no commit twice", delay=1.0, repeated=0.0, rerun=0.0),
    World("the same with faults x 4", delay=1.0, repeated=0.0, rerun=0.0, faults=0.28),
    World("flakes with many faces", faces=0.6),
    World("nothing flaky", flaky=0),
)


@dataclass
class Truth:
    """What really was: flaky tests from the beginning on (`rates`), all that ever were, and the breakages of faults."""

    rates: dict[str, float] = field(default_factory=dict)
    spans: dict[str, tuple[float, int, int]] = field(default_factory=dict)
    faults: dict[str, list[list[int]]] = field(default_factory=lambda: defaultdict(list))
    """The commits (by number) on which each breakage of a fault was red, one list a breakage."""


@dataclass
class Simulated:
    """A history: each run's commit, and what each test and cluster did in it."""

    commits: list[int]
    tests: dict[str, dict[int, str]]
    """Failures by run."""
    clusters: dict[str, dict[int, set[str]]]
    truth: Truth


def simulate(world: World, seed: int) -> Simulated:
    """Return a history."""
    chance = random.Random(f"{seed} {world}")
    names = [f"tests/test_{number // 40}.py::test_{number}" for number in range(world.tests)]
    hot = chance.sample(names, max(1, len(names) * 3 // 100))
    truth = Truth()
    flaky = chance.sample(names, world.flaky * (len(RATES) + 2))
    for number, name in enumerate(flaky):
        group = number // max(1, world.flaky)
        if group < len(RATES):
            truth.rates[name] = RATES[group]
            truth.spans[name] = (RATES[group], 0, world.runs)
        else:
            rate, middle = RATES[number % len(RATES)], chance.randrange(world.runs // 4, world.runs * 3 // 4)
            truth.spans[name] = (rate, middle, world.runs) if group == len(RATES) else (rate, 0, middle)
    open_faults: dict[str, tuple[list[str], float]] = {}
    waiting: list[tuple[int, str, list[str], int]] = []
    counted = 0
    commits: list[int] = []
    tests: dict[str, dict[int, str]] = defaultdict(dict)
    clusters: dict[str, dict[int, set[str]]] = defaultdict(lambda: defaultdict(set))
    commit, again, comebacks = -1, False, Counter()
    for run in range(world.runs):
        if commit < 0 or not (again or chance.random() < world.repeated):
            commit += 1
            for fault in [fault for fault, (_, fix) in open_faults.items() if chance.random() < fix]:
                members, _ = open_faults.pop(fault)
                if chance.random() < min(0.9, world.returns * (1 + (comebacks[fault] > 0))):
                    waiting.append((commit + 1 + int(chance.expovariate(1 / 20)), fault, members, 0))
            if chance.random() < world.faults:
                fault, counted = f"fault-{counted}", counted + 1
                size = chance.choices((1, chance.randint(2, 5), chance.randint(6, 30)), (5, 3, 2))[0]
                pool = hot if chance.random() < 1 / 3 else names
                waiting.append((commit, fault, chance.sample(pool, min(size, len(pool))), 1))
            for item in [item for item in waiting if item[0] <= commit]:
                waiting.remove(item)
                _, fault, members, fresh = item
                slow = 5.0 if chance.random() < 1 / 7 else 1.0
                open_faults[fault] = (members, min(1.0, 1 / (world.delay * slow)))
                comebacks[fault] += not fresh
                truth.faults[fault].append([])
        commits.append(commit)
        failing: dict[str, str] = {}
        for fault, (members, _) in open_faults.items():
            if not truth.faults[fault][-1] or truth.faults[fault][-1][-1] != commit:
                truth.faults[fault][-1].append(commit)
            failing.update(dict.fromkeys(members, fault))
        for name, (rate, begins, ends) in truth.spans.items():
            if name not in failing and begins <= run < ends and chance.random() < rate:
                failing[name] = f"flake {name}" + (f" {chance.randrange(3)}" if chance.random() < world.faces else "")
        if chance.random() < world.outages:
            size = chance.randint(3, 9) if chance.random() < 0.25 else chance.randint(30, world.tests // 2)
            for name in chance.sample(names, size):
                failing.setdefault(name, "outage")
        for name, cause in failing.items():
            tests[name][run] = cause
            clusters[cause][run].add(name)
        again = bool(failing) and not again and chance.random() < world.rerun
    return Simulated(commits, tests, clusters, truth)


def trails(made: Simulated, world: World, runs: int) -> Trails:
    """Return the first runs of a history as the model is given them."""
    commits = made.commits[:runs]
    places = tuple(Place(0, f"run-{commit}", f"{commit:08x}", float(commit)) for commit in range(commits[-1] + 1))
    ran = Counter(commits)
    found = []
    for name, failures in made.tests.items():
        shared = {run for run, cause in failures.items() if len(made.clusters[cause][run]) >= WIDE}
        red = Counter(commits[run] for run in failures if run < runs and run not in shared)
        if red:
            left_out = Counter(commits[run] for run in shared if run < runs)
            trail = _trail(name, ran, red, left_out)
            causes = {commits[run]: cause for run, cause in failures.items() if run < runs and run not in shared}
            found.append(structs.replace(trail, causes=tuple(causes.get(place, "") for place in trail.places)))
    clusters = []
    for cause, shown in made.clusters.items():
        red = Counter(commits[run] for run in shown if run < runs)
        if red:
            clusters.append(_trail(cause, ran, red, Counter(), cause, frozenset().union(*shown.values())))
    return Trails(places, tuple(found), tuple(clusters), world.tests - len(found), runs)


def _trail(
    subject: str, ran: Counter[int], red: Counter[int], out: Counter[int], name: str = "", tests: frozenset[str] = frozenset()
) -> Trail:
    rows = [(place, count - red[place] - out[place], red[place]) for place, count in sorted(ran.items()) if count > out[place]]
    return Trail(subject, *(tuple(row[column] for row in rows) for column in range(3)), (), name, tests)


def flips(made: Simulated, name: str, runs: int) -> str:
    """Return which naive rule calls a test flaky: letters of `f`lipped, `s`ame commit, and `r`: three red in a row."""
    failures = made.tests.get(name, {})
    red = [run in failures for run in range(runs)]
    text = "".join("F" if each else "." for each in red)
    by_commit: dict[int, set[bool]] = defaultdict(set)
    for run, each in enumerate(red):
        by_commit[made.commits[run]].add(each)
    said = "f" if ".F" in text and "." in text.rpartition("F")[2] else ""
    said += "s" if any(len(both) == 2 for both in by_commit.values()) else ""
    return said + ("r" if "FFF" in text else "")


def truths(made: Simulated, runs: int) -> dict[str, set[str]]:
    """Return which faults really show each pattern of a cluster within the first runs."""
    last = made.commits[runs - 1]
    red = {fault: [[c for c in one if c <= last] for one in breakages] for fault, breakages in made.truth.faults.items()}
    red = {fault: [one for one in breakages if one] for fault, breakages in red.items()}
    attempts = Counter(made.commits[:runs])
    return {
        "REGRESSION": {fault for fault, each in red.items() if len(each) > 1},
        "OSCILLATING_FIX": {fault for fault, each in red.items() if len(each) > 2},
        "REPEATED_FAILURE": {fault for fault, each in red.items() if any(sum(attempts[c] for c in one) >= 3 for one in each)},
        "SLOW_CONVERGENCE": {fault for fault, each in red.items() if any(len(one) > 5 for one in each)},
    }


def naive(made: Simulated, runs: int) -> dict[str, set[str]]:
    """Return what raw counts say of clusters."""
    found: dict[str, set[str]] = defaultdict(set)
    for cause, shown in made.clusters.items():
        text = "".join("F" if run in shown else "." for run in range(runs))
        returned = sum(bool(part) for part in text.split(".")) - 1
        if returned >= 1:
            found["REGRESSION"].add(cause)
        if returned >= 2:
            found["OSCILLATING_FIX"].add(cause)
        if text.count("F") >= 3:
            found["REPEATED_FAILURE"].add(cause)
        if "FFF" in text:
            found["3 in a row"].add(cause)
        if text.count("F") > 5:
            found["SLOW_CONVERGENCE"].add(cause)
    return found


@dataclass
class Score:
    """How often something was said rightly, wrongly, and not said."""

    right: int = 0
    wrong: int = 0
    missed: int = 0

    def add(self, said: Iterable[str], true: Iterable[str]) -> None:
        """Count one history."""
        said, true = set(said), set(true)
        self.right += len(said & true)
        self.wrong += len(said - true)
        self.missed += len(true - said)

    @property
    def precision(self) -> float | None:
        """Right of what was said."""
        return self.right / (self.right + self.wrong) if self.right + self.wrong else None

    @property
    def recall(self) -> float | None:
        """Right of what is true."""
        return self.right / (self.right + self.missed) if self.right + self.missed else None


def measured(world: World, seeds: Iterable[int], lengths: Iterable[int]) -> Iterator[dict[str, object]]:
    """Yield a row for each length of history: flaky tests by rule, clusters by pattern."""
    for runs in lengths:
        rules: dict[str, Score] = defaultdict(Score)
        recall: dict[tuple[str, float], Score] = defaultdict(Score)
        kinds: dict[str, Score] = defaultdict(Score)
        raw: dict[str, Score] = defaultdict(Score)
        taken = 0.0
        for seed in seeds:
            made = simulate(world, seed)
            began = time.perf_counter()
            found = patterns(trails(made, world, runs), 0.0, 0.0, 10_000)
            taken += time.perf_counter() - began
            said: dict[str, set[str]] = {
                "model": {each.subject for each in found if each.kind == "FLAKY" and each.of == "test"}
            }
            marks = {name: flips(made, name, runs) for name in made.tests}
            said["flipped"] = {name for name, mark in marks.items() if "f" in mark}
            said["one commit"] = {name for name, mark in marks.items() if "s" in mark}
            said["flipped, not 3 in a row"] = {name for name, mark in marks.items() if "f" in mark and "r" not in mark}
            flaky = {name for name, (_, begins, _) in made.truth.spans.items() if begins < runs}
            for rule, names in said.items():
                rules[rule].add(names, flaky)
                for name, rate in made.truth.rates.items():
                    recall[rule, rate].add(names & {name}, {name})
            expected, counted = truths(made, runs), naive(made, runs)
            for kind, names in expected.items():
                told = {kind, "OSCILLATING_FIX"} if kind == "REGRESSION" else {kind}  # what oscillates has come back
                kinds[kind].add({each.subject for each in found if each.kind in told}, names)
                raw[kind].add(counted[kind], names)
            raw["3 in a row"].add(counted["3 in a row"], expected["REPEATED_FAILURE"])
        yield {
            "world": world.name,
            "runs": runs,
            "rules": rules,
            "recall": recall,
            "kinds": kinds,
            "raw": raw,
            "seconds": taken,
        }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tests", type=int, default=1000, help="of a history (default: %(default)s)")
    parser.add_argument("--runs", type=int, default=300, help="of a history (default: %(default)s)")
    parser.add_argument("--seeds", type=int, default=5, help="histories of each world (default: %(default)s)")
    parser.add_argument("--worlds", default="", help="only those of these names, with commas between")
    add_json_option(parser)
    given = parser.parse_args()
    names = [name.strip() for name in given.worlds.split(",") if name.strip()]
    worlds = [replace(each, tests=given.tests, runs=given.runs) for each in WORLDS if not names or each.name in names]
    found = [row for world in worlds for row in measured(world, range(given.seeds), (given.runs // 3, given.runs))]
    title = f"{given.seeds} histories of {given.tests:,} tests a world"
    flaky = [_flaky_row(row, rule) for row in found[:2] for rule in row["rules"]]
    table(f"{title}: flaky tests", flaky)
    clusters = [
        {"runs": row["runs"], "pattern": kind, **_scores(score)} | ({} if kind not in row["raw"] else {
            "raw precision": _percent(row["raw"][kind].precision), "raw recall": _percent(row["raw"][kind].recall)})
        for row in found[:2] for kind, score in (*row["kinds"].items(), ("3 in a row", row["raw"]["3 in a row"]))
    ]  # fmt: skip
    table("clusters", clusters)
    varied = [{"world": row["world"], **_flaky_row(row, "model")} for row in found]
    table("flaky tests, other worlds", varied)
    others = [
        {"world": row["world"], "runs": row["runs"]} | {
            kind.lower(): f"{_percent(score.precision)} {_percent(score.recall)}" for kind, score in row["kinds"].items()}
        for row in found
    ]  # fmt: skip
    table("clusters, other worlds: precision and recall", others)
    write_json(given.json, {"flaky": flaky, "clusters": clusters, "flaky worlds": varied, "cluster worlds": others})


def _flaky_row(row: dict[str, object], rule: str) -> dict[str, object]:
    score: Score = row["rules"][rule]  # type: ignore[index]
    recall = {f"{100 * rate:g} %": _percent(row["recall"][rule, rate].recall) for rate in RATES}  # type: ignore[index]
    seconds = {"s": round(row["seconds"], 1)} if rule == "model" else {}  # type: ignore[call-overload]
    return {
        "runs": row["runs"],
        "rule": rule,
        "precision": _percent(score.precision),
        "wrong": score.wrong,
        **recall,
        **seconds,
    }


def _scores(score: Score) -> dict[str, object]:
    true = score.right + score.missed
    return {"true": true, "wrong": score.wrong, "precision": _percent(score.precision), "recall": _percent(score.recall)}


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{share:.3f}"


if __name__ == "__main__":
    main()
