from __future__ import annotations

import shutil

import pytest
from scenarios import FORK, FULL_NAME, no_sleep
from server import GitHubServer
from world import INSTALLATION, Pull, World

from pytest_tracetriage.govern.forge.github import GitHubForge


@pytest.fixture(scope="session")
def origin(tmp_path_factory):
    """A folder with a repository of one commit, and that commit: copied by every server, since git takes its time."""
    folder = tmp_path_factory.mktemp("origin")
    world = World(folder, FULL_NAME)
    sha = world.commit({"shop/cart.py": "def total(items): ...\n"})
    world.open_pull("feature", sha)
    return folder, sha


@pytest.fixture
def sha(origin):
    return origin[1]


@pytest.fixture
def new_server(origin, tmp_path):
    """Return a function that makes a server, not yet running, with one open pull request: #1."""
    made = []

    def make() -> GitHubServer:
        folder = tmp_path / f"github-{len(made)}"
        made.append(folder)
        shutil.copytree(origin[0], folder)
        server = GitHubServer(folder, FULL_NAME)
        server.world.pulls[1] = Pull(1, FULL_NAME, "feature", origin[1])
        return server

    return make


@pytest.fixture
def server(new_server):
    """A running server, which at the end has seen nothing that GitHub's description does not allow."""
    with new_server() as running:
        yield running
    assert running.violations == []


@pytest.fixture
def forge_of(server):
    """Return a function from a token to a forge at the server that does not really wait."""

    def make(token: str = INSTALLATION, **more) -> GitHubForge:
        return GitHubForge(FULL_NAME, token, server.api_url, **{"sleep": no_sleep, **more})

    return make


@pytest.fixture
def forge(forge_of):
    return forge_of()


@pytest.fixture
def fork(server):
    """The head commit of a fork from which #2 was opened."""
    server.world.create_repository(FORK)
    head = server.world.commit({"shop/cart.py": "def total(items): return 0\n"}, "feature", FORK)
    server.world.open_pull("feature", head, FORK)
    return head
