"""Whatever dies, the next call finds and leaves nothing behind."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from capture.suite import hear_interrupts
from execute.projects import Tree, again, folders, git, marked, worktree

from pytest_tracetriage.execute.worktree import checkout

pytestmark = pytest.mark.linux

CALLER = """
import sys
from pathlib import Path
from pytest_tracetriage.execute.run import run_orders, run_tests
from pytest_tracetriage.execute.worktree import checkout, switch

tree, cache = Path(sys.argv[1]), Path(sys.argv[2])
print("begun", flush=True)
while True:
    for dirty in (False, True):
        with checkout(tree, "", dirty=dirty, cache=cache) as made:
            run_orders(made, [["test_a.py"]] * 8, sign=lambda failure: "x", timeout=60, processes=3)
            run_tests(made, None, sign=lambda failure: "x", timeout=60, workers=2)
            if not dirty:
                switch(made, "HEAD~1")
"""
TEST = """
import subprocess, time
def test_a():
    subprocess.Popen(['sleep', '600'], start_new_session=True)
    time.sleep(.2)
"""


@pytest.fixture
def tree(tmp_path):
    made = Tree(
        tmp_path / "shop", {"test_a.py": TEST, "pytest.ini": "[pytest]\naddopts = -p xdist\n", "data.txt": "x" * 10_000}
    )
    made.commit("second")
    return made


def children(pid):
    try:
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


@pytest.mark.parametrize("moment", range(10))
def test_kill_9(tree, cache, moment):
    chance = random.Random(moment)
    before = tree.fingerprint()
    caller = subprocess.Popen([sys.executable, "-c", CALLER, tree.root, cache], stdout=subprocess.PIPE)
    assert caller.stdout.readline() == b"begun\n"
    time.sleep(chance.uniform(0, 4))
    victims = [*(children(caller.pid) if moment % 2 else []), caller.pid]  # the guard too: nobody is left to clean up
    for pid in victims:
        os.kill(pid, signal.SIGKILL)
    caller.wait()
    caller.stdout.close()

    with worktree(tree, cache, dirty=False) as made:
        assert folders(cache) == [made.folder.name, f"{made.folder.name}.lock"]
        assert marked(cache) == []
        assert again(made, ["test_a.py"]).outcomes == {"test_a.py::test_a": "passed"}
    assert (folders(cache), marked(cache)) == ([], [])
    assert tree.fingerprint() == before
    assert len(git(tree.root, "worktree", "list").splitlines()) == 1
    assert git(tree.root, "for-each-ref", "--format=%(refname)") == "refs/heads/main"


@pytest.mark.parametrize("sign", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_what_it_started_ends_with_it_even_without_a_next_call(tree, cache, sign):
    caller = subprocess.Popen(
        [sys.executable, "-c", CALLER, tree.root, cache],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        preexec_fn=hear_interrupts,  # noqa: PLW1509 - it takes no lock
    )
    deadline = time.monotonic() + 60
    while len(marked(cache)) < 5 and time.monotonic() < deadline:
        time.sleep(0.05)
    caller.send_signal(sign)
    caller.wait(timeout=60)
    caller.stdout.close()
    while marked(cache) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert marked(cache) == []
    assert (folders(cache) == []) is (sign == signal.SIGINT)


def test_two_at_a_time_leave_each_other_alone(tree, cache):
    with worktree(tree, cache, dirty=False) as one:
        caller = subprocess.Popen([sys.executable, "-c", CALLER, tree.root, cache], stdout=subprocess.PIPE)
        assert caller.stdout.readline() == b"begun\n"
        assert again(one, ["test_a.py"]).outcomes == {"test_a.py::test_a": "passed"}
        caller.kill()
        caller.wait()
        caller.stdout.close()
        with checkout(tree.root, "", dirty=True, cache=cache) as two:
            names = [made.folder.name for made in (one, two)]
            assert folders(cache) == sorted([*names, *(f"{name}.lock" for name in names)])
            assert (one.root / "test_a.py").exists()
