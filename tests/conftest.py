"""What every test may use: pytester in subprocesses, and a clean environment."""

from __future__ import annotations

import os

import pytest
from hypothesis import settings

settings.register_profile("tests", deadline=None)  # no test is timed: the machine may be busy
settings.load_profile("tests")

pytest_plugins = ["pytester"]


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs under test must see neither this run's settings nor the CI's."""
    for name in list(os.environ):
        if name.startswith(("TRACETRIAGE", "GITHUB_", "PYTEST_ADDOPTS", "PYTEST_XDIST")) or name == "CI":
            monkeypatch.delenv(name)
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "100")
