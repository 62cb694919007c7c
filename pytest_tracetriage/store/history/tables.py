"""Runs as Parquet: which columns there are, what they mean, and how condensed runs become files.

Three tables: `tests` (a row a test and run), `clusters` (a row a cluster and run) and `run` (a row a run). A test costs bytes:
its outcome is a code, its duration the number of a logarithmic bucket, and sorted by node id all of it compresses well. In a
pack (many runs in one file) the bucket is kept as the difference from what is usual for that test, which is mostly near 0.
"""

from __future__ import annotations

import calendar
import math
import time
from datetime import datetime, timezone
from typing import TYPE_CHECKING

import msgspec

from pytest_tracetriage.model.analysis import Cluster
from pytest_tracetriage.model.history import Condensed, RunRecord
from pytest_tracetriage.store.history import HistoryError
from pytest_tracetriage.store.runs import RUN_ID

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from duckdb import DuckDBPyConnection

SCHEMA = "tracetriage.history/1"
KINDS = ("tests", "clusters", "run")
"""In the order of writing: the last makes the others visible."""
COLUMNS = {
    "tests": {
        "nodeid": "VARCHAR",
        "run": "BIGINT",
        "outcome": "UTINYINT",
        "retried": "USMALLINT",
        "usual": "SMALLINT",
        "apart": "SMALLINT",
    },
    "clusters": {
        "id": "VARCHAR",
        "run": "BIGINT",
        "seen": "VARCHAR",
        "name": "VARCHAR",
        "tests": "VARCHAR[]",
        "retried": "VARCHAR[]",
        "signatures": "VARCHAR[]",
        "cluster": "VARCHAR",
    },
    "run": {
        "run": "BIGINT",
        "schema": "VARCHAR",
        "tests": "BIGINT",
        "clusters": "BIGINT",
        "record": "VARCHAR",
    },
}
"""Name and type of each column. `run` is `run_key` of the run's id; `record` and `cluster` are JSON."""
ORDER = {"tests": "nodeid, run", "clusters": "id, run", "run": "run"}

OUTCOMES = ("", "passed", "failed", "error", "skipped", "xfailed", "xpassed", "timeout", "crashed", "stuck")
"""An outcome's code is its place here; what stands not here is kept as 0. Only ever add to the end."""
PASSED, SKIPPED = OUTCOMES.index("passed"), OUTCOMES.index("skipped")
RED = tuple(OUTCOMES.index(outcome) for outcome in ("failed", "error", "timeout", "crashed", "stuck"))

_STEP = math.log(1.1)
_WIDEST = 7000
_NO_TIME = -_WIDEST - 1  # no time at all has no logarithm
_MOST = 65_535

_INSERT = {
    "tests": """
        INSERT INTO new_tests SELECT unnest(from_json($1::VARCHAR, '["VARCHAR"]')), $2::BIGINT,
        unnest(from_json($3::VARCHAR, '["UTINYINT"]')), unnest(from_json($4::VARCHAR, '["USMALLINT"]')), 0,
        unnest(from_json($5::VARCHAR, '["SMALLINT"]'))
    """,
    "clusters": """
        INSERT INTO new_clusters SELECT unnest(from_json($1::VARCHAR, '["VARCHAR"]')), $2::BIGINT,
        unnest(from_json($3::VARCHAR, '["VARCHAR"]')), unnest(from_json($4::VARCHAR, '["VARCHAR"]')),
        unnest(from_json($5::VARCHAR, '["VARCHAR[]"]')), unnest(from_json($6::VARCHAR, '["VARCHAR[]"]')),
        unnest(from_json($7::VARCHAR, '["VARCHAR[]"]')), unnest(from_json($8::VARCHAR, '["VARCHAR"]'))
    """,
}
_CREATE = {
    kind: f"CREATE TEMP TABLE new_{kind} (" + ", ".join(f"{name} {form}" for name, form in columns.items()) + ")"
    for kind, columns in COLUMNS.items()
}
_SELECT = {kind: f"SELECT * FROM new_{kind} WHERE run = $1 ORDER BY {order}" for kind, order in ORDER.items()}  # noqa: S608
_PARQUET = "(FORMAT parquet, PARQUET_VERSION v2, COMPRESSION zstd, COMPRESSION_LEVEL 9)"


def bucket(seconds: float) -> int:
    """Return the number of the bucket of a duration: each is 10 % wider than the one before."""
    if not math.isfinite(seconds) or seconds <= 0:
        return _NO_TIME
    return max(-_WIDEST, min(_WIDEST, round(math.log(seconds) / _STEP)))


def seconds(number: int) -> float:
    """Return the middle of a bucket: at most 5 % from what was put in."""
    return 0.0 if number <= _NO_TIME else 1.1**number


def run_key(identity: str) -> int:
    """Return a run's id as the number that stands for it in every file. It sorts as the id does. Raises HistoryError."""
    try:
        if not RUN_ID.fullmatch(identity) or not identity.isascii():
            raise ValueError
        moment = calendar.timegm(time.strptime(identity[:16], "%Y%m%dT%H%M%SZ"))
        if run_id(key := (moment << 24) | int(identity[17:], 16)) != identity:  # the 60th second of a minute
            raise ValueError
    except (ValueError, OverflowError):
        raise HistoryError(f"{identity[:80]!r} is not a run id such as 20261120T043000Z-7f3a9c: it cannot be added") from None
    return key


def run_id(key: int) -> str:
    """Return the run id of a key. Raises OverflowError or ValueError for a number that is none."""
    moment = datetime.fromtimestamp(key >> 24, timezone.utc)
    return f"{moment.year:04d}{moment:%m%dT%H%M%SZ}-{key & 0xFFFFFF:06x}"


def text(value: str) -> str:
    """Return `value` as Parquet can hold it: a lone surrogate becomes what Python's escape of it looks like."""
    return value if value.isascii() else value.encode("utf-8", "backslashreplace").decode()


def as_json(value: object) -> str:
    """Return anything that msgspec knows as JSON, lone surrogates escaped as `text` does."""
    try:
        return msgspec.json.encode(value).decode()
    except UnicodeEncodeError:
        return msgspec.json.encode(_clean(msgspec.to_builtins(value))).decode()


def insert(sql: DuckDBPyConnection, items: Iterable[Condensed]) -> None:
    """Make the tables `new_tests` and `new_clusters` from condensed runs. Raises HistoryError for a run id that is none."""
    for kind in ("tests", "clusters"):
        sql.execute(_CREATE[kind])
    for item in items:
        key = run_key(item.run.id)
        tests = list({text(test.nodeid): test for test in item.tests}.items())
        columns: list[Sequence[object]] = [
            [nodeid for nodeid, _ in tests],
            [OUTCOMES.index(test.outcome) if test.outcome in OUTCOMES else 0 for _, test in tests],
            [max(0, min(_MOST, test.retried)) for _, test in tests],
            [bucket(test.duration) for _, test in tests],
        ]
        if tests:
            sql.execute(_INSERT["tests"], [as_json(columns[0]), key, *map(as_json, columns[1:])])
        if clusters := {record.cluster.id: record for record in item.clusters}:
            records = list(clusters.values())
            columns = [
                list(clusters),
                [record.cluster.seen for record in records],
                [record.cluster.name for record in records],
                [record.tests for record in records],
                [record.retried for record in records],
                [[signature.id for signature in record.cluster.signatures] for record in records],
                [as_json(_bare(record.cluster)) for record in records],
            ]
            sql.execute(_INSERT["clusters"], [as_json(columns[0]), key, *map(as_json, columns[1:])])


def encode(sql: DuckDBPyConnection, items: Sequence[Condensed], scratch: Path) -> dict[str, dict[str, bytes]]:
    """Return the files of each run, by its id and their kind, in the order of writing. Raises HistoryError."""
    insert(sql, items)
    sql.execute(_CREATE["run"])
    pieces = {}
    for item in items:
        key = run_key(item.run.id)
        counts = [_count(sql, "SELECT count(*) FROM new_tests WHERE run = $1", key)]
        counts.append(_count(sql, "SELECT count(*) FROM new_clusters WHERE run = $1", key))
        sql.execute("INSERT INTO new_run VALUES ($1, $2, $3, $4, $5)", [key, SCHEMA, *counts, as_json(_finite(item.run))])
        kinds = [kind for kind, count in zip(KINDS, (*counts, 1), strict=True) if count]
        pieces[item.run.id] = {kind: write(sql, _SELECT[kind], [key], scratch / f"{kind}.parquet") for kind in kinds}
    return pieces


def write(sql: DuckDBPyConnection, query: str, values: Sequence[object], path: Path) -> bytes:
    """Return what a query answers, as the bytes of a Parquet file. `path` is used in between."""
    sql.execute(f"COPY ({query}) TO ${len(values) + 1} {_PARQUET}", [*values, str(path)])
    data = path.read_bytes()
    path.unlink()
    return data


def read_run(record: str) -> RunRecord:
    """Return a run from its JSON. Raises msgspec.MsgspecError."""
    return msgspec.json.decode(record, type=RunRecord)


def read_cluster(cluster: str) -> Cluster:
    """Return a cluster from its JSON. Raises msgspec.MsgspecError."""
    return msgspec.json.decode(cluster, type=Cluster)


def _count(sql: DuckDBPyConnection, query: str, key: int) -> int:
    row = sql.execute(query, [key]).fetchone()
    return int(row[0]) if row else 0


def _bare(cluster: Cluster) -> Cluster:
    """Leave out the exemplar, which its trace holds, and scores that JSON cannot."""
    suspects = tuple(suspect for suspect in cluster.suspects if math.isfinite(suspect.score))
    return msgspec.structs.replace(cluster, exemplar=None, suspects=suspects)


def _finite(run: RunRecord) -> RunRecord:
    metrics = {name: value for name, value in run.metrics.items() if math.isfinite(value)}
    times = {name: getattr(run, name) if math.isfinite(getattr(run, name)) else 0.0 for name in ("started", "finished")}
    return msgspec.structs.replace(run, metrics=metrics, **times)


def _clean(value: object) -> object:
    if isinstance(value, str):
        return text(value)
    if isinstance(value, dict):
        return {_clean(key): _clean(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_clean(item) for item in value]
    return value
