"""Tests run at commits in one worktree: what one commit leaves is not taken for another."""

from __future__ import annotations

import sys
import time
from contextlib import closing

import msgspec
import pytest
from execute.projects import Tree, git

from pytest_tracetriage.diagnose.commits import Repository
from pytest_tracetriage.diagnose.visits import Visits, Where
from pytest_tracetriage.model.diagnosis import Executions

TEST = "test_it.py::test_it"
BUILD = (sys.executable, "build.py")
BUILDS = "from pathlib import Path\nPath('built.py').write_text('VALUE = 1\\n')\n"
USES = "def test_it():\n    import built\n    assert built.VALUE == 1\n"


@pytest.fixture(autouse=True)
def _few_plugins(monkeypatch):
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")


@pytest.fixture
def visits(tmp_path):
    """Return a function that makes visits of a tree's commits."""
    made = []

    def begin(tree, **more):
        repository = Repository(tree.root)
        where = Where(tree.root, tmp_path / "folder", tmp_path / "cache", "here", **more)
        made.append(Visits(where, repository, time.monotonic() + 300))

        def outcome(commit):
            told = made[-1].observe(repository.commit(commit), [TEST])
            return told.outcomes.get(TEST, told.void)

        return outcome, made[-1]

    yield begin
    for one in made:
        one.close()


def test_a_commit_is_prepared_again_after_one_that_could_not_be(tmp_path, visits):
    tree = Tree(tmp_path / "shop", {"build.py": BUILDS, "test_it.py": USES, ".gitignore": "built.py\n"})
    good = git(tree.root, "rev-parse", "HEAD")
    tree.write({"build.py": "raise SystemExit('no compiler')\n"})
    unbuildable = tree.commit()
    outcome, _ = visits(tree, prepare=BUILD, remember=False)
    assert outcome(good) == "passed"
    assert "no compiler" in outcome(unbuildable)
    assert outcome(good) == "passed"


def test_a_tree_that_was_left_half_way_is_not_that_of_the_commit_before(tmp_path, visits):
    tree = Tree(tmp_path / "shop", {"built.py": "VALUE = 1\n", "test_it.py": USES, "z.py": "\n"})
    good = git(tree.root, "rev-parse", "HEAD")
    tree.write({"built.py": "VALUE = 2\n", "z.py": "lost\n"})
    broken = tree.commit()
    blob = git(tree.root, "rev-parse", "HEAD:z.py")
    (tree.root / ".git" / "objects" / blob[:2] / blob[2:]).unlink()
    outcome, _ = visits(tree, remember=False)
    assert outcome(good) == "passed"
    assert "no worktree of" in outcome(broken)
    assert outcome(good) == "passed"


def test_once_the_time_is_over_nothing_is_begun(tmp_path):
    tree = Tree(tmp_path / "shop", {"test_it.py": "def test_it(): pass\n"})
    repository = Repository(tree.root)
    late = Visits(Where(tree.root, tmp_path / "folder", tmp_path / "cache", "here"), repository, time.monotonic() - 1)
    with closing(late):
        assert late.observe(repository.commit("HEAD"), [TEST]) is None
        assert late.suite(repository.commit("HEAD")) is None
    assert late.executions == Executions()
    assert not (tmp_path / "cache").exists()


def test_results_are_those_of_what_prepared_the_tree(tmp_path, visits):
    tree = Tree(tmp_path / "shop", {"build.py": BUILDS, "test_it.py": USES, ".gitignore": "built.py\n"})
    outcome, _ = visits(tree, prepare=(sys.executable, "-c", ""))
    assert outcome("HEAD") == "failed"
    outcome, ran = visits(tree, prepare=BUILD)
    assert outcome("HEAD") == "passed"
    assert ran.executions == msgspec.structs.replace(ran.executions, cached=0, pytest_runs=1)
    outcome, ran = visits(tree, prepare=BUILD)
    assert outcome("HEAD") == "passed"
    assert (ran.executions.cached, ran.executions.pytest_runs) == (1, 0)
    assert outcome("HEAD") == "passed"  # one process is one witness
    assert (ran.executions.cached, ran.executions.pytest_runs) == (1, 1)
