"""The event of a workflow: what is trusted, and where a commit comes from."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_tracetriage.commands.grouping import read_event

ENVIRON = {
    "GITHUB_ACTIONS": "true",
    "GITHUB_REPOSITORY": "shop/shop",
    "GITHUB_RUN_ID": "77",
    "GITHUB_RUN_ATTEMPT": "2",
    "GITHUB_SHA": "m" * 40,
    "GITHUB_REF_NAME": "main",
    "GITHUB_WORKFLOW": "CI",
    "GITHUB_EVENT_NAME": "push",
}
REPOSITORY = {"full_name": "shop/shop", "default_branch": "main"}
HEAD = {"sha": "a" * 40, "ref": "topic", "repo": {"full_name": "shop/shop"}}


@pytest.fixture
def event(tmp_path):
    def of(payload, **environ):
        path = tmp_path / "event.json"
        path.write_text(payload if isinstance(payload, str) else json.dumps(payload), encoding="utf-8")
        return read_event({**ENVIRON, "GITHUB_EVENT_PATH": str(path), **environ})

    return of


def test_outside_of_github_there_is_none():
    assert read_event({}) is None


def test_a_push(event):
    found = event({"repository": REPOSITORY}, GITHUB_REF_NAME="topic")
    assert (found.name, found.sha, found.branch, found.base) == ("push", "m" * 40, "topic", "main")
    assert (found.ci_run, found.attempt, found.pull_request, found.from_fork) == (77, 2, 0, False)
    assert found.url == "https://github.com/shop/shop/actions/runs/77"


def test_a_pull_request_is_reported_on_its_head_not_on_the_merge(event):
    payload = {"repository": REPOSITORY, "pull_request": {"number": 5, "head": HEAD, "base": {"ref": "next"}}}
    found = event(payload, GITHUB_EVENT_NAME="pull_request", GITHUB_HEAD_REF="topic", GITHUB_BASE_REF="next")
    assert (found.sha, found.branch, found.base, found.pull_request) == ("a" * 40, "topic", "next", 5)
    assert not found.from_fork


@pytest.mark.parametrize("repo", [{"full_name": "stranger/shop"}, None])
def test_a_fork_even_a_deleted_one(event, repo):
    payload = {"repository": REPOSITORY, "pull_request": {"number": 5, "head": {**HEAD, "repo": repo}}}
    assert event(payload, GITHUB_EVENT_NAME="pull_request").from_fork


def test_the_name_of_a_repository_knows_no_case(event):
    payload = {"repository": REPOSITORY, "pull_request": {"number": 5, "head": {**HEAD, "repo": {"full_name": "Shop/shop"}}}}
    assert not event(payload, GITHUB_EVENT_NAME="pull_request").from_fork


RUN = {
    "id": 76,
    "run_attempt": 3,
    "name": "Tests",
    "event": "pull_request",
    "head_sha": "b" * 40,
    "head_branch": "main",
    "head_repository": {"full_name": "stranger/shop"},
    "html_url": "https://github.com/shop/shop/actions/runs/76",
    "pull_requests": [],
}


def test_a_workflow_run_speaks_of_the_run_that_triggered_it(event):
    found = event({"repository": REPOSITORY, "workflow_run": RUN}, GITHUB_EVENT_NAME="workflow_run")
    assert (found.name, found.sha, found.ci_run, found.attempt, found.workflow) == ("pull_request", "b" * 40, 76, 3, "Tests")
    assert (found.repository, found.head_repository, found.from_fork) == ("shop/shop", "stranger/shop", True)
    assert found.triggered
    assert found.searched  # a fork's list of pull requests is empty
    assert found.base == "main"


def test_a_workflow_run_of_a_pull_request_of_our_own(event):
    own = {**RUN, "head_repository": {"full_name": "shop/shop"}, "pull_requests": [{"number": 9, "base": {"ref": "next"}}]}
    found = event({"repository": REPOSITORY, "workflow_run": own}, GITHUB_EVENT_NAME="workflow_run")
    assert (found.pull_request, found.base, found.from_fork, found.searched) == (9, "next", False, False)


def test_a_push_is_of_no_pull_request_even_where_its_branch_has_one(event):
    release = {"number": 9, "head": {"ref": "main", "sha": "b" * 40}, "base": {"ref": "production"}}
    pushed = {**RUN, "event": "push", "head_repository": {"full_name": "shop/shop"}, "pull_requests": [release]}
    found = event({"repository": REPOSITORY, "workflow_run": pushed}, GITHUB_EVENT_NAME="workflow_run")
    assert (found.pull_request, found.base, found.branch, found.searched) == (0, "main", "main", False)


def test_a_pull_request_within_a_fork_is_another_here(event):
    within = {"number": 1, "head": {"ref": "main", "sha": "b" * 40}, "base": {"ref": "trunk"}}
    found = event({"workflow_run": {**RUN, "pull_requests": [within]}}, GITHUB_EVENT_NAME="workflow_run")
    assert (found.pull_request, found.searched) == (0, True)


def test_a_pull_request_of_another_branch_on_the_same_commit_is_looked_for(event):
    other = {"number": 9, "head": {"ref": "other", "sha": "b" * 40}, "base": {"ref": "next"}}
    own = {**RUN, "head_repository": {"full_name": "shop/shop"}, "pull_requests": [other]}
    found = event({"repository": REPOSITORY, "workflow_run": own}, GITHUB_EVENT_NAME="workflow_run")
    assert (found.pull_request, found.searched) == (0, True)


def listed(number, repository):
    """A pull request as a workflow run lists it."""
    return {"number": number, "base": {"ref": "next", "repo": {"url": f"https://api.github.com/repos/{repository}"}}}


def test_a_pull_request_in_a_fork_that_has_our_branch_as_its_head_is_none_of_ours(event):
    own = {**RUN, "head_repository": {"full_name": "shop/shop"}}
    elsewhere = listed(4, "stranger/shop")
    found = event({"workflow_run": {**own, "pull_requests": [elsewhere]}}, GITHUB_EVENT_NAME="workflow_run")
    assert (found.pull_request, found.searched) == (0, True)
    both = {**own, "pull_requests": [elsewhere, listed(9, "Shop/shop")]}
    assert event({"workflow_run": both}, GITHUB_EVENT_NAME="workflow_run").pull_request == 9


def test_a_merge_queue(event):
    payload = {"repository": REPOSITORY, "merge_group": {"base_ref": "refs/heads/release", "head_sha": "m" * 40}}
    assert event(payload, GITHUB_EVENT_NAME="merge_group").base == "release"


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from([*RUN, "head", "repo", "number"]), inner, max_size=4)
    ),
    max_leaves=8,
)


@given(inner=_json, key=st.sampled_from(["workflow_run", "pull_request", "merge_group", "repository"]))
def test_no_payload_raises(tmp_path_factory, inner, key):
    path = tmp_path_factory.getbasetemp() / "any-event.json"
    path.write_text(json.dumps({key: inner}), encoding="utf-8")
    for name in ("push", "pull_request", "workflow_run", "merge_group"):
        found = read_event({**ENVIRON, "GITHUB_EVENT_PATH": str(path), "GITHUB_EVENT_NAME": name})
        assert isinstance(found.pull_request, int)
        assert isinstance(found.sha, str)


@pytest.mark.parametrize("listed", [7, "x", None, [3], {}])
def test_a_list_of_pull_requests_that_is_none(event, listed):
    found = event({"workflow_run": {**RUN, "pull_requests": listed}}, GITHUB_EVENT_NAME="workflow_run")
    assert found.pull_request == 0


def test_a_payload_that_cannot_be_read(event):
    assert event("{").branch == "main"
