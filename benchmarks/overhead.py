"""What TraceTriage and its peers cost, against plain pytest in the same run.

    python benchmarks/overhead.py
    python benchmarks/overhead.py --sections failing --rounds 9 --json overhead.json
    python benchmarks/overhead.py --peers tracetriage,junitxml --tests 200 --memory-tests 1000

Sections:
  instructions  instructions of a passing test, of an idle start (installed, not switched on) and of a start when on.
                Needs valgrind (cachegrind without cache simulation); repeatable to about 0.1 %.
  idle          where the instructions of TraceTriage's idle start go. Needs valgrind.
  calls         system calls of a passing test, and how many fsyncs. Needs strace.
  memory        peak resident size with many passing tests.
  failing       wall time of a suite whose tests all fail from one cause, ten frames deep. Every round runs every
                variant once, in an order that rotates; a ratio is taken within its round, its median over rounds.

Each peer is installed into an environment of its own, with the same pytest, because the mere presence of a plugin
costs: pytest walks the files of its distribution. The environments are kept in the folder given by --venvs. TraceTriage
is built as a wheel and installed afresh each time.
"""

from __future__ import annotations

import argparse
import itertools
import os
import platform
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import suites
from tools import ROOT, Cost, add_json_option, clean_environment, measure, table, write_json

SECTIONS = ("instructions", "idle", "calls", "memory", "failing")
OURS = "tracetriage"
OURS_ON = ("--tracetriage", "-o", "tracetriage_dir={out}/tracetriage")
JUNIT = "--junitxml={out}/report.xml"


@dataclass(frozen=True)
class Peer:
    """A way to record a run: what to install beside pytest, and what switches it on."""

    package: str
    on: tuple[str, ...]


PEERS = {
    "plain": Peer("", ()),
    "junitxml": Peer("", (JUNIT,)),
    "reportlog": Peer("pytest-reportlog", ("--report-log={out}/report.jsonl",)),
    "json-report": Peer("pytest-json-report", ("--json-report", "--json-report-file={out}/report.json")),
    "html": Peer("pytest-html", ("--html={out}/report.html", "--self-contained-html")),
    "allure": Peer("allure-pytest", ("--alluredir={out}/allure",)),
    OURS: Peer(OURS, OURS_ON),
}


class Bench:
    """The environments, a scratch folder, and ways to run pytest in them."""

    def __init__(self, venvs: Path, pytest_version: str, scratch: Path) -> None:
        """Environments are told apart by Python and pytest, so that versions are never mixed."""
        self.venvs = venvs / f"py{platform.python_version()}-pytest{pytest_version}"
        self.pytest_version = pytest_version
        self.scratch = scratch
        self._outs = 0

    def folder(self, peer: str) -> Path:
        """Return the environment of a peer. Peers that install nothing share plain's."""
        return self.venvs / (peer if PEERS[peer].package else "plain")

    def python(self, peer: str) -> Path:
        """Return the interpreter of a peer."""
        return self.folder(peer) / ("Scripts/python.exe" if os.name == "nt" else "bin/python")

    def install(self, peer: str, wheel: Path) -> None:
        """Make the environment of a peer, unless it is there. The wheel under test is always installed afresh."""
        done, package = self.folder(peer) / "done", PEERS[peer].package
        if not done.exists():
            shutil.rmtree(self.folder(peer), ignore_errors=True)
            subprocess.run([sys.executable, "-m", "venv", self.folder(peer)], check=True)
            wanted = [str(wheel) if peer == OURS else package] if package else []
            self._pip(peer, f"pytest=={self.pytest_version}", *wanted)
            done.touch()
        if peer == OURS:
            self._pip(peer, "--force-reinstall", "--no-deps", str(wheel))

    def _pip(self, peer: str, *arguments: str) -> None:
        quiet = ("--quiet", "--disable-pip-version-check", "--no-warn-script-location")
        subprocess.run([self.python(peer), "-m", "pip", "install", *quiet, *arguments], check=True)

    def command(self, peer: str, *arguments: str, on: bool = True) -> list[str]:
        """Return the command that runs pytest, with a fresh folder for what it writes."""
        self._outs += 1
        out = self.scratch / f"out-{self._outs}"
        out.mkdir()
        switches = PEERS[peer].on if on else ()
        filled = [argument.replace("{out}", str(out)) for argument in (*switches, *arguments)]
        return [str(self.python(peer)), "-m", "pytest", "-q", *filled]

    def run(self, peer: str, suite: Path, *arguments: str, on: bool = True) -> Cost:
        """Run a suite and return its cost."""
        cost = measure(self.command(peer, *arguments, on=on), suite, self.scratch / "printed.txt")
        if cost.status not in (0, 1):
            printed = (self.scratch / "printed.txt").read_text(encoding="utf-8", errors="replace")
            sys.exit(f"{peer}: pytest exited with {cost.status}:\n{printed[-2000:]}")
        return cost

    def warm(self, peer: str) -> None:
        """Let Python and pytest write their caches of everything but the measured suites."""
        suite = suites.passing(self.scratch / "warm", 1, 1)
        for on in (False, True):
            self.run(peer, suite, on=on)

    def _traced(self, tracer: list[str], command: list[str], suite: Path) -> str:
        environment = clean_environment(PYTHONDONTWRITEBYTECODE="1")
        run = subprocess.run(
            [*tracer, *command],
            cwd=suite,
            env=environment,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )
        if run.returncode not in (0, 1):
            sys.exit(f"{' '.join(command)} exited with {run.returncode}:\n{run.stdout[-1000:]}{run.stderr[-1000:]}")
        return run.stderr

    def instructions(self, peer: str, suite: Path, *arguments: str, on: bool) -> int:
        """Return how many instructions a whole pytest process executes, without those of the kernel."""
        tracer = ["valgrind", "--tool=cachegrind", "--cache-sim=no", "--cachegrind-out-file=/dev/null"]
        said = self._traced(tracer, self.command(peer, *arguments, on=on), suite)
        found = re.search(r"I +refs: +([0-9,]+)", said)
        if not found:
            sys.exit(f"valgrind did not count instructions:\n{said[-1000:]}")
        return int(found[1].replace(",", ""))

    def calls(self, peer: str, suite: Path) -> tuple[int, int]:
        """Return how many system calls a whole pytest process makes, and how many of them are fsyncs."""
        counts = self.scratch / "calls.txt"
        self._traced(["strace", "-f", "-c", "-U", "name,calls", "-o", str(counts)], self.command(peer), suite)
        found = dict(re.findall(r"^(\w+) +(\d+)$", counts.read_text(encoding="utf-8"), re.MULTILINE))
        return int(found["total"]), sum(int(found.get(name, 0)) for name in ("fsync", "fdatasync"))


def build_wheel(scratch: Path) -> Path:
    """Build the project as it stands."""
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--disable-pip-version-check", "--no-deps"]
    subprocess.run([*command, "--wheel-dir", scratch, ROOT], check=True)
    return next(scratch.glob("pytest_tracetriage-*.whl"))


def instructions(bench: Bench, peers: list[str], given: argparse.Namespace) -> list[dict[str, object]]:
    """Count instructions: of a passing test, an idle start, a start when on."""
    one = suites.passing(bench.scratch / "one", 1, 1)
    many = suites.passing(bench.scratch / "many", given.tests, given.files)
    rows, base_start, base_test = [], 0, 0.0
    for peer in peers:
        start = bench.instructions(peer, one, on=True)
        test = (bench.instructions(peer, many, on=True) - start) / (given.tests - 1)
        idle = bench.instructions(peer, one, on=False) if PEERS[peer].package else None
        base_start, base_test = base_start or start, base_test or test
        rows.append(
            {
                "": peer,
                "M a passing test": test / 1e6,
                "against plain": percent(test, base_test),
                "M an idle start": None if idle is None else idle / 1e6,
                "idle against plain": None if idle is None else percent(idle, base_start),
                "M a start when on": start / 1e6,
                "on against plain": percent(start, base_start),
            }
        )
    table(f"Instructions in millions, {given.tests:,} passing tests in {given.files} files", rows)
    return rows


def percent(value: float, base: float) -> str:
    """Return the difference to the base in per cent."""
    return f"{(value - base) / base:+.1%}"


_EMPTY_PLUGIN = '"""Nothing."""\n'
_HOOKS_PLUGIN = """
def pytest_addhooks(pluginmanager):
    from pytest_tracetriage import hookspecs

    pluginmanager.add_hookspecs(hookspecs)
"""


def idle(bench: Bench, wheel: Path) -> list[dict[str, object]]:
    """Take TraceTriage's idle start apart, by installing it in parts. The environment is repaired afterwards."""
    suite = suites.passing(bench.scratch / "idle", 1, 1)
    packages = Path(
        subprocess.run(
            [bench.python(OURS), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
            capture_output=True, text=True, check=True,
        ).stdout.strip()
    )  # fmt: skip
    plugin = packages / "pytest_tracetriage" / "plugin.py"
    record = next(packages.glob("pytest_tracetriage-*.dist-info")) / "RECORD"
    whole_plugin, whole_record = plugin.read_bytes(), record.read_bytes()
    plain = bench.instructions("plain", suite, on=False)
    counted = [("plain pytest", plain)]

    def count(name: str, *arguments: str) -> None:
        subprocess.run([bench.python(OURS), "-m", "compileall", "-q", plugin], check=True)
        bench.run(OURS, suites.passing(bench.scratch / "warm", 1, 1), *arguments, on=False)
        counted.append((name, bench.instructions(OURS, suite, *arguments, on=False)))

    try:
        record.write_bytes(b"pytest_tracetriage/plugin.py,,\n")
        count("installed: dependencies and metadata", "-p", f"no:{OURS}")
        record.write_bytes(whole_record)
        count(f"RECORD ({len(whole_record.splitlines())} files)", "-p", f"no:{OURS}")
        plugin.write_text(_EMPTY_PLUGIN, encoding="utf-8")
        count("entry point, with an empty plugin")
        plugin.write_text(_HOOKS_PLUGIN, encoding="utf-8")
        count("hookspecs")
        plugin.write_bytes(whole_plugin)
        count("options and the rest of plugin.py")
    finally:
        bench.install(OURS, wheel)
    rows: list[dict[str, object]] = [{"": "plain pytest", "M instructions": plain / 1e6, "of a start": None}]
    for (_, before), (name, after) in itertools.pairwise(counted):
        rows.append(
            {
                "": f"+ {name}",
                "M instructions": (after - before) / 1e6,
                "of a start": f"{(after - before) / plain:+.2%}",
            }
        )
    last = counted[-1][1]
    rows.append({"": "= idle start", "M instructions": last / 1e6, "of a start": percent(last, plain)})
    table("Where the instructions of TraceTriage's idle start go", rows)
    return rows


def calls(bench: Bench, peers: list[str], given: argparse.Namespace) -> list[dict[str, object]]:
    """Count system calls of a passing test."""
    one = suites.passing(bench.scratch / "calls-one", 1, 1)
    many = suites.passing(bench.scratch / "calls-many", given.tests, given.files)
    rows, base = [], None
    for peer in peers:
        (start, _), (whole, syncs) = bench.calls(peer, one), bench.calls(peer, many)
        test = (whole - start) / (given.tests - 1)
        base = test if base is None else base
        rows.append({"": peer, "calls a test": test, "more than plain": test - base, "fsyncs a run": syncs})
    table(f"System calls, {given.tests:,} passing tests in {given.files} files", rows)
    return rows


def interleave(
    bench: Bench, variants: dict[str, tuple[str, tuple[str, ...]]], suite: Path, rounds: int
) -> dict[str, list[Cost]]:
    """Run every variant once a round, in an order that rotates and turns round."""
    names = list(variants)
    costs: dict[str, list[Cost]] = {name: [] for name in names}
    for number in range(rounds):
        order = names[number % len(names) :] + names[: number % len(names)]
        for name in order if number % 2 == 0 else order[::-1]:
            peer, arguments = variants[name]
            costs[name].append(bench.run(peer, suite, *arguments))
            print(
                f"  round {number + 1} of {rounds}: {name:32} {costs[name][-1].wall:7.2f} s",
                file=sys.stderr,
                flush=True,
            )
    return costs


def memory(bench: Bench, peers: list[str], given: argparse.Namespace) -> list[dict[str, object]]:
    """Measure the peak resident size with many passing tests."""
    suite = suites.passing(bench.scratch / "memory", given.memory_tests, max(1, given.memory_tests // 100))
    costs = interleave(bench, {peer: (peer, ()) for peer in peers}, suite, max(1, min(given.rounds, 3)))
    peaks = {peer: statistics.median(cost.peak for cost in costs[peer]) for peer in peers}
    rows: list[dict[str, object]] = [
        {"": peer, "peak MiB": peak, "more than plain": peak - peaks[peers[0]]} for peer, peak in peaks.items()
    ]
    table(f"Peak memory, {given.memory_tests:,} passing tests", rows)
    return rows


def failing(bench: Bench, peers: list[str], given: argparse.Namespace) -> list[dict[str, object]]:
    """Measure the wall time of a suite that fails throughout from one cause."""
    suite = suites.failing(bench.scratch / "failing", given.tests, given.files)
    variants: dict[str, tuple[str, tuple[str, ...]]] = {peer: (peer, ()) for peer in peers}
    bases = dict.fromkeys(peers, "plain")
    if OURS in peers:
        variants.update({"plain --tb=long": ("plain", ("--tb=long",)), f"{OURS} --tb=long": (OURS, ("--tb=long",))})
        variants.update({"junitxml": ("plain", (JUNIT,)), f"{OURS} with junitxml": (OURS, (JUNIT,))})
        bases.update({f"{OURS} --tb=long": "plain --tb=long", f"{OURS} with junitxml": "junitxml"})
    costs = interleave(bench, variants, suite, given.rounds)

    def ratio(name: str, base: str, field: str) -> float:
        pairs = zip(costs[name], costs[base], strict=True)
        return statistics.median(getattr(one, field) / getattr(other, field) for one, other in pairs)

    rows: list[dict[str, object]] = []
    for name in variants:
        base = bases.get(name, "plain")
        row: dict[str, object] = {"": name, "wall s": statistics.median(cost.wall for cost in costs[name])}
        row |= {"wall against plain": ratio(name, "plain", "wall"), "CPU against plain": ratio(name, "plain", "cpu")}
        if base != "plain":
            row["wall against the same without TraceTriage"] = ratio(name, base, "wall")
        rows.append(row)
    title = f"Wall time, {given.tests:,} failures, {suites.FRAMES} frames, one cause; medians of {given.rounds} rounds"
    table(title, rows)
    return rows


def arguments() -> argparse.Namespace:
    """Return what was asked for."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tracetriage-benchmarks"
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sections", default=",".join(SECTIONS), help="which to measure (default: all)")
    parser.add_argument("--peers", default=",".join(PEERS), help="whom to measure; plain is always measured (default: all)")
    parser.add_argument("--tests", type=int, default=2000)
    parser.add_argument("--files", type=int, default=20)
    parser.add_argument("--memory-tests", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--pytest", default=version("pytest"), help="its version in all environments (default: %(default)s)")
    parser.add_argument("--venvs", type=Path, default=cache, help="where the environments are kept (default: %(default)s)")
    add_json_option(parser)
    given = parser.parse_args()
    given.sections, given.peers = given.sections.split(","), given.peers.split(",")
    for name, known in [*((name, SECTIONS) for name in given.sections), *((name, PEERS) for name in given.peers)]:
        if name not in known:
            parser.error(f"{name!r} is none of {', '.join(known)}")
    return given


def missing_tool(section: str) -> str:
    """Return the program that a section needs and that is not installed."""
    needed = {"instructions": "valgrind", "idle": "valgrind", "calls": "strace"}.get(section, "")
    return needed if needed and not shutil.which(needed) else ""


def main() -> None:
    """Measure and print."""
    given = arguments()
    peers = ["plain", *(peer for peer in PEERS if peer in given.peers and peer != "plain")]
    with tempfile.TemporaryDirectory(prefix="overhead-") as temporary:
        scratch = Path(temporary).resolve()
        bench = Bench(given.venvs, given.pytest, scratch)
        wheel = build_wheel(scratch)
        for peer in peers:
            bench.install(peer, wheel)
            bench.warm(peer)
        print(f"Python {platform.python_version()}, pytest {given.pytest}, {platform.platform()}, {os.cpu_count()} CPUs")
        figures: dict[str, object] = {"python": platform.python_version(), "pytest": given.pytest, "tests": given.tests}
        measures = {"instructions": instructions, "calls": calls, "memory": memory, "failing": failing}
        for section in SECTIONS:
            if section not in given.sections or (section == "idle" and OURS not in peers):
                continue
            if tool := missing_tool(section):
                print(f"\n{section}: left out, {tool} is not installed")
                continue
            figures[section] = idle(bench, wheel) if section == "idle" else measures[section](bench, peers, given)
        write_json(given.json, figures)


if __name__ == "__main__":
    main()
