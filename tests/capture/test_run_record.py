"""`run.json`: the context of a run, from its start to its end, and how long it is kept."""

from __future__ import annotations

import json
import os
import subprocess
import time

import msgspec
import pytest
from capture.suite import Suite

from pytest_tracetriage.model.run import RUN_SCHEMA, Run
from pytest_tracetriage.store.runs import RUN_ID

GREEN = "def test_a(): pass\n"


@pytest.fixture
def suite(tmp_path):
    return Suite(tmp_path, test_a=GREEN)


def git(suite, *args):
    identity = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}
    names = ("-c", "user.name=n", "-c", "user.email=e@x", "-c", "init.defaultBranch=trunk")
    done = subprocess.run(
        ["git", *names, *args], cwd=suite.root, capture_output=True, check=True, env={**os.environ, **identity}
    )
    return done.stdout.decode().strip()


def test_at_the_start_it_says_running(tmp_path):
    suite = Suite(
        tmp_path,
        test_a="""
        import json, pathlib
        def test_a():
            (path,) = pathlib.Path(".tracetriage/runs").glob("*/run.json")
            run = json.loads(path.read_text())
            assert run["status"] == "running" and run["pid"] and run["context"]["python"]
            assert "exit_status" not in run and "finished" not in run
        """,
    )
    assert suite.run().ret == 0


def test_at_the_end_it_says_finished(suite):
    before = time.time()
    suite.run("-v")
    run = suite.info

    assert (run.schema, run.id, run.status, run.exit_status) == (RUN_SCHEMA, suite.last.name, "finished", 0)
    assert RUN_ID.fullmatch(run.id)
    assert before - 1 < run.started < run.finished < time.time() + 1
    assert run.rootdir == str(suite.root)
    assert "-v" in run.args
    assert "--tracetriage" in run.args
    assert (run.totals.tests, run.totals.passed, run.totals.failures) == (1, 1, 0)
    assert (run.workers, run.problems, run.group) == ((), (), "")
    assert run.context.pytest == pytest.__version__
    assert run.context.packages["pytest"] == pytest.__version__
    assert run.context.platform
    assert run.context.implementation == "CPython"


def test_the_id_tells_when(suite):
    suite.run()

    started = time.strftime("%Y%m%dT%H%M", time.gmtime(suite.info.started))
    assert suite.last.name.startswith(started)


def test_it_matches_its_published_schema(suite):
    jsonschema = pytest.importorskip("jsonschema")
    suite.write(test_b="def test_b(): assert 0\n")
    suite.run()
    printed = suite.tracetriage("schema")
    raw = json.loads((suite.last / "run.json").read_bytes())
    assert printed.ret == 0

    (schema,) = msgspec.json.schema_components([Run])[0]
    definitions = msgspec.json.schema(Run)
    jsonschema.validate(raw, definitions)
    assert schema["$ref"].endswith("Run")


def test_nothing_but_records_is_left(suite):
    suite.run()

    assert sorted(path.name for path in suite.last.iterdir()) == ["analysis.json", "run.json", "traces"]
    assert [path.name for path in (suite.last / "traces").iterdir()] == ["main.jsonl"]


def test_the_folder_ignores_itself_but_policy(suite):
    git(suite, "init")
    suite.run()
    (suite.folder / "policy").mkdir()
    (suite.folder / "policy" / "aliases.json").write_text("{}")

    untracked = git(suite, "status", "--porcelain", "--untracked-files=all").splitlines()
    assert sorted(line[3:] for line in untracked) == [
        ".tracetriage/.gitignore",
        ".tracetriage/policy/aliases.json",
        "test_a.py",
    ]


def test_a_gitignore_of_ones_own_is_left_alone(suite):
    suite.run()
    (suite.folder / ".gitignore").write_text("mine\n")
    suite.run()

    assert (suite.folder / ".gitignore").read_text() == "mine\n"


def test_git(suite):
    git(suite, "init")
    git(suite, "checkout", "-b", "feature/cart")
    git(suite, "add", "test_a.py")
    git(suite, "commit", "-m", "one")
    suite.run()
    found = suite.info.context.git

    assert (found.commit, found.branch, found.dirty) == (git(suite, "rev-parse", "HEAD"), "feature/cart", False)

    suite.write(test_a=GREEN + "def test_b(): pass\n")
    git(suite, "checkout", "--detach")
    suite.run(env={"GITHUB_HEAD_REF": "their-branch", "GITHUB_BASE_REF": "main"})
    found = suite.info.context.git

    assert (found.dirty, found.branch, found.base) == (True, "their-branch", "main")


def test_a_repository_without_a_commit(suite):
    git(suite, "init")
    suite.run()

    assert (suite.info.context.git.commit, suite.info.context.git.branch) == ("", "trunk")


def test_no_git_at_all(suite):
    result = suite.run(env={"PATH": ""})

    assert (result.ret, result.warned) == (0, [])
    assert suite.info.context.git.commit == ""


def test_github_actions(suite):
    suite.write({"event.json": '{"pull_request": {"number": 12}}'})
    suite.run(
        env={
            "GITHUB_ACTIONS": "true",
            "CI": "true",
            "GITHUB_REPOSITORY": "shop/cart",
            "GITHUB_RUN_ID": "42",
            "GITHUB_RUN_ATTEMPT": "3",
            "GITHUB_WORKFLOW": "tests",
            "GITHUB_JOB": "unit",
            "GITHUB_EVENT_NAME": "pull_request",
            "GITHUB_EVENT_PATH": str(suite.root / "event.json"),
            "GITHUB_SHA": "a" * 40,
            "GITHUB_REF_NAME": "12/merge",
        }
    )
    ci, git_ = suite.info.context.ci, suite.info.context.git

    assert suite.info.group == "github:shop/cart:42:3"
    assert (ci.provider, ci.workflow, ci.job, ci.event, ci.pull_request) == ("github", "tests", "unit", "pull_request", "12")
    assert ci.url == "https://github.com/shop/cart/actions/runs/42"
    assert (git_.commit, git_.branch) == ("a" * 40, "12/merge")


@pytest.mark.parametrize("content", ["not json", "[]", '{"pull_request": 3}'])
def test_a_strange_event_file(suite, content):
    suite.write({"event.json": content})
    event = str(suite.root / "event.json")
    result = suite.run(env={"GITHUB_ACTIONS": "true", "GITHUB_RUN_ID": "1", "GITHUB_EVENT_PATH": event})

    assert result.warned == []
    assert suite.info.context.ci.pull_request == ""


def test_another_ci(suite):
    suite.run(env={"CI": "true", "BUILD_ID": "77", "JOB_NAME": "nightly", "BUILD_URL": "https://ci/77"})
    ci = suite.info.context.ci

    assert (ci.provider, ci.run_id, ci.workflow, ci.url) == ("generic", "77", "nightly", "https://ci/77")
    assert suite.info.group == "generic::77:1"


def test_old_runs_are_forgotten(suite):
    old = [f"20200101T00000{n}Z-00000{n}" for n in range(5)]
    suite.write({f".tracetriage/runs/{name}/run.json": "{}" for name in old})
    suite.write({".tracetriage/runs/notes.txt": "mine"})
    suite.run("-o", "tracetriage_keep_runs=3")

    kept = [path.name for path in suite.runs]
    assert kept[:2] == old[3:]
    assert len([name for name in kept if RUN_ID.fullmatch(name)]) == 3
    assert "notes.txt" in kept


def test_a_run_that_another_process_writes_is_not_forgotten(suite):
    name = "20200101T000000Z-000000"
    alive = Run(schema=RUN_SCHEMA, id=name, status="running", started=1.0, pid=os.getpid(), host=os.uname().nodename)
    suite.write({f".tracetriage/runs/{name}/run.json": msgspec.json.encode(alive).decode()})
    suite.run("-o", "tracetriage_keep_runs=1")

    assert name in [path.name for path in suite.runs]


def test_runs_at_the_same_time_do_not_meet(suite):
    processes = [suite.start() for _ in range(3)]
    for process in processes:
        process.communicate(timeout=60)

    assert [process.returncode for process in processes] == [0, 0, 0]
    assert len(suite.runs) == 3
    assert {json.loads((run / "run.json").read_bytes())["status"] for run in suite.runs} == {"finished"}
