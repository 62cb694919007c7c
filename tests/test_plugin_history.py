"""`history_after_run`: each run is remembered when it ends, and a history that cannot be written costs one line."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

SUITE = """\
import pytest

@pytest.mark.parametrize("n", range(3))
def test_fine(n):
    assert True

def test_red():
    {}["sku"]
"""


@pytest.fixture
def project(tmp_path):
    (tmp_path / "test_suite.py").write_text(SUITE, encoding="utf-8")
    (tmp_path / "pyproject.toml").write_text("[tool.tracetriage]\nhistory_after_run = true\n", encoding="utf-8")

    def run(*args):
        command = [sys.executable, "-m", "pytest", "--tracetriage", "-p", "no:cacheprovider", "-p", "no:asyncio", *args]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)

    return run


def remembered(folder):
    command = [sys.executable, "-c", "from pytest_tracetriage.commands import main; main()", "history", "--format", "json"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("workers", [[], ["-n2"]])
def test_each_run_is_added_once(project, tmp_path, workers):
    for _ in range(2):
        done = project(*workers)
        assert done.returncode == 1
        assert "warning" not in done.stdout
    found = remembered(tmp_path)
    assert [(run["totals"]["tests"], run["totals"]["failures"], run["exit_status"]) for run in found["runs"]] == [(4, 1, 1)] * 2
    (cluster,) = found["clusters"]
    assert (cluster["runs"], cluster["open"]) == (2, True)
    assert "test_suite.py::test_red" in cluster["tests"]


def test_tests_run_again_are_no_run_of_the_suite(project, tmp_path):
    project()
    (cluster,) = remembered(tmp_path)["clusters"]
    assert project(f"--tracetriage-rerun={cluster['cluster']['id'][:8]}").returncode == 1
    (tmp_path / "tests.txt").write_text("test_suite.py::test_red\n", encoding="utf-8")
    assert project("--tracetriage-select=tests.txt").returncode == 1
    assert len(remembered(tmp_path)["runs"]) == 1


def test_a_history_that_cannot_be_written_is_one_line(project, tmp_path):
    (tmp_path / "taken").write_text("a file, not a folder", encoding="utf-8")
    done = project("-o", "tracetriage_history=taken")
    assert done.returncode == 1
    (line,) = [line for line in done.stdout.splitlines() if "warning" in line]
    assert line.startswith("tracetriage: warning: the run was not added to the history: ")
    assert "4 failures" not in done.stdout
    assert "1 failure -> 1 root cause" in done.stdout


def test_it_is_off_unless_asked_for(project, tmp_path):
    assert project("-o", "tracetriage_history_after_run=false").returncode == 1
    assert not (tmp_path / ".tracetriage" / "history").exists()


def test_a_switch_that_is_neither(project):
    done = project("-o", "tracetriage_history_after_run=perhaps")
    assert done.returncode == 4
    assert "tracetriage_history_after_run = 'perhaps': expected true or false" in done.stderr
