"""One DuckDB in memory, shut in: it reads and writes given folders only, and never reaches the network."""

from __future__ import annotations

import os
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from pytest_tracetriage.store.history import extra

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from duckdb import DuckDBPyConnection

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
