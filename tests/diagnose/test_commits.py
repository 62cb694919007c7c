"""What a commit changed, and how likely that makes it the culprit."""

from __future__ import annotations

import os
import subprocess
import warnings

import pytest

from pytest_tracetriage.diagnose.commits import Repository, UnsearchableError, changed_by, is_dependency_file, is_prose, outline
from pytest_tracetriage.diagnose.culprit import Target, weights
from pytest_tracetriage.diagnose.drift import imports
from pytest_tracetriage.execute.copying import reading

CODE = '''\
import os

LIMIT = 3


class Cart:
    """A cart."""

    def total(self):
        """Its price."""
        return 1

    def size(self):
        return 2
'''


@pytest.fixture
def repository(tmp_path):
    def git(*arguments):
        named = ("-c", "user.name=Ada", "-c", "user.email=ada@example.org")
        environment = {**os.environ, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
        subprocess.run(["git", *named, *arguments], cwd=tmp_path, check=True, capture_output=True, env=environment)

    git("init", "--quiet", "--initial-branch=main")

    def commit(files, subject="more", *, empty=False):
        for name, text in files.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(text, encoding="utf-8")
        git("add", "--all")
        git("commit", "--quiet", "-m", subject, *(["--allow-empty"] if empty else []))

    commit({"cart.py": CODE, "other.py": "A = 1\n", "test_cart.py": ""})
    git("tag", "good")
    return tmp_path, commit, git


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"cart.py": CODE.replace("return 1", "return 9")}, 20.0),
        ({"cart.py": CODE.replace("return 2", "return 9")}, 6.0),
        ({"cart.py": CODE.replace("LIMIT = 3", "LIMIT = 4")}, 6.0),
        ({"cart.py": "def ("}, 6.0),
        ({"pyproject.toml": "[project]\n"}, 2.0),
        ({"other.py": "A = 2\n"}, 1.0),
        ({"data.json": "{}"}, 1.0),
        ({"cart.py": CODE + "\n\ndef unused():\n    return 1\n"}, 0.05),
        ({"cart.py": CODE + "\n    def __eq__(self, other):\n        return True\n"}, 6.0),
        ({"other.py": "A = 1\n\n\n@register\ndef used():\n    return 1\n"}, 1.0),
        ({"cart.py": CODE + "\n# a comment\n"}, 0.01),
        ({"cart.py": CODE.replace("Its price.", "What it costs.")}, 0.01),
        ({"README.md": "more", "docs/a.png": "x"}, 0.01),
        ({}, 0.01),
    ],
)
def test_weight_of_a_commit(repository, files, expected):
    folder, commit, _ = repository
    commit(files, empty=not files)
    asked = Repository(folder)
    line = asked.with_changes(asked.line(asked.resolve("good"), asked.resolve("main")))
    target = Target("c", "c", "name", ("test_cart.py::test_it",), places=frozenset({("cart.py", "total")}))
    assert weights(target, line) == (expected,)


def test_a_project_in_a_folder_of_its_repository(repository):
    folder, commit, _ = repository
    commit({"sub/cart.py": CODE})
    commit({"sub/cart.py": CODE.replace("return 1", "return 9")})
    asked = Repository(folder / "sub")
    assert asked.top == folder
    line = asked.with_changes(asked.line(asked.resolve("main~1"), asked.resolve("main")))
    target = Target("c", "c", "name", ("test_cart.py::test_it",), places=frozenset({("cart.py", "total")}))
    assert weights(target, line, "sub/") == (20.0,)


def test_the_line_of_a_branch_begins_where_it_left(repository):
    folder, commit, git = repository
    git("checkout", "--quiet", "-b", "side")
    commit({"side.py": ""}, "side\x1funit")
    git("checkout", "--quiet", "main")
    commit({"main.py": ""}, "main")
    asked = Repository(folder)
    good, side, main = (asked.resolve(name) for name in ("good", "side", "main"))
    assert [commit.id for commit in asked.line(main, side)] == [good, side]
    with pytest.raises(UnsearchableError, match="wrong way round"):
        asked.line(main, good)
    with pytest.raises(UnsearchableError, match="same commit"):
        asked.line(main, main)
    for name in ("--all", "", "nowhere"):
        with pytest.raises(UnsearchableError):
            asked.resolve(name)


def test_an_outline_is_blind_to_layout_and_comments():
    assert outline(CODE.encode()) == outline(CODE.replace("\n\n    def", "\n\n    # why\n\n    def").encode())
    assert outline(b"def (") is None
    assert outline(b"\0") is None
    assert set(outline(CODE.encode()).functions) == {"Cart.total", "Cart.size"}


def test_names_of_files():
    assert [is_dependency_file(name) for name in ("a/requirements-dev.txt", "uv.lock", "requirements.md", "a.py")] == [
        1,
        1,
        0,
        0,
    ]
    assert [is_prose(name) for name in ("docs/a.md", "LICENSE", "CHANGELOG.txt", "requirements.txt", "a.py")] == [1, 1, 1, 0, 0]


PROPERTY = """\
class Cart:
    @property
    def total(self):
        return 1

    @total.setter
    def total(self, value):
        self.value = value
"""


@pytest.mark.parametrize("new", [PROPERTY.replace("return 1", "return 9"), PROPERTY.replace("= value", "= -value")])
def test_a_getter_and_a_setter_are_both_looked_at(repository, new):
    folder, commit, _ = repository
    commit({"cart.py": PROPERTY})
    commit({"cart.py": new})
    found = Repository(folder)
    line = found.with_changes(found.line(found.resolve("main~1"), found.resolve("main")))
    assert line[1].changed[0].functions == ("Cart.total",)
    git = reading(folder)
    assert list(changed_by(git, line[0].id, line[1].id)) == [("cart.py", "Cart.total")]


def test_what_a_compiler_would_warn_of_is_not_told():
    source = b"import re\n\n\ndef price(text):\n    return re.match('\\d', text)\n"
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        assert outline(source) is not None
        assert imports(source) == {"re"}
    assert told == []


def test_a_file_too_large_to_look_into_hides_no_other(repository, monkeypatch):
    folder, commit, _ = repository
    monkeypatch.setattr("pytest_tracetriage.diagnose.commits.SIZE_LIMIT", 1_000)
    commit({"a.py": f"TABLE = {list(range(1_000))}\n", "cart.py": CODE.replace("return 1", "return 9")})
    found = Repository(folder)
    good, bad = found.resolve("good"), found.resolve("main")
    large, cart = found.with_changes(found.line(good, bad))[1].changed
    assert (large.file, large.unread) == ("a.py", True)
    assert (cart.functions, cart.unread) == (("Cart.total",), False)
    assert list(changed_by(reading(folder), good, bad)) == [("cart.py", "Cart.total")]
