"""What is kept in the folder of a project: runs, made, found, finished and forgotten; and `policy/aliases.json`."""

from __future__ import annotations

import os
import re
import secrets
import shutil
import time
from datetime import datetime, timezone
from typing import TYPE_CHECKING, TypeVar

import msgspec

from pytest_tracetriage.model.analysis import ALIASES_SCHEMA, ANALYSIS_SCHEMA, Aliases, Analysis
from pytest_tracetriage.model.run import RUN_SCHEMA, Run

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_tracetriage.model.diagnosis import Patterns


RUN_ID = re.compile(r"[0-9]{8}T[0-9]{6}Z-[0-9a-f]{6}")
CULPRIT_FILE = "culprit.json"
"""In a run's folder: what a search for the commits that broke its clusters has found, where somebody kept it."""
T = TypeVar("T")

_GITIGNORE = "# Written by TraceTriage: what people decided is worth committing, the rest is not.\n*\n!.gitignore\n!policy/\n!policy/**\n"


class StoreError(Exception):
    """A file of the store that cannot be used; the text says which and why."""


def new_run_id(now: float) -> str:
    """Return a run id that sorts by time: `20261120T043000Z-7f3a9c`."""
    fraction = int(now % 1 * 0x1000000)  # six digits of the second: runs of one second sort too
    return f"{datetime.fromtimestamp(int(now), timezone.utc):%Y%m%dT%H%M%SZ}-{fraction:06x}"


def prepare_folder(folder: Path) -> None:
    """Make the `.tracetriage` folder with its own `.gitignore`. Raises OSError."""
    (folder / "runs").mkdir(parents=True, exist_ok=True)
    ignore = folder / ".gitignore"
    if not ignore.exists():
        ignore.write_text(_GITIGNORE, encoding="utf-8")


def run_folders(folder: Path) -> list[Path]:
    """Return the folders of all runs, oldest first."""
    try:
        return sorted(path for path in (folder / "runs").iterdir() if RUN_ID.fullmatch(path.name) and path.is_dir())
    except OSError:
        return []


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file so that a reader sees the old or the new content, whole. Raises OSError."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}.{secrets.token_hex(2)}.tmp")
    try:
        temporary.write_bytes(data)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_run(folder: Path, run: Run) -> None:
    """Write `run.json` of a run's folder. Raises OSError."""
    write_atomically(folder / "run.json", msgspec.json.format(msgspec.json.encode(run)) + b"\n")


def read_run(folder: Path) -> Run:
    """Return the run of a folder. Raises StoreError."""
    run = _read(folder / "run.json", Run)
    if run.schema != RUN_SCHEMA:
        raise StoreError(f"{folder / 'run.json'}: schema {run.schema!r} is not {RUN_SCHEMA!r}, which this version reads")
    return run


def write_analysis(folder: Path, analysis: Analysis) -> None:
    """Write `analysis.json` of a run's folder. Raises OSError."""
    write_atomically(folder / "analysis.json", encode_analysis(analysis))


def encode_analysis(analysis: Analysis) -> bytes:
    """Return an analysis as indented JSON with a final newline."""
    return msgspec.json.format(msgspec.json.encode(analysis)) + b"\n"


def read_analysis(folder: Path) -> Analysis:
    """Return the analysis of a run's folder. Raises StoreError."""
    analysis = _read(folder / "analysis.json", Analysis)
    if analysis.schema != ANALYSIS_SCHEMA:
        raise StoreError(
            f"{folder / 'analysis.json'}: schema {analysis.schema!r} is not {ANALYSIS_SCHEMA!r}, which this version reads"
        )
    return analysis


def write_patterns(folder: Path, found: Patterns) -> None:
    """Keep in TraceTriage's folder what the history last said, so that the end of a pytest run need not ask it. Raises OSError."""
    write_atomically(folder / "patterns.json", msgspec.json.encode(found) + b"\n")


def read_patterns(folder: Path) -> Patterns | None:
    """Return what the history last said of patterns, None where nothing usable was kept."""
    from pytest_tracetriage.model.diagnosis import Patterns  # noqa: PLC0415 - a green run never comes here

    try:
        return _read(folder / "patterns.json", Patterns)
    except StoreError:
        return None


def _read(path: Path, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except OSError as error:
        raise StoreError(f"{path}: {error.strerror}") from None
    except (msgspec.MsgspecError, RecursionError) as error:  # brackets in brackets in brackets
        raise StoreError(f"{path}: {error}") from None


def is_alive(run: Run) -> bool:
    """Return whether the process of a run with status `running` still exists on this machine."""
    if run.status != "running":
        return False
    if run.host != host() or os.name == "nt":  # not ours to ask, or (Windows) asking would kill it
        return time.time() - run.started < 86_400
    try:
        os.kill(run.pid, 0)
    except (ProcessLookupError, OverflowError):  # no process has, or could have, this number
        return False
    except OSError:
        return True
    return True


def host() -> str:
    """Return the name of this machine, as run.json holds it."""
    return os.uname().nodename if hasattr(os, "uname") else os.environ.get("COMPUTERNAME", "")


def forget_runs(folder: Path, keep: int, current: str = "") -> None:
    """Remove the oldest runs beyond `keep`; runs of the last hour that never finished are left to whoever writes them."""
    folders = [path for path in run_folders(folder) if path.name != current]
    for path in folders[: max(0, len(folders) - max(0, keep - bool(current)))]:
        try:
            if is_alive(read_run(path)) and time.time() - path.stat().st_mtime < 3600:
                continue
        except (StoreError, OSError):
            pass
        shutil.rmtree(path, ignore_errors=True)


def read_aliases(folder: Path) -> Aliases:
    """Return what people decided, empty where nobody has. Raises StoreError naming the file."""
    path = folder / "policy" / "aliases.json"
    try:
        aliases = msgspec.json.decode(path.read_bytes(), type=Aliases)
    except FileNotFoundError:
        return Aliases()
    except OSError as error:
        raise StoreError(f"{path}: {error.strerror}") from None
    except (msgspec.MsgspecError, RecursionError) as error:
        raise StoreError(f"{path}: {error}") from None
    if aliases.schema != ALIASES_SCHEMA:
        raise StoreError(f"{path}: schema {aliases.schema!r} is not {ALIASES_SCHEMA!r}, which this version reads")
    return aliases


def write_aliases(folder: Path, aliases: Aliases) -> Path:
    """Write what people decided; return the file. Raises OSError."""
    prepare_folder(folder)
    path = folder / "policy" / "aliases.json"
    path.parent.mkdir(exist_ok=True)
    write_atomically(path, msgspec.json.format(msgspec.json.encode(aliases)) + b"\n")
    return path
