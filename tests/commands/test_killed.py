"""`tracetriage diagnose` and `culprit`, killed at random moments: what the next call finds and leaves."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest
from commands.test_culprit import wheel
from commands.test_diagnose import INI, fingerprint, record
from execute.projects import Tree, folders, git, marked

pytestmark = pytest.mark.linux

MOMENTS = 10
CODE = "from pytest_tracetriage.commands import main; main()"
SLOW = """
import subprocess, time
import pytest
from shop import total

def started():
    subprocess.Popen(["sleep", "600"], start_new_session=True)
    time.sleep(0.1)

def test_other():
    started()

@pytest.mark.parametrize("price", [1, 2])
def test_total(price):
    started()
    assert total([price]) == price
"""
TOTAL = "def total(prices):\n    return sum(prices)\n"
BROKEN = TOTAL.replace("sum(prices)", "sum(prices) + 1")


@pytest.fixture(autouse=True)
def _few_plugins(monkeypatch, tmp_path):
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def tree(tmp_path):
    """A project with a red run whose last green commit is known, so that a diagnosis goes through all its phases."""
    made = Tree(tmp_path / "shop", {"pytest.ini": INI, "shop.py": TOTAL, "test_shop.py": SLOW, ".gitignore": ".tracetriage\n"})
    record(made.root)
    made.write({"notes.md": "more"})
    made.commit("notes")
    made.write({"shop.py": BROKEN})
    made.commit("break it")
    record(made.root)
    return made


def begin(tree, *arguments):
    return subprocess.Popen(
        [sys.executable, "-c", CODE, *arguments], cwd=tree.root, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )


def children(pid):
    try:
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def left(cache):
    """Return what is in the cache that belongs to nobody: worktrees, half an environment, locks, processes."""
    half = [path.name for path in cache.glob("environments/*/") if not (path / "ready").exists()]
    return [*folders(cache), *half, *map(str, cache.rglob("*.lock")), *marked(cache)]


def killed_at_ten_moments(tree, cache, arguments, following):
    """Kill a call at moments that are spread over its time, and its direct children with it each second time."""
    before = fingerprint(tree.root)
    start = time.monotonic()
    assert begin(tree, *arguments).wait(120) == 1
    whole = time.monotonic() - start
    found = 0
    for moment in range(MOMENTS):
        chance = random.Random(moment)
        caller = begin(tree, *arguments)
        time.sleep(whole * (moment + chance.random()) / MOMENTS)
        for pid in [*(children(caller.pid) if moment % 2 else []), caller.pid]:  # the guard too: nobody is left to clean up
            with suppress(ProcessLookupError):  # a child may end by itself meanwhile
                os.kill(pid, signal.SIGKILL)
        caller.wait()
        found += bool(cache.is_dir() and left(cache))
        assert begin(tree, *following).wait(120) == 1, moment
        assert left(cache) == [], moment
        assert fingerprint(tree.root) == before, moment
        assert len(git(tree.root, "worktree", "list").splitlines()) == 1, moment
        assert git(tree.root, "for-each-ref", "--format=%(refname)") == "refs/heads/main", moment
    assert found  # some of them left something


def test_a_killed_diagnosis_leaves_nothing_after_the_next_call(tree, tmp_path):
    killed_at_ten_moments(tree, tmp_path / "cache" / "tracetriage", ["diagnose"], ["diagnose", "--no-rerun"])


def test_a_killed_search_leaves_nothing_after_the_next_call(tree, tmp_path):
    call = ["culprit", "--no-cache"]
    killed_at_ten_moments(tree, tmp_path / "cache" / "tracetriage", call, [*call, "--budget", "0.0001"])


def test_a_killed_installation_leaves_nothing_after_the_next_call(tmp_path, monkeypatch):
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    wheel(wheels, "tracetriage_former", "1.0", "VALUE = 1\n")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheels))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    needed = {"requirements.txt": "tracetriage-former==1.0\n", "notes.md": "one"}
    tree = Tree(tmp_path / "shop", {"pytest.ini": INI, "test_it.py": "def test_it():\n    assert 0\n", **needed})
    tree.write({"requirements.txt": ""})
    tree.commit("needs nothing")
    cache = tmp_path / "cache" / "tracetriage"
    call = ["culprit", "--good", "HEAD~1", "--test", "test_it.py::test_it", "--no-cache"]
    for moment in range(3):
        caller = begin(tree, *call, "--install")
        deadline = time.monotonic() + 120
        while not list(cache.glob("environments/*/pyvenv.cfg")) and time.monotonic() < deadline:
            time.sleep(0.02)
        time.sleep(random.Random(moment).uniform(0, 1))
        for pid in [*(children(caller.pid) if moment % 2 else []), caller.pid]:
            os.kill(pid, signal.SIGKILL)
        caller.wait()
        assert left(cache)
        assert begin(tree, *call, "--budget", "0.0001").wait(120) == 1
        assert left(cache) == [], moment
    assert begin(tree, *call, "--install").wait(300) == 1
    assert len(list(cache.glob("environments/*/ready"))) == 1
