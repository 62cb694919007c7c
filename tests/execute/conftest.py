"""What tests that run tests again need."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def _few_plugins(monkeypatch):
    """Start each pytest with the plugins that are named only: the others cost a start its time."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "cache"
