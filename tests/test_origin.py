"""Where a file belongs: to the tests, the application, a third party or the standard library."""

from __future__ import annotations

import json

import pytest

from pytest_tracetriage.origin import Project

ROOT = "/home/ann/shop"


def at(file, root=ROOT, **more):
    return Project(root, **more).locate(file)


@pytest.mark.parametrize(
    ("file", "expected"),
    [
        (f"{ROOT}/shop/cart.py", ("shop/cart.py", "app")),
        (f"{ROOT}/src/shop/cart.py", ("src/shop/cart.py", "app")),
        (f"{ROOT}/tests/test_cart.py", ("tests/test_cart.py", "test")),
        (f"{ROOT}/tests/helpers.py", ("tests/helpers.py", "test")),
        (f"{ROOT}/shop/tests/data.py", ("shop/tests/data.py", "test")),
        (f"{ROOT}/shop/test/data.py", ("shop/test/data.py", "test")),
        (f"{ROOT}/shop/test_cart.py", ("shop/test_cart.py", "test")),
        (f"{ROOT}/shop/cart_test.py", ("shop/cart_test.py", "test")),
        (f"{ROOT}/conftest.py", ("conftest.py", "test")),
        (f"{ROOT}/shop/testing.py", ("shop/testing.py", "app")),
        (f"{ROOT}/shop/latest.py", ("shop/latest.py", "app")),
        (f"{ROOT}/shop/contests/a.py", ("shop/contests/a.py", "app")),
        (
            f"{ROOT}/.venv/lib/python3.12/site-packages/click/core.py",
            (".venv/lib/python3.12/site-packages/click/core.py", "third-party"),
        ),
        (
            f"{ROOT}/.venv/lib/python3.12/site-packages/pkg/tests/a.py",
            (".venv/lib/python3.12/site-packages/pkg/tests/a.py", "third-party"),
        ),
        ("/usr/lib/python3/dist-packages/yaml/__init__.py", ("/usr/lib/python3/dist-packages/yaml/__init__.py", "third-party")),
        ("/usr/lib/python3.10/json/decoder.py", ("/usr/lib/python3.10/json/decoder.py", "stdlib")),
        ("/opt/py/lib/python3.14t/asyncio/tasks.py", ("/opt/py/lib/python3.14t/asyncio/tasks.py", "stdlib")),
        ("/home/ann/other/lib.py", ("/home/ann/other/lib.py", "app")),
        ("/home/ann/shopping/a.py", ("/home/ann/shopping/a.py", "app")),
        ("<frozen importlib._bootstrap>", ("<frozen importlib._bootstrap>", "stdlib")),
        ("<string>", ("<string>", "third-party")),
        ("<doctest shop.cart.Cart[2]>", ("<doctest shop.cart.Cart[2]>", "test")),
    ],
)
def test_places(file, expected):
    assert at(file) == expected


def test_this_pythons_own_library_is_stdlib():
    assert at(json.__file__)[1] == "stdlib"


def test_the_projects_own_lib_folder_is_not_the_standard_library():
    assert at(f"{ROOT}/lib/python3/cart.py")[1] == "app"


@pytest.mark.parametrize("root", [r"C:\work\shop", "C:/work/shop/"])
def test_separators_of_windows(root):
    assert at(r"C:\work\shop\tests\test_a.py", root) == ("tests/test_a.py", "test")
    assert at(r"C:\work\shop\shop\cart.py", root) == ("shop/cart.py", "app")
    assert at(r"C:\Python312\Lib\json\decoder.py", root)[1] == "stdlib"
    assert at(r"C:\work\shop\venv\Lib\site-packages\click\core.py", root)[1] == "third-party"


def test_relative_names_where_no_root_is_known():
    assert at("./tests/test_a.py", "", local=False) == ("tests/test_a.py", "test")
    assert at("shop/cart.py", "", local=False) == ("shop/cart.py", "app")


def test_patterns_of_the_project_count_beside_the_usual_ones():
    patterns = ("check_*.py", "spec/*.py")
    assert at(f"{ROOT}/shop/check_cart.py", patterns=patterns)[1] == "test"
    assert at(f"{ROOT}/spec/cart.py", patterns=patterns)[1] == "test"
    assert at(f"{ROOT}/shop/test_cart.py", patterns=patterns)[1] == "test"
    assert at(f"{ROOT}/shop/check_cart.py")[1] == "app"


@pytest.mark.parametrize("layout", ["", "src/"])
def test_the_project_itself_installed_by_tox_is_the_application(tmp_path, layout):
    source = tmp_path / f"{layout}shop" / "cart.py"
    source.parent.mkdir(parents=True)
    source.touch()
    installed = f"{tmp_path}/.tox/py/lib/python3.12/site-packages"
    assert at(f"{installed}/shop/cart.py", str(tmp_path)) == (f"{layout}shop/cart.py", "app")
    assert at(f"{installed}/click/core.py", str(tmp_path))[1] == "third-party"
    assert at(f"{installed}/shop/cart.py", str(tmp_path), local=False)[1] == "third-party"


def test_tests_installed_with_the_project_are_tests(tmp_path):
    source = tmp_path / "shop" / "tests" / "helpers.py"
    source.parent.mkdir(parents=True)
    source.touch()
    assert at(f"{tmp_path}/.tox/py/site-packages/shop/tests/helpers.py", str(tmp_path)) == ("shop/tests/helpers.py", "test")
