"""What became of tests and clusters, commit by commit: what patterns are looked for in."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_tracetriage.model.diagnosis import Place, Trail, Trails
from pytest_tracetriage.store.history.pieces import complete, groups, numbered
from pytest_tracetriage.store.history.queries import select
from pytest_tracetriage.store.history.tables import PASSED, RED, run_id

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping, Sequence

    from duckdb import DuckDBPyConnection

    from pytest_tracetriage.model.history import RunRecord
    from pytest_tracetriage.store.history.pieces import Entry
    from pytest_tracetriage.store.history.reading import View

WIDE = 10
"""A failure that so many tests of a run share says nothing of one of them: it is its cluster that comes and goes."""
_RED = "(" + ", ".join(map(str, RED)) + ")"
_HIT = f"CREATE TEMP TABLE hit AS SELECT DISTINCT nodeid FROM tests WHERE outcome IN {_RED} OR retried > 0"  # noqa: S608
_TESTS = f"""
    WITH ended AS (
        SELECT id, run, len(tests) + len(retried) AS many, unnest(list_concat(tests, retried)) AS nodeid
        FROM clusters SEMI JOIN runs USING (run) WHERE seen <> 'fixed'
    ), caused AS (
        SELECT run, nodeid, min(id) AS cause, max(many) >= $1 AS shared FROM ended GROUP BY run, nodeid
    ), ends AS (
        SELECT nodeid, place, sum((outcome = {PASSED})::INTEGER)::INTEGER AS passed,
        sum(CASE WHEN shared THEN 0 ELSE retried + (outcome IN {_RED})::INTEGER END)::INTEGER AS failed,
        coalesce(min(CASE WHEN shared THEN NULL ELSE cause END), '') AS cause
        FROM tests SEMI JOIN hit USING (nodeid) JOIN runs USING (run) LEFT JOIN caused USING (run, nodeid)
        WHERE outcome = {PASSED} OR outcome IN {_RED} GROUP BY nodeid, place
    )
    SELECT nodeid, list(place ORDER BY place), list(passed ORDER BY place), list(failed ORDER BY place),
    list(cause ORDER BY place)
    FROM ends WHERE passed + failed > 0 GROUP BY nodeid HAVING sum(failed) > 0 ORDER BY nodeid
"""  # noqa: S608
_SHOWN = """
    SELECT id, run, len(tests) > 0 FROM clusters SEMI JOIN runs USING (run) WHERE seen <> 'fixed' ORDER BY id, run
"""
_NAMES = """
    SELECT id, arg_max(name, run) FROM clusters SEMI JOIN runs USING (run) WHERE seen <> 'fixed' GROUP BY id
"""
_MEMBERS = """
    SELECT id, list(DISTINCT nodeid) FROM (
        SELECT id, unnest(list_concat(tests, retried)) AS nodeid FROM clusters SEMI JOIN runs USING (run) WHERE seen <> 'fixed'
    ) GROUP BY id
"""


def trails(view: View, branch: str | None, since: float) -> Trails:
    """Return the course of every test that failed, and of every cluster, over these runs.

    A line is a branch or a pull request; for tests, each job, leg, Python and platform on it has one of its own: a test that
    fails in one leg and passes in another is not flaky. Runs of one commit and environment share a place; a dirty tree, and a
    run of no known commit, is a place of its own. For clusters the attempt is a workflow run, which says that a cluster is
    gone only where it came to its end.
    """
    chosen = select(view, branch, since)
    if not chosen:
        return Trails((), (), ())
    of_tests = _numbered_places({entry.key: (_line(entry.run), _leg(entry.run), _spot(entry.run)) for entry in chosen}, chosen)
    with view.open(of_tests[0], ("tests", "clusters")) as (sql, _):
        sql.execute(_HIT)
        tests = tuple(
            Trail(nodeid, tuple(places), tuple(passed), tuple(failed), tuple(causes))
            for nodeid, places, passed, failed, causes in sql.execute(_TESTS, [WIDE]).fetchall()
        )
    with view.open(numbered(chosen), ("clusters",)) as (sql, _):
        places, clusters = _clusters(sql, chosen, len(of_tests[1]), max((place.line for place in of_tests[1]), default=-1) + 1)
    return Trails(
        places=(*of_tests[1], *places),
        tests=tests,
        clusters=clusters,
        untouched=max(0, max(entry.tests for entry in chosen) - len(tests)),
        traces=sum(entry.tests > 0 for entry in chosen),
    )


def _line(run: RunRecord) -> tuple[str, str, str]:
    return run.repository, run.workflow, f"#{run.pull_request}" if run.pull_request else run.branch


def _leg(run: RunRecord) -> tuple[str, str, str, str]:
    return run.job, run.leg, run.python, run.platform


def _spot(run: RunRecord) -> tuple[str, str]:
    """Return what runs share that nothing tells apart: commit and environment, or the run alone."""
    if run.commit and not run.dirty and run.environment:
        return run.commit, run.environment
    return "", run.id


def _numbered_places(
    keys: Mapping[int, tuple[Hashable, Hashable, Hashable]], chosen: Sequence[Entry], line: int = 0
) -> tuple[dict[int, int], list[Place]]:
    """Return the number of the place of each run, by its key, and the places: line by line, each in order of its first run."""
    found: dict[Hashable, dict[Hashable, list[Entry]]] = {}
    for entry in chosen:
        where, leg, spot = keys[entry.key]
        found.setdefault((where, leg), {}).setdefault(spot, []).append(entry)
    numbers: dict[int, int] = {}
    places: list[Place] = []
    for number, spots in enumerate(found.values(), line):
        for entries in spots.values():
            first = entries[0].run
            for entry in entries:
                numbers[entry.key] = len(places)
            places.append(Place(number, run_id(entries[0].key), first.commit, first.started))
    return numbers, places


def _clusters(
    sql: DuckDBPyConnection, chosen: Sequence[Entry], offset: int, line: int
) -> tuple[list[Place], tuple[Trail, ...]]:
    together = groups(chosen)
    firsts = [group[0] for group in together]
    ordered = sorted(firsts, key=lambda entry: (entry.run.started, entry.key))
    numbers, places = _numbered_places(
        {entry.key: (_line(entry.run), "", entry.run.commit if _spot(entry.run)[0] else entry.run.id) for entry in firsts},
        ordered,
        line,
    )
    of_run = {entry.key: number for number, group in enumerate(together) for entry in group}
    place_of = [numbers[group[0].key] for group in together]
    whole = [complete(group) for group in together]
    said: dict[str, dict[int, bool]] = {}
    for identity, key, red in sql.execute(_SHOWN).fetchall():
        word = said.setdefault(identity, {})
        word[of_run[key]] = word.get(of_run[key], False) or red
    names = dict(sql.execute(_NAMES).fetchall())
    members = dict(sql.execute(_MEMBERS).fetchall())
    usual = [0] * len(places)
    for place, ended in zip(place_of, whole, strict=True):
        usual[place] += ended
    found = []
    for identity, words in said.items():
        passed, failed = usual.copy(), [0] * len(places)
        for number, red in words.items():
            failed[place_of[number]] += 1
            if red:
                passed[place_of[number]] -= whole[number]
            elif not whole[number]:
                passed[place_of[number]] += 1  # it was run again, and passed
        told = [number for number in range(len(places)) if passed[number] + failed[number]]
        found.append(
            Trail(
                identity,
                tuple(number + offset for number in told),
                tuple(passed[number] for number in told),
                tuple(failed[number] for number in told),
                name=names[identity],
                tests=frozenset(members.get(identity, ())),
            )
        )
    return places, tuple(found)
