"""Diagnosis in a workflow: what failing tests do when they run again, and the commit that broke them, where people look."""

from __future__ import annotations

import json
import re
import shutil

import pytest
from acting import ROOT, only
from tested_project import BROKEN_CART, FILES, MENDED_STOCK
from world import READ_ONLY, git

pytestmark = pytest.mark.linux

FLAKY = """\
import os


def test_flaky():
    if "COUNTER" in os.environ:  # each second time it is run
        with open(os.environ["COUNTER"], "a+") as counter:
            counter.write("x")
            counter.flush()
            counter.seek(0)
            if len(counter.read()) % 2:
                raise ConnectionResetError("by peer")
"""
MATRIX = """\
        with:
          command: pytest
          publish: false
"""
BUDGETS = "          diagnose: 5\n          culprit: 10\n"


def plain(markdown):
    return re.sub(r"[`\\]|&#\d+;", "", markdown)


def row(text, name):
    """The row of the table that names a cause."""
    return next(line for line in plain(text).splitlines() if line.startswith("|") and name in line)


@pytest.fixture
def green(project):
    """Return a commit of the main branch at which all tests pass."""
    project.commit({**MENDED_STOCK, "tests/test_flaky.py": FLAKY})
    return project.commit({"README.md": "green"})


@pytest.fixture
def pull(project, green):
    """Return a pull request of four commits, the second of which breaks the cart, from a main branch that went on."""
    project.commit({"README.md": "later"})
    made = project.open_pull("topic", {"docs.md": "one"})
    made.broken = project.commit({**BROKEN_CART, "docs.md": "two"}, "topic")
    project.commit({"docs.md": "three"}, "topic")
    made.head_sha = project.commit({"docs.md": "four"}, "topic")
    return made


@pytest.fixture
def moody(tmp_path):
    """Return an environment in which the flaky test fails the first time, then each second time."""
    return {"COUNTER": str(tmp_path / "counter")}


def test_status_suspect_and_commit_stand_in_comment_summary_check_and_annotations(project, green, pull, moody):
    project.push(green)
    ran = project.pull(pull, "diagnose.yml", environment=moody)

    assert ran.results == {"Tests": "failure"}
    assert ran.warnings == [], ran.log
    state = project.server.state()
    comment = only(state["comments"])["body"]
    check = only([check for check in state["checks"] if check["head_sha"] == pull.head_sha])
    for text in (comment, ran.summary, check["summary"]):
        cart = row(text, "KeyError")
        assert cart.startswith("| **new** |")
        assert f"real, since {pull.broken[:7]} (this PR, 9" in cart
        assert "shop/cart.py:5" in cart
        assert row(text, "by peer").startswith("| flaky |")
        assert "alone" in row(text, "by peer")
        assert "since" not in row(text, "by peer")
    assert "4 of 7 tests fail from 2 causes (1 flaky): this PR brings 1 of them" in plain(comment)
    assert f"/commit/{pull.broken}" in comment
    assert "3 of 3 failing tests run it" in plain(comment)
    suspect = only([said for said in ran.said if said.file == "shop/cart.py"])
    assert (suspect.level, suspect.line) == ("error", "5")
    assert "real: fails" in suspect.text
    assert f"since {pull.broken[:7]} (this PR, 9" in suspect.text
    assert "suspect: total: 3 of 3 failing tests run it" in suspect.text


def test_what_legs_found_is_told_by_the_job_that_reports_them(project, pull):
    workflow = project.variant("matrix.yml", MATRIX, MATRIX + BUDGETS)
    ran = project.pull(pull, workflow)

    assert ran.results == {"Python 3.10": "failure", "Python 3.14": "failure", "Root causes": "failure"}
    assert ran.warnings == [], ran.log
    assert len(list(project.artifacts.rglob("culprit.json"))) == 2
    cart = row(only(project.server.state()["comments"])["body"], "KeyError")
    assert f"real, since {pull.broken[:7]} (this PR, 9" in cart


@pytest.mark.parametrize("fork", [True, False], ids=["fork", "own branch"])
def test_a_diagnosis_is_believed_of_this_repository_and_of_no_fork(project, pull, fork):
    if fork:
        pull = project.open_pull("topic-too", BROKEN_CART, fork="stranger/shop")
    workflow = project.variant("fork-tests.yml", "          command: pytest\n", "          command: pytest\n" + BUDGETS)
    first = project.pull(pull, workflow, run_id=701, token=READ_ONLY)
    if fork:
        assert len([said for said in first.said if "off for the pull request of a fork" in said.text]) == 1
        assert not list(project.artifacts.rglob("culprit.json"))
        assert "real" not in row(first.summary, "KeyError")
        _forge(project.artifacts / "701", pull.head_sha)
    second = project.after(pull, 701)

    assert second.results == {"Root causes": "success"}
    assert second.warnings == []
    body = only(project.server.state()["comments"])["body"]
    if fork:
        assert row(body, "KeyError").startswith("| **failing** |")
        assert "flaky" not in row(body, "KeyError")
        assert "blame" not in body
        assert "none is made for a fork" in body
    else:
        assert f"real, since {pull.broken[:7]} (this PR, 9" in row(body, "KeyError")


def _forge(folder, commit):
    """Let an artifact say that all its failures are flaky, and whom to blame."""
    path = only(list(folder.rglob("analysis.json")))
    analysis = json.loads(path.read_bytes())
    for cluster in analysis["clusters"]:
        cluster |= {"status": "flaky", "status_evidence": "passes 3 of 3 alone"}
        cluster["suspects"] = [{"file": "README.md", "function": "blame", "line": 1, "score": 1.0, "evidence": "blame"}]
    path.write_text(json.dumps(analysis | {"reruns": {"pytest_runs": 3}}), encoding="utf-8")
    culprit = {"cluster": "A", "name": "", "tests": analysis["clusters"][0]["tests"], "finding": "commit", "commit": commit}
    culprit |= {"confidence": 1.0, "evidence": [], "subject": "blame", "rate": 1.0}
    path.with_name("culprit.json").write_text(json.dumps({"culprits": [culprit]}), encoding="utf-8")


def test_a_checkout_without_history_is_told_and_the_rest_done(project, pull, monkeypatch):
    whole = project.checkout

    def cut_off(commit, full_name=""):
        whole(commit, full_name)
        shutil.rmtree(project.workspace)
        git(
            "clone",
            "--quiet",
            "--depth=1",
            "--branch=topic",
            f"file://{project.server.world.git_folder()}",
            str(project.workspace),
        )
        git("remote", "set-url", "origin", f"https://github.com/{project.full_name}.git", cwd=project.workspace)

    monkeypatch.setattr(project, "checkout", cut_off)
    ran = project.pull(pull, "diagnose.yml")

    assert ran.results == {"Tests": "failure"}
    assert only(ran.warnings) == "culprit: the checkout has no earlier commits: give actions/checkout `fetch-depth: 0`"
    assert "| real, nothing to compare with |" in row(ran.summary, "KeyError")


def test_flaky_by_diagnosis_forgives_nothing(project, pull, moody):
    pull.head_sha = project.commit({"shop/cart.py": FILES["shop/cart.py"]}, "topic")
    workflow = project.variant("diagnose.yml", "          culprit: 10\n", "          fail-on: new\n")
    ran = project.pull(pull, workflow, environment=moody)

    assert row(ran.summary, "by peer").startswith("| flaky |")
    assert ran.results == {"Tests": "failure"}


def test_the_example_is_the_one_job_workflow_with_budgets():
    folder = ROOT / "docs" / "how-to" / "github-action"
    assert re.sub(r"          (fetch-depth|diagnose|culprit): .*\n", "", (folder / "diagnose.yml").read_text()).count("\n") == (
        folder / "tests.yml"
    ).read_text().count("\n")
