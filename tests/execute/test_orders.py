"""Many orders of tests from one collected session."""

from __future__ import annotations

import textwrap

import pytest
from execute.projects import Tree, again, marked, orders, worktree

SUITE = """
    import os, signal, subprocess, sys, time
    import pytest

    state = []

    @pytest.fixture(scope="session")
    def server():
        state.append("server")
        yield os.getpid()
        with open(os.environ["LOG"], "a") as log:
            log.write(f"torn down in {os.getpid()}\\n")

    @pytest.fixture
    def fresh():
        return []

    def test_pollute(): state.append("dirt")
    def test_neutral(): pass
    def test_victim(): assert state == []
    def test_server(server): assert server == os.getpid() and state == ["server"]
    def test_twice(fresh): fresh.append(1); assert len(fresh) == 1
    def test_fail(): raise KeyError("sku")
    def test_killed(): os.kill(os.getpid(), signal.SIGKILL)
    def test_leaves(): os._exit(7)
    def test_ends_the_session(): pytest.exit("enough")
    def test_hangs():
        subprocess.Popen(["sleep", "600"])
        time.sleep(600)
    def test_output(capfd):
        print("hello"); os.system("echo from below")
        assert capfd.readouterr().out == "hello\\nfrom below\\n"
    def test_prints(): print("one" * 3); assert 0
    def test_temp(tmp_path): assert list(tmp_path.iterdir()) == []; (tmp_path / "x").touch()
    @pytest.mark.parametrize("n", [1, 2])
    def test_n(n): pass
"""


def ids(*names):
    return [f"test_a.py::test_{name}" for name in names]


@pytest.fixture
def tree(tmp_path, monkeypatch):
    monkeypatch.setenv("LOG", str(tmp_path / "log"))
    return Tree(tmp_path / "shop", {"test_a.py": textwrap.dedent(SUITE)})


def outcomes(run):
    return [[execution.outcome for execution in order.executions] for order in run.orders]


@pytest.mark.parametrize("processes", [1, 3])
def test_each_order_starts_from_what_was_collected(tree, cache, tmp_path, processes):
    given = [
        ids("pollute", "neutral", "victim"),
        ids("victim"),
        ids("victim", "pollute", "victim"),
        ids("server"),
        ids("server"),
        ids("twice", "twice", "twice"),
        ids("temp", "temp"),
    ]
    told = []
    with worktree(tree, cache) as made:
        run = orders(made, given, processes=processes, progress=told.append)
        assert outcomes(run) == [
            ["passed", "passed", "failed"],
            ["passed"],
            ["passed", "passed", "failed"],
            ["passed"],
            ["passed"],
            ["passed"] * 3,
            ["passed"] * 2,
        ]
        assert [[execution.nodeid for execution in order.executions] for order in run.orders] == given
        assert (run.void, run.missing, [order.died for order in run.orders]) == ("", (), [""] * 7)
        assert run.outcomes["test_a.py::test_victim"] == "failed"
        assert told[-1] == 7
    assert len(set((tmp_path / "log").read_text().splitlines())) == 2  # each child tore down its own, and nobody else did


def test_the_same_failure_has_the_signature_that_a_usual_run_gives_it(tree, cache):
    with worktree(tree, cache) as made:
        usual = again(made, ids("fail", "victim", "pollute"))
        run = orders(made, [ids("fail"), ids("fail"), ids("pollute", "victim")])
        assert [order.executions[-1].signature for order in run.orders] == [
            *usual.signatures["test_a.py::test_fail"] * 2,
            run.signatures["test_a.py::test_victim"][0],
        ]
        assert len(set(run.signatures["test_a.py::test_fail"])) == 1


def test_a_child_that_dies_takes_nobody_with_it(tree, cache):
    given = [
        ids("neutral", "killed", "neutral"),
        ids("leaves"),
        ids("ends_the_session", "neutral"),
        ids("neutral", "hangs"),
        ids("neutral"),
    ]
    with worktree(tree, cache) as made:
        run = orders(made, given, order_timeout=2)
        assert [order.died for order in run.orders] == [
            "killed by SIGKILL",
            "ended with exit status 7",
            "",
            "timed out after 2 s",
            "",
        ]
        assert outcomes(run) == [["passed", "crashed"], ["crashed"], ["error"], ["passed", "timeout"], ["passed"]]
        assert run.void == ""
        assert marked(cache) == []


def test_when_the_time_is_over_what_was_done_stands(tree, cache):
    with worktree(tree, cache) as made:
        run = orders(made, [ids("neutral"), ids("hangs"), ids("neutral")], timeout=5)
        assert (run.timed_out, outcomes(run)) == (True, [["passed"], ["timeout"], []])
        assert [order.died for order in run.orders] == ["", "ended with the whole run", "not started"]
        assert marked(cache) == []


def test_output_of_each_test_is_its_own(tree, cache):
    with worktree(tree, cache) as made:
        run = orders(made, [ids("output"), ids("prints"), ids("prints", "output")], processes=2)
        assert outcomes(run) == [["passed"], ["failed"], ["failed", "passed"]]
        traces = "".join(path.read_text() for path in made.folder.glob("runs/*/tracetriage/runs/*/traces/*.jsonl"))
        assert traces.count('"sections":[["Captured stdout call","oneoneone\\n"]]') == 2


def test_a_node_id_may_stand_for_several_and_for_none(tree, cache):
    with worktree(tree, cache) as made:
        run = orders(made, [ids("n"), ids("gone", "neutral"), ids("gone")])
        assert outcomes(run) == [["passed", "passed"], ["passed"], []]
        assert run.missing == ("test_a.py::test_gone",)
        assert [order.died for order in run.orders] == ["", "", ""]
        assert orders(made, []).orders == ()


@pytest.mark.parametrize("fork", [True, False])
def test_files_that_cannot_be_collected_are_told_and_do_not_stop_the_others(tree, cache, fork):
    tree.write({"test_b.py": "import nothing_such\ndef test_b(): pass\n"})
    with worktree(tree, cache) as made:
        run = orders(made, [ids("neutral"), ["test_b.py::test_b"]], fork=fork)
        assert outcomes(run) == [["passed"], []]
        assert run.missing == ("test_b.py::test_b",)
        assert [(one.nodeid, one.failure.errors[0].type) for one in run.uncollected] == [("test_b.py", "ModuleNotFoundError")]
        assert run.void == ""


def test_a_platform_without_fork_has_a_process_an_order(tree, cache):
    given = [ids("pollute", "victim"), ids("victim"), ids("killed"), ids("twice", "twice"), ids("gone")]
    told = []
    with worktree(tree, cache) as made:
        run = orders(made, given, fork=False, progress=told.append)
        assert outcomes(run) == [["passed", "failed"], ["passed"], ["crashed"], ["passed", "passed"], []]
        assert [order.died for order in run.orders] == ["", "", "killed by signal 9", "", ""]
        assert (run.missing, run.void, told) == (("test_a.py::test_gone",), "", [1, 2, 3, 4, 5])


def test_other_plugins(tmp_path, cache):
    test = """
        import asyncio, threading, time, unittest
        import pytest
        waiting = threading.Event()
        threading.Thread(target=waiting.wait, daemon=True, name="a pool").start()
        @pytest.mark.asyncio
        async def test_async(): await asyncio.sleep(0)
        @pytest.mark.timeout(1)
        def test_slow(): time.sleep(600)
        @pytest.mark.timeout(1, method="thread")
        def test_slow_too(): time.sleep(600)
        class TestOld(unittest.TestCase):
            def setUp(self): self.n = 1
            def test_old(self): self.assertEqual(self.n, 1); self.n = 2
    """
    named = "-p asyncio -p timeout -p xdist -p pytest_forked -p pytest_cov --cov=. --forked -n2 -W error"
    ini = f"[pytest]\nasyncio_default_fixture_loop_scope = function\naddopts = {named}\n"
    tree = Tree(tmp_path / "shop", {"test_a.py": textwrap.dedent(test), "pytest.ini": ini})
    old = ["test_a.py::TestOld::test_old"]
    with worktree(tree, cache) as made:
        run = orders(made, [ids("async"), ids("async", "async"), ids("slow"), ids("slow_too"), [*old, *old]])
        assert outcomes(run) == [["passed"], ["passed", "passed"], ["timeout"], ["timeout"], ["passed", "passed"]]
        assert run.notes == ("threads ran when orders were forked, and do not run in them: a pool",)
        assert run.void == ""


def test_what_ends_a_process_runs_once_in_the_parent(tmp_path, cache, monkeypatch):
    monkeypatch.setenv("LOG", str(tmp_path / "log"))
    conftest = """
        import atexit, os
        def log(what):
            with open(os.environ["LOG"], "a") as file:
                file.write(what + "\\n")
        def pytest_sessionstart(): atexit.register(log, "atexit")
        def pytest_sessionfinish(): log("finish")
    """
    tree = Tree(tmp_path / "shop", {"test_a.py": "def test_a(): pass\n", "conftest.py": textwrap.dedent(conftest)})
    with worktree(tree, cache) as made:
        assert outcomes(orders(made, [ids("a")] * 3)) == [["passed"]] * 3
    assert (tmp_path / "log").read_text().split() == ["finish", "atexit"]
