"""How far a diagnosis is: the bar, for whoever watches, and nothing anywhere else."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from contextlib import contextmanager

import pytest
from commands.test_diagnose import record
from execute.projects import Tree

from pytest_tracetriage.commands.rerunning import doing

SLOW = "import time\n\ndef test_slow():\n    time.sleep(1)\n    assert 0\n"
COLOUR = re.compile(rb"\x1b\[[0-9;]*(?:3[0-7]|38;|9[0-7])[0-9;]*m")


@pytest.mark.parametrize(
    ("done", "total", "seconds", "left", "said"),
    [
        (0, 64, 0.0, 600.0, "reruns 0/64, at most 10:00 left"),
        (40, 64, 0.0, 600.0, "reruns 40/64, at most 10:00 left"),
        (40, 64, 180.0, 600.0, "reruns 40/64, 1:48 left"),
        (1, 64, 60.0, 125.0, "reruns 1/64, 2:05 left"),
        (64, 64, 30.0, 100.0, "reruns 64/64, 0:00 left"),
        (1, 2, 5.0, -3.0, "reruns 1/2, 0:00 left"),
    ],
)
def test_the_time_left_is_that_of_the_work_and_at_most_that_of_the_budget(done, total, seconds, left, said):
    assert doing("reruns", done, total, seconds, left) == said


@pytest.fixture
def slow(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    tree = Tree(tmp_path / "shop", {"test_slow.py": SLOW})
    assert record(tree.root) == 1
    return tree


@contextmanager
def diagnosing(tree, stderr, **environment):
    code = "from pytest_tracetriage.commands import main; main()"
    command = [sys.executable, "-c", code, "diagnose", "--pytest", f"{sys.executable} -m pytest"]
    told = tree.root.with_name("told.txt")
    with told.open("wb") as out:
        yield subprocess.Popen(command, cwd=tree.root, stdout=out, stderr=stderr, env={**os.environ, **environment}), told


@pytest.mark.linux
@pytest.mark.parametrize("plain", [True, False])
def test_a_terminal_shows_what_is_done_and_how_long_it_takes(slow, monkeypatch, plain):
    import pty

    monkeypatch.delenv("NO_COLOR", raising=False)
    ours, theirs = pty.openpty()
    colour = {"NO_COLOR": "1"} if plain else {}
    seen = b""
    with diagnosing(slow, theirs, TERM="xterm-256color", COLUMNS="100", **colour) as (process, told):
        os.close(theirs)
        try:
            while chunk := os.read(ours, 65_536):
                seen += chunk
        except OSError:  # the other end is closed
            pass
        os.close(ours)
        assert process.wait(60) == 1
    assert "budget 10 min ·".encode() in seen
    assert re.search(rb"\d+ % reruns \d/\d, (at most )?\d+:\d\d left", re.sub(rb"\x1b\[[0-9;?]*[a-zA-Z]", b"", seen))
    assert bool(COLOUR.search(seen)) is not plain
    assert b"\x1b" not in told.read_bytes()


def test_a_pipe_shows_nothing_of_it(slow):
    with diagnosing(slow, subprocess.PIPE) as (process, told):
        _, err = process.communicate(timeout=120)
        assert (process.returncode, err) == (1, b"")
    assert b"budget" not in told.read_bytes()
