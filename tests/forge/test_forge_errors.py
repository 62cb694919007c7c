from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest
from scenarios import FULL_NAME, MARKER, check, comment, no_sleep, read_order, status
from world import ACTIONS, ACTIONS_APP, INSTALLATION, PERSONAL, READ_ONLY, Token

from pytest_tracetriage.govern.forge.errors import ForgeError
from pytest_tracetriage.govern.forge.github import CheckAnnotation, GitHubForge

READING = "ghs_" + "o" * 36


def complaint(function, *args, **more):
    """The one line of what cannot be done."""
    with pytest.raises(ForgeError) as error:
        function(*args, **more)
    line = str(error.value)
    assert "\n" not in line
    assert len(line) < 600
    for token in (INSTALLATION, PERSONAL, READ_ONLY, READING, "x" * 36):
        assert token not in line
    assert error.value.__cause__ is None
    return line


@pytest.mark.parametrize(
    ("job", "permission"), [(comment, "pull-requests: write"), (check, "checks: write"), (status, "statuses: write")]
)
def test_the_missing_permission_is_named_as_a_workflow_writes_it(job, permission, server, forge_of, sha):
    line = complaint(job, forge_of(READ_ONLY), sha)
    assert f"`permissions: {permission}`" in line
    assert "fork" in line
    assert "workflow_run" in line
    assert "(403)" in line


@pytest.mark.parametrize(("writes", "fails"), [(("checks", "statuses"), comment), (("issues", "statuses"), check)])
def test_other_permissions_do_not_help(writes, fails, server, forge_of, sha):
    server.world.tokens[READING] = Token(READING, ACTIONS, writes, ACTIONS_APP)
    assert "permissions: " in complaint(fails, forge_of(READING), sha)


def test_a_finer_token_without_the_permission(server, forge_of, sha):
    token = "github_pat_" + "n" * 36
    server.world.tokens[token] = Token(token, "maintainer", ())
    assert "personal access token lacks the permission `pull-requests: write`" in complaint(comment, forge_of(token), sha)
    assert "personal access token lacks the permission `statuses: write`" in complaint(check, forge_of(token), sha)


def test_a_token_that_github_does_not_know(server, forge_of, sha):
    line = complaint(comment, forge_of("ghs_" + "x" * 36), sha)
    assert "(401)" in line
    assert "does not accept the token" in line


def test_a_repository_that_is_not_there_or_not_to_be_seen(server, sha):
    forge = GitHubForge("acme/secret", INSTALLATION, server.api_url, sleep=no_sleep)
    line = complaint(comment, forge, sha)
    assert "acme/secret (404)" in line
    assert "the token may not see" in line


def test_a_pull_request_that_is_not_there(server, forge):
    assert "comments on #99 in acme/shop (404)" in complaint(forge.upsert_comment, 99, MARKER, MARKER, (1, 1), read_order)


def test_a_comment_that_is_too_long(server, forge):
    line = complaint(forge.upsert_comment, 1, MARKER, MARKER + "x" * 65_536, (1, 1), read_order)
    assert "(422)" in line
    assert "Body is too long (maximum is 65536 characters): shorten it" in line


def test_a_locked_conversation(server, forge, sha):
    server.world.pulls[1].locked = True
    assert "Unable to create comment because issue is locked" in complaint(comment, forge, sha)


@pytest.mark.parametrize("job", [check, status])
def test_a_commit_that_is_not_there(job, server, forge):
    line = complaint(job, forge, "0" * 40)
    assert "No commit found" in line
    assert "push it" in line


@pytest.mark.parametrize("head_sha", ["main", "", "0" * 39, "../../" + "0" * 34, "0" * 40 + "\n"])
def test_what_is_no_sha_reaches_no_path(head_sha, server, forge):
    for call in (check, status):
        assert "expected a full commit SHA" in complaint(call, forge, head_sha)
    assert "expected a full commit SHA" in complaint(forge.find_pull, FULL_NAME, head_sha)
    assert server.log == []


@pytest.mark.parametrize("name", ["shop", "a/b/c", "acme/..", "acme/shop?x", "acme/\u202eshop", "", "acme/shop\n"])
def test_what_is_no_repository_reaches_no_path(name, server, forge, sha):
    assert "expected a repository as OWNER/NAME" in complaint(GitHubForge, name, INSTALLATION, server.api_url)
    assert "expected a repository as OWNER/NAME" in complaint(forge.find_pull, name, sha)


@pytest.mark.parametrize(
    "address",
    [
        "http://api.github.com",
        "http://127.0.0.1.example.com",
        "http://localhost.example.com",
        "http://10.0.0.1/api/v3",
        "ftp://api.github.com",
        "api.github.com",
        "https://",
        "https://[",
        "https://host:port",
        "https://user:ghs_secret@github.example.com",
        "https://github.example.com/api/v3?x=1",
        "",
    ],
)
def test_an_address_that_the_token_must_not_go_to(address):
    line = complaint(GitHubForge, FULL_NAME, INSTALLATION, address)
    assert "https" in line
    assert "ghs_secret" not in line


@pytest.mark.parametrize("address", ["http://localhost:1/api/v3", "http://[::1]:1/", "https://github.example.com/api/v3/"])
def test_an_address_that_the_token_may_go_to(address):
    GitHubForge(FULL_NAME, INSTALLATION, address)


@pytest.mark.parametrize("token", ["", "  ", "ghs_a\nX-Evil: 1", "ghs_é"])
def test_a_token_that_is_none(token):
    assert "no usable GitHub token" in complaint(GitHubForge, FULL_NAME, token)


def test_what_github_says_cannot_break_the_line(server, forge, sha):
    server.world.pulls[1].locked = True
    said = "one\ntwo\x1b[31m\u202e " + INSTALLATION + " " + "long " * 200
    function = server_says(server, said)
    line = complaint(function, forge, sha)
    assert "one two" in line
    assert "\x1b" not in line
    assert "\u202e" not in line
    assert "***" in line


def server_says(server, said):
    """A job after which the server refuses with these words."""
    server.fault("secondary", wait=0)

    def job(forge, sha):
        import routes

        refusing = routes.RefusedError(403, said).answer
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(routes, "answer", lambda *_: refusing)
            return comment(forge, sha)

    return job


def test_without_pygithub_the_extra_is_named():
    script = """
        import sys
        sys.modules["github"] = None
        from pytest_tracetriage.govern.forge.github import GitHubForge
        try:
            GitHubForge("acme/shop", "ghs_token")
        except Exception as error:
            print(type(error).__name__, error)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, check=True)
    assert done.stdout == "ForgeError GitHub needs PyGithub: pip install 'pytest-tracetriage[github]'\n"


def test_importing_the_forge_imports_no_pygithub():
    script = "import sys, pytest_tracetriage.govern.forge.github; print({'github', 'requests'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_an_annotation_is_said_as_github_wants_it(server, forge, sha):
    remark = CheckAnnotation("a.py", 3, 4, "warning", "m", title="t", raw_details="r")
    forge.set_check("n", sha, title="t", summary="s", conclusion="neutral", annotations=[remark])
    assert [run.annotations for run in server.world.checks.values()] == [
        [
            {
                "path": "a.py",
                "start_line": 3,
                "end_line": 4,
                "annotation_level": "warning",
                "message": "m",
                "title": "t",
                "raw_details": "r",
            }
        ]
    ]
