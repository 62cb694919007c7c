"""Reads the pieces of a history by a DuckDB that is shut in: it reads and writes given folders only, and never the network.

What cannot be read is left out and said; what vanishes while it is read is looked for anew.
"""

from __future__ import annotations

import os
import tempfile
from collections import Counter
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import msgspec

from pytest_tracetriage.store.history import HistoryError, extra, one_line
from pytest_tracetriage.store.history.pieces import Entry, Piece, choose, pieces_of
from pytest_tracetriage.store.history.tables import COLUMNS, SCHEMA, as_json, insert, read_run, run_id

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence

    from duckdb import DuckDBPyConnection

    from pytest_tracetriage.model.history import Condensed, Location


T = TypeVar("T")

_TRIES = 8  # a compaction may take files away while they are read; that many in a row would be another fault
_RUNS = """
    SELECT filename, run, schema, tests, clusters, record
    FROM read_parquet($1, filename = true, hive_partitioning = false) ORDER BY filename, run
"""
_PLACES = """
    CREATE TEMP TABLE runs AS SELECT unnest(from_json($1::VARCHAR, '["BIGINT"]')) AS run,
    unnest(from_json($2::VARCHAR, '["INTEGER"]')) AS place
"""
_KEPT = """
    CREATE TEMP TABLE kept AS SELECT unnest(from_json($1::VARCHAR, '["VARCHAR"]')) AS filename,
    unnest(from_json($2::VARCHAR, '["BIGINT"]')) AS run
"""
# Looks at every value, as a maximum (which the statistics answer) would not, and at whether text is UTF-8.
_LOOK = {"VARCHAR": "decode(encode({}))", "VARCHAR[]": "decode(encode(array_to_string({}, '')))"}
_DECODE = {
    kind: "SELECT "  # noqa: S608
    + ", ".join(f"bit_xor(hash({_LOOK.get(form, '{}').format(name)}))" for name, form in columns.items())
    + " FROM read_parquet($1, hive_partitioning = false)"
    for kind, columns in COLUMNS.items()
}


class Unreadable(Exception):  # noqa: N818  # it is caught here, nobody sees it as an error
    """A file of a piece that holds what it must not; the piece is then left out."""

    def __init__(self, file: str, reason: str) -> None:
        super().__init__(file, reason)
        self.file = file
        self.reason = reason


class Reader:
    """What is known of one location: the runs of each piece (read once, pieces never change) and what was left out."""

    def __init__(self, location: Location) -> None:
        self.location = location
        self.problems: list[str] = []
        self._bad: set[str] = set()
        self._held: dict[str, list[Entry]] = {}

    def ask(self, question: Callable[[View], T]) -> T:
        """Return the answer to a question, asked again where files vanished or had to be left out. Raises HistoryError."""
        tries = 0
        while True:
            view = View(self, self.location.names())
            try:
                return question(view)
            except Unreadable as error:
                if again := self._vanished(view, tries):
                    tries = again
                else:
                    self._leave_out(view, {error.file: error.reason})
            except HistoryError:
                tries = self._vanished(view, tries)
                if not tries:
                    raise
            except unreadable() as error:
                faults = _faults(view.fetched)
                if again := self._vanished(view, tries):  # asked last: what is gone was no fault
                    tries = again
                elif not self._leave_out(view, faults):
                    raise HistoryError(f"the history at {self.location.name} cannot be read: {one_line(error)}") from None

    def held(self, names: frozenset[str], fetch: Callable[[frozenset[str]], dict[str, str]]) -> dict[str, list[Entry]]:
        """Return the runs of all pieces that these files make, by the piece's stem."""
        pieces = [piece for piece in pieces_of(names) if piece.stem not in self._bad]
        if fresh := {piece.file("run"): piece for piece in pieces if piece.stem not in self._held}:
            paths = fetch(frozenset(fresh))
            with session(paths.values()) as (sql, _):
                rows = sql.execute(_RUNS, [sorted(paths.values())]).fetchall()
            found: dict[str, list[Entry]] = {piece.stem: [] for piece in fresh.values()}
            for path, *row in rows:
                piece = fresh[os.path.basename(path)]  # noqa: PTH119
                found[piece.stem].append(_entry(piece, *row))
            self._held.update(found)
        return {piece.stem: self._held[piece.stem] for piece in pieces}

    def _vanished(self, view: View, tries: int) -> int:
        """Return the number of this try where files that were wanted are gone by now, else 0."""
        return tries + 1 if tries < _TRIES and set(view.fetched) - self.location.names() else 0

    def _leave_out(self, view: View, faults: Mapping[str, str]) -> bool:
        for file, reason in sorted(faults.items()):
            self.problems.append(f"{self.location.name}: {file}: {reason}; it is left out")
            self._bad.add(next(piece.stem for piece in view.pieces if file in {piece.file(kind) for kind in COLUMNS}))
        return bool(faults)


class View:
    """The history as the files of one moment make it."""

    def __init__(self, reader: Reader, names: frozenset[str]) -> None:
        self.names = names
        self.pieces = pieces_of(names)
        self.fetched: dict[str, str] = {}
        """The local path of each file that was asked for; "" until it is here."""
        self._reader = reader
        self._held: dict[str, list[Entry]] | None = None
        self._entries: list[Entry] | None = None

    @property
    def held(self) -> dict[str, list[Entry]]:
        """All runs of all pieces that can be read, by the piece's stem; the same run may stand in several."""
        if self._held is None:
            self._held = self._reader.held(self.names, self.fetch)
        return self._held

    @property
    def entries(self) -> list[Entry]:
        """Each run once, oldest first."""
        if self._entries is None:
            self._entries = choose(self.held)
        return self._entries

    def held_by(self, stems: Collection[str]) -> dict[str, list[Entry]]:
        """Return the runs of these pieces only; the run files of others are not opened."""
        wanted = {piece.file("run") for piece in self.pieces if piece.stem in stems}
        return self._reader.held(frozenset(wanted), self.fetch)

    def fetch(self, names: frozenset[str]) -> dict[str, str]:
        """Return the local paths of these files. Raises HistoryError."""
        self.fetched.update(dict.fromkeys(names, ""))
        paths = self._reader.location.fetch(names)
        self.fetched.update(paths)
        return paths

    @contextmanager
    def open(
        self, places: Mapping[int, int], kinds: Sequence[str], more: Sequence[Condensed] = (), only: str = ""
    ) -> Iterator[Session]:
        """Yield a database with a view of each kind, and the table `runs` (run, place) to join it with by `run`.

        `places` gives the key of each run that matters, and a number for it; the views may hold rows of other runs.
        `more` are runs that no piece holds; `only` takes all runs from that piece, whatever else holds them.
        """
        entries = self.held[only] if only else self.entries
        taken: dict[str, list[Entry]] = {}
        for entry in entries:
            if entry.key in places:
                taken.setdefault(entry.stem, []).append(entry)
        here = Counter(entry.stem for entry in self.entries)
        partial = {stem for stem in taken if not only and here[stem] < len(self.held[stem])}
        files = {kind: _files(kind, taken) for kind in kinds}
        for name in sorted(set().union(*files.values()) - self.names):
            self.fetched[f"{_stem(name)}.run.parquet"] = ""  # gone by now, if someone is just taking the piece away
            raise Unreadable(name, "this file of the piece is missing")
        paths = self.fetch(frozenset(set().union(*files.values())))
        with session(paths.values()) as opened:
            sql = opened.sql
            sql.execute(_PLACES, [as_json(list(places)), as_json(list(places.values()))])
            insert(sql, more)
            kept = [(paths[name], entry.key) for kind in kinds for name, stem in files[kind].items() if stem in partial
                    for entry in taken[stem]]  # fmt: skip
            sql.execute(_KEPT, [as_json([path for path, _ in kept]), as_json([key for _, key in kept])])
            for kind in kinds:
                whole = [paths[name] for name, stem in sorted(files[kind].items()) if stem not in partial]
                parts = [paths[name] for name, stem in sorted(files[kind].items()) if stem in partial]
                _make_view(sql, kind, whole, parts)
            yield opened


def _entry(piece: Piece, key: int, schema: str, tests: int, clusters: int, record: str) -> Entry:
    file = piece.file("run")
    if schema != SCHEMA:
        raise Unreadable(file, _other_schema(schema))
    try:
        run = read_run(record)
        identity = run_id(key)
    except (msgspec.MsgspecError, TypeError, ValueError, OverflowError, OSError) as error:
        raise Unreadable(file, f"it holds no run that this version reads ({one_line(error)})") from None
    if run.id != identity or not piece.first <= identity <= piece.last:
        raise Unreadable(file, f"it holds the run {one_line(run.id, 60)!r}, which is not what its name says")
    return Entry(run, key, piece.stem, tests, clusters)


def _other_schema(schema: object) -> str:
    return f"schema {one_line(schema, 60)!r} is not {SCHEMA!r}, which this version reads: a newer pytest-tracetriage may"


def _files(kind: str, taken: Mapping[str, list[Entry]]) -> dict[str, str]:
    """Return the names of the files of one kind that hold rows of these runs, each with its piece's stem."""
    return {f"{stem}.{kind}.parquet": stem for stem, entries in taken.items() if any(getattr(entry, kind) for entry in entries)}


def _stem(name: str) -> str:
    return name.partition(".")[0]


def _make_view(sql: DuckDBPyConnection, kind: str, whole: list[str], partial: list[str]) -> None:
    """Join files, and rows that no file holds, to one view. File names never become a part of SQL."""
    columns = ", ".join(COLUMNS[kind])
    parts = [f"SELECT {columns} FROM new_{kind}"]  # noqa: S608
    if whole:
        sql.read_parquet(whole, hive_partitioning=False).create_view(f"whole_{kind}")
        parts.append(f"SELECT {columns} FROM whole_{kind}")  # noqa: S608
    if partial:
        sql.read_parquet(partial, hive_partitioning=False, filename=True).create_view(f"partial_{kind}")
        parts.append(f"SELECT {columns} FROM partial_{kind} SEMI JOIN kept USING (filename, run)")  # noqa: S608
    sql.execute(f"CREATE TEMP VIEW {kind} AS " + " UNION ALL ".join(parts))


def _faults(fetched: Mapping[str, str]) -> dict[str, str]:
    """Return what is wrong with each of these files that cannot be read."""
    faults = {}
    for name, path in sorted(fetched.items()):
        if path:
            with session([path]) as (sql, _):
                if reason := _fault(sql, path, name.split(".")[-2]):
                    faults[name] = reason
    return faults


def _fault(sql: DuckDBPyConnection, path: str, kind: str) -> str:
    try:
        table = sql.read_parquet([path], hive_partitioning=False)
        if kind == "run" and "schema" in table.columns:
            row = sql.execute("SELECT max(schema) FROM read_parquet($1, hive_partitioning = false)", [path]).fetchone()
            if row and row[0] is not None and row[0] != SCHEMA:
                return _other_schema(row[0])
        if dict(zip(table.columns, map(str, table.types), strict=True)) != COLUMNS[kind]:
            return f"its columns are not those of the {kind} of a history"
        sql.execute(_DECODE[kind], [path]).fetchall()
    except unreadable() as error:
        return f"it is no whole Parquet file ({one_line(error)})"
    return ""


MEMORY = "512MB"
"""What DuckDB may hold; beyond it a sort or a join spills into the session's own folder."""
_LIMITS = {
    "threads": 2,
    "memory_limit": MEMORY,
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
    "allow_community_extensions": False,
}


class Session(NamedTuple):
    """An open database, and a folder that goes with it."""

    sql: DuckDBPyConnection
    scratch: Path


def unreadable() -> tuple[type[Exception], ...]:
    """Return what reading a damaged file raises: DuckDB's own error, or Python's where damaged text comes with it."""
    return (extra("duckdb").Error, UnicodeError, RuntimeError)


@contextmanager
def session(paths: Iterable[str] = ()) -> Iterator[Session]:
    """Yield a session that may read the folders of these files. Raises HistoryError where DuckDB is not installed."""
    duckdb = extra("duckdb")
    with tempfile.TemporaryDirectory(prefix="tracetriage-", ignore_cleanup_errors=True) as scratch:
        folders = sorted({scratch, *(os.path.dirname(path) for path in paths)})  # noqa: PTH120
        sql = duckdb.connect(":memory:", config={**_LIMITS, "temp_directory": str(Path(scratch, "spill"))})
        try:
            sql.execute("SET allowed_directories = $1", [folders])
            sql.execute("SET enable_external_access = false")
            sql.execute("SET lock_configuration = true")
            yield Session(sql, Path(scratch))
        finally:
            sql.close()
