"""Children of tests, and what a program does with its client: every ended call under its test, none twice, nothing waits."""

from __future__ import annotations

import json
import sys
from collections import Counter

import pytest
from capture.suite import MENDED_FORKED, Suite
from spans.weave_http_server import WeaveServer

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="forks")

PROJECT = "--tracetriage-weave-project=team/project"
TEST_A = """
    import multiprocessing, os, signal, subprocess, sys, weave
    from pytest_tracetriage import span

    @weave.op
    def work(n): return n
    @weave.op
    def around(then): return then()

    def forked(child, status=0):
        pid = os.fork()
        if not pid:
            child()
            os._exit(0)
        assert os.waitpid(pid, 0)[1] == status

    def test_plain(): work(1)
    def test_child(): forked(lambda: work(1))
    def test_child_exits_inside():
        def child():
            work(1)
            with span("open"): around(lambda: os._exit(3))
        forked(child, 3 << 8)
        work(2)
    def test_child_is_killed():
        def child():
            work(1)
            around(lambda: os.kill(os.getpid(), signal.SIGKILL))
        forked(child, signal.SIGKILL)
    def test_children():
        for n in range(4): forked(lambda: [work(n * 10 + m) for m in range(10)])
    def test_child_inside():
        around(lambda: forked(lambda: work(1)))
        with span("ours"): forked(lambda: work(2))
    def test_multiprocessing():
        process = multiprocessing.get_context("fork").Process(target=work, args=(1,))
        process.start()
        process.join()
        assert process.exitcode == 0
    def test_client():
        client = weave.init("else/where")
        work(1)
        client.flush()
        weave.get_client().flush()
        work(2)
        weave.finish()
        work(3)
        weave.init("once/more")
        work(4)
        weave.get_client().finish()
        work(5)
    def test_after(): work(1)
"""
WANTED = {
    "plain": ["1"], "child": ["1"], "child_exits_inside": ["1", "2"], "child_is_killed": ["1"],
    "children": [str(n) for n in range(40)], "child_inside": ["1 below around", "2 below ours", "around", "ours"],
    "multiprocessing": ["1"], "client": ["1", "2", "3", "4", "5"], "after": ["1"],
}  # fmt: skip


def named(span):
    return str(json.loads(span.inputs)["n"]) if span.name == "work" else span.name


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("cloud", [False, True], ids=["local", "cloud"])
@pytest.mark.parametrize(
    ("args", "plugins"), [((), ""), (("--forked",), "pytest_forked"), (("-n2",), "xdist")], ids=["plain", "forked", "xdist"]
)
def test_every_call_that_ended_stands_under_its_test(tmp_path, cloud, args, plugins):
    suite = Suite(tmp_path, conftest=MENDED_FORKED, test_a=TEST_A)
    suite.patience = 300
    with WeaveServer() as server:
        result = suite.run(*args, *([PROJECT] if cloud else []), "-pno:warnings", plugins=plugins, env=server.environ)
    found = {name: [span for span in suite.spans if span.trace == suite.trace(f"::test_{name}").id] for name in WANTED}
    names = {span.id: named(span) for span in suite.spans}

    assert (result.counts, result.warned) == ({"passed": len(WANTED)}, []), result.out
    for name, spans in found.items():
        told = [f"{named(span)} below {names[span.parent]}" if span.parent in names else named(span) for span in spans]
        assert Counter(told) == Counter(WANTED[name]), name
    assert len(suite.spans) == sum(map(len, WANTED.values()))
    assert len(names) == len(suite.spans)
