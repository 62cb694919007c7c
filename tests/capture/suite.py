"""A suite in a folder of its own, run in a subprocess, and the records that the run left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec
import pytest

from pytest_tracetriage.model.analysis import Analysis
from pytest_tracetriage.model.run import Run
from pytest_tracetriage.model.trace import Record, Source, Span, Start, Trace, Warned

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_DECODE = msgspec.json.Decoder(Record).decode
_HIDDEN = ("TRACETRIAGE", "GITHUB_", "PYTEST_", "CI_", "COV_")

PEERS = (
    "asyncio", "hypothesispytest", "pytest_cov", "pytest_forked", "pytest_reportlog", "rerunfailures", "subtests", "timeout",
)  # fmt: skip
"""Entry points of the plugins that `run(plugins=...)` may name beside xdist. Each costs a start its time."""

MENDED_FORKED = """
    import pytest_forked
    # pytest-forked 1.7.5 cannot marshal what pytest 9.2 added to reports
    usual = pytest_forked.serialize_report
    def mended(report):
        found = usual(report)
        found.pop("_id", None)
        return {**found, "nodeid": report.nodeid}
    pytest_forked.serialize_report = mended
"""
"""A conftest without which pytest-forked tells no passing test of a newer pytest."""


@dataclass
class Result:
    """What a run of pytest or of the command printed, and its exit status."""

    ret: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()

    @property
    def counts(self) -> dict[str, int]:
        """`{"passed": 2, "failed": 1}`, from pytest's last line."""
        return pytest.RunResult.parse_summary_nouns(self.lines)

    @property
    def warned(self) -> list[str]:
        """TraceTriage's warning lines."""
        return [line for line in self.lines if line.startswith("tracetriage: warning:")]

    @property
    def headline(self) -> str:
        return next((line.strip("= ") for line in self.lines if "TraceTriage: " in line), "")

    def match(self, *patterns: str) -> None:
        pytest.LineMatcher(self.lines).fnmatch_lines(patterns)

    def block(self, title: str) -> str:
        """Return what stands under `===== title =====`, up to the next such line."""
        found: list[str] = []
        inside = False
        for line in self.lines:
            if line.startswith("===") and line.endswith("==="):
                inside = line.strip("= ") == title
            elif inside:
                found.append(line)
        return "\n".join(found)


def hear_interrupts() -> None:
    """Let Ctrl-C end the process: who was started in the background has inherited that it does not."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


class Suite:
    """A project under test. Files are given by name: `test_a` is `test_a.py`, `pkg__mod` is `pkg/mod.py`."""

    patience = 60
    """Seconds after which a run is given up."""

    def __init__(self, root: Path, files: Mapping[str, str] | None = None, **modules: str) -> None:
        self.root = root
        self.write(files, **modules)

    def write(self, files: Mapping[str, str] | None = None, **modules: str) -> None:
        named = {f"{name.replace('__', '/')}.py": text for name, text in modules.items()}
        for name, text in {**(files or {}), **named}.items():
            path = self.root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(textwrap.dedent(text), encoding="utf-8")

    def environ(self, env: Mapping[str, str] | None = None) -> dict[str, str]:
        clean = {name: value for name, value in os.environ.items() if not name.startswith(_HIDDEN) and name != "CI"}
        return {**clean, "NO_COLOR": "1", "COLUMNS": "100", "PYTHONDONTWRITEBYTECODE": "1", **(env or {})}

    def command(self, *args: object, on: bool = True, plugins: str = "") -> list[str]:
        chosen = plugins.split()
        if "xdist" in chosen:  # its workers find plugins by their entry points only
            named = [f"-pno:{name}" for name in PEERS if name not in chosen]
        else:
            named = [f"-p{name}" for name in ("tracetriage", *chosen)]
        base = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *named]
        return [*base, *(["--tracetriage"] if on else []), *map(str, args)]

    def run(
        self,
        *args: object,
        on: bool = True,
        plugins: str = "",
        env: Mapping[str, str] | None = None,
        **options: object,
    ) -> Result:
        """Run pytest with the plugins named; `on=False` without `--tracetriage`."""
        return self._run(self.command(*args, on=on, plugins=plugins), self._chosen(plugins, env), **options)

    @staticmethod
    def _chosen(plugins: str, env: Mapping[str, str] | None) -> dict[str, str]:
        return {**({} if "xdist" in plugins else {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}), **(env or {})}

    def tracetriage(self, *args: object, env: Mapping[str, str] | None = None) -> Result:
        """Run the `tracetriage` command."""
        return self._run([sys.executable, "-c", "from pytest_tracetriage.commands import main; main()", *map(str, args)], env)

    def _run(self, command: list[str], env: Mapping[str, str] | None, **options: object) -> Result:
        done = subprocess.run(
            command,
            cwd=self.root,
            env=self.environ(env),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=self.patience,
            check=False,
            encoding="utf-8",
            errors="replace",
            **options,
        )
        return Result(done.returncode, done.stdout, done.stderr)

    def start(self, *args: object, plugins: str = "", env: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
        """Start pytest and return its process."""
        return subprocess.Popen(
            self.command(*args, plugins=plugins),
            cwd=self.root,
            env=self.environ(self._chosen(plugins, env)),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            preexec_fn=hear_interrupts if os.name == "posix" else None,  # noqa: PLW1509 - it takes no lock
        )

    # -- what the runs left ------------------------------------------------------------------------------------------

    @property
    def folder(self) -> Path:
        return self.root / ".tracetriage"

    @property
    def runs(self) -> list[Path]:
        """The run folders."""
        return sorted((self.folder / "runs").glob("*"))

    @property
    def last(self) -> Path:
        return max(self.runs, key=self._started)

    @staticmethod
    def _started(path: Path) -> float:
        return float(msgspec.json.decode((path / "run.json").read_bytes())["started"])

    @property
    def info(self) -> Run:
        return msgspec.json.decode((self.last / "run.json").read_bytes(), type=Run)

    @property
    def analysis(self) -> Analysis:
        return msgspec.json.decode((self.last / "analysis.json").read_bytes(), type=Analysis)

    @property
    def records(self) -> list[Record]:
        """All records of the last run. Raises where a line is not one."""
        files = sorted((self.last / "traces").glob("*.jsonl"))
        return [_DECODE(line) for path in files for line in path.read_bytes().splitlines()]

    @property
    def traces(self) -> list[Trace]:
        return [record for record in self.records if isinstance(record, Trace)]

    @property
    def spans(self) -> list[Span]:
        return [record for record in self.records if isinstance(record, Span)]

    def warnings(self, name: str) -> list[Warned]:
        """Return the warnings of the one trace whose node id ends with `name`."""
        trace = self.trace(name).id
        return [record for record in self.records if isinstance(record, Warned) and record.trace == trace]

    @property
    def sources(self) -> list[Source]:
        return [record for record in self.records if isinstance(record, Source)]

    @property
    def starts(self) -> list[Start]:
        return [record for record in self.records if isinstance(record, Start)]

    def outcomes(self) -> dict[str, str]:
        """Outcomes by what stands behind `::` (or the whole node id), each test once."""
        found = [(trace.nodeid.partition("::")[2] or trace.nodeid, trace.outcome) for trace in self.traces]
        assert len(found) == len(dict(found)), found
        return dict(found)

    def trace(self, name: str) -> Trace:
        """Return the one trace whose node id ends with `name`."""
        found = [trace for trace in self.traces if trace.nodeid.endswith(name)]
        assert len(found) == 1, (name, [trace.nodeid for trace in self.traces])
        return found[0]

    def bytes_written(self) -> dict[str, bytes]:
        """Every file under the folder, by relative name."""
        return {str(path.relative_to(self.folder)): path.read_bytes() for path in self.folder.rglob("*") if path.is_file()}
