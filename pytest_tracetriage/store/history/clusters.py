"""What the history says of clusters: since when, how often, open or gone, each run that showed one, and whether it is flaky."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from msgspec import Struct

from pytest_tracetriage.model.history import ClusterHistory, ClusterRun, Evidence, Seen
from pytest_tracetriage.store.history import HistoryError, one_line
from pytest_tracetriage.store.history.pieces import Spell, numbered, spell
from pytest_tracetriage.store.history.queries import select, spots_of
from pytest_tracetriage.store.history.reading import Unreadable
from pytest_tracetriage.store.history.tables import PASSED, as_json, read_cluster, run_key, text

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from duckdb import DuckDBPyConnection

    from pytest_tracetriage.model.analysis import Cluster
    from pytest_tracetriage.model.history import Condensed, Word
    from pytest_tracetriage.store.history.pieces import Entry
    from pytest_tracetriage.store.history.reading import View


class _Row(Struct, frozen=True):
    entry: Entry
    group: int
    word: Word
    tests: int


_WORDS = """
    SELECT id, run, place, CASE WHEN seen = 'fixed' THEN 'fixed' WHEN len(tests) > 0 THEN 'red' ELSE 'retried' END AS word,
    CASE WHEN word = 'retried' THEN len(retried) ELSE len(tests) END
    FROM clusters JOIN runs USING (run) WHERE starts_with(id, $1) ORDER BY id, run
"""
_WANTED = """
    WITH wanted AS (
        SELECT unnest(from_json($1::VARCHAR, '["VARCHAR"]')) AS id, unnest(from_json($2::VARCHAR, '["BIGINT"]')) AS run
    )
"""
_TESTS = _WANTED + "SELECT DISTINCT id, unnest(tests) FROM clusters SEMI JOIN wanted USING (id, run)"  # noqa: S608
_CLUSTERS = _WANTED + "SELECT id, run, cluster FROM clusters SEMI JOIN wanted USING (id, run) ORDER BY id, run"  # noqa: S608
_SIGNATURES = """
    SELECT DISTINCT id, unnest(signatures) FROM clusters JOIN runs USING (run) WHERE seen <> 'fixed'
"""


def seen(view: View, branch: str | None, before_run: str, since: float, exclude: str) -> list[Seen]:
    """Return the clusters that these runs showed, oldest first. One that they only showed fixed is none of them."""
    chosen = select(view, branch, since, before_run, exclude)
    if not chosen:
        return []
    with view.open(numbered(chosen), ("clusters",)) as (sql, _):
        rows = {
            identity: shown for identity, shown in _rows(sql, chosen, "").items() if any(row.word != "fixed" for row in shown)
        }
        spells = {identity: spell([(row.group, row.word) for row in found]) for identity, found in rows.items()}
        newest = {identity: _newest(found) for identity, found in rows.items()}
        clusters = _clusters(sql, newest)
        red = [(identity, row.entry.key) for identity, found in rows.items() for row in found
               if row.word == "red" and row.group == spells[identity].last_red]  # fmt: skip
        tests = _sets(sql.execute(_TESTS, _pair(red)).fetchall())
        signatures = _sets(sql.execute(_SIGNATURES).fetchall())
    answer = [
        _seen(clusters[identity], found, spells[identity], tests.get(identity), signatures.get(identity))
        for identity, found in rows.items()
    ]
    return sorted(answer, key=lambda one: (one.first_time, one.first_run, one.cluster.id))


def cluster_history(view: View, prefix: str, branch: str | None, since: float) -> ClusterHistory | None:
    """Return the runs of the cluster whose id begins so, None where there is none. Raises HistoryError where it is not one."""
    prefix = prefix.strip().upper()
    chosen = select(view, branch, since)
    if not chosen or not prefix:
        return None
    with view.open(numbered(chosen), ("clusters",)) as (sql, _):
        rows = _rows(sql, chosen, prefix)
        if len(rows) > 1:
            some = one_line(min(rows), 40)
            raise HistoryError(f"{one_line(prefix, 40)} begins the ids of {len(rows)} clusters, such as {some}")
        if not rows:
            return None
        [(identity, found)] = rows.items()
        cluster = _clusters(sql, {identity: _newest(found)})[identity]
    return ClusterHistory(cluster, tuple(ClusterRun(row.entry.run, row.word, row.tests) for row in found))


def _rows(sql: DuckDBPyConnection, chosen: list[Entry], prefix: str) -> dict[str, list[_Row]]:
    """Return what each run said of each cluster, oldest run first."""
    entries = {entry.key: entry for entry in chosen}
    rows: dict[str, list[_Row]] = {}
    for identity, key, group, word, tests in sql.execute(_WORDS, [prefix]).fetchall():
        rows.setdefault(identity, []).append(_Row(entries[key], group, word, tests))
    for found in rows.values():
        found.sort(key=lambda row: (row.group, row.entry.run.started, row.entry.key))
    return rows


def _newest(found: list[_Row]) -> _Row:
    """Return the newest row that shows the cluster at its worst: red before retried before fixed, within the newest showing."""
    shown = [row for row in found if row.word == "red"] or [row for row in found if row.word == "retried"] or found
    return shown[-1]


def _clusters(sql: DuckDBPyConnection, rows: dict[str, _Row]) -> dict[str, Cluster]:
    found = {}
    for identity, key, cluster in sql.execute(_CLUSTERS, _pair((i, row.entry.key) for i, row in rows.items())).fetchall():
        try:
            found[identity] = read_cluster(cluster)
        except (msgspec.MsgspecError, TypeError) as error:
            stem = next(row.entry.stem for row in rows.values() if row.entry.key == key)
            reason = f"it holds a cluster that this version cannot read ({one_line(error)})"
            raise Unreadable(f"{stem}.clusters.parquet", reason) from None
    for identity, row in rows.items():
        if identity not in found:  # bits that turned: the same row read twice was not the same
            raise Unreadable(f"{row.entry.stem}.clusters.parquet", "it holds a cluster under no sound id")
    return found


def _seen(cluster: Cluster, rows: list[_Row], said: Spell, tests: set[str] | None, signatures: set[str] | None) -> Seen:
    shown = [row.entry.run for row in rows if row.word != "fixed"]
    first, last = shown[0], shown[-1]
    return Seen(
        cluster=cluster,
        signatures=frozenset(signatures or ()),
        tests=frozenset(tests or ()),
        first_run=first.id,
        first_commit=first.commit,
        first_time=first.started,
        last_run=last.id,
        last_commit=last.commit,
        last_time=last.started,
        runs=said.red,
        episodes=said.episodes,
        open=said.open,
        branches=frozenset(run.branch for run in shown if run.branch),
    )


def _sets(rows: Iterable[tuple[str, str]]) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for identity, value in rows:
        found.setdefault(identity, set()).add(value)
    return found


def _pair(pairs: Iterable[tuple[str, int]]) -> list[str]:
    pairs = list(pairs)
    return [as_json([identity for identity, _ in pairs]), as_json([key for _, key in pairs])]


_PLACES = """
    SELECT DISTINCT place FROM clusters JOIN runs USING (run)
    WHERE seen <> 'fixed' AND id IN (SELECT unnest(from_json($1::VARCHAR, '["VARCHAR"]')))
"""
# `failed` counts attempts: those before the last (retried) and the last itself where it was red.
_EVIDENCE = f"""
    WITH own AS (
        SELECT unnest(from_json($1::VARCHAR, '["VARCHAR"]')) AS id, unnest(from_json($2::VARCHAR, '["VARCHAR"]')) AS nodeid
    ), shown AS (
        SELECT id, run, place, tests, retried FROM clusters JOIN runs USING (run)
        WHERE seen <> 'fixed' AND id IN (SELECT unnest(from_json($3::VARCHAR, '["VARCHAR"]')))
    ), ends AS (
        SELECT id, run, place, unnest(tests) AS nodeid, 1 AS last FROM shown
        UNION SELECT id, run, place, unnest(retried) AS nodeid, 0 AS last FROM shown
    ), fails AS (
        SELECT * FROM ends SEMI JOIN own USING (id, nodeid)
    ), ran AS (
        SELECT nodeid, run, place, outcome, retried FROM tests SEMI JOIN fails USING (nodeid) JOIN runs USING (run)
    ), failed AS (
        SELECT id, nodeid, place, sum(greatest(1, last + coalesce(ran.retried, 0)))::BIGINT AS failed
        FROM fails LEFT JOIN ran USING (nodeid, run, place) GROUP BY ALL
    ), passed AS (
        SELECT nodeid, place, count(*) AS passed FROM ran WHERE outcome = {PASSED} GROUP BY ALL
    ), ranked AS (
        SELECT id, nodeid, place, failed, passed, row_number() OVER (
            PARTITION BY id, nodeid ORDER BY place DESC
        ) AS rank
        FROM failed JOIN passed USING (nodeid, place)
    )
    SELECT id, nodeid, place, failed, passed FROM ranked WHERE rank = 1 ORDER BY id, nodeid
"""  # noqa: S608


def evidence(view: View, clusters: Mapping[str, Collection[str]], current: Sequence[Condensed]) -> list[Evidence]:
    """Return the tests of each cluster that are flaky by it, in order of id and test: of the newest commit that shows it.

    That is a test that, in runs of one clean commit and one environment, failed by the cluster (it ended red, or was run
    again) and passed (in another run, or as the later attempt of the same). Only tests given for the cluster are looked at.
    `current` are runs that nobody has added yet.
    """
    known = {entry.run.id for entry in view.entries}
    more = [item for item in {item.run.id: item for item in current}.values() if item.run.id not in known]
    places, spots = spots_of([entry.run for entry in view.entries] + [item.run for item in more])
    keys = {run_key(identity): place for identity, place in places.items()}
    if not keys or not clusters:
        return []
    own = [(text(identity), text(nodeid)) for identity, tests in clusters.items() for nodeid in sorted(set(tests))]
    values = [as_json([identity for identity, _ in own]), as_json([nodeid for _, nodeid in own])]
    ids = as_json([text(identity) for identity in sorted(clusters)])
    with view.open(keys, ("clusters",), more) as (sql, _):
        failing = {place for (place,) in sql.execute(_PLACES, [ids]).fetchall()}
    keys = {key: place for key, place in keys.items() if place in failing}  # nobody else's tests need to be read
    with view.open(keys, ("tests", "clusters"), more) as (sql, _):
        rows = sql.execute(_EVIDENCE, [*values, ids]).fetchall()
    return [Evidence(identity, nodeid, spots[place][0], failed, passed) for identity, nodeid, place, failed, passed in rows]
