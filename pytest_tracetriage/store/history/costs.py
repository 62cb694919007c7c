"""What tests took within a window of the history: time, attempts, tokens, money; and by which categories they failed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_tracetriage.model.diagnosis import Costs, Mode, Retried, Timed
from pytest_tracetriage.store.history import queries
from pytest_tracetriage.store.history.states import numbered
from pytest_tracetriage.store.history.tables import SKIPPED

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_tracetriage.store.history.pieces import Entry
    from pytest_tracetriage.store.history.reading import View

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
    chosen = queries.select(view, branch, since)
    if not chosen:
        return Costs(0, 0, 0.0, (), (), (), (), ())
    places = numbered(chosen)
    with view.open(places, ("tests", "clusters")) as (sql, _):
        timed = sql.execute(_TIMED, [limit]).fetchall()
        [(whole,)] = sql.execute(_ALL).fetchall()
        retried = sql.execute(_RETRIED, [limit]).fetchall()
        modes = sql.execute(_MODES, [limit]).fetchall()
    slow = queries.slow_tests(view, limit, since, branch)
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
