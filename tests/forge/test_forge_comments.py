from __future__ import annotations

import threading

import pytest
from scenarios import MARKER, calls, comment, read_order, text
from world import ACTIONS, ACTIONS_APP, FINE_GRAINED, PERSONAL, STRANGER

from pytest_tracetriage.govern.forge.errors import ForgeError

COMMENTS = "/repos/acme/shop/issues/1/comments"


def bodies(server):
    return [(item.login, item.body) for item in server.world.comments.values()]


def test_the_first_run_creates_the_comment_and_looks_again(server, forge, sha):
    assert comment(forge, sha) == "created"
    assert bodies(server) == [(ACTIONS, text(7))]
    assert calls(server) == [("GET", COMMENTS), ("POST", COMMENTS), ("GET", COMMENTS)]


def test_the_same_text_again_is_not_edited(server, forge, sha):
    comment(forge, sha)
    assert comment(forge, sha) == "unchanged"
    assert [item.edits for item in server.world.comments.values()] == [0]


def test_line_ends_and_outer_space_are_no_difference(server, forge, sha):
    server.world.say(1, ACTIONS, text(7).replace("\n", "\r\n") + "\r\n", ACTIONS_APP)
    assert comment(forge, sha) == "unchanged"


def test_a_later_run_edits_the_comment(server, forge, sha):
    comment(forge, sha)
    assert comment(forge, sha, run=8) == "updated"
    assert bodies(server) == [(ACTIONS, text(8))]


def test_a_later_attempt_edits_the_comment(server, forge, sha):
    comment(forge, sha)
    assert forge.upsert_comment(1, MARKER, text(7, 2), (7, 2), read_order) == "updated"
    assert bodies(server) == [(ACTIONS, text(7, 2))]


def test_a_run_that_comes_late_leaves_the_newer_text(server, forge, sha):
    comment(forge, sha, run=9)
    assert comment(forge, sha, run=8) == "stale"
    assert bodies(server) == [(ACTIONS, text(9))]
    assert [item.edits for item in server.world.comments.values()] == [0]


def test_a_comment_of_ours_that_tells_no_run_is_edited(server, forge, sha):
    server.world.say(1, ACTIONS, f"{MARKER} of an older version", ACTIONS_APP)
    assert comment(forge, sha) == "updated"
    assert bodies(server) == [(ACTIONS, text(7))]


def test_somebody_elses_comment_with_our_marker_is_not_ours(server, forge, sha):
    forged = text(99, words="all is well")
    server.world.say(1, "stranger", forged)
    assert comment(forge, sha) == "created"
    assert bodies(server) == [("stranger", forged), (ACTIONS, text(7))]


@pytest.mark.parametrize("token", [PERSONAL, FINE_GRAINED])
def test_with_a_persons_token_ours_are_that_persons(token, server, forge_of, sha):
    for login, app in (("stranger", 0), (ACTIONS, ACTIONS_APP)):
        server.world.say(1, login, text(99), app)
    mine = server.world.say(1, "Maintainer", text(6))
    assert comment(forge_of(token), sha) == "updated"
    assert mine.body == text(7)
    assert [item.edits for item in server.world.comments.values()] == [0, 0, 1]


def test_two_people_have_a_comment_each(server, forge_of, sha):
    assert comment(forge_of(PERSONAL), sha) == "created"
    assert comment(forge_of(STRANGER), sha) == "created"
    assert bodies(server) == [("maintainer", text(7)), ("stranger", text(7))]


def test_other_markers_and_other_pulls_are_left_alone(server, forge, sha):
    server.world.open_pull("other", sha)
    server.world.say(1, ACTIONS, "<!-- tracetriage: e2e tests -->", ACTIONS_APP)
    server.world.say(2, ACTIONS, text(3), ACTIONS_APP)
    assert comment(forge, sha) == "created"
    assert [(item.pull, item.edits) for item in server.world.comments.values()] == [(1, 0), (2, 0), (1, 0)]


def test_a_comment_beyond_the_first_page_is_found(server, forge, sha):
    for number in range(230):
        server.world.say(1, "stranger", f"chatter {number}")
    comment(forge, sha)
    assert comment(forge, sha, run=8) == "updated"
    assert len(server.world.comments) == 231


def test_doubles_are_reduced_to_the_oldest_with_the_newest_text(server, forge, sha):
    for run in (5, 9, 6):
        server.world.say(1, ACTIONS, text(run), ACTIONS_APP)
    assert comment(forge, sha) == "stale"
    assert [(item.id, item.body) for item in server.world.comments.values()] == [(1001, text(9))]


def test_what_another_bot_quotes_is_neither_deleted_nor_taken_for_newer(server, forge, sha):
    server.world.say(1, ACTIONS, text(5), ACTIONS_APP)
    server.world.say(1, "other-app[bot]", text(99), 4711)
    assert comment(forge, sha) == "updated"
    assert bodies(server) == [(ACTIONS, text(7)), ("other-app[bot]", text(99))]


@pytest.mark.parametrize(("login", "app"), [(ACTIONS, ACTIONS_APP), ("other-app[bot]", 4711)])
def test_a_marker_that_only_stands_in_a_comment_makes_it_no_comment_of_ours(server, forge, sha, login, app):
    # A test's output in the comment of another workflow; a person's words that a bot repeats.
    theirs = f"<!-- tracetriage: lint -->\n```\n{text(99)}\n```"
    server.world.say(1, login, theirs, app)
    assert comment(forge, sha) == "created"
    assert comment(forge, sha, run=8) == "updated"
    assert bodies(server) == [(login, theirs), (ACTIONS, text(8))]


def test_a_comment_deleted_between_look_and_edit_is_written_anew(server, forge, sha):
    old = server.world.say(1, ACTIONS, text(6), ACTIONS_APP)
    look = server.fault("pause", "GET", COMMENTS, after=True)

    def delete():
        look.reached.wait(30)
        del server.world.comments[old.id]
        look.released.set()

    other = threading.Thread(target=delete)
    other.start()
    assert comment(forge, sha) == "created"
    other.join()
    assert bodies(server) == [(ACTIONS, text(7))]


def test_a_body_without_its_marker_is_refused_before_anything_is_sent(server, forge):
    with pytest.raises(ForgeError, match="would not be found again"):
        forge.upsert_comment(1, MARKER, "no marker", (1, 1), read_order)
    assert server.log == []
