"""The workflows to copy, run by act as they stand: what appears on GitHub in each situation."""

from __future__ import annotations

import json
import re

import pytest
from acting import OWN, ROOT, WORKFLOWS, only, texts_of_the_action
from markdown_it import MarkdownIt
from tested_project import BROKEN_CART, FILES, MENDED_STOCK
from world import READ_ONLY

from pytest_tracetriage import __version__

pytestmark = pytest.mark.linux

EVIL = "@everyone <img src=x> ::error::a [b](http://c) $(touch pwned)"


def plain(text: str) -> str:
    """Return a text as it reads: without the escapes of Markdown."""
    return text.replace("\\", "")


def test_push(project):
    sha = project.commit({"README.md": "first"})
    ran = project.push(sha)

    assert ran.results == {"Tests": "failure"}
    assert ran.warnings == []
    state = project.server.state()
    assert state["comments"] == state["statuses"] == []
    check = only(state["checks"])
    assert (check["head_sha"], check["status"], check["conclusion"]) == (sha, "completed", "failure")
    assert "LookupError" in ran.summary
    assert "1 of 6 tests fails" in ran.summary
    places = [(said.file, said.line) for said in ran.said if "LookupError" in said.title + said.text]
    assert places == [("shop/stock.py", "2"), ("tests/test_stock.py", "5")]
    assert (ran.outputs["clusters"], ran.outputs["flaky"]) == ("1", "0")
    run = only(project.history())
    assert (run["commit"], run["branch"], run["event"]) == (sha, "main", "push")
    assert run["id"] == ran.outputs["run-id"]


def test_a_green_push(project):
    ran = project.push(project.commit(MENDED_STOCK))

    assert ran.results == {"Tests": "success"}
    assert ran.said == []
    assert only(project.server.state()["checks"])["conclusion"] == "success"
    assert "All 6 tests pass" in ran.summary


def test_pull_request(project):
    project.push(project.commit({"README.md": "first"}))
    pull = project.open_pull("topic", BROKEN_CART)
    ran = project.pull(pull)

    assert ran.results == {"Tests": "failure"}
    assert ran.warnings == []
    state = project.server.state()
    comment = only(state["comments"])
    assert comment["pull"] == pull.number
    assert "4 of 6 tests fail from 2 causes: this PR brings 1 of them" in plain(comment["body"])
    body = plain(comment["body"])
    assert body.index("KeyError") < body.index("LookupError")
    assert (ran.outputs["clusters"], ran.outputs["new"]) == ("2", "1")
    check = only([check for check in state["checks"] if check["head_sha"] == pull.head_sha])
    assert check["conclusion"] == "failure"
    assert "4 of 6 tests fail from 2 causes" in plain(ran.summary)
    levels = {said.level for said in ran.said if "KeyError" in said.title + said.text and said.file == "shop/cart.py"}
    assert levels == {"error"}
    assert sorted(run["event"] for run in project.history()) == ["pull_request", "push"]


def test_another_push_to_the_pull_request_updates_the_comment(project):
    project.push(project.commit({"README.md": "first"}))
    pull = project.open_pull("topic", BROKEN_CART)
    project.pull(pull)
    pull.head_sha = project.commit({"shop/cart.py": FILES["shop/cart.py"]}, "topic")
    ran = project.pull(pull)

    comment = only(project.server.state()["comments"])
    assert comment["edits"] == 1
    assert "this PR brings" not in plain(comment["body"]) or "brings none" in plain(comment["body"])
    assert "KeyError" not in ran.summary.partition("LookupError")[0]


def test_matrix(project):
    pull = project.open_pull("topic", BROKEN_CART)
    ran = project.pull(pull, "matrix.yml")

    assert ran.results == {"Python 3.10": "failure", "Python 3.14": "failure", "Root causes": "failure"}
    assert ran.warnings == []
    state = project.server.state()
    assert only(state["comments"])["pull"] == pull.number
    assert only(state["checks"])["head_sha"] == pull.head_sha
    assert ran.outputs["clusters"] == "2"
    legs = sorted(json.loads(run["leg"])["python"] for run in project.history())
    assert legs == ["3.10", "3.14"]
    assert len({run["group"] for run in project.history()}) == 1


def test_legs_that_fail_before_their_tests_are_not_green(project):
    pull = project.open_pull("topic", MENDED_STOCK)
    install = "- run: python -m pip install --editable . pytest\n"
    none = project.pull(pull, project.variant("matrix.yml", install, "- run: exit 1\n"))
    one = project.pull(pull, project.variant("matrix.yml", install, '- run: test "${{ matrix.python }}" = 3.14\n'))

    assert none.results["Root causes"] == one.results["Root causes"] == "failure"
    assert only(project.server.state()["checks"])["conclusion"] == "failure"
    body = plain(only(project.server.state()["comments"])["body"])
    assert "The suite failed, and not by a test" in body


def test_a_leg_that_main_has_is_missed_in_the_comment_and_is_no_fault_of_the_traces(project):
    project.push(project.commit(MENDED_STOCK), "matrix.yml")
    pull = project.open_pull("topic", {"README.md": "second"})
    workflow = project.variant(
        "matrix.yml", "- run: python -m pip install --editable . pytest\n", '- run: test "${{ matrix.python }}" = 3.14\n'
    )
    ran = project.pull(pull, workflow)

    assert ran.warnings == []
    body = plain(only(project.server.state()["comments"])["body"])
    assert "no run of tests python=3.10 was found, which main has" in body


def test_two_jobs_that_report_for_themselves_do_not_write_over_each_other(project):
    head, jobs, job = (WORKFLOWS / "tests.yml").read_text(encoding="utf-8").partition("jobs:\n")
    carts = job.replace("command: pytest\n", "command: pytest tests/test_cart.py\n")
    moods = job.replace("  tests:\n", "  moods:\n    needs: tests\n    if: ${{ !cancelled() }}\n", 1)
    moods = moods.replace("command: pytest\n", "command: pytest tests/test_mood.py\n").replace("name: Tests", "name: Moods")
    workflow = project.folder / "two-jobs.yml"
    workflow.write_text(head + jobs + carts + moods, encoding="utf-8")
    project.push(project.commit({"README.md": "first"}), workflow)
    pull = project.open_pull("topic", BROKEN_CART)
    ran = project.pull(pull, workflow)

    assert ran.results == {"Tests": "failure", "Moods": "success"}
    assert ran.warnings == []
    state = project.server.state()
    told = [plain(comment["body"]) for comment in state["comments"]]
    assert len(told) == 2
    assert "3 of 4 tests fail from 1 cause: this PR brings it" in told[0]
    assert "1 test passes" in told[1]
    assert "of `Tests / tests`" in told[0]
    assert "of `Tests / moods`" in told[1]
    checks = {c["name"]: c["conclusion"] for c in state["checks"] if c["head_sha"] == pull.head_sha}
    assert checks == {"TraceTriage (Tests / tests)": "failure", "TraceTriage (Tests / moods)": "success"}


def test_shards(project):
    pull = project.open_pull("topic", BROKEN_CART)
    ran = project.pull(pull, "shards.yml")

    comment = only(project.server.state()["comments"])
    assert "4 of 6 tests fail from 2 causes" in plain(comment["body"])
    assert "6 tests, 4 jobs" in plain(comment["body"])
    assert len(project.history()) == 4
    assert ran.warnings == []


def test_a_fork_of_which_the_artifact_lies(project):
    project.push(project.commit({"README.md": "first"}))
    victim = project.open_pull("victim", {"README.md": "second"})
    pull = project.open_pull("main-too", BROKEN_CART, fork="stranger/shop")
    before = project.server.state()
    first = project.pull(pull, "fork-tests.yml", run_id=701, token=READ_ONLY)
    after = project.server.state()

    assert first.results == {"Tests": "failure"}
    assert first.warnings == []
    assert only([said for said in first.said if said.level == "notice" and not said.file]).text.startswith(
        "This pull request's"
    )
    assert "KeyError" in first.summary
    assert (after["comments"], after["checks"]) == (before["comments"], before["checks"])
    assert {entry["method"] for entry in after["log"][len(before["log"]) :]} <= {"GET", "POST"}
    assert not [entry for entry in after["log"][len(before["log"]) :] if "receive-pack" in entry["path"] + entry["query"]]

    for path in (project.artifacts / "701").rglob("run.json"):
        run = json.loads(path.read_bytes())
        run["context"]["ci"]["pull_request"] = str(victim.number)
        run["context"]["ci"]["repository"] = "evil/shop"
        run["context"]["git"]["branch"] = "main"
        path.write_text(json.dumps(run), encoding="utf-8")
    history = project.history()
    second = project.after(pull, 701)

    assert second.results == {"Root causes": "success"}
    assert second.warnings == []
    state = project.server.state()
    comment = only(state["comments"])
    assert comment["pull"] == pull.number
    assert "this PR brings 1 of them" in plain(comment["body"])
    check = only([check for check in state["checks"] if check["head_sha"] == pull.head_sha])
    assert check["conclusion"] in {"failure", "neutral", "success"}
    assert project.history() == history


def test_a_workflow_run_without_artifacts_says_so(project):
    pull = project.open_pull("topic", BROKEN_CART, fork="stranger/shop")
    ran = project.after(pull, 702)
    assert ran.results == {"Root causes": "success"}
    assert len(ran.warnings) <= 1


def test_a_rerun_updates_rather_than_repeats(project):
    project.push(project.commit(MENDED_STOCK))
    pull = project.open_pull("topic", {"README.md": "second"})
    first = project.pull(pull, run_id=801, environment={"MOOD": "bad"})
    second = project.pull(pull, run_id=801, attempt=2)

    assert (first.results, second.results) == ({"Tests": "failure"}, {"Tests": "success"})
    state = project.server.state()
    comment = only(state["comments"])
    assert comment["edits"] == 1
    check = only([check for check in state["checks"] if check["head_sha"] == pull.head_sha])
    assert check["conclusion"] in {"success", "neutral"}
    assert sorted(run["attempt"] for run in project.history() if run["event"] == "pull_request") == [1, 2]


def test_a_leg_that_passes_when_it_is_run_again_was_flaky(project):
    project.push(project.commit(MENDED_STOCK))
    pull = project.open_pull("topic", {"README.md": "second"})
    project.pull(pull, "matrix.yml", run_id=802, environment={"MOOD": "bad"})
    ran = project.pull(pull, "matrix.yml", run_id=802, attempt=2)

    assert set(ran.results.values()) == {"success"}
    assert ran.outputs["flaky"] == "1"
    assert "flaky" in only(project.server.state()["comments"])["body"]


@pytest.mark.parametrize(("files", "result"), [({"README.md": "queued"}, "success"), (BROKEN_CART, "failure")])
def test_merge_group_fails_on_new_causes_only(project, files, result):
    project.push(project.commit({"README.md": "first"}))
    sha = project.branch("gh-readonly-queue/main/pr-1-abc", files)
    group = {"head_sha": sha, "head_ref": "refs/heads/gh-readonly-queue/main/pr-1-abc", "base_ref": "refs/heads/main"}
    ran = project.run("merge-group.yml", "merge_group", {"merge_group": group}, commit=sha)

    assert ran.results == {"Tests": result}
    state = project.server.state()
    assert state["comments"] == []
    check = only([check for check in state["checks"] if check["head_sha"] == sha])
    assert (check["conclusion"] == "failure") == (result == "failure")


def test_schedule(project):
    sha = project.commit({"README.md": "first"})
    project.push(sha)
    ran = project.run("schedule.yml", "schedule", {"schedule": "17 3 * * *"}, commit=sha)

    assert ran.results == {"Tests": "success"}
    assert project.server.state()["comments"] == []
    assert "LookupError" in ran.summary
    assert sorted(run["event"] for run in project.history()) == ["push", "schedule"]


def test_what_fails_the_job(project):
    project.push(project.commit({"README.md": "first"}))
    pull = project.open_pull("topic", {"README.md": "second"})
    results = {}
    for fail_on in ("new", "real", "never"):  # any is the default
        workflow = project.variant("tests.yml", "command: pytest\n", f"command: pytest\n          fail-on: {fail_on}\n")
        results[fail_on] = project.pull(pull, workflow).results["Tests"]
    assert results == {"new": "success", "real": "failure", "never": "success"}


def test_hostile_names_are_data(project):
    project.push(project.commit({"README.md": "first"}))
    branch = "x$(touch${IFS}pwned)`touch${IFS}pwned`@team<img/src=x>"
    hostile = {"tests/test_evil.py": f"def test_evil():\n    assert 0, {EVIL!r}\n"}
    pull = project.open_pull(branch, hostile)
    workflow = project.variant(
        "matrix.yml", 'python: ["3.10", "3.14"]', "python: ['3.10; touch pwned', '$(touch pwned)`touch pwned`']"
    )
    ran = project.pull(pull, workflow)

    assert not list(project.folder.rglob("pwned"))
    body = only(project.server.state()["comments"])["body"]
    html = MarkdownIt("commonmark", {"html": True}).enable("table").render(body)
    tags = set(re.findall(r"<(\w+)", html))
    assert "img" not in tags
    assert "http://c" not in re.findall(r'href="([^"]*)"', html)
    assert "@everyone" not in re.sub(r"<code>.*?</code>|<pre>.*?</pre>", "", html, flags=re.DOTALL)
    assert ran.warnings == []
    assert not [said for said in ran.said if said.text.startswith("a [b]")]


def test_this_repository_reports_by_its_own_action(project):
    pull = project.open_pull("topic", BROKEN_CART, fork="stranger/shop")
    project.pull(pull, "fork-tests.yml", run_id=901, token=READ_ONLY)
    project.commit(texts_of_the_action())
    ran = project.after(pull, 901, workflow=ROOT / ".github" / "workflows" / "report.yml")

    assert ran.results == {"Pull request": "success"}
    assert ran.warnings == []
    state = project.server.state()
    assert only(state["comments"])["pull"] == pull.number
    assert only(state["checks"])["head_sha"] == pull.head_sha
    assert project.history() == []


def test_the_workflows_to_copy_name_this_release_and_pin_the_rest():
    for path in WORKFLOWS.glob("*.yml"):
        for line in path.read_text(encoding="utf-8").splitlines():
            if "uses: " in line:
                own = f"uses: {OWN}/action@v{__version__}"
                assert line.endswith(own) or re.search(r"uses: actions/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+$", line), (
                    path,
                    line,
                )
