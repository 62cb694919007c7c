"""What a run counts, without looking at any failure: its totals, as pytest counts them, and whether it holds spans at all."""

from __future__ import annotations

import mmap
from typing import TYPE_CHECKING

import msgspec

from pytest_tracetriage.model.run import PASS_RATE, Figure, Totals
from pytest_tracetriage.model.trace import FAILING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from pytest_tracetriage.model.trace import Outcome


_COUNTED = {
    "passed": "passed", "failed": "failed", "error": "errors", "skipped": "skipped", "xfailed": "xfailed", "xpassed": "xpassed",
    "timeout": "timeouts", "crashed": "crashed", "stuck": "stuck",
}  # fmt: skip


class _Head(msgspec.Struct, gc=False):
    record: str
    nodeid: str = ""
    outcome: str = ""
    rerun: bool = False
    subtest: str = ""


def count(counts: dict[str, int], outcome: str, *, rerun: bool, subtest: bool) -> None:
    """Count one attempt into `counts`, as pytest would."""
    if rerun:
        counts["flaky"] = counts.get("flaky", 0) + 1
        return
    if subtest and outcome not in FAILING:
        return
    name = _COUNTED.get(outcome, "errors")
    counts[name] = counts.get(name, 0) + 1
    if not subtest:
        counts["tests"] = counts.get("tests", 0) + 1


def totals_of(outcomes: Mapping[Outcome, int]) -> Totals:
    """Return the totals of tests of which none failed or was run again, from how many ended how."""
    counts = {_COUNTED[outcome]: number for outcome, number in outcomes.items()}
    return Totals(tests=sum(outcomes.values()), **counts)


def pass_rate(totals: Totals) -> dict[str, Figure]:
    """Return the share of tests that passed, in [0, 1], as a metric under its name; nothing where no test ran."""
    return {PASS_RATE: Figure(totals.passed / totals.tests, "ratio", totals.tests)} if totals.tests else {}


def count_run(folder: Path) -> tuple[Totals, bool]:
    """Return the totals of a run folder, and whether anything in it failed (`failures` is left to triage)."""
    counts: dict[str, int] = {}
    failing = False
    collected: set[str] = set()
    decode = msgspec.json.Decoder(_Head).decode
    for path in sorted((folder / "traces").glob("*.jsonl")):
        with path.open("rb") as file:
            for line in file:
                try:
                    head = decode(line)
                except (msgspec.MsgspecError, RecursionError):
                    continue  # told by whoever analyses the run
                if head.record == "trace":
                    if b'"phase":"collect"' in line:  # every xdist worker collects, and reports what it could not
                        if head.nodeid in collected:
                            continue
                        collected.add(head.nodeid)
                    count(counts, head.outcome, rerun=head.rerun, subtest=bool(head.subtest))
                    failing = failing or (head.outcome in FAILING and not head.rerun)
    return Totals(**counts), failing


_HEADS = (b'{"record":"span"', b'{"record":"metric"')


def holds_spans(folder: Path) -> bool:
    """Return whether a run's folder holds a span or a metric; True too where only reading it can tell."""
    for path in sorted((folder / "traces").glob("*.jsonl*")):
        if path.suffix != ".jsonl":
            return True
        try:
            with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as held:
                if any(held.find(head) >= 0 for head in _HEADS):
                    return True
        except ValueError:  # an empty file cannot be mapped
            continue
        except OSError:
            return True
    return False
