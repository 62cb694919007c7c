"""Packs many pieces into few files, and forgets old runs.

A pack holds at most 1,000 runs and 10,000,000 tests (some 8 MB). Packs are merged as in a logarithmic structured merge: one is
taken in when it holds no more runs than what is to be packed already, so that each run is rewritten about ten times at most
on its way into a full pack, and the number of packs that are not full grows with the logarithm of that of the runs.

Nothing is lost by compactions at once, or by one that is killed: it removes only what it has itself written anew in a pack
that can be seen, under a name that never comes back; readers choose one piece for each run that stands in several.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

from msgspec import Struct

from pytest_tracetriage.store.history.maps import outdated
from pytest_tracetriage.store.history.pieces import is_run, left_behind
from pytest_tracetriage.store.history.tables import COLUMNS, KINDS, ORDER, SCHEMA, as_json, run_id, run_key, write

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_tracetriage.model.history import Location
    from pytest_tracetriage.store.history.pieces import Entry
    from pytest_tracetriage.store.history.reading import View

PACK_RUNS = 1000
PACK_TESTS = 10_000_000
LOOSE = 100
"""How many pieces may lie loose before `add` packs them by itself."""


class Compacted(Struct, frozen=True):
    """What a compaction did. `bytes` is the size of the packs that it wrote."""

    runs: int
    packs: int
    removed: int
    """Files."""
    bytes: int


class Pruned(Struct, frozen=True):
    """What was forgotten: run ids, oldest first, and the number of files removed."""

    runs: tuple[str, ...]
    removed: int


# What is usual for a test is the middle one of its buckets in this pack; most runs are 0 apart from it, or nearly.
_TESTS = f"""
    WITH taken AS (
        SELECT nodeid, run, outcome, retried, (usual + apart)::SMALLINT AS bucket FROM tests SEMI JOIN runs USING (run)
    ), middle AS (
        SELECT nodeid, quantile_disc(bucket, 0.5) AS usual FROM taken GROUP BY nodeid
    )
    SELECT nodeid, run, outcome, retried, usual, (bucket - usual)::SMALLINT AS apart
    FROM taken JOIN middle USING (nodeid) ORDER BY {ORDER["tests"]}
"""  # noqa: S608
_CLUSTERS = f"SELECT {', '.join(COLUMNS['clusters'])} FROM clusters SEMI JOIN runs USING (run) ORDER BY {ORDER['clusters']}"  # noqa: S608
_RUNS = """
    SELECT unnest(from_json($1::VARCHAR, '["BIGINT"]')) AS run, $2::VARCHAR AS schema,
    unnest(from_json($3::VARCHAR, '["BIGINT"]')) AS tests, unnest(from_json($4::VARCHAR, '["BIGINT"]')) AS clusters,
    unnest(from_json($5::VARCHAR, '["VARCHAR"]')) AS record
"""


def compact(view: View, location: Location) -> Compacted:
    """Pack what is loose, with the packs that are small beside it. Raises HistoryError."""
    stems = _candidates(view)
    taken = [entry for entry in view.entries if entry.stem in stems]
    elsewhere = {entry.key for entry in view.entries if entry.stem not in stems}
    gone = {piece.stem: piece for piece in view.pieces if piece.stem in stems}
    waiting = {stem: {entry.key for entry in view.held[stem]} - elsewhere for stem in gone}
    packs = removed = size = 0
    for chunk in list(_chunks(taken)) or [[]]:
        files = _pack(view, chunk) if chunk else {}
        for keys in waiting.values():
            keys.difference_update(entry.key for entry in chunk)
        remove = frozenset(name for stem, keys in waiting.items() if not keys for name in gone[stem].files)
        if files or remove:
            location.put(files, remove, f"Pack {len(chunk)} runs")
        waiting = {stem: keys for stem, keys in waiting.items() if keys}
        packs, removed, size = packs + bool(files), removed + len(remove), size + sum(map(len, files.values()))
    return Compacted(len(taken), packs, removed, size)


def prune(view: View, location: Location, before: float) -> Pruned:
    """Forget runs that started before a time, and what dead writers of such runs have left behind. Raises HistoryError."""
    forgotten: set[str] = set()
    files: dict[str, bytes] = {}
    remove = set(outdated(view.names, before))
    remove |= {name for name, last in left_behind(view.names).items() if is_run(last) and run_key(last) >> 24 < before}
    for piece in view.pieces:
        if piece.stem not in view.held:  # it cannot be read, so its name alone says how old it is
            if run_key(piece.last) >> 24 < before:
                remove |= piece.files
            continue
        entries = view.held[piece.stem]
        kept = [entry for entry in entries if entry.run.started >= before]
        if len(kept) == len(entries):
            continue
        forgotten |= {entry.run.id for entry in entries if entry.run.started < before}
        remove |= piece.files
        if kept:
            files |= _pack(view, kept, only=piece.stem)
    if remove:
        location.put(files, frozenset(remove), f"Forget {len(forgotten)} runs")
    return Pruned(tuple(sorted(forgotten)), len(remove))


def _candidates(view: View) -> set[str]:
    """Return the stems of the pieces to be packed, none where it would change nothing."""
    chosen = {(entry.key, entry.stem) for entry in view.entries}
    held = view.held
    loose = {piece.stem for piece in view.pieces if piece.loose and piece.stem in held}
    overlapping = {
        piece.stem for piece in view.pieces
        if piece.stem in held and not piece.loose and any((entry.key, piece.stem) not in chosen for entry in held[piece.stem])
    }  # fmt: skip
    twice = {entry.key for stem in overlapping for entry in held[stem]}
    overlapping |= {stem for stem in held.keys() - loose if any(entry.key in twice for entry in held[stem])} if twice else set()
    stems = loose | overlapping
    runs = len({entry.key for stem in stems for entry in held[stem]})
    rest = [(len(entries), stem) for stem, entries in held.items() if stem not in stems and not _full(entries)]
    for size, stem in sorted(rest):
        if size <= runs:
            stems.add(stem)
            runs += size
    alone = len(stems) == 1 and next(iter(stems)) in {entry.stem for entry in view.entries}
    return set() if alone else stems


def _full(entries: list[Entry]) -> bool:
    return len(entries) >= PACK_RUNS or sum(entry.tests for entry in entries) >= PACK_TESTS // 2


def _chunks(entries: list[Entry]) -> Iterator[list[Entry]]:
    """Yield runs in order of time, as many at once as a pack may hold."""
    chunk: list[Entry] = []
    tests = 0
    for entry in entries:
        if chunk and (len(chunk) >= PACK_RUNS or tests + entry.tests > PACK_TESTS):
            yield chunk
            chunk, tests = [], 0
        chunk.append(entry)
        tests += entry.tests
    if chunk:
        yield chunk


def _pack(view: View, entries: list[Entry], only: str = "") -> dict[str, bytes]:
    """Return the files of a pack of these runs, in the order of writing."""
    entries = sorted(entries, key=lambda entry: entry.key)
    stem = f"pack-{run_id(entries[0].key)}-{run_id(entries[-1].key)}-{secrets.token_hex(8)}"
    kinds = [kind for kind in ("tests", "clusters") if any(getattr(entry, kind) for entry in entries)]
    files = {}
    with view.open({entry.key: 0 for entry in entries}, kinds, only=only) as (sql, scratch):
        for kind in kinds:
            files[kind] = write(sql, _TESTS if kind == "tests" else _CLUSTERS, [], scratch / f"{kind}.parquet")
        columns = ([getattr(entry, name) for entry in entries] for name in ("key", "tests", "clusters", "run"))
        keys, tests, clusters, records = columns
        values = [as_json(keys), SCHEMA, as_json(tests), as_json(clusters), as_json([as_json(record) for record in records])]
        files["run"] = write(sql, _RUNS, values, scratch / "run.parquet")
    return {f"{stem}.{kind}.parquet": files[kind] for kind in KINDS if kind in files}
