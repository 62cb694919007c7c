"""CODEOWNERS, as GitHub reads it."""

from __future__ import annotations

import pytest

from pytest_tracetriage.triage.suspects import owners, parse_codeowners


def owner(text, *files):
    return " ".join(owners(parse_codeowners(text), files))


MATCHES = [
    ("*", "a/b/c.py", True),
    ("*.py", "a/b/c.py", True),
    ("*.py", "a/b/c.pyi", False),
    ("*.py", "c.py/data.txt", True),
    ("cart.py", "shop/cart.py", True),
    ("/cart.py", "shop/cart.py", False),
    ("/cart.py", "cart.py", True),
    ("shop/cart.py", "shop/cart.py", True),
    ("shop/cart.py", "old/shop/cart.py", False),
    ("/shop/", "shop/a/b.py", True),
    ("/shop/", "old/shop/a.py", False),
    ("shop/", "old/shop/a.py", True),
    ("shop/", "shop", False),
    ("shop", "shop/a.py", True),
    ("shop", "shopping/a.py", False),
    ("docs/*", "docs/a.md", True),
    ("docs/*", "docs/deep/a.md", False),
    ("docs/**", "docs/deep/a.md", True),
    ("**/logs", "build/logs/a.txt", True),
    ("**/logs", "logs/a.txt", True),
    ("**/logs", "blogs/a.txt", False),
    ("shop/**/models", "shop/a/b/models/x.py", True),
    ("shop/**/models", "shop/models/x.py", True),
    ("shop/*/models", "shop/a/models/x.py", True),
    ("shop/*/models", "shop/a/b/models/x.py", False),
    ("test_?.py", "tests/test_a.py", True),
    ("test_?.py", "tests/test_ab.py", False),
    ("a+b(c).py", "a+b(c).py", True),
    ("a.py", "axpy", False),
    (r"my\ shop/", "my shop/a.py", True),
    (r"my\ shop/", "my/a.py", False),
]


@pytest.mark.parametrize(("pattern", "file", "matches"), MATCHES)
def test_patterns(pattern, file, matches):
    assert owner(f"{pattern} @us", file) == ("@us" if matches else "")


def test_the_last_match_wins():
    assert owner("* @all\n/shop/ @shop\n/shop/cart.py @carts\n", "shop/cart.py") == "@carts"
    assert owner("/shop/cart.py @carts\n* @all\n", "shop/cart.py") == "@all"


def test_several_owners_and_addresses():
    assert owner("* @ann @org/team bob@example.com nonsense", "a.py") == "@ann @org/team bob@example.com"


def test_a_line_without_owners_takes_them_away():
    assert owner("* @all\n/generated/\n", "generated/a.py") == ""


def test_comments_and_blank_lines_are_nothing():
    assert owner("# * @no\n\n   \n* @yes # for now @no\n#/a.py @no\n", "a.py") == "@yes"


def test_sections_and_negations_are_skipped():
    assert owner("[Shop] @no\n^[Optional] @no\n!a.py @no\n*.py @yes\n[Last]", "a.py") == "@yes"


def test_the_first_file_with_an_owner_decides():
    assert owner("/shop/ @shop\n/tests/ @tests", "lib/a.py", "tests/a.py", "shop/a.py") == "@tests"


def test_rules_are_about_the_repository_files_about_the_project():
    rules = parse_codeowners("/services/shop/ @shop\n/lib/ @lib\n*.toml @all")
    assert owners(rules, ["lib/a.py"], "services/shop/") == ("@shop",)
    assert owners(rules, ["lib/a.py"]) == ("@lib",)
    assert owners(rules, ["lib/a.py"], "services/cart/") == ()


def test_windows_line_ends():
    assert owner("* @all\r\n/shop/ @shop\r\n", "shop/a.py") == "@shop"


def test_a_project_without_rules_has_no_owners():
    assert owner("", "a.py") == ""
