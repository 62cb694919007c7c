"""Runs that strangers hand in: what may be taken of a folder or a zip file that nobody vouches for.

In a pull request of a fork, whoever opened it decides what the artifact holds. Everything is refused that could write outside
its folder, read what lies elsewhere, or fill the disk; what the accepted files say is read as hostile like any other input.
"""

from __future__ import annotations

import os
import re
import stat
import struct
import zipfile
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_tracetriage.collect.formats import open_source
from pytest_tracetriage.model.analysis import Problem
from pytest_tracetriage.store.runs import CULPRIT_FILE, RUN_ID
from pytest_tracetriage.store.writer import SLOT_SUFFIX

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MAX_FILES = 10_000
MAX_FILE = 512 * 1024 * 1024
MAX_TOTAL = 1024 * 1024 * 1024
MAX_RUN_JSON = 16 * 1024 * 1024
MAX_RUN_JSONS = 32 * 1024 * 1024
"""Bytes of all of them: they are held at once, and take 25 times as much in memory."""
MAX_SLOT = 1024 * 1024
MAX_FOUND = 16 * 1024 * 1024
"""Bytes of what a diagnosis or a search has found. What is larger is left where it is, since the traces tell without it."""
MAX_LINES = 5_000_000
"""Lines of all traces: ten seconds' work for each million, however short they are."""
MAX_DEPTH = 12
_CHUNK = 1024 * 1024
_FOUND = ("analysis.json", CULPRIT_FILE)
_TRACES = re.compile(rf"[A-Za-z0-9_-]{{1,64}}(\.jsonl(\.gz|\.zst)?|{re.escape(SLOT_SUFFIX)})")


class Refused(Exception):  # noqa: N818 - it is what became of the artifact
    """Why an artifact is not taken; `args[0]` is one line for people."""


@dataclass(frozen=True)
class Accepted:
    """The run folders that may be read, and what was refused, and why."""

    runs: tuple[Path, ...]
    refused: tuple[Problem, ...]


def accept(source: Path, unpacked: Path) -> Accepted:
    """Return the runs of a folder, or of a zip file, which is unpacked into `unpacked` (an empty folder of ours).

    A source with anything dangerous in it is refused whole; what is merely no file of a run is left where it is.
    """
    try:
        if source.is_symlink():
            raise Refused("a symbolic link")
        if source.is_dir():
            return Accepted(_weighed(_runs(source, _checked(source))), ())
        if not source.exists():
            raise Refused("no such file or folder")
        if not zipfile.is_zipfile(source):
            raise Refused("neither a folder with runs nor a zip file")
        names = _unpack(source, unpacked)
        return Accepted(_weighed(_runs(unpacked, names)), ())
    except Refused as reason:
        return Accepted((), (Problem(str(source), 0, f"refused: {reason}"),))
    except (OSError, zipfile.BadZipFile, RuntimeError, EOFError, zlib.error, ValueError, struct.error) as error:
        return Accepted((), (Problem(str(source), 0, f"refused: {getattr(error, 'strerror', None) or error}"),))


def _runs(root: Path, names: list[str]) -> tuple[Path, ...]:
    return tuple(sorted({root / name.rpartition("/")[0] for name in names if name.rpartition("/")[2] == "run.json"}))


def _weighed(folders: tuple[Path, ...]) -> tuple[Path, ...]:
    """Return the folders, if what is read of them is within bounds: traces may be packed, and lines be empty.

    Raises Refused.
    """
    total = lines = 0
    for folder in folders:
        for path in sorted((folder / "traces").glob("*.jsonl*")):
            try:
                with open_source(path) as file:
                    while chunk := file.read(_CHUNK):
                        total, lines = total + len(chunk), lines + chunk.count(b"\n")
                        if total > MAX_TOTAL:
                            raise Refused(f"more than {MAX_TOTAL:,} bytes of traces, unpacked")
                        if lines > MAX_LINES:
                            raise Refused(f"more than {MAX_LINES:,} lines of traces")
            except (OSError, EOFError):
                continue  # damaged: whoever reads it tells, and keeps what comes before
    return folders


def _kind(name: str) -> str:
    """Return what a path (parts joined by `/`) is of a run: `run`, `traces`, `found` or "" for nothing that is read."""
    parts = name.split("/")
    if len(parts) >= 2 and parts[-1] == "run.json" and RUN_ID.fullmatch(parts[-2]):
        return "run"
    if len(parts) >= 3 and parts[-2] == "traces" and RUN_ID.fullmatch(parts[-3]) and _TRACES.fullmatch(parts[-1]):
        return "traces"
    if len(parts) >= 2 and parts[-1] in _FOUND and RUN_ID.fullmatch(parts[-2]):
        return "found"
    return ""


def _checked(root: Path) -> list[str]:
    """Return the files of a folder that belong to runs. Raises Refused."""
    names: list[str] = []
    total = records = 0
    for files, (path, entry) in enumerate(_walk(root, "", 0), 1):
        found = entry.stat(follow_symlinks=False)
        if entry.is_symlink():
            raise Refused(f"{path}: a symbolic link")
        if not stat.S_ISREG(found.st_mode):
            raise Refused(f"{path}: not a regular file")
        total += found.st_size
        records += found.st_size if _is_record(path) else 0
        _bounds(path, found.st_size, total, files, records)
        if _kind(path):
            names.append(path)
    if RUN_ID.fullmatch(root.name):  # the folder is a run itself
        names += [name for name in _own_files(root) if name not in names]
    return names


def _own_files(root: Path) -> list[str]:
    return ["run.json"] if (root / "run.json").is_file() else []


def _walk(folder: Path, below: str, depth: int) -> Iterator[tuple[str, os.DirEntry[str]]]:
    if depth > MAX_DEPTH:
        raise Refused(f"{below}: more than {MAX_DEPTH} folders deep")
    with os.scandir(folder) as entries:
        for entry in sorted(entries, key=lambda item: item.name):
            path = f"{below}{entry.name}"
            if entry.is_dir(follow_symlinks=False):
                yield from _walk(folder / entry.name, f"{path}/", depth + 1)
            else:
                yield path, entry


def _is_record(name: str) -> bool:
    return name.rpartition("/")[2] == "run.json"


def _bounds(name: str, size: int, total: int, files: int, records: int) -> None:
    limit = MAX_RUN_JSON if _is_record(name) else MAX_SLOT if name.endswith(SLOT_SUFFIX) else MAX_FILE
    if size > limit:
        raise Refused(f"{name}: {size:,} bytes, more than {limit:,} are allowed")
    if total > MAX_TOTAL:
        raise Refused(f"more than {MAX_TOTAL:,} bytes in all")
    if records > MAX_RUN_JSONS:
        raise Refused(f"more than {MAX_RUN_JSONS:,} bytes of run.json in all")
    if files > MAX_FILES:
        raise Refused(f"more than {MAX_FILES:,} files")


def _unpack(source: Path, into: Path) -> list[str]:
    """Unpack the files of runs; return their names. Nothing is written unless every entry is harmless. Raises Refused."""
    with zipfile.ZipFile(source) as archive:
        wanted: dict[str, zipfile.ZipInfo] = {}
        taken: set[str] = set()
        total = records = 0
        for files, entry in enumerate(archive.infolist(), 1):
            total += entry.file_size
            _harmless(entry)
            records += entry.file_size if _is_record(entry.filename) else 0
            _bounds(entry.filename, entry.file_size, total, files, records)
            kind = _kind(entry.filename)
            if kind and not (kind == "found" and entry.file_size > MAX_FOUND):
                if entry.filename.lower() in taken:
                    raise Refused(f"{entry.filename}: twice in the archive")
                taken.add(entry.filename.lower())
                wanted[entry.filename] = entry
        written = 0
        for name, entry in wanted.items():
            target = into / name
            target.parent.mkdir(parents=True, exist_ok=True)
            with archive.open(entry) as packed, target.open("xb") as file:
                while chunk := packed.read(_CHUNK):
                    written += len(chunk)
                    # What the directory of the archive says of sizes is a claim.
                    if file.tell() + len(chunk) > entry.file_size or written > MAX_TOTAL:
                        raise Refused(f"{name}: longer than the archive says")
                    file.write(chunk)
        return list(wanted)


def _harmless(entry: zipfile.ZipInfo) -> None:
    name = entry.filename
    parts = name.split("/")
    if name.startswith("/") or "\\" in name or ":" in name or ".." in parts or not name.isprintable():
        raise Refused(f"{name!r}: leads out of its folder")
    if len(parts) > MAX_DEPTH:
        raise Refused(f"{name!r}: more than {MAX_DEPTH} folders deep")
    mode = entry.external_attr >> 16
    if mode and not (stat.S_ISREG(mode) or stat.S_ISDIR(mode) or stat.S_IFMT(mode) == 0):
        raise Refused(f"{name!r}: a symbolic link or device")
    if entry.flag_bits & 0x1:
        raise Refused(f"{name!r}: encrypted")
    if entry.compress_type not in {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}:
        raise Refused(f"{name!r}: packed in a way that artifacts are not")
