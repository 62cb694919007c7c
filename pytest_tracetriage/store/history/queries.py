"""What is asked of the runs and tests of a history, costs among it: each question a function of one view; what they answer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_tracetriage.model.analysis import Frequency
from pytest_tracetriage.model.diagnosis import Costs, Mode, Retried, Timed
from pytest_tracetriage.model.history import Baseline, FlakyTest, Rate, SlowTest
from pytest_tracetriage.store.history.pieces import complete, group_of, last_words, leg_of, numbered, on_branch
from pytest_tracetriage.store.history.tables import PASSED, RED, SKIPPED, as_json, seconds, text

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from pytest_tracetriage.model.history import RunRecord
    from pytest_tracetriage.store.history.pieces import Entry
    from pytest_tracetriage.store.history.reading import View


_RED = "(" + ", ".join(map(str, RED)) + ")"
_FREQUENCIES = f"""
    WITH asked AS (
        SELECT unnest(from_json($1::VARCHAR, '["INTEGER"]')) AS number, unnest(from_json($2::VARCHAR, '["VARCHAR"]')) AS nodeid
    ), ids AS (
        SELECT unnest(from_json($3::VARCHAR, '["INTEGER"]')) AS number, unnest(from_json($4::VARCHAR, '["VARCHAR"]')) AS id
    ), red AS (
        SELECT DISTINCT number, place FROM clusters JOIN ids USING (id) JOIN runs USING (run)
        WHERE seen <> 'fixed' AND len(tests) > 0
    ), ran AS (
        SELECT DISTINCT number, place FROM tests JOIN asked USING (nodeid) JOIN runs USING (run) WHERE outcome <> {SKIPPED}
        UNION SELECT number, place FROM red
    ), newest AS (
        SELECT number, place, row_number() OVER (PARTITION BY number ORDER BY place DESC) AS age FROM ran
    )
    SELECT number, count(red.place), count(*) FROM newest LEFT JOIN red USING (number, place) WHERE age <= $5
    GROUP BY number ORDER BY number
"""  # noqa: S608
# A test that several legs ran counts once, by its worst outcome.
_COUNTED = f"""
    SELECT count(*), coalesce(sum((NOT bad AND good)::INTEGER), 0)::BIGINT FROM (
        SELECT nodeid, bool_or(outcome IN {_RED}) AS bad, bool_or(outcome = {PASSED}) AS good
        FROM tests JOIN runs USING (run) GROUP BY nodeid
    )
"""  # noqa: S608
_PASSING = f"""
    SELECT nodeid FROM tests JOIN runs USING (run)
    WHERE nodeid IN (SELECT unnest(from_json($1::VARCHAR, '["VARCHAR"]'))) GROUP BY nodeid
    HAVING bool_or(outcome = {PASSED}) AND NOT bool_or(outcome IN {_RED})
"""  # noqa: S608
_SLOW = f"""
    SELECT nodeid, quantile_disc((usual + apart)::SMALLINT, [0.5, 0.95]) AS taken, count(*) AS runs
    FROM tests JOIN runs USING (run) WHERE outcome <> {SKIPPED} GROUP BY nodeid
    ORDER BY taken[1] DESC, taken[2] DESC, nodeid LIMIT $1
"""  # noqa: S608
# By itself, so that what follows knows how few they are: nearly all tests never failed.
_HIT = f"CREATE TEMP TABLE hit AS SELECT DISTINCT nodeid FROM tests WHERE outcome IN {_RED} OR retried > 0"  # noqa: S608
_FLAKY = f"""
    WITH ends AS (
        SELECT nodeid, place, sum(retried + (outcome IN {_RED})::INTEGER)::BIGINT AS failed,
        sum((outcome = {PASSED})::INTEGER)::BIGINT AS passed
        FROM tests SEMI JOIN hit USING (nodeid) JOIN runs USING (run)
        WHERE outcome = {PASSED} OR outcome IN {_RED} GROUP BY ALL
    ), places AS (
        SELECT unnest(from_json($1::VARCHAR, '["INTEGER"]')) AS place, unnest(from_json($2::VARCHAR, '["INTEGER"]')) AS number
    )
    SELECT nodeid, count(DISTINCT number) AS commits, sum(failed)::BIGINT, sum(passed)::BIGINT
    FROM ends JOIN places USING (place)
    WHERE failed > 0 AND passed > 0 GROUP BY nodeid ORDER BY commits DESC, sum(failed) DESC, nodeid LIMIT $3
"""  # noqa: S608


def select(view: View, branch: str | None = None, since: float = 0.0, before_run: str = "", exclude: str = "") -> list[Entry]:
    """Return the runs that a question is about, oldest first.

    `before_run` leaves out that run and all with a later id, `exclude` the groups whose names begin so.
    """
    return [
        entry
        for entry in view.entries
        if on_branch(entry.run, branch)
        and entry.run.started >= since
        and (not before_run or entry.run.id < before_run)
        and not (exclude and group_of(entry.run).startswith(exclude))
    ]


def runs(view: View, branch: str | None, limit: int, since: float) -> list[RunRecord]:
    """Return the newest runs, newest first."""
    return [entry.run for entry in reversed(select(view, branch, since))][: max(0, limit)]


def pass_rate(view: View, branch: str | None, since: float) -> list[Rate]:
    """Return how each workflow run, or lone run, ended, oldest first."""
    rates = []
    for group in last_words(select(view, branch, since)):
        first = group[0].run
        tests, passed = (sum(getattr(entry.run.totals, name) for entry in group) for name in ("tests", "passed"))
        rates.append(Rate(first.started, group_of(first), first.commit, tests, passed))
    return rates


def baseline(view: View, branch: str, before_group: str, workflow: str, exclude: str) -> Baseline | None:
    """Return the newest workflow run of a branch whose legs all came to their end, None without any."""
    found, whole = _whole(view, branch, before_group, workflow, exclude)
    if not whole:
        return None
    newest = [entry.run for entry in whole[-1]]
    with view.open(numbered(whole[-1]), ("tests",)) as (sql, _):
        tests, passed = sql.execute(_COUNTED).fetchall()[0]
    return Baseline(
        branch=branch,
        commit=newest[0].commit,
        groups=len(found),
        tests=tests,
        passed=passed,
        duration=max(max(0.0, run.finished - run.started) for run in newest),
        started=newest[0].started,
        legs=tuple(sorted({leg_of(run) for run in newest})),
    )


def passing(view: View, tests: Collection[str], branch: str, workflow: str, exclude: str) -> set[str]:
    """Return which of these tests passed, in every leg that ran them, in the workflow run that `baseline` tells of."""
    _, whole = _whole(view, branch, "", workflow, exclude)
    if not whole or not tests:
        return set()
    with view.open(numbered(whole[-1]), ("tests",)) as (sql, _):
        return {nodeid for (nodeid,) in sql.execute(_PASSING, [as_json(sorted({text(nodeid) for nodeid in tests}))]).fetchall()}


def _whole(
    view: View, branch: str, before_group: str, workflow: str, exclude: str
) -> tuple[list[list[Entry]], list[list[Entry]]]:
    """Return the workflow runs of a branch, oldest first, and those of them whose legs all came to their end."""
    chosen = [entry for entry in select(view, branch, exclude=exclude) if not workflow or entry.run.workflow == workflow]
    found = last_words(chosen)
    starts = [entry.run.started for entry in view.entries if group_of(entry.run) == before_group]
    whole = [group for group in found if complete(group) and not (starts and group[0].run.started >= min(starts))]
    return found, whole


def frequencies(view: View, clusters: Mapping[str, Collection[str]], branch: str | None, most: int) -> dict[str, Frequency]:
    """Return how often each cluster ended red in the last `most` groups in which one of its tests ran.

    A group in which it ended red is one of them whatever its tests are called now. A skipped test did not run.
    """
    chosen = select(view, branch)
    ids = sorted(clusters)
    answer = dict.fromkeys(ids, Frequency(0, 0))
    if not chosen or not ids:
        return answer
    asked = [(number, text(nodeid)) for number, identity in enumerate(ids) for nodeid in sorted(set(clusters[identity]))]
    values = [*_columns(asked), *_columns([(number, text(identity)) for number, identity in enumerate(ids)]), most]
    with view.open(numbered(chosen), ("tests", "clusters")) as (sql, _):
        for number, failed, ran in sql.execute(_FREQUENCIES, values).fetchall():
            answer[ids[number]] = Frequency(failed, ran)
    return answer


def slow_tests(view: View, limit: int, since: float, branch: str | None) -> list[SlowTest]:
    """Return the tests with the longest median, longest first."""
    chosen = select(view, branch, since)
    if not chosen:
        return []
    with view.open(numbered(chosen), ("tests",)) as (sql, _):
        rows = sql.execute(_SLOW, [max(0, limit)]).fetchall()
    return [SlowTest(nodeid, seconds(median), seconds(p95), count) for nodeid, (median, p95), count in rows]


def flaky_tests(view: View, limit: int, since: float) -> list[FlakyTest]:
    """Return the tests that failed and passed on one commit and environment; those on the most commits first."""
    places, spots = spots_of([entry.run for entry in select(view, since=since)])
    keys = {entry.key: places[entry.run.id] for entry in view.entries if entry.run.id in places}
    if not keys:
        return []
    commits = {commit: number for number, commit in enumerate(sorted({commit for commit, _ in spots}))}
    numbers = [(place, commits[commit]) for place, (commit, _) in enumerate(spots)]
    with view.open(keys, ("tests",)) as (sql, _):
        sql.execute(_HIT)
        rows = sql.execute(_FLAKY, [*_columns(numbers), max(0, limit)]).fetchall()
    return [FlakyTest(*row) for row in rows]


def spots_of(records: Iterable[RunRecord]) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Return the number of the spot of each run of a clean commit, by run id, and all spots, that of the newest run last.

    A spot is a commit and an environment: what two runs must share before their difference means flaky. Of a run with no
    known environment nobody can say that it shares one: it is a spot of its own.
    """
    ordered = sorted(records, key=lambda run: (run.started, run.id), reverse=True)
    own = {run.id: (run.commit, run.environment or f"run {run.id}") for run in ordered if run.commit and not run.dirty}
    spots = list(dict.fromkeys(own.values()))[::-1]
    number = {spot: place for place, spot in enumerate(spots)}
    return {identity: number[spot] for identity, spot in own.items()}, spots


def _columns(rows: list[tuple[int, str]] | list[tuple[int, int]]) -> list[str]:
    return [as_json([row[0] for row in rows]), as_json([row[1] for row in rows])]


# The middle of a bucket, as `tables.seconds` has it: no time at all is far below the smallest.
_SECONDS = "(CASE WHEN usual + apart <= -7001 THEN 0 ELSE pow(1.1, usual + apart) END)"
_TIMED = f"""
    SELECT nodeid, round(sum({_SECONDS} * (1 + retried)), 3) AS taken, count(*) FROM tests JOIN runs USING (run)
    WHERE outcome <> {SKIPPED} GROUP BY nodeid ORDER BY taken DESC, nodeid LIMIT $1
"""  # noqa: S608
_ALL = f"SELECT coalesce(sum({_SECONDS} * (1 + retried)), 0) FROM tests JOIN runs USING (run) WHERE outcome <> {SKIPPED}"  # noqa: S608
_RETRIED = f"""
    WITH again AS (SELECT DISTINCT nodeid FROM tests SEMI JOIN runs USING (run) WHERE retried > 0)
    SELECT nodeid, sum(retried)::BIGINT AS more, count(*) FROM tests SEMI JOIN again USING (nodeid) JOIN runs USING (run)
    WHERE outcome <> {SKIPPED} GROUP BY nodeid ORDER BY more DESC, nodeid LIMIT $1
"""  # noqa: S608
_MODES = """
    SELECT coalesce(json_extract_string(cluster, '$.category'), ''), coalesce(json_extract_string(cluster, '$.owner'), ''),
    count(DISTINCT place) AS often, count(DISTINCT id)
    FROM clusters JOIN runs USING (run) WHERE seen <> 'fixed' AND len(tests) > 0
    GROUP BY ALL ORDER BY often DESC, 4 DESC, 1, 2 LIMIT $1
"""


def costs(view: View, branch: str | None, since: float, limit: int) -> Costs:
    """Return what these runs took, at most `limit` rows of each kind. Durations are right to 5 %."""
    chosen = select(view, branch, since)
    if not chosen:
        return Costs(0, 0, 0.0, (), (), (), (), ())
    places = numbered(chosen)
    with view.open(places, ("tests", "clusters")) as (sql, _):
        timed = sql.execute(_TIMED, [limit]).fetchall()
        [(whole,)] = sql.execute(_ALL).fetchall()
        retried = sql.execute(_RETRIED, [limit]).fetchall()
        modes = sql.execute(_MODES, [limit]).fetchall()
    slow = slow_tests(view, limit, since, branch)
    return Costs(
        runs=len(chosen),
        groups=len(set(places.values())),
        seconds=round(float(whole), 3),
        timed=tuple(Timed(nodeid, float(taken), runs) for nodeid, taken, runs in timed),
        retried=tuple(Retried(*row) for row in retried),
        modes=tuple(Mode(*row) for row in modes),
        spent=_spent(chosen),
        slow=tuple((test.nodeid, test.median, test.p95, test.runs) for test in slow),
    )


def _spent(chosen: Sequence[Entry]) -> tuple[tuple[str, int, int, int, float | None], ...]:
    found: dict[str, tuple[int, int, int, float | None]] = {}
    for entry in chosen:
        for test in entry.run.spent:
            runs, calls, tokens, cost = found.get(test.nodeid, (0, 0, 0, 0.0))
            total = None if cost is None or test.cost is None else cost + test.cost
            found[test.nodeid] = (runs + 1, calls + test.calls, tokens + test.tokens, total)
    return tuple((nodeid, *row) for nodeid, row in sorted(found.items()))
