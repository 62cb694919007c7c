"""The project under test: six tests, one of which fails on main; what breaks it and what mends it."""

from __future__ import annotations

FILES = {
    "pyproject.toml": '[project]\nname = "shop"\nversion = "1"\n\n[tool.pytest.ini_options]\npythonpath = ["."]\n'
    'addopts = "-p no:cacheprovider -p no:asyncio -p no:xdist -p no:hypothesispytest"\n',
    "CODEOWNERS": "/shop/ @carts\n",
    "shop/__init__.py": "",
    "shop/cart.py": """\
PRICES = {"a": 1}


def total(items):
    return sum(PRICES[item] for item in items)
""",
    "shop/stock.py": """\
def left(sku):
    raise LookupError(f"no shelf holds {sku}")
""",
    "tests/conftest.py": """\
def pytest_addoption(parser):
    parser.addoption("--splits", type=int, default=1)
    parser.addoption("--group", type=int, default=1)


def pytest_collection_modifyitems(config, items):
    splits, group = config.getoption("--splits"), config.getoption("--group")
    items[:] = [item for place, item in enumerate(items) if place % splits == group - 1]
""",
    "tests/test_cart.py": """\
import pytest
from shop.cart import total


@pytest.mark.parametrize("items", ["a", "aa", "aaa"])
def test_total(items):
    assert total(items) == len(items)


def test_empty():
    assert total("") == 0
""",
    "tests/test_mood.py": """\
import os


def test_mood():
    if os.environ.get("MOOD") == "bad":
        raise ConnectionResetError("a bad day")
""",
    "tests/test_stock.py": """\
from shop.stock import left


def test_left():
    assert left("a") == 1
""",
}

BROKEN_CART = {"shop/cart.py": FILES["shop/cart.py"].replace('"a"', '"b"')}
MENDED_STOCK = {"shop/stock.py": "def left(sku):\n    return 1\n"}
