"""Tests that are agents' episodes: run once a module, and where TraceTriage says that each broke."""

from __future__ import annotations

import textwrap

import msgspec
from capture.suite import Suite

PRELUDE = """
import time

import pytest
from pytest_tracetriage import span, step


def make(name):
    return type(name, (Exception,), {})


def call(name, result=None, error=None, kind="tool", **inputs):
    with span(name, kind=kind, inputs=inputs) as one:
        if error is not None:
            raise error
        one.set("output", result)
    return result


"""


class Episodes:
    """A suite that ran, each test of it an episode."""

    def __init__(self, root, body, *args, settings="", **more):
        self.suite = Suite(root, {"pyproject.toml": settings}, test_it=PRELUDE + textwrap.dedent(body))
        self.result = self.suite.run(*args, **more)
        self.analysis = self.suite.analysis
        self.places = {place.nodeid.rpartition("::test_")[2]: place for place in self.analysis.traces}
        self.spans = {span.id: span for span in self.suite.spans}

    def step(self, test):
        """The failing span of a test."""
        return self.spans[self.places[test].step]

    def cluster(self, test):
        return next(c for c in self.analysis.clusters if f"test_it.py::test_{test}" in c.tests)

    def shown(self, test):
        return self.suite.tracetriage("show", f"test_it.py::test_{test}").out

    def as_json(self):
        """The `traces` of `tracetriage analyze --format json`."""
        return msgspec.json.decode(self.suite.tracetriage("analyze", "--format", "json").out)["traces"]
