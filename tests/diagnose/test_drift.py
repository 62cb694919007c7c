"""Which of the things that differ between a green and a red run is named first."""

from __future__ import annotations

import pytest

from pytest_tracetriage.diagnose.drift import Installed, drift, imports
from pytest_tracetriage.model.run import Context
from pytest_tracetriage.model.trace import Error, Failure, Frame

BEFORE = Context(
    python="3.12.1",
    implementation="CPython",
    platform="linux-x86_64",
    pytest="8.3.0",
    packages={"requests": "2.31.0", "urllib3": "1.26.0", "pyyaml": "6.0", "numpy": "1.26.0", "pytest": "8.3.0"},
)
AFTER = Context(
    python="3.12.1",
    implementation="CPython",
    platform="linux-x86_64",
    pytest="8.3.0",
    packages={"requests": "2.31.0", "urllib3": "2.0.0", "pyyaml": "6.1", "numpy": "2.0.0", "pytest": "8.3.0"},
)


def failure(type_="ValueError", message="", *files):
    frames = tuple(Frame(file, "f", 1, "third-party" if "site-packages" in file else "app") for file in ("app.py", *files))
    return Failure("call", (Error(type_, message, frames),))


LIB = "/venv/lib/python3.12/site-packages/"


@pytest.mark.parametrize(
    ("failed", "sources", "name"),
    [
        (failure("ValueError", "", f"{LIB}numpy/core.py"), {}, "numpy"),
        (failure("ValueError", "", f"{LIB}yaml/loader.py", f"{LIB}numpy/core.py"), {}, "numpy"),
        (failure("yaml.constructor.ConstructorError"), {}, "pyyaml"),
        (failure("AttributeError", "module 'numpy' has no attribute 'float'"), {}, "numpy"),
        (failure(), {"app.py": b"def f():\n    from yaml.nodes import Node\n"}, "pyyaml"),
        (failure(), {"app.py": b"import requests\n"}, "urllib3"),
    ],
)
def test_what_the_failure_points_to_comes_first(failed, sources, name):
    installed = Installed({"yaml": ("pyyaml",)}, {"requests": frozenset({"urllib3", "idna"})})
    found = drift(BEFORE, AFTER, [failed], sources, installed)
    assert {item.name for item in found} == {"urllib3", "pyyaml", "numpy"}
    assert found[0].name == name
    assert found[0].score > found[1].score
    assert found[0].evidence != "nothing points to it"


def test_the_only_difference_is_named_whatever_points_to_it():
    after = Context(**{**{name: getattr(BEFORE, name) for name in BEFORE.__struct_fields__}, "python": "3.13.0"})
    (found,) = drift(BEFORE, after, [failure()])
    assert (found.kind, found.before, found.after) == ("python", "3.12.1", "3.13.0")
    assert found.score >= 0.9


def test_what_came_and_what_went():
    after = Context(packages={"new": "1.0"}, implementation="PyPy", platform="darwin-arm64", pytest="9.0.0")
    found = {item.name: (item.kind, item.before, item.after) for item in drift(BEFORE, after)}
    assert found["new"] == ("package", "", "1.0")
    assert found["numpy"] == ("package", "1.26.0", "")
    assert found["Python"] == ("python", "CPython 3.12.1", "PyPy ")
    assert found["platform"][0] == "platform"
    assert found["pytest"] == ("pytest", "8.3.0", "9.0.0")


def test_the_same_contexts_differ_in_nothing():
    assert drift(BEFORE, BEFORE, [failure()]) == ()


def test_imports_of_a_file():
    content = b"import a.b, c as d\nfrom .local import x\ntry:\n    from e.f import g\nexcept ImportError:\n    g = None\n"
    assert imports(content) == {"a", "c", "e"}
    assert imports(b"def (:\n") == frozenset()
