"""The agent on a model server of its own: fresh for each test, so that one test's limits and caches are no other's."""

import os
import re
import shutil
from pathlib import Path

import pytest
from behaviour import RULES
from model_server import ModelServer, Script
from qa_agent.cache import Cache
from qa_agent.healer import Healer
from qa_agent.models import CLASSIFY, FIX, Models
from qa_agent.project import Project

BROKEN = Path(__file__).parents[1] / "broken"
KEY = "only-for-this-machine"


@pytest.fixture
def server(request, tmp_path):
    """A server whose requests are logged to `QA_AGENT_LOGS`, a folder, in a file named like the test."""
    folder = Path(os.environ.get("QA_AGENT_LOGS") or tmp_path)
    log = folder / (re.sub(r"\W+", "-", request.node.name).strip("-") + ".jsonl")
    with ModelServer(Script(RULES, limits={CLASSIFY: 4}, windows={FIX: 900}), KEY, log) as server:
        yield server


@pytest.fixture
def models(server):
    models = Models(server.url, KEY)
    yield models
    models.close()


@pytest.fixture
def healer(models, tmp_path):
    healer = Healer(models, Cache(), tmp_path / "releases")
    yield healer
    healer.close()


@pytest.fixture
def project(tmp_path):
    """A function from the name of a broken project to a copy of it."""

    def copy(name):
        return Project(Path(shutil.copytree(BROKEN / name, tmp_path / name)))

    return copy
