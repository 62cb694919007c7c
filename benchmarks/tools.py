"""What the benchmarks share: aligned tables, clean environments, and processes whose cost is known."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping, Sequence

ROOT = Path(__file__).resolve().parent.parent
_SPOILING = ("PYTEST", "PYTHON", "TRACETRIAGE", "CI", "GITHUB", "COLUMNS")


@dataclass(frozen=True)
class Cost:
    """What one process cost, with all the processes that it waited for. Seconds and MiB."""

    wall: float
    cpu: float
    peak: float
    """Largest resident size of any one of its processes."""
    status: int


def clean_environment(**more: str) -> dict[str, str]:
    """Return the environment without what changes how pytest or Python run, and with a fixed hash seed."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(_SPOILING)}
    return {**kept, "PYTHONHASHSEED": "0", "PYTHONUTF8": "1", **more}


def program() -> str:
    """Return the `tracetriage` command: that of this environment, else the one on the path."""
    found = shutil.which("tracetriage", path=str(Path(sys.executable).parent)) or shutil.which("tracetriage")
    return found or sys.exit("the command tracetriage is not installed: pip install -e .")


def wait(process: subprocess.Popen[bytes], began: float) -> Cost:
    """Wait for a process and return its cost."""
    if not hasattr(os, "wait4"):
        return Cost(wall=0.0, cpu=0.0, peak=0.0, status=process.wait())
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    unit = 1024 if os.uname().sysname == "Linux" else 1024 * 1024
    return Cost(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / unit, process.returncode)


def measure(command: Sequence[str], folder: Path, output: Path, **environment: str) -> Cost:
    """Run a command in a folder, with what it prints in a file, and return its cost."""
    with output.open("wb") as stream:
        began = time.perf_counter()
        process = subprocess.Popen(
            command, cwd=folder, env=clean_environment(**environment), stdout=stream, stderr=subprocess.STDOUT
        )
        return wait(process, began)


def table(title: str, rows: Sequence[Mapping[str, object]]) -> None:
    """Print rows under their keys: the first column to the left, figures to the right. None is an empty cell."""
    print(f"\n{title}\n")
    if not rows:
        print("  nothing measured")
        return
    heads = list(dict.fromkeys(key for row in rows for key in row))
    cells = [heads, *([_cell(row.get(head)) for head in heads] for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(heads))]
    for row in cells:
        first, *rest = zip(row, widths, strict=True)
        print("  ".join([first[0].ljust(first[1]), *(text.rjust(width) for text, width in rest)]).rstrip(), flush=True)


def _cell(value: object) -> str:
    if value is None:
        return ""
    return f"{value:,.3f}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else str(value)


def add_json_option(parser: argparse.ArgumentParser) -> None:
    """Add `--json FILE`."""
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to this file, too")


def write_json(file: Path | None, figures: object) -> None:
    """Write the figures where `--json` asked for it."""
    if file is not None:
        file.write_text(json.dumps(figures, indent=2, default=asdict) + "\n", encoding="utf-8")
