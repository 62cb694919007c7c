"""The test server itself: it answers as GitHub does, notices what GitHub would not take, and runs as a script."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import requests
from world import FINE_GRAINED, INSTALLATION, PERSONAL, READ_ONLY, git, git_environment

SERVER = Path(__file__).with_name("server.py")
REPOSITORY = "/repos/acme/shop"


def ask(server, method, path, token=INSTALLATION, **more):
    headers = {"authorization": f"Bearer {token}"} if token else {}
    return requests.request(method, server.api_url + path, headers=headers, timeout=10, allow_redirects=False, **more)


@pytest.mark.parametrize(
    ("method", "path", "body", "complaint"),
    [
        ("GET", f"{REPOSITORY}/nothing", None, "Path not found"),
        ("PUT", f"{REPOSITORY}/pulls/1", {}, "Operation put not found"),
        ("GET", f"{REPOSITORY}/issues/x/comments", None, "Path parameter error: issue_number"),
        ("GET", f"{REPOSITORY}/pulls?state=merged", None, "'merged' is not one of"),
        ("POST", f"{REPOSITORY}/issues/1/comments", {"text": "x"}, "'body' is a required property"),
        ("POST", f"{REPOSITORY}/issues/1/comments", {"body": "x", "colour": "red"}, "unknown keys ['colour']"),
        ("POST", f"{REPOSITORY}/statuses/{{sha}}", {"state": "red"}, "'red' is not one of"),
        (
            "POST",
            f"{REPOSITORY}/check-runs",
            {"name": "n", "head_sha": "{sha}", "output": {"title": "t"}},
            "'summary' is a required",
        ),
    ],
)
def test_a_request_that_github_does_not_describe_is_noticed(method, path, body, complaint, server, sha):
    said = json.loads(json.dumps(body).replace("{sha}", sha)) if body is not None else None
    ask(server, method, path.replace("{sha}", sha), json=said)
    assert complaint in server.violations[0]
    server.violations.clear()


def test_an_answer_that_github_does_not_describe_is_noticed(server, monkeypatch):
    import rest_pulls

    monkeypatch.setattr(rest_pulls, "comment_json", lambda *_: {"id": "one"})
    server.world.say(1, "stranger", "hello")
    ask(server, "GET", f"{REPOSITORY}/issues/1/comments")
    assert "is a required property" in server.violations[0]
    server.violations.clear()


def test_every_reading_operation_answers_as_described(server, sha):
    run, artifact = 5, {"run": 5, "name": "traces", "data": "emlw"}
    server.seed("runs", {"id": run, "head_sha": sha, "head_branch": "feature"})
    number = server.seed("artifacts", artifact)["id"]
    for path, status in {
        REPOSITORY: 200,
        "/repos/acme/other": 404,
        "/rate_limit": 200,
        f"{REPOSITORY}/pulls?state=all&head=acme:feature": 200,
        f"{REPOSITORY}/pulls/1": 200,
        f"{REPOSITORY}/pulls/2": 404,
        f"{REPOSITORY}/commits/{sha}/pulls": 200,
        f"{REPOSITORY}/commits/{'0' * 40}/pulls": 422,
        f"{REPOSITORY}/commits/main/check-runs?app_id=1&status=completed": 200,
        f"{REPOSITORY}/commits/main/statuses": 200,
        f"{REPOSITORY}/commits/main/status": 200,
        f"{REPOSITORY}/git/ref/heads/main": 200,
        f"{REPOSITORY}/git/ref/heads/deep/branch": 404,
        f"{REPOSITORY}/contents/shop/cart.py?ref=main": 200,
        f"{REPOSITORY}/contents/shop/none.py": 404,
        f"{REPOSITORY}/actions/runs/{run}": 200,
        f"{REPOSITORY}/actions/runs/6": 404,
        f"{REPOSITORY}/actions/runs/{run}/artifacts?name=traces": 200,
        f"{REPOSITORY}/actions/artifacts/{number}/zip": 302,
    }.items():
        assert ask(server, "GET", path).status_code == status, path
    found = ask(server, "GET", f"{REPOSITORY}/actions/runs/{run}").json()
    assert [pull["number"] for pull in found["pull_requests"]] == [1]
    link = ask(server, "GET", f"{REPOSITORY}/actions/artifacts/{number}/zip").headers["location"]
    assert requests.get(link, timeout=10).content == b"zip"


def test_the_run_of_a_fork_has_no_pull_requests(server, sha):
    server.world.open_pull("feature", sha, "mallory/shop")
    server.seed("runs", {"id": 5, "head_sha": sha, "head_branch": "feature", "head_repository": "mallory/shop"})
    assert ask(server, "GET", f"{REPOSITORY}/actions/runs/5").json()["pull_requests"] == []
    assert (
        ask(server, "GET", f"{REPOSITORY}/pulls?head=mallory:feature").json()[0]["head"]["repo"]["full_name"] == "mallory/shop"
    )


def test_whose_token_it_is(server):
    assert ask(server, "GET", "/user", PERSONAL).json()["login"] == "maintainer"
    assert ask(server, "GET", "/user").json()["message"] == "Resource not accessible by integration"
    assert ask(server, "GET", "/user", "").status_code == 401
    assert ask(server, "GET", "/user", "unknown").json()["message"] == "Bad credentials"


def test_lists_come_in_pages(server):
    for number in range(5):
        server.world.say(1, "stranger", f"chatter {number}")
    answer = ask(server, "GET", f"{REPOSITORY}/issues/1/comments?per_page=2&page=2")
    assert [item["body"] for item in answer.json()] == ["chatter 2", "chatter 3"]
    assert {name: link["url"].rsplit("page=", 1)[1] for name, link in answer.links.items()} == {
        "next": "3",
        "last": "3",
        "prev": "1",
        "first": "1",
    }
    assert ask(server, "GET", f"{REPOSITORY}/issues/1/comments?per_page=2&page=3").links.keys() == {"prev", "first"}


def test_limits_are_kept(server, sha):
    remark = {"path": "a", "start_line": 1, "end_line": 1, "annotation_level": "notice", "message": "m"}
    output = {"title": "t", "summary": "s", "annotations": [remark] * 51}
    answer = ask(server, "POST", f"{REPOSITORY}/check-runs", json={"name": "n", "head_sha": sha, "output": output})
    assert (answer.status_code, "No more than 50" in answer.text) == (422, True)
    assert "is too long" in server.violations.pop()
    answer = ask(server, "POST", f"{REPOSITORY}/issues/1/comments", json={"body": "x" * 65_537})
    assert (answer.status_code, "Body is too long" in answer.text) == (422, True)


@pytest.mark.parametrize(
    ("token", "pushed"), [(INSTALLATION, True), (FINE_GRAINED, True), (READ_ONLY, False), ("unknown", False)]
)
def test_git_pushes_with_a_token_that_may_write(token, pushed, server, sha, tmp_path):
    git("clone", "--quiet", f"{server.url}/acme/shop.git", str(tmp_path / "clone"))
    assert (tmp_path / "clone" / "shop" / "cart.py").is_file()
    address = f"{server.url.replace('//', f'//x-access-token:{token}@')}/acme/shop.git"
    done = subprocess.run(
        ["git", "push", address, "HEAD:refs/heads/history"],
        cwd=tmp_path / "clone",
        env={**git_environment(), "GIT_TERMINAL_PROMPT": "0"},
        capture_output=True,
        check=False,
    )
    assert (done.returncode == 0) is pushed, done.stderr
    assert server.world.commit_of("history") == (sha if pushed else "")


@pytest.mark.linux
def test_it_runs_as_a_script_and_tells_its_state(tmp_path):
    command = [sys.executable, SERVER, "--folder", tmp_path / "git", "--repository", "a/b", "--state", tmp_path / "state.json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        url = process.stdout.readline().strip()
        git("clone", "--quiet", f"{url}/a/b.git", str(tmp_path / "clone"))
        for kind, said in (
            ("repositories", {"full_name": "mallory/b"}),
            ("pulls", {"head_branch": "feature", "head_sha": "0" * 40, "head_repository": "mallory/b"}),
            ("comments", {"pull": 1, "login": "stranger", "body": "hello"}),
            ("faults", {"kind": "502", "method": "GET", "path": ".*/comments"}),
        ):
            assert requests.post(f"{url}/_test/{kind}", json=said, timeout=10).status_code == 201
        assert requests.post(f"{url}/_test/pulls", json={"nonsense": 1}, timeout=10).status_code == 422
        statuses = [requests.get(f"{url}/api/v3/repos/a/b/issues/1/comments", timeout=10).status_code for _ in range(2)]
        live = requests.get(f"{url}/_test/state", timeout=10).json()
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
    assert statuses == [502, 200]
    assert [item["body"] for item in live["comments"]] == ["hello"]
    assert [item["head_repository"] for item in live["pulls"]] == ["mallory/b"]
    assert live["violations"] == []
    assert json.loads((tmp_path / "state.json").read_text()) == live


def test_the_description_names_its_source_and_is_small():
    text = SERVER.with_name("openapi.json").read_bytes()
    info = json.loads(text)["info"]
    assert (info["version"], info["license"]["name"]) == ("23.0.2", "MIT")
    assert len(text) < 400_000
