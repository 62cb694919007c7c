"""Tests run again in a worktree, as the project is configured, from the modules of the worktree."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import textwrap
from pathlib import Path

import pytest
from execute.projects import Tree, again, git, marked, orders, virtual_python, worktree

from pytest_tracetriage.execute.claims import ExecuteError
from pytest_tracetriage.execute.process import run_command
from pytest_tracetriage.model.trace import Error, Failure, Frame
from pytest_tracetriage.triage.signature import signature_id

USES = "from shop.cart import total\ndef test_total(): assert total([2, 3]) == 5\n"
RIGHT, WRONG = "def total(prices): return sum(prices)\n", "def total(prices): return 0\n"
SRC = {"src/shop/__init__.py": "", "src/shop/cart.py": RIGHT, "tests/test_cart.py": USES, "pyproject.toml": ""}
FLAT = {"shop/__init__.py": "", "shop/cart.py": RIGHT, "test_cart.py": USES}
NAMESPACE = {"src/shop/cart.py": RIGHT, "tests/test_cart.py": USES}
AT_THE_ROOT = {
    "conftest.py": "import os, pytest\nfrom shop import cart\n@pytest.fixture\ndef total(): return cart.total\n",
    "shop/__init__.py": "",
    "shop/cart.py": RIGHT,
    "tests/deep/test_cart.py": "def test_total(total): assert total([2, 3]) == 5\n",
}
ODD = {
    "src/shop/__init__.py": "",
    "src/shop/cart.py": RIGHT,
    "my tests/ünï/test_cart ß.py": USES,
    "my tests/ünï/data ☃.txt": "snow",
    "pytest.ini": "[pytest]\n",
}


@pytest.mark.parametrize(
    "layout", [SRC, FLAT, NAMESPACE, AT_THE_ROOT, ODD], ids=["src", "flat", "namespace", "conftest", "odd names"]
)
@pytest.mark.parametrize("kept", ["dirty", "committed", "no git"])
def test_modules_come_from_the_worktree(tmp_path, cache, layout, kept, monkeypatch):
    tree = Tree(tmp_path / "the shop", layout, plain=kept == "no git")
    cart = next(name for name in layout if name.endswith("shop/cart.py"))
    tree.write({cart: WRONG})
    # As an editable install does, and as people do: the user's tree is on the path.
    monkeypatch.setenv("PYTHONPATH", str((tree.root / cart).parents[1]))

    with worktree(tree, cache, dirty=kept != "committed") as made:
        run = again(made)
        nodeid = next(iter(run.outcomes))
        assert run.outcomes == {nodeid: "passed" if kept == "committed" else "failed"}
        assert nodeid.endswith(".py::test_total")
        assert (run.void, run.missing, run.timed_out) == ("", (), False)
        assert again(made, [nodeid]).outcomes == run.outcomes


@pytest.fixture(scope="module")
def virtual(tmp_path_factory):
    return virtual_python(tmp_path_factory.mktemp("virtual"))


HATCH = """
    [build-system]
    requires = ["hatchling"]
    build-backend = "hatchling.build"
    [project]
    name = "shop"
    version = "1"
    [tool.hatch.build.targets.wheel]
    packages = ["src/shop"]
"""
SETUPTOOLS = """
    [build-system]
    requires = ["setuptools"]
    build-backend = "setuptools.build_meta"
    [project]
    name = "shop"
    version = "1"
    [tool.setuptools]
    packages = ["shop"]
    package-dir = {shop = "lib/of the shop"}
"""


@pytest.mark.parametrize("kind", ["hatchling", "setuptools"])
@pytest.mark.parametrize("path", ["kept", "left out"])
def test_an_editable_install(tmp_path, cache, virtual, kind, path):
    pytest.importorskip(kind)
    place = "src/shop" if kind == "hatchling" else "lib/of the shop"
    files = {f"{place}/__init__.py": "", f"{place}/cart.py": RIGHT, "tests/test_cart.py": USES}
    tree = Tree(tmp_path / "shop", {**files, "pyproject.toml": textwrap.dedent(HATCH if kind == "hatchling" else SETUPTOOLS)})
    # What installs leaves the tree, but for what setuptools builds, which git is told of.
    options = ["--quiet", "--no-build-isolation", "--no-deps", "--disable-pip-version-check"]
    subprocess.run([sys.executable, "-m", "pip", "--python", virtual, "install", *options, "--editable", tree.root], check=True)
    shutil.rmtree(tree.root / "build", ignore_errors=True)
    tree.write({f"{place}/cart.py": WRONG})
    # A command that does not hand the path down is led into the worktree too.
    command = [str(virtual), "-m", "pytest"] if path == "kept" else ["env", "-u", "PYTHONPATH", str(virtual), "-m", "pytest"]

    for dirty, outcome in ((True, "failed"), (False, "passed")):
        with worktree(tree, cache, dirty=dirty) as made:
            run = again(made, command=command)
            assert run.void == ""
            assert run.outcomes == {"tests/test_cart.py::test_total": outcome}


def test_a_dependency_that_pip_has_checked_out_in_the_environment_is_none_of_the_project(tmp_path, cache):
    test = "import dep\ndef test_dep(): assert dep.VALUE == 1\n"
    tree = Tree(tmp_path / "shop", {"test_dep.py": test, ".gitignore": ".venv\n"})
    folder = tree.root / ".venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    tree.write({".venv/src/dep/dep.py": "VALUE = 1\n"})
    (packages,) = folder.glob("lib/python*/site-packages")
    here = Path(__file__).parents[2]
    packages.joinpath("all.pth").write_text(
        f"{sysconfig.get_paths()['purelib']}\n{here}\n{folder / 'src' / 'dep'}\n", encoding="utf-8"
    )
    for dirty in (True, False):
        with worktree(tree, cache, dirty=dirty) as made:
            run = again(made, command=[".venv/bin/python", "-B", "-m", "pytest"])
            assert (run.void, run.outcomes) == ("", {"test_dep.py::test_dep": "passed"})


def test_a_submodule(tmp_path, cache):
    inner = Tree(tmp_path / "inner", {"shop/__init__.py": "", "shop/cart.py": RIGHT})
    tree = Tree(tmp_path / "shop", {"pytest.ini": "[pytest]\npythonpath = libs/inner\n", "test_cart.py": USES})
    git(tree.root, "submodule", "--quiet", "add", str(inner.root), "libs/inner")
    tree.commit()
    (tree.root / "libs" / "inner" / "shop" / "cart.py").write_text(WRONG)

    for dirty, outcome in ((True, "failed"), (False, "passed")):
        with worktree(tree, cache, dirty=dirty) as made:
            run = again(made)
            assert (run.void, run.outcomes) == ("", {"test_cart.py::test_total": outcome})


@pytest.mark.parametrize("where", ["the user's tree", "an installed copy"])
def test_a_module_from_elsewhere_voids_the_run_and_is_named(tmp_path, cache, where):
    path = "sys.path.insert(0, {!r})\n"
    tree = Tree(tmp_path / "shop", {**SRC, "conftest.py": ""})
    place = tree.root / "src"
    if where == "an installed copy":
        place = tmp_path / "lib" / "site-packages"
        shutil.copytree(tree.root / "src", place)
    tree.write({"conftest.py": "import sys\n" + path.format(str(place))})

    with worktree(tree, cache) as made:
        run = again(made)
        assert f"module shop was loaded from {place}/shop/__init__.py, and 1 more, not from the worktree" in run.void
        assert orders(made, [["tests/test_cart.py::test_total"]]).void == run.void


def test_a_module_that_is_imported_only_by_a_test_voids_the_run_too(tmp_path, cache):
    test = "def test_late():\n    import sys; sys.path.insert(0, {!r})\n    import shop\n"
    tree = Tree(tmp_path / "shop", {"lib/shop.py": ""})
    tree.write({"test_late.py": test.format(str(tree.root / "lib"))})
    with worktree(tree, cache) as made:
        for run in (again(made), orders(made, [["test_late.py::test_late"]])):
            assert run.void.startswith(f"module shop was loaded from {tree.root}/lib/shop.py, not from the worktree")


SPOILT = """
    import pytest
    def test_a(): assert 0
    def test_b(): assert 0
    @pytest.mark.slow
    def test_c(): pass
    calls = []
    @pytest.mark.flaky(reruns=3)
    def test_d():
        calls.append(1)
        assert len(calls) == 3
"""
ADDOPTS = (
    "-p pytest_rerunfailures -p pytest_reportlog.plugin -x --lf --sw -k 'not test_d' -m 'not slow' --reruns=2 --strict-markers "
    "--ff --nf --pdb --trace "
    "--junitxml={0}/junit.xml --report-log={0}/log.json --basetemp={0}/temp"
)


def test_options_that_spoil_a_rerun_are_left_out_and_this_is_told(tmp_path, cache):
    ini = f"[pytest]\nmarkers = slow\naddopts = {ADDOPTS.format(tmp_path)}\n"
    tree = Tree(tmp_path / "shop", {"test_a.py": textwrap.dedent(SPOILT), "pytest.ini": ini})
    (tmp_path / "temp").mkdir()
    (tmp_path / "temp" / "kept").touch()

    with worktree(tree, cache) as made:
        run = again(made, [f"test_a.py::test_{name}" for name in "abcd"])
        assert run.outcomes == {
            "test_a.py::test_a": "failed", "test_a.py::test_b": "failed",
            "test_a.py::test_c": "passed", "test_a.py::test_d": "failed",
        }  # fmt: skip
        assert set(run.neutralised) == {
            "-x/--maxfail", "--lf", "--ff", "--nf", "--sw", "--pdb", "--trace", "-k", "-m", "--basetemp", "--junitxml",
            "--report-log", "reruns of what fails",
        }  # fmt: skip
        # The whole suite is what -k and -m make of it.
        assert set(again(made).outcomes) == {"test_a.py::test_a", "test_a.py::test_b"}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cache", "shop", "temp"]
    assert (tmp_path / "temp" / "kept").exists()


def test_pytest_cov_measures_but_neither_reports_nor_fails(tmp_path, cache):
    ini = f"[pytest]\naddopts = -p pytest_cov --cov=shop --cov-report=xml:{tmp_path}/out.xml --cov-fail-under=100\n"
    config = "[run]\ndata_file = measured\n[report]\nfail_under = 100\n"
    tree = Tree(tmp_path / "shop", {**FLAT, "pytest.ini": ini, ".coveragerc": config})
    tree.write({"shop/other.py": "def never():\n    return 1\n"})
    with worktree(tree, cache) as made:
        run = again(made, ["test_cart.py::test_total"])
        assert (run.outcomes, run.exit_status, run.void) == ({"test_cart.py::test_total": "passed"}, 0, "")
        assert {"--cov-report", "--cov-fail-under"} <= set(run.neutralised)
        assert (made.project / "measured").exists()
        assert orders(made, [["test_cart.py::test_total"]] * 2).exit_status == 0
    assert not (tmp_path / "out.xml").exists()


SHUFFLE = """
    import random
    def pytest_collection_modifyitems(items): random.shuffle(items)
"""


def test_a_random_order_is_undone(tmp_path, cache):
    numbers = "import pytest\n@pytest.mark.parametrize('n', range(40))\ndef test_n(n): pass\n"
    load = "import random_order\ndef pytest_configure(config): config.pluginmanager.register(random_order, 'random_order')\n"
    files = {"test_a.py": numbers, "random_order.py": textwrap.dedent(SHUFFLE), "conftest.py": load}
    tree = Tree(tmp_path / "shop", files)
    with worktree(tree, cache) as made:
        run = again(made)
        assert [execution.nodeid for execution in run.executions] == [f"test_a.py::test_n[{n}]" for n in range(40)]
        assert run.neutralised == ("random order",)


ORDERED = "seen = []\n" + "".join(f"def test_{n}(): seen.append({n!r}); assert seen[-2:] != ['c', 'a']\n" for n in "abc")


@pytest.mark.parametrize(("in_order", "outcome"), [(False, "passed"), (True, "failed")])
def test_as_collected_or_in_the_order_given(tmp_path, cache, in_order, outcome):
    tree = Tree(tmp_path / "shop", {"test_a.py": ORDERED})
    with worktree(tree, cache) as made:
        run = again(made, ["test_a.py::test_c", "test_a.py::test_a", "test_a.py::gone"], in_order=in_order)
        assert run.outcomes == {"test_a.py::test_a": outcome, "test_a.py::test_c": "passed"}
        assert run.missing == ("test_a.py::gone",)


def test_xdist_where_it_is_asked_for_and_not_where_the_project_asks(tmp_path, cache):
    each = "import os, pytest\n@pytest.mark.parametrize('n', range(20))\n"
    test = each + "def test_n(n): assert os.environ.get('PYTEST_XDIST_WORKER') is {}\n"
    tree = Tree(tmp_path / "shop", {"pytest.ini": "[pytest]\naddopts = -p xdist -n3\n", "test_a.py": test.format("None")})
    with worktree(tree, cache) as made:
        run = again(made)
        assert (set(run.outcomes.values()), run.neutralised) == ({"passed"}, ("-n",))
    tree.write({"test_a.py": test.replace("is {}", "in ('gw0', 'gw1')"), "pytest.ini": "[pytest]\naddopts = -p xdist -x\n"})
    with worktree(tree, cache) as made:
        run = again(made, workers=2)
        assert (set(run.outcomes.values()), len(run.outcomes), run.void) == ({"passed"}, 20, "")


def test_a_signature_is_that_of_the_failure(tmp_path, cache):
    test = "import shop\ndef test_a(): shop.f(1)\ndef test_b(): shop.f(2)\ndef test_c(): assert 0\n"
    tree = Tree(tmp_path / "shop", {"shop.py": "def f(n): raise KeyError('sku')\n", "test_a.py": test})
    with worktree(tree, cache) as made:
        run = again(made)
        assert run.signatures["test_a.py::test_a"] == run.signatures["test_a.py::test_b"] != run.signatures["test_a.py::test_c"]
        assert run.executions[0].failure.errors[0].type == "KeyError"
        assert Path(run.folder, "traces", "main.jsonl").exists()


def test_a_message_that_names_the_tree_has_the_signature_that_it_has_there(tmp_path, cache):
    test = "import os\ndef test_open(): raise FileNotFoundError(os.path.join(os.getcwd(), 'prices.csv'))\n"
    tree = Tree(tmp_path / "my shop", {"test_it.py": test})
    frame = Frame("test_it.py", "test_open", 2, "test")
    there = Failure("call", (Error("FileNotFoundError", str(tree.root / "prices.csv"), (frame,)),))
    with worktree(tree, cache) as made:
        (execution,) = again(made).executions
    assert execution.signature == signature_id(there)


@pytest.mark.linux
def test_a_command_that_cannot_be_started_leaves_nothing_open(tmp_path):
    open_now = len(os.listdir("/proc/self/fd"))
    with pytest.raises(ExecuteError, match="cannot be started"):
        run_command(["true"], folder=tmp_path / "gone", environment={}, timeout=1)
    assert len(os.listdir("/proc/self/fd")) == open_now


def test_a_run_that_takes_too_long_is_ended_with_all_it_started(tmp_path, cache):
    hang = "    subprocess.Popen(['sleep', '600'], start_new_session=True)\n    time.sleep(600)\n"
    test = "import subprocess, time\ndef test_a(): pass\ndef test_b():\n" + hang
    tree = Tree(tmp_path / "shop", {"test_a.py": test})
    with worktree(tree, cache) as made:
        run = again(made, timeout=4)
        assert (run.timed_out, run.outcomes, run.void) == (
            True,
            {"test_a.py::test_a": "passed", "test_a.py::test_b": "timeout"},
            "",
        )
        assert run.signatures == {}
        assert marked(cache) == []


def test_a_test_that_kills_the_process_is_named(tmp_path, cache):
    test = "import os, signal\ndef test_a(): pass\ndef test_b(): os.kill(os.getpid(), signal.SIGKILL)\ndef test_c(): pass\n"
    tree = Tree(tmp_path / "shop", {"test_a.py": test})
    with worktree(tree, cache) as made:
        run = again(made)
        assert (run.outcomes, run.exit_status) == ({"test_a.py::test_a": "passed", "test_a.py::test_b": "crashed"}, -9)
        assert run.void == ""


@pytest.mark.parametrize(
    ("command", "told"),
    [
        (["no-such-program"], "no-such-program did not come to the tests (exit status 127): no-such-program: No such file"),
        ([sys.executable, "-c", "print('\\x1b[31mhostile')"], "exit status 0): [31mhostile"),
        ([sys.executable, "-m", "pytest", "--no-such-option"], "error: unrecognized arguments: --no-such-option"),
    ],
)
def test_a_command_that_does_not_come_to_the_tests_voids_the_run(tmp_path, cache, command, told):
    tree = Tree(tmp_path / "shop", FLAT)
    with worktree(tree, cache) as made:
        run = again(made, command=command)
        assert told in run.void
        assert "\x1b" not in run.void


def test_a_command_of_the_project_runs_in_the_worktree_and_forwards_its_arguments(tmp_path, cache):
    script = f'export STORE="$PWD"\nexec "{sys.executable}" -m pytest "$@" tests\n'
    test = "import os\ndef test_a(): assert os.getcwd() == os.environ['STORE'] and not os.environ['STORE'].startswith({!r})\n"
    tree = Tree(tmp_path / "shop", {"tests/test_a.py": "", ".gitignore": "here\n"})
    tree.write({"tests/test_a.py": test.format(str(tree.root)), "here/run tests.sh": script})
    (tree.root / "here" / "run tests.sh").chmod(0o755)
    (tree.root / "here" / "run tests.sh").write_text("#!/bin/sh\n" + script)
    with worktree(tree, cache) as made:  # git ignores the script, so it is run from where it lies
        for command in (["here/run tests.sh"], ["sh", str(tree.root / "here" / "run tests.sh")]):
            run = again(made, ["tests/test_a.py::test_a"], command=command)
            assert (run.void, run.outcomes) == ("", {"tests/test_a.py::test_a": "passed"})


def test_secrets_in_node_ids_keep_their_stand_ins(tmp_path, cache):
    token = "ghp_" + "a1B2" * 9
    test = f"import pytest\n@pytest.mark.parametrize('token', ['{token}', 'b'])\ndef test_a(token): assert token == 'b'\n"
    tree = Tree(tmp_path / "shop", {"test_a.py": test, ".gitignore": ".tracetriage/\n"}, plain=True)
    command = [sys.executable, "-m", "pytest", "-p", "tracetriage", "-p", "no:cacheprovider", "--tracetriage"]
    subprocess.run(command, cwd=tree.root, capture_output=True, check=False)
    recorded = next((tree.root / ".tracetriage" / "runs").glob("*/traces/main.jsonl")).read_text()
    nodeid = next(part for part in recorded.split('"') if part.startswith("test_a.py::test_a[[redacted "))

    with worktree(tree, cache, folder=tree.root / ".tracetriage") as made:
        assert again(made, [nodeid]).outcomes == {nodeid: "failed"}
        assert orders(made, [[nodeid]]).outcomes == {nodeid: "failed"}


def test_nothing_of_the_settings_reaches_beyond_the_worktree(tmp_path, cache, monkeypatch):
    ini = f"[pytest]\ntracetriage_history = {tmp_path}/history\ntracetriage_history_after_run = true\n"
    ini += "tracetriage_weave_project = a/b\n"
    tree = Tree(tmp_path / "shop", {**FLAT, "pytest.ini": ini})
    monkeypatch.setenv("TRACETRIAGE_DIR", str(tmp_path / "of the user"))
    monkeypatch.setenv("GIT_DIR", str(tree.root / ".git"))
    monkeypatch.setenv("GITHUB_OUTPUT", str(tmp_path / "output"))
    tree.write({"test_cart.py": "import os\ndef test_total(): assert not {'GIT_DIR', 'GITHUB_OUTPUT'} & os.environ.keys()\n"})
    with worktree(tree, cache) as made:
        run = again(made)
        assert (run.outcomes, run.void) == ({"test_cart.py::test_total": "passed"}, "")
        assert "weave" not in run.output
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cache", "shop"]
