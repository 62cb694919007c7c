"""Whether a cluster is flaky: a test of it that failed and passed where nothing had changed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_tracetriage.model.history import Evidence
from pytest_tracetriage.store.history.queries import spots_of
from pytest_tracetriage.store.history.tables import PASSED, as_json, run_key, text

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from pytest_tracetriage.model.history import Condensed
    from pytest_tracetriage.store.history.reading import View

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
