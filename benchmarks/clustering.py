"""How well clusters meet the known root causes, for a folder of labelled failures.

    python benchmarks/clustering.py FOLDER
    python benchmarks/clustering.py FOLDER --source junit --verbose --predictions DIR --json clustering.json

Every sub-folder of FOLDER with a `labels.json` is a scenario, named `<package>-<anything>`:
  failures.jsonl.gz or junit.xml.gz   what pytest-reportlog or `--junitxml` wrote (also without .gz)
  labels.json                         {node id: label}; tests labelled "ambiguous" are left out
  faults.json (optional)              [{"id": label, "file", "function", "function_lines": [first, last]}, ...]

Precision, recall and F1 are B-cubed, over the labelled tests: for each test, the share of its cluster that has its
label, and the share of its label that is in its cluster. A test that no cluster holds counts as a cluster of its own.
They are computed for each scenario; the tables print their macro means. The baselines read the same files: the masked
first line of the message with the exception's type, the place of the crash, all failures together, each one alone.

With `faults.json` also function@k and file@k: how often the faulty function (file) is among the first k suspects of
the cluster that holds most of the fault's tests. Faults without a function, such as a full disk, are left out.
With `--coverage` each scenario is analysed with the map of its package's green run, where the folder has one:
  _green/<package>.json.gz            {"tests": [node id, ...], "lines": {file: {line: [index into tests, -1 at import]}}}
  _maps/<package>.json.gz             {file: [[first line, last line, qualified name], ...]}: the functions
  _red/<scenario>/coverage-red.map    optional: what `--tracetriage-coverage` left in the run's folder when the failing tests of
                                      the scenario ran again, as `tracetriage diagnose` runs them
`--changes` adds the faulty functions and ten others of the package as changed since that run: what a history would tell.

`--predictions DIR` writes `<scenario>.json` {node id: cluster id}, `<scenario>.suspects.json` {cluster id: suspects}.
"""

from __future__ import annotations

import argparse
import gzip
import json
import random
import re
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ET
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
from tools import add_json_option, clean_environment, program, table, write_json

from pytest_tracetriage.commands import pipeline
from pytest_tracetriage.model.execution import CoverageMap, Element, Function
from pytest_tracetriage.store.coverage import RED_FILE, read_map
from pytest_tracetriage.triage.analyze import Given, analyze
from pytest_tracetriage.triage.spectrum import Spectrum

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterator, Mapping

SOURCES = {"reportlog": "failures.jsonl", "junit": "junit.xml"}
AMBIGUOUS = "ambiguous"
OURS = "tracetriage"
RANKS = (1, 3, 5)
_MASKS = (
    (re.compile(r"0x[0-9a-fA-F]+|\b[0-9a-f]{8,}\b"), "<hex>"),
    (re.compile(r"'[^']*'|\"[^\"]*\"|`[^`]*`"), "<text>"),
    (re.compile(r"\d+(?:\.\d+)?"), "<number>"),
)


@dataclass(frozen=True)
class Printed:
    """What the baselines look at."""

    message: str
    place: str


@dataclass(frozen=True)
class Score:
    """B-cubed precision, recall and F1 of one clustering."""

    precision: float
    recall: float
    f1: float
    clusters: int


@dataclass
class Scenario:
    """One sub-folder, with what came out for it."""

    name: str
    file: Path
    labels: dict[str, str]
    faults: list[dict[str, Any]]
    clusters: dict[str, str] = field(default_factory=dict)
    suspects: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    scores: dict[str, Score] = field(default_factory=dict)
    places: list[dict[str, float]] = field(default_factory=list)

    @property
    def package(self) -> str:
        """The name up to the last dash."""
        return self.name.rpartition("-")[0] or self.name


def read_scenarios(folder: Path, source: str) -> list[Scenario]:
    """Return the scenarios of a folder, by name."""
    found = []
    for labels in sorted(folder.glob("*/labels.json")):
        here = labels.parent
        files = [path for end in (".gz", "") if (path := here / f"{SOURCES[source]}{end}").exists()]
        known = {nodeid: label for nodeid, label in json.loads(labels.read_bytes()).items() if label != AMBIGUOUS}
        faults = here / "faults.json"
        if files and known:
            found.append(Scenario(here.name, files[0], known, json.loads(faults.read_bytes()) if faults.exists() else []))
    return found


def predict(scenario: Scenario, scratch: Path) -> None:
    """Let TraceTriage analyse a scenario's file."""
    output = scratch / f"{scenario.name}.json"
    command = [program(), "analyze", str(scenario.file), "--format", "json", "--output", str(output)]
    run = subprocess.run(command, cwd=scratch, env=clean_environment(), capture_output=True, text=True, check=False)
    if not output.exists():
        sys.exit(f"{scenario.name}: analyze exited with {run.returncode}:\n{run.stderr[-2000:]}")
    for cluster in json.loads(output.read_bytes())["clusters"]:
        scenario.clusters.update(dict.fromkeys(cluster["tests"], cluster["id"]))
        scenario.suspects[cluster["id"]] = cluster["suspects"]


def read_coverage(folder: Path, package: str) -> CoverageMap | None:
    """Return the map of a package's green run, None where the folder has none."""
    files = [folder / kind / f"{package}.json.gz" for kind in ("_green", "_maps")]
    if not all(file.exists() for file in files):
        return None
    recorded, functions_of = (json.loads(gzip.decompress(file.read_bytes())) for file in files)
    tests = sorted(recorded["tests"])
    place = {test: number for number, test in enumerate(tests)}
    lines_of: dict[tuple[str, str, int, int], dict[int, list[int]]] = defaultdict(lambda: defaultdict(list))
    for file, lines in recorded["lines"].items():
        ranges = sorted((first, last, name) for first, last, name in functions_of.get(file, []))
        for line, runners in lines.items():
            around = [one for one in ranges if one[0] <= int(line) <= one[1]]
            bits = sum(1 << place[recorded["tests"][number]] for number in runners if number >= 0)
            if around and bits:
                first, last, name = around[-1]  # the innermost
                lines_of[file, name, first, last][bits].append(int(line))
    keys = sorted(lines_of)
    size = (len(tests) + 7) // 8
    return CoverageMap(
        tests=tuple(tests),
        functions=tuple(Function(*key, digest="") for key in keys),
        elements=tuple(
            Element(number, tuple(sorted(lines)), bits.to_bytes(size, "little"))
            for number, key in enumerate(keys)
            for bits, lines in sorted(lines_of[key].items())
        ),
        source="recorded",
    )


def predict_with_coverage(scenario: Scenario, green: CoverageMap, red: CoverageMap | None, *, changes: bool) -> None:
    """Let TraceTriage analyse a scenario's file with the map of a green run, and that of the red one where there is one."""
    changed: dict[tuple[str, str], tuple[str, ...]] = {}
    if changes:
        others = random.Random(scenario.name).sample(range(len(green.functions)), min(10, len(green.functions)))
        changed = {(green.functions[n].file, green.functions[n].name): ("harmless",) for n in others}
        changed |= {(fault["file"], fault["function"]): ("fault",) for fault in scenario.faults if fault.get("function")}
    summary = pipeline.read(pipeline.plan([scenario.file], pipeline.BUILT_IN), pipeline.BUILT_IN, frozenset())
    for cluster in analyze(summary, Given(coverage=Spectrum(green=green, red=red, changes=changed))).clusters:
        scenario.clusters.update(dict.fromkeys(cluster.tests, cluster.id))
        scenario.suspects[cluster.id] = msgspec.to_builtins(cluster.suspects)


def score(labels: Mapping[str, str], clusters: Mapping[str, Hashable]) -> Score:
    """Return the B-cubed score of a clustering."""
    own = {nodeid: ("cluster", clusters[nodeid]) if nodeid in clusters else ("alone", nodeid) for nodeid in labels}
    both = Counter((labels[nodeid], own[nodeid]) for nodeid in labels)
    true, found = Counter(labels.values()), Counter(own.values())
    precision = sum(count * count / found[cluster] for (_, cluster), count in both.items()) / len(labels)
    recall = sum(count * count / true[label] for (label, _), count in both.items()) / len(labels)
    return Score(precision, recall, 2 * precision * recall / (precision + recall), len(found))


def read_printed(file: Path, source: str) -> dict[str, Printed]:
    """Return what each failing test printed, by a key that `key` also makes of a node id."""
    with gzip.open(file, "rb") if file.suffix == ".gz" else file.open("rb") as stream:
        read = _read_reportlog if source == "reportlog" else _read_junit
        printed: dict[str, Printed] = {}
        for name, what in read(stream):
            printed.setdefault(name, what)
        return printed


def _read_reportlog(stream: Any) -> Iterator[tuple[str, Printed]]:
    for line in stream:
        report = json.loads(line)
        if report.get("outcome") == "failed" and report.get("longrepr"):
            shown = report["longrepr"]
            crash = shown.get("reprcrash") if isinstance(shown, dict) else None
            message = crash["message"] if crash else str(shown).strip().rpartition("\n")[2]
            yield report["nodeid"], Printed(message, f"{crash['path']}:{crash['lineno']}" if crash else "")


def _read_junit(stream: Any) -> Iterator[tuple[str, Printed]]:
    for _, case in ET.iterparse(stream):  # the reader's own labelled files
        if case.tag == "testcase":
            for child in case:
                if child.tag in ("failure", "error"):
                    place = re.findall(r"^(\S+:\d+): ", child.text or "", re.MULTILINE)
                    name = f"{case.get('classname')}.{case.get('name')}"
                    yield name, Printed(child.get("message") or "", place[-1] if place else "")
            case.clear()


def key(nodeid: str, source: str) -> str:
    """Return the key under which `read_printed` knows a test."""
    if source == "reportlog":
        return nodeid
    path, _, rest = nodeid.partition("::")
    return ".".join([path.removesuffix(".py").replace("/", "."), *rest.split("::")])


def masked(printed: Printed) -> str:
    """Return the first line of a message without numbers, addresses and quoted text."""
    line = printed.message.partition("\n")[0]
    for pattern, stand_in in _MASKS:
        line = pattern.sub(stand_in, line)
    return line


BASELINES: dict[str, Callable[[str, Printed], Hashable]] = {
    "type and masked first line": lambda _, printed: masked(printed),
    "place of the crash": lambda _, printed: (printed.message.partition(":")[0], printed.place),
    "all together": lambda _, __: 0,
    "each alone": lambda nodeid, _: nodeid,
}


def add_scores(scenario: Scenario, source: str) -> None:
    """Score TraceTriage's clusters and the baselines."""
    scenario.scores[OURS] = score(scenario.labels, scenario.clusters)
    printed = read_printed(scenario.file, source)
    seen = {nodeid: printed[key(nodeid, source)] for nodeid in scenario.labels if key(nodeid, source) in printed}
    for name, baseline in BASELINES.items():
        scenario.scores[name] = score(scenario.labels, {nodeid: baseline(nodeid, what) for nodeid, what in seen.items()})


def _parts(function: str) -> list[str]:
    return function.replace("<locals>.", "").split(".")


def _same_file(suspect: Mapping[str, Any], fault: Mapping[str, Any]) -> bool:
    given, wanted = str(suspect["file"]).replace("\\", "/"), str(fault["file"])
    return given == wanted or given.endswith(f"/{wanted}")


def _same_function(suspect: Mapping[str, Any], fault: Mapping[str, Any]) -> bool:
    if not _same_file(suspect, fault):
        return False
    if not suspect.get("function"):
        first, last = fault.get("function_lines") or (0, -1)
        return bool(first <= (suspect.get("line") or -1) <= last)
    given, wanted = _parts(suspect["function"]), _parts(fault["function"])
    return wanted[-len(given) :] == given


def add_places(scenario: Scenario) -> None:
    """Look each fault up among the suspects of the cluster that holds most of its tests."""
    holds: dict[str, Counter[str]] = defaultdict(Counter)
    for nodeid, label in scenario.labels.items():
        holds[label][scenario.clusters.get(nodeid, "")] += 1
    for fault in scenario.faults:
        if not fault.get("file") or not fault.get("function") or fault["id"] not in holds:
            continue
        suspects = scenario.suspects.get(holds[fault["id"]].most_common(1)[0][0], [])
        files = list(dict.fromkeys(suspect["file"] for suspect in suspects))
        row = {f"function@{rank}": any(_same_function(one, fault) for one in suspects[:rank]) for rank in RANKS}
        row |= {f"file@{rank}": any(_same_file({"file": one}, fault) for one in files[:rank]) for rank in RANKS}
        scenario.places.append({name: float(hit) for name, hit in row.items()})


def mean(values: list[float]) -> float:
    """Return the mean."""
    return sum(values) / len(values)


def overall(scenarios: list[Scenario]) -> list[dict[str, object]]:
    """Return the macro means of all methods."""
    rows: list[dict[str, object]] = []
    for name in (OURS, *BASELINES):
        scores = [scenario.scores[name] for scenario in scenarios]
        row: dict[str, object] = {"": name}
        row |= {part: mean([getattr(one, part) for one in scores]) for part in ("precision", "recall", "f1")}
        rows.append({**row, "clusters": mean([float(one.clusters) for one in scores])})
    causes = mean([float(len(set(scenario.labels.values()))) for scenario in scenarios])
    return [*rows, {"": "the truth", "precision": 1.0, "recall": 1.0, "f1": 1.0, "clusters": causes}]


def grouped(groups: Mapping[str, list[Scenario]]) -> list[dict[str, object]]:
    """Return one row a group: TraceTriage's means, and F1 of the baselines."""
    rows: list[dict[str, object]] = []
    for name, scenarios in groups.items():
        ours = [scenario.scores[OURS] for scenario in scenarios]
        row: dict[str, object] = {"": name, "tests": sum(len(scenario.labels) for scenario in scenarios)}
        row |= {part: mean([getattr(one, part) for one in ours]) for part in ("precision", "recall", "f1")}
        for baseline in BASELINES:
            row[f"f1: {baseline}"] = mean([scenario.scores[baseline].f1 for scenario in scenarios])
        rows.append(row)
    return rows


def localisation(scenarios: list[Scenario]) -> list[dict[str, object]]:
    """Return the shares of faults whose place is among the first suspects."""
    hits = [row for scenario in scenarios for row in scenario.places]
    if not hits:
        return []
    return [{"": OURS, "faults": len(hits), **{name: mean([row[name] for row in hits]) for name in hits[0]}}]


def write_predictions(scenarios: list[Scenario], folder: Path) -> None:
    """Write what an external scorer reads."""
    folder.mkdir(parents=True, exist_ok=True)
    for scenario in scenarios:
        (folder / f"{scenario.name}.json").write_text(json.dumps(scenario.clusters, indent=1), encoding="utf-8")
        suspects = json.dumps(scenario.suspects, indent=1)
        (folder / f"{scenario.name}.suspects.json").write_text(suspects, encoding="utf-8")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument(
        "--source", choices=list(SOURCES), default="reportlog", help="which file to read (default: %(default)s)"
    )
    parser.add_argument("--coverage", action="store_true", help="with the maps of green runs, where the folder has them")
    parser.add_argument("--changes", action="store_true", help="with --coverage: say which functions changed")
    parser.add_argument("--verbose", "-v", action="store_true", help="also a row for each scenario")
    parser.add_argument("--predictions", type=Path, metavar="DIR", help="write clusters and suspects to this folder")
    add_json_option(parser)
    given = parser.parse_args()
    scenarios = read_scenarios(given.folder.resolve(), given.source)
    if not scenarios:
        parser.error(f"{given.folder} has no sub-folder with labels.json and {SOURCES[given.source]}")
    packages: dict[str, list[Scenario]] = defaultdict(list)
    for scenario in scenarios:
        packages[scenario.package].append(scenario)
    maps = {package: read_coverage(given.folder, package) if given.coverage else None for package in packages}
    with tempfile.TemporaryDirectory(prefix="clustering-") as scratch:
        for scenario in scenarios:
            if (green := maps[scenario.package]) is not None:
                red = read_map(given.folder / "_red" / scenario.name, RED_FILE)
                predict_with_coverage(scenario, green, red, changes=given.changes)
            else:
                predict(scenario, Path(scratch).resolve())
            add_scores(scenario, given.source)
            add_places(scenario)
    figures = {"overall": overall(scenarios), "packages": grouped(packages), "localisation": localisation(scenarios)}
    table(
        f"B-cubed, macro mean of {len(scenarios)} scenarios, {len(packages)} packages, from {given.source}",
        figures["overall"],
    )
    table("By package", figures["packages"])
    figures["places"] = [{**row, "": name} for name, some in packages.items() for row in localisation(some)]
    if given.verbose:
        figures["scenarios"] = grouped({scenario.name: [scenario] for scenario in scenarios})
        table("By scenario", figures["scenarios"])
    if figures["localisation"]:
        table("Localisation, for each fault", figures["localisation"])
        table("Localisation, by package", figures["places"])
    if given.predictions:
        write_predictions(scenarios, given.predictions)
    write_json(given.json, figures)


if __name__ == "__main__":
    main()
