"""A user's mistake is one clear line and exit status 2, whatever the sub-command."""

from __future__ import annotations

import errno
import os
import subprocess
import sys

import pytest
from commands.recorded import failure, record

from pytest_tracetriage import __version__
from pytest_tracetriage.commands import SUBCOMMANDS
from pytest_tracetriage.store import runs
from pytest_tracetriage.store.runs import read_analysis, run_folders


def test_a_wrong_sub_command(empty, tracetriage):
    assert "analyse" in tracetriage("analyse").mistake


@pytest.mark.parametrize("name", SUBCOMMANDS)
def test_a_wrong_option(empty, tracetriage, name):
    assert "--nonsense" in tracetriage(name, "--nonsense").mistake


@pytest.mark.parametrize("name", ["show", "join", "split", "mute"])
def test_a_missing_argument(empty, tracetriage, name):
    assert "Missing argument" in tracetriage(name).mistake


@pytest.mark.parametrize("name", SUBCOMMANDS)
def test_help(empty, tracetriage, name):
    result = tracetriage(name, "--help")
    assert result.code == 0
    assert result.out.startswith(f"Usage: tracetriage {name}")


def test_the_sub_commands_are_listed(empty, tracetriage):
    result = tracetriage("--help")
    assert result.code == 0
    assert all(name in result.out for name in SUBCOMMANDS)
    assert "Exit status" in result.out


def test_version(empty, tracetriage):
    result = tracetriage("--version")
    assert (result.code, result.out.strip().split()[-1]) == (0, __version__)


CALLS = {
    "analyze": ("analyze",),
    "show": ("show", "ABCDE"),
    "join": ("join", "ABCDE", "FGHIJ"),
    "split": ("split", "ABCDE"),
    "mute": ("mute", "ABCDE", "--reason", "x"),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_a_setting_that_cannot_be_used(empty, tracetriage, call):
    (empty / "pyproject.toml").write_text("[tool.tracetriage]\nkeep_runs = 0\n", encoding="utf-8")
    mistake = tracetriage(*call).mistake
    assert mistake.startswith(f"tracetriage: {empty / 'pyproject.toml'}: tool.tracetriage.keep_runs = 0: expected")


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
@pytest.mark.parametrize("text", [b"[tool.tracetriage\n", b"[tool.tracetriage]\nx = '\xff'\n"], ids=["syntax", "encoding"])
def test_settings_that_cannot_be_read(empty, tracetriage, call, text):
    (empty / "pyproject.toml").write_bytes(text)
    assert "pyproject.toml: not valid TOML" in tracetriage(*call).mistake


def test_a_decision_that_cannot_be_written(shop, tracetriage, monkeypatch):
    def refuse(path, data):
        raise OSError(errno.EROFS, "Read-only file system", str(path))

    cluster = read_analysis(run_folders(shop / ".tracetriage")[-1]).clusters[0].id
    monkeypatch.setattr(runs, "write_atomically", refuse)
    path = shop / ".tracetriage" / "policy" / "aliases.json"
    assert tracetriage("mute", cluster, "--reason", "x").mistake == f"tracetriage: {path}: Read-only file system"


@pytest.mark.linux
@pytest.mark.skipif(sys.platform != "linux", reason="/dev/full")
def test_records_that_cannot_be_saved_are_not_half_a_run(shop, tracetriage, monkeypatch):
    kept = run_folders(shop / ".tracetriage")
    usual = os.open

    def full(path, *args, **more):
        return usual("/dev/full" if str(path).endswith(".jsonl") else path, *args, **more)

    monkeypatch.setattr(os, "open", full)
    assert tracetriage("analyze", "--save", "log.jsonl").mistake.endswith("main.jsonl: No space left on device")
    assert run_folders(shop / ".tracetriage") == kept


@pytest.mark.parametrize(
    ("call", "github", "shown"),
    [
        (("report",), "", "d\u00e9j\u00e0 ?".encode("cp1252")),
        (("report",), "true", "d\u00e9j\u00e0 \u2588".encode()),
        (("report", "--format", "json"), "", "d\u00e9j\u00e0 \u2588".encode()),
        (("history", "add", "nowhere \u2588"), "", b"'nowhere ?' does not exist"),
    ],
    ids=["text", "GitHub", "JSON", "mistake"],
)
def test_characters_that_the_output_lacks_end_no_command(empty, call, github, shown):
    runs = empty / ".tracetriage" / "runs"
    record(runs, 1, {"tests/t.py::t": failure("KeyError", "shop/a.py:f", "d\u00e9j\u00e0 \u2588")})
    environment = {**os.environ, "PYTHONIOENCODING": "cp1252", "GITHUB_ACTIONS": github}
    start = [sys.executable, "-c", "from pytest_tracetriage.commands import main; main()"]
    done = subprocess.run([*start, *call], env=environment, capture_output=True, check=False)
    assert b"Traceback" not in done.stderr
    assert shown in done.stdout + done.stderr


def test_settings_of_pytests_ini_are_heard(empty, tracetriage):
    (empty / "pytest.ini").write_text("[pytest]\ntracetriage_keep_runs = none\n", encoding="utf-8")
    assert f"{empty / 'pytest.ini'}: tracetriage_keep_runs = 'none'" in tracetriage("analyze").mistake


def test_the_environment_is_heard(empty, tracetriage, monkeypatch):
    monkeypatch.setenv("TRACETRIAGE_TRACEBACK", "short")
    assert "environment: TRACETRIAGE_TRACEBACK = 'short': expected one of" in tracetriage("analyze").mistake
