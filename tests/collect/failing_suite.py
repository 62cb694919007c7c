"""Small suites that fail in every way a report can tell, and how they are run."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

APP = '''
import json


class Refused(Exception):
    pass


def price(cart, key):
    return cart[key]


def total(cart):
    return sum(price(cart, key) for key in ["apple", "pear"])


def load(text):
    try:
        return json.loads(text)
    except ValueError as error:
        raise Refused("cannot load\\nsecond line") from error


def fall_back(text):
    try:
        return json.loads(text)
    except ValueError:
        return {}["fallback"]


def many():
    errors = []
    for text in ("a", "b"):
        try:
            load(text)
        except Refused as error:
            errors.append(error)
    errors.append(OSError(28, "No space left on device"))
    raise ExceptionGroup("several", errors)


def doubled(value):
    """
    >>> doubled(2)
    5
    """
    return value * 2


def broken():
    """
    >>> broken()
    """
    return price({}, "x")


halve = lambda value: value / 0
'''

TESTS = '''
import sys
import unittest
import warnings

import pytest

from shop import cart


def test_passes():
    pass


def test_assert():
    assert {"a": 1} == {"a": 2}, """why
    not"""


def test_plain_assert(): assert cart.price({"a": 1}, "a") == 2


@pytest.mark.parametrize("value", [1, "a::b", "sp ace/x.y"])
def test_key(value):
    E = value

    cart.total({"apple": 1})


def test_cause():
    cart.load("{")


def test_context():
    cart.fall_back("{")


def test_lambda():
    cart.halve(3)


@pytest.mark.skipif(sys.version_info < (3, 11), reason="groups are newer")
def test_group():
    cart.many()


def test_never_raised():
    raise RuntimeError("outer") from KeyError("inner")


def test_fail():
    pytest.fail("it is over")


def test_fail_bare():
    pytest.fail("it is over: no trace", pytrace=False)


def test_import():
    import no_such_module


def test_exec():
    exec("def f():\\\\n    raise LookupError()\\\\nf()")


def test_syntax():
    compile("def (", "generated.py", "exec")


def test_quoted():
    quoted = "Traceback (most recent call last):\\n  File \\"w.py\\", line 1, in w\\nKeyError: 1"
    raise RuntimeError("the worker died:\\n" + quoted)


def test_print(capsys):
    print("out")
    sys.stderr.write("err")
    with capsys.disabled():
        pass
    assert 0


def test_printed():
    print("said so")
    raise ValueError


@pytest.fixture
def broken():
    cart.price({}, "setup")


@pytest.fixture
def leaks():
    yield
    cart.price({}, "teardown")


def test_setup(broken):
    pass


def test_teardown(leaks):
    pass


def test_both(leaks):
    assert False


def test_missing(db):
    pass


@pytest.mark.skip(reason="later")
def test_skip():
    pass


@pytest.mark.xfail(reason="known")
def test_xfail():
    assert 0


def test_xfail_inside():
    pytest.xfail("deep inside")


@pytest.mark.xfail(reason="maybe")
def test_xpass():
    pass


@pytest.mark.xfail(reason="strictly", strict=True)
def test_xpass_strict():
    pass


class TestCart:
    class TestInner:
        def test_method(self):
            cart.total({})


class Case(unittest.TestCase):
    def test_equal(self):
        self.assertEqual(1, 2)
'''

MOVED = """
import os

from shop import cart


def test_moved(tmp_path):
    os.chdir(tmp_path)
    cart.price({}, "moved")
"""

# Writes down each exception as it is raised, before pytest renders it.
WITNESS = """
import json
import os

import pytest

ROOT = os.path.dirname(os.path.abspath(__file__))


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport(item, call):
    if call.excinfo is not None:
        kind, error = call.excinfo.type, call.excinfo.value
        name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
        where = ""
        for entry in call.excinfo.traceback:
            path = os.path.relpath(entry.path, ROOT)
            if path.startswith("shop"):
                where = f"{path}:{entry.lineno + 1}:{entry.frame.code.raw.co_name}"
        said = {"nodeid": item.nodeid, "when": call.when, "type": name, "message": str(error), "where": where}
        with open(os.path.join(ROOT, "witness.jsonl"), "a") as file:
            file.write(json.dumps(said) + "\\n")
    return (yield)
"""

CAUSES = """
import os
import time
import pytest

tries = {"n": 0}


def test_subtests(subtests):
    for i in range(3):
        with subtests.test("part", i=i):
            assert i != 1


@pytest.mark.flaky(reruns=2)
def test_flaky():
    tries["n"] += 1
    assert tries["n"] > 1


@pytest.mark.timeout(0.2)
def test_slow():
    time.sleep(5)


@pytest.mark.timeout(0.2)
@pytest.mark.skipif(not hasattr(__import__("signal"), "SIGALRM"), reason="no alarm")
def test_caught():
    try:
        time.sleep(5)
    except Exception:
        pass
"""

CRASHING = """
import os


def test_before():
    pass


def test_dies():
    os._exit(3)
"""


def write(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


def run(root: Path, *options: str, start: str = ".") -> str:
    """Run pytest in `root`, which leaves `log.jsonl` and `junit.xml` there; return what it printed."""
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "no:tracetriage"]
    command += [f"--rootdir={root}", f"--report-log={root / 'log.jsonl'}", f"--junitxml={root / 'junit.xml'}", *options]
    unset = ("PYTEST_ADDOPTS", "PYTEST_CURRENT_TEST", "FORCE_COLOR", "PY_COLORS")
    environment = {name: value for name, value in os.environ.items() if name not in unset}
    environment["PYTHONPATH"] = str(root)
    done = subprocess.run(command, cwd=root / start, env=environment, capture_output=True, text=True, timeout=60, check=False)
    return done.stdout + done.stderr


FILES = {
    "shop/__init__.py": "",
    "shop/cart.py": APP,
    "tests/test_cart.py": TESTS,
    "tests/test_import.py": "import no_such_module\n",
    "tests/test_raises.py": "from shop import cart\n\ncart.price({}, 'collect')\n",
    "tests/test_syntax.py": "def test_a(:\n",
    "tests/test_skipped.py": "import pytest\n\npytest.importorskip('no_such_module')\n",
    "tests/sub/test_deep.py": MOVED,
    "conftest.py": WITNESS,
    "notes.txt": ">>> 1 + 1\n3\n",
}
