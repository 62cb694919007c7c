"""`tracetriage diagnose` of projects of all shapes: run again in the worktree, the user's tree is the same byte for byte."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from commands.test_diagnose import BROKEN, CART, INI, TESTS, diagnosed, only, record, suspect, told
from execute.projects import Tree, git, virtual_python

__all__ = ["diagnosed"]

FIXED = TESTS.replace("from shop.cart import Cart\n", "").replace("Cart()", "cart").replace("(prices):", "(prices, cart):")
FIXED = FIXED.replace("test_count():", "test_count(cart):").replace("test_rounded():", "test_rounded(cart):")
ROOT_CONFTEST = "import pytest\nfrom shop.cart import Cart\n\n@pytest.fixture\ndef cart():\n    return Cart()\n"
SPACED = "import importlib\nCart = importlib.import_module('der Lädén.cart').Cart\n"
LAYOUTS = {
    "src layout": {"pytest.ini": "[pytest]\npythonpath = src\n", "src/shop/cart.py": CART, "tests/test_cart.py": TESTS},
    "namespace package": {"pytest.ini": INI, "acme/shop/cart.py": CART,
                          "tests/test_cart.py": TESTS.replace("shop.cart", "acme.shop.cart")},
    "conftest at the root": {"conftest.py": ROOT_CONFTEST, "shop/cart.py": CART, "tests/test_cart.py": FIXED},
    "spaces and non-ASCII": {"pytest.ini": INI, "der Lädén/cart.py": CART, "données ünd ✓.txt": "x",
                             "die tests/test_käse 1.py": SPACED + TESTS.replace("from shop.cart import Cart\n", "")},
}  # fmt: skip


@pytest.fixture(autouse=True)
def _few_plugins(monkeypatch, tmp_path):
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "the cache"))


def make_dirty(tree, cart):
    """Leave something of everything in the tree: a change that is staged, one that is not, files that git does not know."""
    tree.write({cart: BROKEN, "staged é.txt": "one"})
    git(tree.root, "add", "--", "staged é.txt", *([cart] if (tree.root / cart).is_file() else []))
    tree.write({cart: f"# one more\n{BROKEN}", "not known ✓.txt": "two"})
    git(tree.root, "rm", "--quiet", "gone.txt")


@pytest.mark.parametrize("layout", LAYOUTS)
def test_it_is_diagnosed_as_it_lies_there(tmp_path, diagnosed, layout):
    files = LAYOUTS[layout]
    cart = next(name for name in files if name.endswith("cart.py") and "test" not in name)
    tree = Tree(tmp_path / "shop", {**files, "gone.txt": "x"})
    assert record(tree.root, "--tracetriage-coverage") == 0
    make_dirty(tree, cart)
    assert record(tree.root) == 1
    index = git(tree.root, "diff", "--cached"), git(tree.root, "status", "--porcelain")
    found = diagnosed(tree.root)
    assert (only(found)["status"], suspect(only(found))) == ("real", (cart, "Cart.total"))
    assert told(found) == []
    assert (git(tree.root, "diff", "--cached"), git(tree.root, "status", "--porcelain")) == index


def test_a_submodule(tmp_path, diagnosed):
    inner = Tree(tmp_path / "inner", {"shop/__init__.py": "", "shop/cart.py": CART})
    ini = "[pytest]\npythonpath = libs/inner\ntestpaths = tests\n"
    tree = Tree(tmp_path / "shop", {"pytest.ini": ini, "tests/test_cart.py": TESTS})
    git(tree.root, "submodule", "--quiet", "add", str(inner.root), "libs/inner")
    tree.commit()
    assert record(tree.root, "--tracetriage-coverage") == 0
    tree.write({"libs/inner/shop/cart.py": BROKEN})
    assert record(tree.root) == 1
    found = diagnosed(tree.root)
    assert (only(found)["status"], suspect(only(found))) == ("real", ("libs/inner/shop/cart.py", "Cart.total"))
    assert told(found) == []
    inner_tree = tree.root / "libs" / "inner"
    git(inner_tree, "commit", "--quiet", "-am", "break it")
    tree.commit("take what is broken")
    assert record(tree.root) == 1
    found = diagnosed(tree.root)
    assert (only(found)["status"], told(found)) == ("real", [])


def test_an_editable_install(tmp_path, diagnosed):
    pytest.importorskip("hatchling")
    python = virtual_python(tmp_path / "virtual")
    built = '[build-system]\nrequires = ["hatchling"]\nbuild-backend = "hatchling.build"\n'
    named = '[project]\nname = "shop"\nversion = "1"\n[tool.hatch.build.targets.wheel]\npackages = ["src/shop"]\n'
    files = {"pyproject.toml": built + named, "src/shop/__init__.py": "", "src/shop/cart.py": CART, "tests/test_cart.py": TESTS}
    tree = Tree(tmp_path / "shop", files)
    options = ["--quiet", "--no-build-isolation", "--no-deps", "--disable-pip-version-check", "--editable", str(tree.root)]
    subprocess.run([sys.executable, "-m", "pip", "--python", python, "install", *options], check=True)
    recorded = [python, "-m", "pytest", "-q", "-ptracetriage", "--tracetriage", "-pno:cacheprovider"]
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    assert subprocess.run([*recorded, "--tracetriage-coverage"], cwd=tree.root, env=environment, check=False).returncode == 0
    tree.write({"src/shop/cart.py": BROKEN})
    tree.commit("break it")
    assert subprocess.run(recorded, cwd=tree.root, env=environment, check=False).returncode == 1
    # What lies in the user's tree by now must not be what is run.
    tree.write({"src/shop/cart.py": "raise RuntimeError('not this one')\n"})
    tree.commit("worse")
    found = diagnosed(tree.root, "--pytest", f"{python} -m pytest")
    cluster = only(found)
    assert (cluster["status"], suspect(cluster)) == ("real", ("src/shop/cart.py", "Cart.total"))
    assert cluster["status_evidence"] == "fails 4 of 4 alone and in context"
    assert not [text for text in told(found) if "worktree" in text]
    assert Path(tree.root / "src/shop/cart.py").read_text(encoding="utf-8").startswith("raise")
