"""The step that diagnoses: which commands it can run again, what it keeps to, and what it leaves."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest
from tested_project import BROKEN_CART, FILES, MENDED_STOCK
from world import git, git_environment

ACTION = Path(__file__).resolve().parents[2] / "action"
PYTHON = sys.executable
AGAIN_ONLY = '\nimport os\n\nif "TRACETRIAGE_AGAIN" in os.environ:\n'


def ask(expression, folder, **environment):
    """Evaluate an expression with the step's functions in a folder."""
    code = f"import sys, json; sys.path.insert(0, {str(ACTION)!r}); import commits, diagnose; from pathlib import Path\n"
    code += f"print(json.dumps({expression}))"
    done = subprocess.run(
        [PYTHON, "-c", code], cwd=folder, env={**os.environ, **environment}, capture_output=True, encoding="utf-8", check=True
    )
    return json.loads(done.stdout)


@pytest.mark.parametrize(
    ("command", "again"),
    [
        ("pytest", "pytest"),
        ("pytest -n auto -x tests/unit", "pytest -n auto -x tests/unit"),
        (".venv/bin/pytest -q", ".venv/bin/pytest -q"),
        ("python -m pytest -k 'not slow'", "python -m pytest -k 'not slow'"),
        ("python3.12 -X dev -m pytest", "python3.12 -X dev -m pytest"),
        ("coverage run --source shop -m pytest -q", f"{PYTHON} -m pytest -q"),
        ("python -m coverage run -m pytest -q", "python -m pytest -q"),
        ("uv run --frozen pytest -q", "uv run --frozen pytest -q"),
        ("poetry run python -m pytest", "poetry run python -m pytest"),
        ("env MODE=ci pytest", "env MODE=ci pytest"),
        ("xvfb-run -a pytest", "xvfb-run -a pytest"),
        ("make pytest", ""),
        ("tox -e pytest", ""),
        ("sh -c 'pytest -q'", ""),
        ("python run_tests.py", ""),
        ("uvx pytest", ""),
        ("uv sync pytest", ""),
    ],
)
def test_which_commands_can_be_run_again(tmp_path, command, again):
    assert shlex.join(ask(f"diagnose.rerunnable({shlex.split(command)!r})", tmp_path)) == again


def test_a_launcher_gives_way_to_the_environment_that_it_would_look_for_elsewhere(tmp_path):
    inside = "(setattr(sys, 'prefix', str(Path.cwd() / '.venv')), diagnose.rerunnable(['uv', 'run', 'pytest', '-q']))[1]"
    assert ask(inside, tmp_path) == [PYTHON, "-m", "pytest", "-q"]


def test_paths_are_those_of_the_folder_that_tests_run_again_in(tmp_path):
    (tmp_path / "part" / "tests").mkdir(parents=True)
    words = ["pytest", "part/tests", "part/tests::test_x", "-k", "part", "nowhere", "-c", "pytest.ini"]
    moved = ask(f"diagnose.moved({words!r}, Path('part'))", tmp_path)
    assert moved == ["pytest", "tests", "tests::test_x", "-k", ".", "nowhere", "-c", "pytest.ini"]
    assert ask(f"diagnose.moved({words!r}, Path.cwd())", tmp_path) == words


class Job:
    """A project in a git repository whose suite was run by the action, and how to run steps of it."""

    def __init__(self, folder):
        self.root, self.folder = folder / "workspace", folder
        self.commits = []
        self.base = {
            **{name: value for name, value in git_environment().items() if not name.startswith("GITHUB_")},
            "HOME": str(folder),
            "XDG_CACHE_HOME": str(folder / "cache"),
            "RUNNER_TEMP": str(folder / "temp"),
            "GITHUB_REPOSITORY": "acme/shop",
            "GITHUB_EVENT_PATH": str(folder / "event.json"),
            "GITHUB_OUTPUT": str(folder / "output"),
            "INPUT_FAIL_ON": "any",
        }
        self.event({})
        git("init", "--quiet", "--initial-branch=main", str(self.root))

    def event(self, payload):
        (self.folder / "event.json").write_text(json.dumps(payload), encoding="utf-8")

    def commit(self, files):
        for name, text in files.items():
            (self.root / name).parent.mkdir(parents=True, exist_ok=True)
            (self.root / name).write_text(text, encoding="utf-8")
        git("add", "--all", cwd=self.root)
        git("-c", "user.name=a", "-c", "user.email=a@b", "commit", "--quiet", "-m", "change", cwd=self.root)
        self.commits.append(git("rev-parse", "HEAD", cwd=self.root).strip())

    def step(self, name, **given):
        (self.folder / "output").write_bytes(b"")
        done = subprocess.run(
            [PYTHON, ACTION / f"{name}.py"],
            cwd=self.root,
            env={**self.base, **given},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            check=False,
        )
        lines = (self.folder / "output").read_text(encoding="utf-8").splitlines()
        told = {line.partition("<<")[0]: value for line, value in pairwise(lines) if "<<" in line}
        assert done.returncode == 0, done.stdout
        return told, done.stdout

    def suite(self, command="pytest", **more):
        told, _ = self.step("suite", INPUT_COMMAND=command, RECORD="true", **more)
        return Path(told["traces"])

    def diagnose(self, traces, command="pytest", **more):
        given = {"INPUT_COMMAND": command, "RECORDED": str(traces), "INPUT_DIAGNOSE": "5", **more}
        return self.step("diagnose", **given)[1]


@pytest.fixture
def job(tmp_path):
    made = Job(tmp_path)
    made.commit({**FILES, **MENDED_STOCK, ".gitignore": ".tracetriage/\n__pycache__/\n"})
    made.commit(BROKEN_CART)
    return made


def analysis(traces):
    (path,) = traces.glob("*/analysis.json")
    return json.loads(path.read_bytes())


def test_what_is_found_stands_beside_the_traces_and_the_project_as_it_was(job):
    traces = job.suite()
    before = (
        git("status", "--porcelain", cwd=job.root),
        git("for-each-ref", cwd=job.root),
        git("rev-parse", "HEAD", cwd=job.root),
    )
    log = job.diagnose(traces, INPUT_CULPRIT="5", GOOD=job.commits[0])

    assert log == ""
    (cluster,) = analysis(traces)["clusters"]
    assert cluster["status"] == "real"
    (found,) = traces.glob("*/culprit.json")
    (culprit,) = json.loads(found.read_bytes())["culprits"]
    assert (culprit["finding"], culprit["commit"]) == ("commit", job.commits[1])
    after = (
        git("status", "--porcelain", cwd=job.root),
        git("for-each-ref", cwd=job.root),
        git("rev-parse", "HEAD", cwd=job.root),
    )
    assert after == before
    assert git("worktree", "list", cwd=job.root).count("\n") <= 1


POLLUTED = """\
STATE = []


def test_one():
    STATE.append(1)


def test_other():
    assert not STATE, "somebody was here"
"""


def test_what_depends_on_the_order_is_not_searched_for(job):
    job.commit({"tests/test_state.py": POLLUTED})
    traces = job.suite()
    assert job.diagnose(traces, INPUT_CULPRIT="5", GOOD=job.commits[0]) == ""
    status = {cluster["id"]: cluster["status"] for cluster in analysis(traces)["clusters"]}
    assert sorted(status.values()) == ["order-dependent", "real"]
    (found,) = traces.glob("*/culprit.json")
    (culprit,) = json.loads(found.read_bytes())["culprits"]
    assert status[culprit["cluster"]] == "real"
    report = [PYTHON, "-c", "from pytest_tracetriage.commands import main; main()", "report", str(traces)]
    text = subprocess.run(report, cwd=job.root, env=job.base, capture_output=True, encoding="utf-8", check=False).stdout
    row = next(line for line in text.splitlines() if line.startswith("|") and "somebody was here" in line)
    assert "`tests/test_state.py`" in row
    assert "order-dependent, " in row
    assert "passes alone; fails after `" not in row
    assert "tests/test_state.py::test_one" in text


def test_a_command_that_does_not_say_how_it_calls_pytest_is_one_warning(job):
    command = "sh -c pytest"
    traces = job.suite(command)
    log = job.diagnose(traces, command, INPUT_CULPRIT="5", GOOD=job.commits[0])
    assert log.startswith("::warning title=TraceTriage::diagnose and culprit: tests cannot be run again by 'sh -c pytest'")
    assert log.count("\n") == 1
    assert analysis(traces)["clusters"][0].get("status", "") == ""

    assert job.diagnose(traces, command, INPUT_SETTINGS="pytest = python -m pytest") == ""
    assert analysis(traces)["clusters"][0]["status"] == "real"


def test_tests_that_cannot_be_run_again_are_one_warning(job):
    job.commit({"conftest.py": AGAIN_ONLY + "    raise ImportError('not here')\n"})
    log = job.diagnose(job.suite())
    assert log.startswith("::warning title=TraceTriage::diagnose: ")
    assert "not here" in log
    assert log.count("\n") == 1


def test_a_diagnosis_that_does_not_end_is_ended(job):
    # pytest is ended by the budget itself; here the command hangs where nobody watches it.
    (job.root / "sitecustomize.py").write_text("import sys, time\nif 'diagnose' in sys.argv:\n    time.sleep(600)\n")
    traces = job.suite()
    hurried = f"import sys; sys.path.insert(0, {str(ACTION)!r}); import diagnose; diagnose.GRACE = 1.0; diagnose.main()"
    given = {"INPUT_COMMAND": "pytest", "RECORDED": str(traces), "INPUT_DIAGNOSE": "0.02", "PYTHONPATH": str(job.root)}
    done = subprocess.run(
        [PYTHON, "-c", hurried], cwd=job.root, env={**job.base, **given}, capture_output=True, encoding="utf-8", check=False
    )
    assert (
        done.stdout == "::warning title=TraceTriage::diagnose: not at its end 1 s after its budget of 0.0 min, and was ended\n"
    )
    assert done.returncode == 0


def test_a_fork_is_told_that_nothing_is_diagnosed(job):
    traces = job.suite()
    job.event({"pull_request": {"head": {"repo": {"full_name": "stranger/shop"}}}})
    before = analysis(traces)
    log = job.diagnose(traces, INPUT_CULPRIT="5", GOOD=job.commits[0])
    assert log.startswith("::notice title=TraceTriage::diagnose and culprit are off for the pull request of a fork")
    assert analysis(traces) == before
    assert not list(traces.glob("*/culprit.json"))


def test_a_green_run_is_not_diagnosed(job):
    job.commit({"shop/cart.py": FILES["shop/cart.py"]})
    assert job.diagnose(job.suite()) == ""


@pytest.mark.parametrize(
    ("event", "good"),
    [
        ({"repository": {"default_branch": "main"}}, 1),
        ({"before": "BEFORE", "repository": {"default_branch": "no-such-branch"}}, 0),
        ({"repository": {"default_branch": "no-such-branch"}}, None),
        ({"before": "0" * 40}, None),
        ({"before": "--output=pwned"}, None),
    ],
)
def test_the_good_commit_without_a_history(job, event, good):
    git("checkout", "--quiet", "-b", "topic", cwd=job.root)
    job.commit({"README.md": "topic"})
    job.event({name: job.commits[0] if value == "BEFORE" else value for name, value in event.items()})
    traces = job.suite()
    told, log = job.step("commits", RECORDED=str(traces))
    assert log == ""
    assert told["good"] == ("" if good is None else job.commits[good])
    if good is None:
        log = job.diagnose(traces, INPUT_DIAGNOSE="", INPUT_CULPRIT="5")
        assert log.startswith("::warning title=TraceTriage::culprit: no earlier commit is known that may be good")


def test_the_last_green_commit_that_the_history_knows_comes_first(job):
    (job.root / "shop" / "cart.py").write_text(FILES["shop/cart.py"], encoding="utf-8")
    git("checkout", "--quiet", "--force", job.commits[0], cwd=job.root)
    given = {"INPUT_HISTORY": str(job.folder / "past"), "TOOL": PYTHON}
    remember = [PYTHON, "-m", "pytest", "-q", "--tracetriage"]
    subprocess.run(remember, cwd=job.root, env={**job.base, "GITHUB_REF_NAME": "main"}, check=True, capture_output=True)
    git("checkout", "--quiet", "main", cwd=job.root)
    add = [
        PYTHON,
        "-c",
        "from pytest_tracetriage.commands import main; main()",
        "history",
        f"--history={job.folder / 'past'}",
        "add",
    ]
    subprocess.run(add, cwd=job.root, env=job.base, check=True, capture_output=True)
    git("checkout", "--quiet", "-b", "topic", cwd=job.root)
    job.commit({"README.md": "topic"})
    job.event({"repository": {"default_branch": "main"}})
    traces = job.suite()

    assert job.step("commits", RECORDED=str(traces))[0]["good"] == job.commits[1]  # where the branch left
    told, log = job.step("commits", RECORDED=str(traces), **given)
    assert log == ""
    assert told["good"] == job.commits[0]


def test_in_the_merge_that_github_makes_of_a_pull_request_the_commit_of_its_branch_is_named(job):
    git("reset", "--quiet", "--hard", job.commits[0], cwd=job.root)
    git("checkout", "--quiet", "-b", "topic", cwd=job.root)
    for files in ({"docs.md": "one"}, {**BROKEN_CART, "docs.md": "two"}, {"docs.md": "three"}):
        job.commit(files)
    broken = job.commits[-2]
    git("checkout", "--quiet", "main", cwd=job.root)
    job.commit({"README.md": "meanwhile"})
    tip = job.commits[-1]
    git("checkout", "--quiet", "--detach", cwd=job.root)
    git("-c", "user.name=a", "-c", "user.email=a@b", "merge", "--quiet", "--no-edit", "topic", cwd=job.root)
    job.event({"repository": {"default_branch": "main"}})
    traces = job.suite()
    told, _ = job.step("commits", RECORDED=str(traces))
    assert told["good"] == tip

    assert job.diagnose(traces, INPUT_DIAGNOSE="", INPUT_CULPRIT="5", GOOD=told["good"]) == ""
    (found,) = traces.glob("*/culprit.json")
    (culprit,) = json.loads(found.read_bytes())["culprits"]
    assert (culprit["finding"], culprit["commit"]) == ("commit", broken)
