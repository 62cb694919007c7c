from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from pytest_tracetriage.commands import main

if TYPE_CHECKING:
    from pathlib import Path

SHOP = {
    "pyproject.toml": '[tool.pytest.ini_options]\npythonpath = ["."]\naddopts = "-p no:cacheprovider -p no:asyncio"\n',
    "CODEOWNERS": "/shop/ @carts\n/tests/ @testers\n",
    "shop/__init__.py": "",
    "shop/cart.py": """\
class Cart:
    def __init__(self, prices):
        self.prices = prices

    def total(self, items):
        return sum(self._price(item) for item in items)

    def _price(self, item):
        # prices are known by stock-keeping unit
        return self.prices[item["sku"]]


def parse(text):
    try:
        return int(text)
    except ValueError as error:
        raise RuntimeError(f"cannot parse {text!r}") from error
""",
    "shop/store.py": """\
def connect(host, port):
    raise ConnectionRefusedError(111, f"Connection refused: {host}:{port}")
""",
    "tests/conftest.py": """\
import pytest
from shop.store import connect


@pytest.fixture
def database():
    connect("127.0.0.1", 5432)
""",
    "tests/test_cart.py": """\
import pytest
from shop.cart import Cart, parse


@pytest.mark.parametrize("season", ["summer", "winter", "spring", "autumn"])
def test_total(season):
    cart = Cart({"a": 1})
    assert cart.total([{"item": "a"}]) == 1


def test_parse():
    value = "seven"
    assert parse(value) == 7


def test_equal():
    left = [1, 2]
    assert left == [1, 3], "lists differ"


def test_ok():
    assert True


class TestMore:
    def test_handled(self):
        try:
            {}["first"]
        except KeyError:
            raise ValueError("second") from None

    def test_skipped(self):
        pytest.skip("not today")

    @pytest.mark.xfail(reason="not yet")
    def test_expected(self):
        assert False
""",
    "tests/test_store.py": """\
def test_read(database):
    pass


def test_write(database):
    pass
""",
}


@dataclass
class Result:
    """What a call of the command left: its exit status, standard output and standard error."""

    code: int
    out: str
    err: str

    @property
    def mistake(self):
        """The one line of a call that could not be carried out."""
        assert self.code == 2, self
        lines = [line for line in self.err.splitlines() if line and not line.startswith(("Usage:", "Try "))]
        assert "Traceback" not in self.err
        assert len(lines) == 1, self.err
        return lines[0]


@pytest.fixture
def tracetriage(monkeypatch, capsys):
    """Return a function that calls the command's entry point in this process, in the current folder."""

    def call(*args):
        monkeypatch.setattr(sys, "argv", ["tracetriage", *map(str, args)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as stop:
            main()
        out, err = capsys.readouterr()
        return Result(stop.value.code, out, err)

    return call


def write(folder, files):
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    """The shop's folder after one recorded run (once a session): treat as read-only. pytest's own log beside it."""
    folder = tmp_path_factory.mktemp("shop")
    write(folder, SHOP)
    args = ["--tracetriage", "--report-log=log.jsonl", "--junitxml=junit.xml", "--tb=long", "--color=no"]
    done = subprocess.run([sys.executable, "-m", "pytest", *args], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stdout + done.stderr
    (folder / "printed.txt").write_text(done.stdout, encoding="utf-8")
    return folder


@pytest.fixture
def shop(finished, tmp_path, monkeypatch):
    """A copy of the finished shop, as the current folder."""
    folder = tmp_path / "shop"
    shutil.copytree(finished, folder)
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def empty(tmp_path, monkeypatch):
    """A project without any run, as the current folder."""
    folder = tmp_path / "empty"
    folder.mkdir()
    (folder / "pyproject.toml").write_text("[project]\nname = 'x'\n", encoding="utf-8")
    monkeypatch.chdir(folder)
    return folder


def run_of(folder: Path) -> Path:
    """The folder of the latest run of a project."""
    return max((folder / ".tracetriage" / "runs").iterdir())


@pytest.fixture
def price():
    """The method that fails, as it is shown: code objects know their class since Python 3.11."""
    return "Cart._price" if sys.version_info >= (3, 11) else "_price"


@pytest.fixture
def run_folder(shop):
    return run_of(shop)
