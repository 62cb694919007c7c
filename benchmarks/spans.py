"""What a span costs: CPU a call of a `@weave.op`, over weave with a trace server that writes SQLite.

    python benchmarks/spans.py
    python benchmarks/spans.py --calls 2000 --rounds 7 --json spans.json

Three variants take turns in one process, in an order that rotates: no client at all, weave over an in-process server
that keeps each call in a SQLite file (two upserts a call), and TraceTriage's server, which writes each finished call as a
redacted span. Of each variant the fastest round counts; CPU is that of the process.
"""

from __future__ import annotations

import argparse
import json
import os
import sqlite3
import tempfile
import threading
import time
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace as Answer
from typing import Any

from tools import add_json_option, table, write_json

from pytest_tracetriage.capture.spans.sink import SpanSink
from pytest_tracetriage.capture.spans.weave_adapter import Weave
from pytest_tracetriage.capture.spans.weave_calls import Naming
from pytest_tracetriage.capture.spans.weave_server import LocalServer
from pytest_tracetriage.redact import Redactor, environment_secrets
from pytest_tracetriage.store.writer import Writer

COLUMNS = (
    "id", "project_id", "op_name", "display_name", "trace_id", "parent_id", "thread_id", "turn_id", "started_at", "ended_at",
    "deleted_at", "exception", "attributes", "inputs", "output", "summary", "wb_user_id", "wb_run_id", "wb_run_step",
    "wb_run_step_end",
)  # fmt: skip
JSON = frozenset({"attributes", "inputs", "output", "summary"})


class SQLiteServer:
    """Keeps each call in a table, its start and its end as one upsert each."""

    def __init__(self, path: Path) -> None:
        self._lock = threading.Lock()
        self._db = sqlite3.connect(path, isolation_level=None)
        self._db.execute("pragma journal_mode=wal")
        self._db.execute("pragma synchronous=normal")
        self._db.execute(f"create table calls({','.join(c + ' primary key' if c == 'id' else c for c in COLUMNS)})")
        for column in ("trace_id", "parent_id"):
            self._db.execute(f"create index by_{column} on calls({column})")

    def call_start(self, req: Any) -> Any:
        """Insert what is known of a call that begins."""
        start = _plain(req)["start"]
        self._upsert(start)
        return Answer(id=start["id"], trace_id=start["trace_id"])

    def call_end(self, req: Any) -> Any:
        """Add what is known of a call that has ended."""
        self._upsert(_plain(req)["end"])
        return {}

    def obj_create(self, req: Any) -> Any:
        """Keep nothing of an object."""
        return Answer(digest="x" * 43, object_id=_plain(req)["obj"]["object_id"])

    def file_create(self, req: Any) -> Any:
        """Keep nothing of a file."""
        return Answer(digest="x" * 43)

    def projects_info(self, req: Any) -> list[Any]:
        """Know no project."""
        return []

    def _upsert(self, call: dict[str, Any]) -> None:
        row = {key: _column(key, value) for key, value in call.items() if key in COLUMNS and value is not None}
        names = ",".join(row)
        sets = ",".join(f"{name}=excluded.{name}" for name in row)
        marks = ",".join("?" * len(row))
        text = f"insert into calls({names}) values({marks}) on conflict(id) do update set {sets}"
        with self._lock:
            self._db.execute(text, list(row.values()))


def _column(key: str, value: Any) -> Any:
    if key in JSON:
        return json.dumps(value, default=repr, sort_keys=True)
    return value.isoformat() if isinstance(value, datetime) else value


def _plain(req: Any) -> Any:
    return req.model_dump(by_alias=True) if hasattr(req, "model_dump") else req


def ours(folder: Path, weave: Weave) -> Any:
    """Return TraceTriage's server over a sink that redacts and writes, with all that a run has."""
    redactor = Redactor(os.urandom(32), [*environment_secrets(os.environ), "a-secret-of-the-project"])
    SpanSink(Writer(folder, "main"), redactor, "main", lambda: "main.1", print).connect()
    return LocalServer(Naming(("Tester", "Triage", "Fixer", "Verifier")), weave.current_call)


def measure(calls: int, rounds: int) -> dict[str, float]:
    """Return microseconds of CPU a call, by variant."""
    weave = Weave()

    @weave.module.op
    def work(text: str, options: dict[str, Any]) -> dict[str, Any]:
        return {"text": text, "options": options}

    def run() -> float:
        began = time.process_time()
        for number in range(calls):
            work(f"a question about order {number}", {"depth": 3, "words": ["one", "two", "three"]})
        return (time.process_time() - began) / calls * 1e6

    with tempfile.TemporaryDirectory() as scratch:
        servers = {
            "no client": None,
            "weave + SQLite": SQLiteServer(Path(scratch, "calls.db")),
            "weave + TraceTriage": ours(Path(scratch), weave),
        }
        best = dict.fromkeys(servers, float("inf"))
        order = list(servers)
        for number in range(rounds + 1):  # the first round warms up
            for name in order[number % 3 :] + order[: number % 3]:
                if servers[name] is not None:
                    weave.connect_local(servers[name])
                spent = run()
                if servers[name] is not None:
                    weave.disconnect()
                if number:
                    best[name] = min(best[name], spent)
    return best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=1_000)
    parser.add_argument("--rounds", type=int, default=5)
    add_json_option(parser)
    options = parser.parse_args()
    best = measure(options.calls, options.rounds)
    base = best["weave + SQLite"]
    rows = [
        {"variant": name, "CPU us": f"{spent:.0f}", "over SQLite": f"{spent / base - 1:+.0%}"} for name, spent in best.items()
    ]
    table("CPU of one call of an op", rows)
    write_json(options.json, {"cpu_us": best, "over": best["weave + TraceTriage"] / base - 1})


if __name__ == "__main__":
    main()
