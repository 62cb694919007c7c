"""How long `tracetriage analyze` takes for many failures, and how much memory.

    python benchmarks/throughput.py
    python benchmarks/throughput.py --failures 10k,100k --signatures 10000 --json throughput.json

For each number a run is generated in TraceTriage's own format: one record a failure, ten frames and at least 2 KB each,
messages with ids, paths, addresses and timings. Each signature occurs once; what is left is spread unevenly, a few
signatures having most of it, as in real life. 1M failures need about 3 GB of disk while they are measured (--folder
says where); the run is removed afterwards unless --keep is given.

`peak MiB` is the largest sum of the resident sizes of all processes of the command, sampled every 50 ms from /proc
(pages that processes share count for each of them); where there is no /proc it is that of the largest single process.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import json
import os
import platform
import random
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
from tools import Cost, add_json_option, clean_environment, program, table, wait, write_json

from pytest_tracetriage.model.run import RUN_SCHEMA, Run, Totals
from pytest_tracetriage.model.trace import Error, Failure, Frame, Source, Trace

if TYPE_CHECKING:
    from collections.abc import Iterator

RUN_ID = "20261120T043000Z-7f3a9c"
STARTED = 1_795_149_000
START_MARK = 1_234_567_890.5  # stands for the time in the encoded piece
BATCH = 2000
FUNCTIONS = 4000
DOMAINS = ("orders", "billing", "stock", "search", "users", "mail", "media", "export")
VERBS = ("load", "parse", "merge", "price", "render", "lock", "send", "count", "split", "check")
# @n@: a number of this failure, @h@: 12 hex digits, @p@: a port, @t@: milliseconds; {f}: a word of the function
MESSAGES = (
    ("KeyError", "'{f}_id'"),
    ("ValueError", "{f} @n@ has no price: expected a decimal, got 'n/a' in batch @h@"),
    ("AssertionError", "assert @n@ == @t@\n +  where @n@ = <{f}.Row object at 0x7f@h@>.total"),
    ("TimeoutError", "GET http://10.0.3.17:8080/v1/{f}/@n@ took @t@.25 ms, more than 3000 ms (request @h@)"),
    ("FileNotFoundError", "[Errno 2] No such file or directory: '/tmp/pytest-of-ci/pytest-@n@/{f}0/out-@h@.json'"),
    ("TypeError", "unsupported operand type(s) for +: 'NoneType' and '{f}'"),
    ("AttributeError", "'NoneType' object has no attribute '{f}'"),
    ("json.decoder.JSONDecodeError", "Expecting value: line @t@ column 1 (char @n@)"),
    ("{d}.errors.{F}Error", "{f} @n@ of tenant @h@ was refused after @t@ ms: state is 'closed'"),
    ("ConnectionResetError", "[Errno 104] Connection reset by peer: {f}-db:5432 from 127.0.0.1:@p@"),
    ("PermissionError", "[Errno 13] Permission denied: '/srv/{d}/{f}/@h@/lock'"),
    ("RuntimeError", "worker @p@ of {f} died with exit code 1 at 2026-11-20T04:30:00.@t@Z"),
)
PHASES = {"setup": 0.001234, "call": 0.045678, "teardown": 0.000345}
SHARED = 7  # frames above those of the signature
MARKS = {"@n@": "%(n)d", "@h@": "%(h)s", "@p@": "%(p)d", "@t@": "%(t)d", str(START_MARK): "%(start)d.25"}


def _frame(domain: str, layer: str, function: str, line: int) -> Frame:
    file = f"src/{domain}/{layer}.py"
    code = f"outcome = self.{function}_next(request, session=session, tenant=tenant)"
    source = hashlib.blake2b(f"{file} {function}".encode(), digest_size=8).hexdigest()
    return Frame(file, function, line, "app", code, f"{layer.title()}.{function}", source)


def _frames(signature: int) -> tuple[Frame, ...]:
    """Return the ten frames of a signature: the test, those that its domain shares, and its own function."""
    function = signature % FUNCTIONS
    domain, verb = DOMAINS[function % len(DOMAINS)], VERBS[function // len(DOMAINS) % len(VERBS)]
    test = Frame(
        f"tests/{domain}/test_{verb}_{function % 40}.py", f"test_{verb}_{function}", 21 + function % 300, "test",
        f"response = client.post('/{domain}/{verb}', json=payload, headers=headers)",
    )  # fmt: skip
    shared = [_frame(domain, f"layer{depth}", f"{verb}_step_{depth}", 40 + depth) for depth in range(SHARED)]
    own = _frame(domain, f"core_{function // 100}", f"{verb}_{domain}_{function}", 17 + function % 400)
    return (test, *shared, _frame(domain, "service", f"{verb}_{function % 97}", 88), own)


def _trace(signature: int) -> Trace:
    frames = _frames(signature)
    kind, message = MESSAGES[(signature // FUNCTIONS + signature) % len(MESSAGES)]
    word = frames[-1].function
    names = {"f": word, "F": word.title().replace("_", ""), "d": DOMAINS[signature % len(DOMAINS)]}
    error = Error(kind.format(**names), message.format(**names), frames)
    section = ("Captured log call", "INFO     service:service.py:88 tenant @h@: 1 of 3 attempts took @t@ ms\n" * 2)
    return Trace(
        id="main-@n@",
        nodeid=f"{frames[0].file}::{frames[0].function}[tenant-@h@-@n@]",
        outcome="failed",
        start=START_MARK,
        phases=PHASES,
        failure=Failure("call", (error,)),
        params={"tenant": "'@h@'", "serial": "@n@"},
        sections=(section,),
    )


def _piece(signature: int) -> bytes:
    """Return the encoded record of a signature, with places for what differs from failure to failure."""
    text = msgspec.json.encode(_trace(signature)).decode().replace("%", "%%")
    for mark, place in MARKS.items():
        text = text.replace(mark, place)
    return text.encode() + b"\n"


def _sources(signatures: int) -> Iterator[bytes]:
    seen = set()
    for signature in range(min(signatures, FUNCTIONS)):
        for frame in _frames(signature)[1:]:
            if frame.source not in seen:
                seen.add(frame.source)
                body = "".join(f"    step_{line} = prepare(request, {line})\n" for line in range(8))
                text = f"def {frame.function}(self, request, session, tenant):\n{body}    {frame.code}\n"
                yield (msgspec.json.encode(Source(frame.source, frame.file, frame.function, frame.line - 9, text)) + b"\n")


def _order(failures: int, signatures: int, chance: random.Random) -> Iterator[list[int]]:
    """Yield the signatures of all failures in batches: each once, the rest by a power law."""
    every = list(range(signatures))
    chance.shuffle(every)
    weights = list(itertools.accumulate(1 / (rank + 1) for rank in range(signatures)))
    popular = every[:]
    chance.shuffle(popular)
    for begin in range(0, failures, BATCH):
        size = min(BATCH, failures - begin)
        once = every[begin : begin + size]
        yield once + chance.choices(popular, cum_weights=weights, k=size - len(once))


def generate(folder: Path, failures: int, signatures: int) -> Path:
    """Write a run with this many failures and return its folder."""
    run = folder / "runs" / RUN_ID
    (run / "traces").mkdir(parents=True)
    totals = Totals(tests=failures, failed=failures, failures=failures)
    record = Run(RUN_SCHEMA, RUN_ID, "finished", STARTED, finished=STARTED + 3600.0, exit_status=1, totals=totals)
    (run / "run.json").write_bytes(msgspec.json.encode(record))
    chance = random.Random(20261120)
    pieces = [_piece(signature) for signature in range(signatures)]
    hexes = [b"%012x" % chance.getrandbits(48) for _ in range(4096)]
    serials = itertools.count(1)
    with (run / "traces" / "main.jsonl").open("wb", buffering=1 << 20) as stream:
        stream.writelines(_sources(signatures))
        for batch in _order(failures, signatures, chance):
            lines = []
            for signature, serial in zip(batch, serials, strict=False):
                h = hexes[serial * 2_654_435_761 >> 7 & 4095]
                values = {b"n": serial, b"h": h, b"p": 20_000 + serial % 40_000, b"t": serial * 7919 % 900_000}
                lines.append(pieces[signature] % {**values, b"start": STARTED + serial // 300})
            stream.write(b"".join(lines))
    return run


class Sampler(threading.Thread):
    """Watches the resident size of a process and all its descendants."""

    def __init__(self, pid: int) -> None:
        """Begin with `start()`."""
        super().__init__(daemon=True)
        self.pid = pid
        self.peak = 0.0
        self.done = threading.Event()

    def run(self) -> None:
        """Sample until told to stop."""
        while not self.done.wait(0.05):
            self.peak = max(self.peak, self._resident(self.pid))

    def _resident(self, pid: int) -> float:
        try:
            pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1])
            tasks = list(Path(f"/proc/{pid}/task").iterdir())
            children = [child for task in tasks for child in (task / "children").read_text(encoding="ascii").split()]
        except (OSError, IndexError):
            return 0.0
        return pages * os.sysconf("SC_PAGE_SIZE") / 2**20 + sum(self._resident(int(child)) for child in children)


def analyze(run: Path, output: Path) -> tuple[Cost, float]:
    """Analyse a run. Return what it cost, and the peak of all processes together."""
    command = [program(), "analyze", str(run), "--format", "json", "--output", str(output)]
    printed = output.with_suffix(".txt")
    with printed.open("wb") as stream:
        began = time.perf_counter()
        process = subprocess.Popen(command, cwd=output.parent, env=clean_environment(), stdout=stream, stderr=subprocess.STDOUT)
        sampler = Sampler(process.pid)
        sampler.start()
        cost = wait(process, began)
        sampler.done.set()
        sampler.join()
    if not output.exists():
        sys.exit(f"analyze exited with {cost.status}:\n{printed.read_text(encoding='utf-8', errors='replace')[-2000:]}")
    return cost, max(sampler.peak, cost.peak)


def measure(failures: int, given: argparse.Namespace) -> dict[str, object]:
    """Generate one run, analyse it, and return a row of the table."""
    folder = Path(tempfile.mkdtemp(prefix=f"throughput-{failures}-", dir=given.folder)).resolve()
    try:
        began = time.perf_counter()
        run = generate(folder, failures, min(given.signatures, failures))
        generated = time.perf_counter() - began
        size = (run / "traces" / "main.jsonl").stat().st_size
        costs = []
        for number in range(given.rounds):
            output = folder / f"analysis-{number}.json"
            costs.append(analyze(run, output))
            analysis = json.loads(output.read_bytes())
        cost, _ = min(costs, key=lambda pair: pair[0].wall)
        return {
            "failures": failures,
            "input MB": round(size / 1e6),
            "generated in s": generated,
            "wall s": cost.wall,
            "CPU s": cost.cpu,
            "us a failure": cost.wall / failures * 1e6,
            "peak MiB": round(max(peak for _, peak in costs)),
            "clusters": len(analysis["clusters"]),
            "counted": analysis["totals"]["failures"],
            "problems": len(analysis["problems"]),
        }
    finally:
        if given.keep:
            print(f"kept: {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)


def number(text: str) -> int:
    """Read `10k` and `1M`."""
    return int(float(text.rstrip("kM")) * {"k": 1000, "M": 1_000_000}.get(text[-1], 1))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--failures", default="10k,100k,1M", help="how many, separated by commas (default: %(default)s)")
    parser.add_argument("--signatures", type=number, default=10_000, help="how many kinds (default: 10k)")
    parser.add_argument("--rounds", type=int, default=1, help="the fastest counts; memory is the largest (default: 1)")
    parser.add_argument("--folder", type=Path, help="where runs are generated (default: the system's temporary folder)")
    parser.add_argument("--keep", action="store_true", help="keep what was generated")
    add_json_option(parser)
    given = parser.parse_args()
    if given.signatures > FUNCTIONS * len(MESSAGES):
        parser.error(f"at most {FUNCTIONS * len(MESSAGES):,} signatures can be told apart")
    rows = [measure(number(text), given) for text in given.failures.split(",")]
    where = f"Python {platform.python_version()}, {platform.platform()}, {os.cpu_count()} CPUs"
    table(f"tracetriage analyze, {given.signatures:,} signatures; {where}", rows)
    write_json(given.json, rows)


if __name__ == "__main__":
    main()
