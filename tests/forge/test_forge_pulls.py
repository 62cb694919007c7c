from __future__ import annotations

import pytest
from scenarios import FORK, calls
from world import Pull


def test_the_pull_of_a_branch_here_is_found_by_its_commit(server, forge, sha):
    assert forge.find_pull("acme/shop", sha) == 1
    assert calls(server) == [("GET", f"/repos/acme/shop/commits/{sha}/pulls")]


@pytest.mark.parametrize(("repository", "branch"), [(FORK, "feature"), (FORK, ""), ("Mallory/Shop", "")])
def test_the_pull_of_a_fork_is_found_though_github_ties_no_commit_to_it(repository, branch, server, forge, fork):
    assert forge.find_pull(repository, fork, head_branch=branch) == 2


def test_the_pull_of_a_fork_is_found_beyond_the_first_page(server, forge, fork, sha):
    for number in range(100, 250):
        server.world.pulls[number] = Pull(number, "acme/shop", f"branch-{number}", sha)
    assert forge.find_pull(FORK, fork) == 2


def test_a_forged_number_is_not_believed(server, forge, fork, sha):
    assert forge.find_pull(FORK, fork, hint=1) == 2
    assert forge.find_pull("acme/shop", sha, hint=2) == 1
    assert forge.find_pull(FORK, sha, hint=1) == 0
    assert forge.find_pull(FORK, fork, hint=12345) == 2
    assert forge.find_pull(FORK, fork, hint=-1) == 2


def test_a_true_number_is_confirmed(server, forge, fork):
    assert forge.find_pull(FORK, fork, hint=2) == 2


def test_a_commit_that_the_branch_has_left_behind_belongs_to_none(server, forge, fork):
    server.world.commit({"shop/cart.py": "# more\n"}, "feature", FORK)
    server.world.pulls[2].head_sha = server.world.commit({"shop/cart.py": "# even more\n"}, "feature", FORK)
    assert forge.find_pull(FORK, fork, hint=2) == 0


def test_closed_pulls_do_not_count(server, forge, fork, sha):
    server.world.pulls[1].state = server.world.pulls[2].state = "closed"
    assert forge.find_pull("acme/shop", sha, hint=1) == 0
    assert forge.find_pull(FORK, fork, hint=2) == 0


def test_of_two_pulls_with_one_head_neither_is_chosen(server, forge, fork, sha):
    server.world.open_pull("feature", fork, FORK, base="release")
    server.world.open_pull("feature", sha, base="release")
    assert forge.find_pull(FORK, fork) == 0
    assert forge.find_pull(FORK, fork, hint=2) == 0
    assert forge.find_pull("acme/shop", sha, hint=1) == 0


def test_a_commit_that_github_does_not_know_belongs_to_none(server, forge):
    assert forge.find_pull("acme/shop", "0" * 40) == 0
    assert forge.find_pull(FORK, "0" * 40) == 0


def test_the_base_of_a_pull(server, forge):
    server.world.pulls[1].base = "release"
    assert forge.base_branch(1) == "release"
