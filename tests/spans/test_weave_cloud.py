"""Weave's cloud, where a project is set: the real client against a loopback server that speaks Weave's HTTP."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from datetime import datetime
from pathlib import Path

import pytest
from capture.suite import Suite
from spans import weave_http_server
from spans.weave_http_server import WeaveServer, environ_of, op_of

PROJECT = "--tracetriage-weave-project=team/project"
TEST_A = """
    import threading, weave
    from pytest_tracetriage import metric
    @weave.op
    def inner(n): return n + 1
    @weave.op
    def outer(n): return inner(n)
    @weave.op
    def breaks(text): raise ValueError("broken on purpose")
    @weave.op
    def ask(): weave.get_current_call().summary["usage"] = {"gpt-4o": {"prompt_tokens": 4000, "completion_tokens": 100}}

    def test_nested(): assert outer(1) == 2
    def test_figures():
        ask()
        for value in (2, 3): metric("iterations_total", value)
        metric("fix_time_seconds", 1.5, "s")
    def test_thread():
        thread = threading.Thread(target=outer, args=(5,))
        thread.start(); thread.join()
    def test_fails(): breaks("token ghp_" + 4 * "0123456789")
    def test_flushes():
        inner(1)
        weave.get_client().flush()
    def test_own_init():
        weave.init("somewhere/else")
        inner(2)
    def test_open(): weave.get_client().create_call("left", {})
"""
CI = {"GITHUB_ACTIONS": "true", "GITHUB_SHA": "c0ffee", "GITHUB_RUN_ID": "7", "GITHUB_REPOSITORY": "o/r"}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    suite = Suite(tmp_path_factory.mktemp("cloud"), test_a=TEST_A)
    with WeaveServer() as server:
        event = suite.root / "event.json"
        event.write_text('{"pull_request": {"number": 12}}')
        result = suite.run(PROJECT, "-pno:warnings", env={**server.environ, **CI, "GITHUB_EVENT_PATH": str(event)})
    return suite, result, server


def test_the_run_is_what_it_was(run):
    _, result, _ = run

    assert (result.counts, result.warned) == ({"passed": 6, "failed": 1}, []), result.out
    assert "http" not in result.out


def test_each_test_is_a_parent_call(run):
    suite, _, server = run
    tests = {call["display_name"]: call for call in server.calls.values() if op_of(call) == "pytest.test"}

    assert set(tests) == {trace.nodeid for trace in suite.traces}
    for nodeid, call in tests.items():
        said = call["attributes"]["tracetriage"]
        assert (said["nodeid"], said["run"], said["commit"]) == (nodeid, suite.last.name, "c0ffee")
        assert call["ended_at"]
        assert not call.get("parent_id")
    assert "broken on purpose" in tests["test_a.py::test_fails"]["exception"]


def test_calls_stand_below_their_test(run):
    _, _, server = run
    names = {call["id"]: call.get("display_name") or op_of(call) for call in server.calls.values()}
    found = sorted((names.get(call.get("parent_id"), ""), op_of(call)) for call in server.calls.values())

    assert found == sorted(
        [("", "pytest.run")]
        + [("", "pytest.test")] * 7
        + [("test_a.py::test_figures", "ask")]
        + [("test_a.py::test_nested", "outer"), ("outer", "inner"), ("test_a.py::test_thread", "outer"), ("outer", "inner")]
        + [("test_a.py::test_fails", "breaks"), ("test_a.py::test_flushes", "inner"), ("test_a.py::test_own_init", "inner")]
        + [("test_a.py::test_open", "left")]
    )


def test_the_run_is_a_call_with_its_figures(run):
    suite, _, server = run
    (call,) = server.named("pytest.run")

    assert call["display_name"] == suite.last.name
    assert call["attributes"]["tracetriage"] == {"run": suite.last.name, "commit": "c0ffee", "pull_request": "12"}
    assert call["output"] == {
        "pass_rate": 6 / 7, "iterations_total": 5.0, "fix_time_seconds": 1.5,
        "llm_calls": 1, "llm_input_tokens": 4000, "llm_output_tokens": 100, "llm_cost": 0.011,
    }  # fmt: skip
    assert not call.get("parent_id")
    assert not call.get("exception")
    began = datetime.fromisoformat(call["started_at"].replace("Z", "+00:00")).timestamp()
    assert began == pytest.approx(suite.info.started, abs=0.001)


def test_what_tracetriage_found_stands_beside_the_call(run):
    suite, _, server = run
    (cluster,) = suite.analysis.clusters
    (word,) = server.feedback
    (test,) = server.named("test_a.py::test_fails")

    assert word["weave_ref"] == f"weave:///team/project/call/{test['id']}"
    assert word["feedback_type"] == "tracetriage"
    said = {"cluster": cluster.id, "category": cluster.category, "rule": cluster.classified, "owner": cluster.owner}
    assert said.items() <= word["payload"].items()


def test_the_cloud_gets_no_secret(run):
    _, _, server = run
    (call,) = server.named("breaks")

    assert call["inputs"]["text"].startswith("token [redacted ")


def test_everything_is_here_too(run):
    suite, _, _ = run
    found = [(span.name, json.loads(span.inputs or "{}").get("n"), span.outcome) for span in suite.spans]

    assert sorted(found, key=str) == sorted(
        [("inner", 1, "success"), ("outer", 1, "success"), ("inner", 5, "success"), ("outer", 5, "success"),
         ("inner", 1, "success"),
         ("ask", None, "success"), ("inner", 2, "success"), ("breaks", None, "failed"), ("left", None, "stuck")], key=str,
    )  # fmt: skip
    inner, outer = (span for span in suite.spans if span.trace == suite.trace("test_nested").id)
    assert (inner.parent, outer.parent) == (outer.id, "")


def test_without_the_setting_a_server_in_the_environment_is_not_asked(tmp_path):
    suite = Suite(tmp_path, test_a=TEST_A)
    with WeaveServer() as server:
        result = suite.run("-pno:warnings", env=server.environ)

    assert (result.counts, server.paths) == ({"passed": 6, "failed": 1}, [])


def test_no_content_goes_to_the_cloud_as_shapes(tmp_path):
    code = "import weave\nfrom pytest_tracetriage import metric\n@weave.op\ndef say(text): return text\n"
    suite = Suite(tmp_path, test_a=code + "def test_a():\n    say('canary')\n    metric('iterations_total', 7)\n")
    with WeaveServer() as server:
        result = suite.run(PROJECT, "-pno:warnings", "--tracetriage-no-content", env=server.environ)
    (call,) = server.named("say")

    assert result.counts == {"passed": 1}
    assert (call["inputs"], call["output"]) == ({"text": "text(6)"}, "text(6)")
    assert [run["output"] for run in server.named("pytest.run")] == [{"pass_rate": 1.0, "iterations_total": 7.0}]


def test_each_worker_of_xdist(tmp_path):
    code = "import pytest, weave\n@weave.op\ndef work(n): return n\n"
    code += "@pytest.mark.parametrize('n', range(6))\ndef test_n(n): assert work(n) != 3\n"
    suite = Suite(tmp_path, test_a=code)
    with WeaveServer() as server:
        result = suite.run("-n2", PROJECT, "-pno:warnings", plugins="xdist", env=server.environ)

    assert (result.counts, result.warned) == ({"passed": 5, "failed": 1}, []), result.out
    assert sorted(map(op_of, server.calls.values())) == ["pytest.run"] + ["pytest.test"] * 6 + ["work"] * 6
    assert [run["output"] for run in server.named("pytest.run")] == [{"pass_rate": 5 / 6}]
    (failed,) = server.named("test_a.py::test_n[3]")
    assert [word["weave_ref"].rpartition("/")[2] for word in server.feedback] == [failed["id"]]


@pytest.mark.parametrize(
    ("env", "why"),
    [
        (environ_of("http://127.0.0.1:9"), "traces are kept locally only"),
        ({"WANDB_API_KEY": "", "HOME": "/nonexistent", "NETRC": "/nonexistent"}, "there is no API key of Weights & Biases"),
    ],
    ids=["unreachable", "no key"],
)
def test_what_does_not_answer_at_the_start_is_told_in_one_line(tmp_path, env, why):
    suite = Suite(tmp_path, test_a=TEST_A)
    result = suite.run(PROJECT, "-pno:warnings", env=env)

    assert result.counts == {"passed": 6, "failed": 1}
    (line,) = result.warned
    assert line.startswith("tracetriage: warning: weave_project = team/project: traces are kept locally only: ")
    assert why in line
    assert len(suite.spans) == 9


@pytest.mark.parametrize("hook", ["pytest_runtest_logfinish", "pytest_sessionfinish"], ids=["between tests", "at the end"])
def test_a_server_that_dies_takes_nothing_along(tmp_path, hook):
    suite = Suite(
        tmp_path,
        conftest=f"""
        import os, pathlib, pytest, signal
        @pytest.hookimpl(tryfirst=True)
        def {hook}(): os.kill(int(pathlib.Path("server.pid").read_text()), signal.SIGKILL)
        """,
        test_a="""
        import weave
        @weave.op
        def work(n): return n
        def test_before(): work(1)
        def test_after():
            for n in range(50): work(n)
        def test_flushes(): weave.get_client().flush()
        """,
    )
    address = tmp_path / "address"
    suite.patience = 180
    with subprocess.Popen([sys.executable, weave_http_server.__file__, address], stdin=subprocess.PIPE) as process:
        (tmp_path / "server.pid").write_text(str(process.pid))
        while not address.exists():
            time.sleep(0.02)
        # Weave itself waits for a lost server as long as it takes.
        result = suite.run(PROJECT, "-pno:warnings", env=environ_of(address.read_text()))
        process.kill()

    assert (result.counts, result.ret) == ({"passed": 3}, 0), result.out
    assert len(result.warned) == 1
    assert "weave's cloud did not get everything" in result.warned[0]
    assert len(suite.spans) == 51
    assert (suite.info.status, suite.info.metrics["pass_rate"].value) == ("finished", 1.0)
    assert not list(Path(tmp_path).glob(".weave*"))


@pytest.mark.parametrize("value", ["project", "a/b/c", "/b", "a/", "a b/c"])
def test_a_project_has_an_entity(tmp_path, value):
    result = Suite(tmp_path, test_a="def test_a(): pass\n").run(f"--tracetriage-weave-project={value}")

    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert f"tracetriage_weave_project = {value!r}: expected ENTITY/PROJECT" in result.err
