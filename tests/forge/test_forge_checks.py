from __future__ import annotations

import re

import msgspec
import pytest
from scenarios import NAME, annotations, calls, check, status
from world import ACTIONS_APP, FINE_GRAINED, OTHER_APP, PERSONAL, Check, Status

from pytest_tracetriage.govern.forge.errors import ForgeError


def wanted(count):
    return [msgspec.to_builtins(item) for item in annotations(count)]


def test_a_check_run_of_many_annotations_is_created_unfinished_and_completed_by_the_last(server, forge, sha):
    assert check(forge, sha) == "created"
    (run,) = server.world.checks.values()
    assert (run.name, run.external_id, run.head_sha, run.app) == (NAME, "7", sha, ACTIONS_APP)
    assert (run.status, run.conclusion, run.title, run.summary, run.text) == (
        "completed",
        "failure",
        "2 new causes",
        "31 of 812 tests fail",
        "details",
    )
    assert run.details_url == "https://example.com/run"
    assert run.annotations == wanted(104)
    assert [method for method, _ in calls(server)] == ["GET", "POST", "PATCH", "PATCH"]


def test_an_unfinished_run_is_in_progress(server, forge_of, sha):
    for nth in (1, 2):
        server.fault("429-retry-after", "PATCH", nth=nth, wait=1000)
    with pytest.raises(ForgeError, match="1000 s of rest"):
        check(forge_of(), sha)
    (run,) = server.world.checks.values()
    assert (run.status, run.conclusion, len(run.annotations)) == ("in_progress", None, 50)
    server.plan.faults.clear()
    assert check(forge_of(), sha) == "updated"
    assert (run.status, run.conclusion, run.annotations) == ("completed", "failure", wanted(104))
    assert len(server.world.checks) == 1


def test_the_same_check_again_changes_nothing(server, forge, sha):
    check(forge, sha)
    before = len(server.log)
    assert check(forge, sha) == "unchanged"
    assert {method for method, _ in calls(server)[before:]} == {"GET"}


def test_a_later_attempt_updates_the_run_and_adds_what_is_new(server, forge, sha):
    said = {"title": "t", "summary": "s", "external_id": "7"}
    forge.set_check(NAME, sha, conclusion="failure", annotations=annotations(3), **said)
    assert forge.set_check(NAME, sha, conclusion="success", annotations=annotations(5), **said) == "updated"
    (run,) = server.world.checks.values()
    assert run.conclusion == "success"
    assert run.annotations == wanted(5)


def test_another_external_id_is_another_run(server, forge, sha):
    check(forge, sha, run=7)
    assert check(forge, sha, run=8) == "created"
    assert [run.external_id for run in server.world.checks.values()] == ["7", "8"]


def test_the_run_of_another_app_is_not_ours_to_update(server, forge, sha):
    server.world.checks[1] = Check(1, 4711, NAME, sha, "7", None, "completed", "success", "theirs", "theirs", "")
    assert check(forge, sha) == "created"
    assert server.world.checks[1].title == "theirs"
    assert len(server.world.checks) == 2


def test_the_other_app_updates_its_own(server, forge, forge_of, sha):
    check(forge, sha)
    other = forge_of(OTHER_APP)
    for title, outcome in (("first", "created"), ("second", "updated"), ("second", "unchanged")):
        assert other.set_check(NAME, sha, title=title, summary="s", conclusion="failure", external_id="7") == outcome
    assert [(run.app, run.title) for run in server.world.checks.values()] == [(ACTIONS_APP, "2 new causes"), (4711, "second")]


def test_a_check_without_annotations_takes_two_calls(server, forge, sha):
    assert forge.set_check("a / b?c=d#é", sha, title="t", summary="s", conclusion="neutral", external_id="1") == "created"
    assert [method for method, _ in calls(server)] == ["GET", "POST"]
    assert forge.set_check("a / b?c=d#é", sha, title="t", summary="s", conclusion="neutral", external_id="1") == "unchanged"


def test_a_run_among_a_hundred_others_is_found(server, forge, sha):
    check(forge, sha)
    for number in range(2000, 2150):
        server.world.checks[number] = Check(number, ACTIONS_APP, NAME, sha, f"other {number}", None, "completed", "success")
    assert check(forge, sha) == "unchanged"


@pytest.mark.parametrize("token", [PERSONAL, FINE_GRAINED])
@pytest.mark.parametrize(("conclusion", "state"), [("failure", "failure"), ("neutral", "success"), ("timed_out", "failure")])
def test_a_personal_token_sets_a_commit_status_instead(token, conclusion, state, server, forge_of, sha):
    title = "many causes " * 20
    for _ in range(2):
        said = {"summary": "s", "conclusion": conclusion, "details_url": "https://example.com/run"}
        assert forge_of(token).set_check(NAME, sha, title=title, **said) == "status"
    (found,) = server.world.statuses
    assert (found.context, found.state, found.login, found.target_url) == (NAME, state, "maintainer", "https://example.com/run")
    assert re.fullmatch(r"(many causes )+.*…", found.description)
    assert len(found.description) == 140
    assert server.world.checks == {}


def test_an_equal_newest_status_is_not_repeated(server, forge, sha):
    assert [status(forge, sha), status(forge, sha)] == ["created", "unchanged"]
    forge.set_status(sha, NAME.upper(), "success", "fixed")
    assert [status(forge, sha), status(forge, sha)] == ["created", "unchanged"]
    assert [(item.state, item.description) for item in server.world.statuses] == [
        ("failure", "2 new causes"),
        ("success", "fixed"),
        ("failure", "2 new causes"),
    ]


def test_other_contexts_do_not_count(server, forge, sha):
    status(forge, sha)
    server.world.statuses += [Status(5000 + number, sha, "maintainer", "success", f"other {number}") for number in range(120)]
    assert status(forge, sha) == "unchanged"
