"""`tracetriage diagnose`: real, flaky, order-dependent or of the environment; and where, in projects on disk."""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
import subprocess
import sys
import time

import msgspec
import pytest
from execute.projects import Tree, folders, git, marked

from pytest_tracetriage.commands.schema import schema_of
from pytest_tracetriage.model.analysis import Analysis
from pytest_tracetriage.model.diagnosis import Diagnosis

CART = """
class Cart:
    def total(self, prices):
        return self.rounded(sum(prices))

    def rounded(self, value):
        return round(value, 2)

    def count(self, prices):
        return len(prices)
"""
BROKEN = CART.replace("sum(prices)", "sum(prices[1:])")
TESTS = """
import pytest
from shop.cart import Cart

@pytest.mark.parametrize("prices", [(1, 2), (3, 4), (5, 6)])
def test_total(prices):
    assert Cart().total(prices) == sum(prices)

def test_count():
    assert Cart().count((1, 2)) == 2

def test_rounded():
    assert Cart().rounded(1.234) == 1.23
"""
INI = "[pytest]\npythonpath = .\n"
SHOP = {"pytest.ini": INI, "shop/__init__.py": "", "shop/cart.py": CART, "tests/test_cart.py": TESTS}


@pytest.fixture(autouse=True)
def _few_plugins(monkeypatch, tmp_path):
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def record(root, *arguments):
    """Run the project's tests as its people do, recorded; return pytest's exit status."""
    command = [sys.executable, "-m", "pytest", "-q", "-ptracetriage", "--tracetriage", "-pno:cacheprovider", *arguments]
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode in {0, 1}, done.stdout + done.stderr
    return done.returncode


def fingerprint(root):
    """Return a hash of every name, time and byte of a project, but for what TraceTriage keeps."""
    found = hashlib.sha256()
    for path in sorted(root.rglob("*")):
        if ".tracetriage" not in path.parts:
            found.update(os.fsencode(f"{path}|{path.lstat().st_mtime_ns}|"))
            found.update(path.read_bytes() if path.is_file() else b"")
    return found.hexdigest()


@pytest.fixture
def diagnosed(tracetriage, monkeypatch, tmp_path):
    """Return a function that diagnoses a project, and sees that it stays as it was and that nothing is left behind."""

    def diagnose(root, *arguments, code=1):
        monkeypatch.chdir(root)
        before = fingerprint(root)
        result = tracetriage("diagnose", "--format", "json", *arguments)
        assert result.code == code, result.err
        assert fingerprint(root) == before
        left = tmp_path / "cache" / "tracetriage" / "worktrees"
        assert not left.exists() or [path.name for path in left.iterdir()] in ([], [".claiming"])
        return json.loads(result.out)

    return diagnose


def only(found):
    assert len(found["clusters"]) == 1, [cluster["name"] for cluster in found["clusters"]]
    return found["clusters"][0]


def suspect(cluster):
    return cluster["suspects"][0]["file"], cluster["suspects"][0]["function"]


def told(found):
    return [problem["message"] for problem in found["problems"]]


# -- real, and where -----------------------------------------------------------------------------------------------------


def test_a_regression_is_real_and_found_with_the_map_of_the_green_run(tmp_path, diagnosed):
    tree = Tree(tmp_path / "shop", SHOP)
    assert record(tree.root, "--tracetriage-coverage") == 0
    tree.write({"shop/cart.py": BROKEN})
    commit = tree.commit("break it")
    assert record(tree.root) == 1
    found = diagnosed(tree.root)
    cluster = only(found)
    assert (cluster["status"], cluster["status_evidence"]) == ("real", "fails 8 of 8 alone and in context".replace("8", "4"))
    assert suspect(cluster) == ("shop/cart.py", "Cart.total")
    assert f"changed in {commit[:8]}" in cluster["suspects"][0]["evidence"]
    assert found["coverage"]["source"] == "tracetriage"
    assert found["coverage"]["failing"] == 3
    assert told(found) == []
    assert any("Cart.total" in one["text"] for one in found["hypotheses"])
    assert found["reruns"]["pytest_runs"] == 1


def test_changes_are_left_out_where_nobody_may_look(tmp_path, diagnosed):
    tree = Tree(tmp_path / "shop", SHOP)
    record(tree.root, "--tracetriage-coverage")
    tree.write({"shop/cart.py": BROKEN})
    tree.commit("break it")
    record(tree.root)
    cluster = only(diagnosed(tree.root, "--no-changes"))
    assert not any("changed" in one["evidence"] for one in cluster["suspects"])


def test_a_change_that_is_not_committed_is_run_again_as_it_lies_there(tmp_path, diagnosed):
    tree = Tree(tmp_path / "shop", SHOP)
    record(tree.root, "--tracetriage-coverage")
    tree.write({"shop/cart.py": BROKEN, "tests/test_new.py": "def test_new():\n    assert not 'new'\n"})
    record(tree.root)
    found = diagnosed(tree.root)
    by_tests = {len(cluster["tests"]): cluster for cluster in found["clusters"]}
    assert {cluster["status"] for cluster in found["clusters"]} == {"real"}
    assert "changed in uncommitted changes" in by_tests[3]["suspects"][0]["evidence"]
    assert by_tests[1]["tests"] == ["tests/test_new.py::test_new"]


def test_a_map_is_recorded_where_the_last_green_commit_is(tmp_path, diagnosed):
    tree = Tree(tmp_path / "shop", SHOP)
    first = git(tree.root, "rev-parse", "HEAD")
    record(tree.root)
    tree.write({"shop/cart.py": BROKEN})
    tree.commit("break it")
    record(tree.root)
    found = diagnosed(tree.root)
    assert suspect(only(found)) == ("shop/cart.py", "Cart.total")
    assert (found["coverage"]["source"], found["coverage"]["commit"]) == ("recorded", first)
    assert found["reruns"]["pytest_runs"] == 2
    again = diagnosed(tree.root)
    assert (again["coverage"], again["reruns"]["pytest_runs"]) == (found["coverage"], 1)


def test_without_git_and_without_a_map_the_red_tree_is_recorded(tmp_path, diagnosed):
    tree = Tree(tmp_path / "shop", SHOP | {"shop/cart.py": BROKEN}, plain=True)
    record(tree.root)
    found = diagnosed(tree.root)
    cluster = only(found)
    assert cluster["status"] == "real"
    assert suspect(cluster) == ("shop/cart.py", "Cart.total")
    assert (found["coverage"]["source"], found["coverage"]["tests"]) == ("red run", 5)
    assert found["reruns"]["pytest_runs"] == 1


def test_without_git_an_earlier_run_has_the_map(tmp_path, diagnosed):
    tree = Tree(tmp_path / "shop", SHOP, plain=True)
    record(tree.root, "--tracetriage-coverage")
    tree.write({"shop/cart.py": BROKEN})
    record(tree.root)
    cluster = only(diagnosed(tree.root))
    assert (cluster["status"], suspect(cluster)) == ("real", ("shop/cart.py", "Cart.total"))


def test_a_run_of_another_commit_is_diagnosed_there(tmp_path, diagnosed):
    tree = Tree(tmp_path / "shop", SHOP | {"shop/cart.py": BROKEN})
    record(tree.root)
    tree.write({"shop/cart.py": CART})
    tree.commit("mend it")
    assert only(diagnosed(tree.root))["status"] == "real"


def test_a_project_below_the_root_of_its_repository_with_odd_names(tmp_path, diagnosed):
    below = "services/der Lädén"
    files = {name.replace("test_cart", "test_körbe"): text for name, text in SHOP.items()}
    tree = Tree(tmp_path / "mono", {f"{below}/{name}": text for name, text in files.items()} | {"other.py": ""})
    record(tree.root / below, "--tracetriage-coverage")
    tree.write({f"{below}/shop/cart.py": BROKEN})
    commit = tree.commit("break it")
    record(tree.root / below)
    cluster = only(diagnosed(tree.root / below))
    assert (cluster["status"], suspect(cluster)) == ("real", ("shop/cart.py", "Cart.total"))
    assert f"changed in {commit[:8]}" in cluster["suspects"][0]["evidence"]


def test_what_was_mended_since_is_not_called_flaky(tmp_path, diagnosed):
    tree = Tree(tmp_path / "shop", SHOP | {"shop/cart.py": BROKEN})
    record(tree.root)
    tree.write({"shop/cart.py": CART, "tests/test_cart.py": TESTS})
    cluster = only(diagnosed(tree.root))
    assert cluster["status"] == ""
    assert "since then" in cluster["status_evidence"]


def test_changes_that_are_gone_are_told_and_nothing_is_run(tmp_path, diagnosed):
    tree = Tree(tmp_path / "shop", SHOP)
    tree.write({"shop/cart.py": BROKEN})
    record(tree.root)
    tree.commit("break it")
    found = diagnosed(tree.root)
    assert only(found)["status"] == ""
    assert any("changes that were not committed" in text for text in told(found))


# -- not real ------------------------------------------------------------------------------------------------------------

FLIPS = """
import os

def test_flips():
    path = os.environ["COUNTER"]
    open(path, "a").write("x")
    assert os.path.getsize(path) % 2 == 0{words}
"""


@pytest.fixture
def counter(tmp_path, monkeypatch):
    path = tmp_path / "counter"
    monkeypatch.setenv("COUNTER", str(path))
    return path


def test_a_test_that_fails_now_and_then_is_flaky(tmp_path, diagnosed, counter):
    tree = Tree(tmp_path / "shop", {"test_flips.py": FLIPS.format(words="")})
    assert record(tree.root) == 1
    cluster = only(diagnosed(tree.root))
    assert cluster["status"] == "flaky"
    assert "fails 2 of 3 alone" in cluster["status_evidence"] or "fails 1 of 3 alone" in cluster["status_evidence"]


ONCE = """
import os

def test_once():
    path = os.environ["COUNTER"]
    first = not os.path.exists(path)
    open(path, "a").close()
    if first:
        raise {error}
"""


@pytest.mark.parametrize(("error", "status"), [("ValueError('odd')", "flaky"), ("TimeoutError('timed out')", "time-dependent")])
def test_what_passes_alone_and_in_context_failed_by_chance_or_by_time(tmp_path, diagnosed, counter, error, status):
    files = {"test_once.py": ONCE.format(error=error), "test_a.py": "def test_a():\n    pass\n"}
    tree = Tree(tmp_path / "shop", files)
    assert record(tree.root) == 1
    cluster = only(diagnosed(tree.root))
    assert cluster["status"] == status
    assert "of" in cluster["status_evidence"]
    assert "it failed in the run" in cluster["status_evidence"]


def test_what_failed_under_another_python_is_of_the_environment(tmp_path, diagnosed, counter):
    tree = Tree(tmp_path / "shop", {"test_once.py": ONCE.format(error="ValueError('odd')")})
    record(tree.root)
    (path,) = (tree.root / ".tracetriage" / "runs").glob("*/run.json")
    run = json.loads(path.read_text(encoding="utf-8"))
    run["context"]["python"] = "3.9.1"
    path.write_text(json.dumps(run), encoding="utf-8")
    cluster = only(diagnosed(tree.root))
    assert cluster["status"] == "environment"
    assert "3.9.1 there" in cluster["status_evidence"]


POLLUTED = """
import pytest
STATE = []

def test_polluter():
    STATE.append(1)

@pytest.mark.parametrize("number", range({distance}))
def test_harmless(number):
    pass

def test_victim():
    assert not STATE
"""


def test_the_polluter_is_named_at_a_distance_of_200(tmp_path, diagnosed):
    tree = Tree(tmp_path / "shop", {"test_state.py": POLLUTED.format(distance=200)})
    assert record(tree.root) == 1
    found = diagnosed(tree.root)
    cluster = only(found)
    assert (cluster["status"], cluster["tests"]) == ("order-dependent", ["test_state.py::test_victim"])
    assert cluster["status_evidence"] == "passes alone; fails after test_state.py::test_polluter (5 of 5)"
    assert found["reruns"]["pytest_runs"] <= 2 * math.log2(202)
    assert suspect(cluster) == ("test_state.py", "test_polluter")
    assert [one["text"] for one in found["hypotheses"]] == [f"It depends on what ran before: {cluster['status_evidence']}."]


def test_a_polluter_in_another_file_is_named(tmp_path, diagnosed):
    files = {
        "state.py": "STATE = []\n",
        "test_a.py": "import state\ndef test_other():\n    pass\ndef test_polluter():\n    state.STATE.append(1)\n",
        "test_b.py": "import state\ndef test_first():\n    pass\ndef test_victim():\n    assert not state.STATE\n",
        "pytest.ini": INI,
    }
    tree = Tree(tmp_path / "shop", files, plain=True)
    record(tree.root)
    cluster = only(diagnosed(tree.root))
    assert cluster["status_evidence"] == "passes alone; fails after test_a.py::test_polluter (5 of 5)"


BRITTLE = """
import pytest
STATE = []

def test_setter():
    STATE.append(1)

@pytest.mark.parametrize("number", range(200))
def test_harmless(number):
    pass

def test_brittle():
    assert STATE
"""


def test_what_a_brittle_test_needs_is_named(tmp_path, diagnosed):
    tree = Tree(tmp_path / "shop", {"test_state.py": BRITTLE})
    assert record(tree.root) == 0
    assert record(tree.root, "test_state.py::test_brittle") == 1
    cluster = only(diagnosed(tree.root))
    assert cluster["status"] == "order-dependent"
    assert cluster["status_evidence"] == "fails 4 of 4 alone and in context; passes after test_state.py::test_setter (5 of 5)"


def test_what_a_brittle_test_needs_is_named_without_an_earlier_green_run(tmp_path, diagnosed):
    tree = Tree(tmp_path / "shop", {"test_state.py": BRITTLE, "test_z.py": "def test_z():\n    pass\n"})
    assert record(tree.root, "test_state.py::test_brittle", "test_z.py") == 1
    cluster = only(diagnosed(tree.root))
    assert cluster["status"] == "order-dependent"
    assert cluster["status_evidence"] == "fails 4 of 4 alone and in context; passes after test_state.py::test_setter (5 of 5)"


def test_what_a_brittle_test_needs_is_named_in_another_file(tmp_path, diagnosed):
    pytest.importorskip("xdist")
    files = {
        "state.py": "STATE = []\n",
        "test_a.py": "import state\n\ndef test_other():\n    pass\n\ndef test_setter():\n    state.STATE.append(1)\n",
        "test_b.py": "import state\n\ndef test_brittle():\n    assert state.STATE\n",
        "pytest.ini": INI,
    }
    tree = Tree(tmp_path / "shop", files)
    assert record(tree.root, "-pxdist", "-n2", "--dist=loadfile", "--tracetriage-coverage") == 1
    cluster = only(diagnosed(tree.root))
    assert cluster["status_evidence"] == "fails 6 of 6 alone and in context; passes after test_a.py::test_setter (5 of 5)"


def test_what_needs_many_others_is_order_dependent_though_none_is_named(tmp_path, diagnosed):
    body = "STATE = []\n" + "".join(f"def test_{name}():\n    STATE.append(1)\n" for name in "abcdef")
    tree = Tree(tmp_path / "shop", {"test_state.py": f"{body}def test_brittle():\n    assert len(STATE) > 4\n"})
    assert record(tree.root, "test_state.py::test_brittle") == 1
    cluster = only(diagnosed(tree.root))
    assert cluster["status"] == "order-dependent"
    assert cluster["status_evidence"].endswith("; passes after 6 others (2 of 2); no test alone explains it")


def test_a_run_on_workers_knows_what_ran_before_in_the_same_one(tmp_path, diagnosed):
    pytest.importorskip("xdist")
    tree = Tree(tmp_path / "shop", {"test_state.py": POLLUTED.format(distance=3)})
    assert record(tree.root, "-pxdist", "-n1") == 1
    cluster = only(diagnosed(tree.root))
    assert cluster["status_evidence"] == "passes alone; fails after test_state.py::test_polluter (5 of 5)"


def test_another_failure_than_that_of_the_run_is_told(tmp_path, diagnosed, counter):
    text = ONCE.format(error="ValueError('odd')") + "    raise KeyError('second')\n"
    tree = Tree(tmp_path / "shop", {"test_once.py": text})
    record(tree.root)
    cluster = only(diagnosed(tree.root))
    assert cluster["status"] == "real"
    assert "each time as another failure: KeyError: 'second'" in cluster["status_evidence"]


def test_a_file_that_cannot_be_collected_fails_again(tmp_path, diagnosed):
    tree = Tree(tmp_path / "shop", {"test_a.py": "import no_such_module\n", "test_b.py": "def test_b():\n    pass\n"})
    subprocess.run([sys.executable, "-m", "pytest", "-q", "-ptracetriage", "--tracetriage"], cwd=tree.root, check=False)
    cluster = only(diagnosed(tree.root))
    assert (cluster["status"], cluster["status_evidence"]) == ("real", "fails 1 of 1 in context")


def test_the_coverage_of_the_red_run_is_better_than_none(tmp_path, diagnosed):
    tree = Tree(tmp_path / "shop", SHOP | {"shop/cart.py": BROKEN}, plain=True)
    record(tree.root, "--tracetriage-coverage")
    found = diagnosed(tree.root)
    assert found["coverage"]["source"] == "red run"
    assert found["reruns"]["tests"] < 10
    assert suspect(only(found)) == ("shop/cart.py", "Cart.total")


def test_what_spoils_a_rerun_is_left_out_and_told(tmp_path, diagnosed):
    tree = Tree(tmp_path / "shop", SHOP | {"shop/cart.py": BROKEN, "pytest.ini": f"{INI}addopts = --maxfail=1\n"})
    record(tree.root)
    found = diagnosed(tree.root)
    assert found["reruns"]["neutralised"] == ["-x/--maxfail"]


@pytest.mark.parametrize(
    "options",
    [
        "-p pytest_cov --cov=shop --cov-report=",
        "-p pytest_cov --cov --cov-fail-under=99",
        "-p xdist -n 2",
        "-p xdist -p pytest_cov -n 2 --cov=shop --cov-report=",
        "-p xdist -n 2 --dist=loadscope",
    ],
)
def test_the_red_tree_is_recorded_whatever_the_projects_own_options_are(tmp_path, diagnosed, options):
    for name in ("pytest_cov", "xdist"):
        pytest.importorskip(name)
    files = SHOP | {"shop/cart.py": BROKEN, "pytest.ini": f"{INI}addopts = {options}\n"}
    tree = Tree(tmp_path / "shop", files, plain=True)
    record(tree.root)
    (tree.root / ".coverage").unlink(missing_ok=True)
    found = diagnosed(tree.root)
    assert (only(found)["status"], told(found)) == ("real", [])
    assert (found["coverage"]["source"], found["coverage"]["failing"]) == ("red run", 3)
    assert suspect(only(found)) == ("shop/cart.py", "Cart.total")


def test_the_projects_own_coverage_with_contexts_is_used(tmp_path, diagnosed):
    pytest.importorskip("pytest_cov")
    tree = Tree(tmp_path / "shop", SHOP, plain=True)
    record(tree.root, "-ppytest_cov", "--cov=shop", "--cov-context=test", "--cov-report=")
    assert (tree.root / ".coverage").is_file()
    tree.write({"shop/cart.py": BROKEN})
    record(tree.root)
    found = diagnosed(tree.root)
    assert found["coverage"]["source"] == "pytest-cov"
    assert suspect(only(found)) == ("shop/cart.py", "Cart.total")


# -- what drifted --------------------------------------------------------------------------------------------------------


@pytest.fixture
def release(tmp_path, monkeypatch):
    """Return a function that puts a version of the package `leftpad` where the tests find it, outside of the project."""
    site = tmp_path / "site"
    monkeypatch.setenv("PYTHONPATH", str(site))

    def put(version, body):
        shutil.rmtree(site, ignore_errors=True)
        folder = site / f"leftpad-{version}.dist-info"
        folder.mkdir(parents=True)
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: leftpad\nVersion: {version}\n", encoding="utf-8")
        (site / "leftpad.py").write_text(body, encoding="utf-8")

    return put


PADDED = "import leftpad\n\ndef test_pad():\n    assert leftpad.pad('7', 3) == '  7'\n"
LEFT = "def pad(text, width):\n    return text.rjust(width)\n"


def test_a_dependency_is_the_suspect_where_it_changed_and_no_code_did(tmp_path, diagnosed, release, tracetriage):
    tree = Tree(tmp_path / "shop", {"test_pad.py": PADDED})
    release("1.3.0", LEFT)
    assert record(tree.root) == 0
    release("2.0.0", LEFT.replace("rjust", "ljust"))
    assert record(tree.root) == 1
    found = diagnosed(tree.root)
    cluster = only(found)
    first = cluster["suspects"][0]
    assert (first["kind"], first["file"], first["function"]) == ("dependency", "leftpad", "1.3.0 -> 2.0.0")
    assert first["evidence"].startswith("the only difference; test_pad.py, in the traceback, imports it; last green in run ")
    assert (cluster["status"], cluster["suspects"][1]["kind"]) == ("real", "place")
    assert found["hypotheses"][0]["text"].startswith("What the tests run on has changed, and no commit did: leftpad 1.3.0")
    shown = tracetriage("diagnose", "--no-rerun").out
    assert "drift   leftpad  1.3.0 -> 2.0.0  0.90" in shown
    assert "where   test_pad.py" in shown
    assert "- Drift: `leftpad` `1.3.0 -> 2.0.0` 0.90" in tracetriage("diagnose", "--no-rerun", "--format", "markdown").out


def test_a_dependency_is_no_suspect_where_the_code_changed_too(tmp_path, diagnosed, release):
    tree = Tree(tmp_path / "shop", SHOP)
    release("1.3.0", LEFT)
    assert record(tree.root, "--tracetriage-coverage") == 0
    release("2.0.0", LEFT)
    tree.write({"shop/cart.py": BROKEN})
    tree.commit("break it")
    assert record(tree.root) == 1
    found = diagnosed(tree.root)
    assert {one["kind"] for one in only(found)["suspects"]} == {"place"}
    assert not any("no commit did" in one["text"] for one in found["hypotheses"])


def test_what_changed_in_no_test_leaves_the_dependency_a_suspect(tmp_path, diagnosed, release):
    tree = Tree(tmp_path / "shop", {"test_pad.py": PADDED, "notes.md": "one"})
    release("1.3.0", LEFT)
    assert record(tree.root, "--tracetriage-coverage") == 0
    release("2.0.0", LEFT.replace("rjust", "ljust"))
    tree.write({"notes.md": "two"})
    tree.commit("only words")
    assert record(tree.root) == 1
    assert only(diagnosed(tree.root))["suspects"][0]["file"] == "leftpad"


# -- what cannot be done -------------------------------------------------------------------------------------------------


def test_a_budget_that_is_spent_is_told_and_nothing_is_run(tmp_path, diagnosed):
    tree = Tree(tmp_path / "shop", SHOP | {"shop/cart.py": BROKEN})
    record(tree.root)
    found = diagnosed(tree.root, "--budget", "0")
    assert only(found)["status"] == ""
    assert any("the budget was spent before" in text for text in told(found))
    assert found["reruns"] == {}


def test_a_map_that_the_budget_cuts_short_says_so_and_begins_with_what_fails(tmp_path, diagnosed):
    tree = Tree(tmp_path / "shop", SHOP | {"shop/cart.py": BROKEN, "test_aside.py": "def test_aside(): pass\n"})
    record(tree.root)
    found = diagnosed(tree.root, "--budget", ".4")
    assert 0 < found["coverage"]["failing"] < found["coverage"]["of_failing"]
    assert any(text.startswith("the map knows 1 of ") for text in told(found))


def test_no_rerun_runs_nothing_and_keeps_what_earlier_reruns_found(tmp_path, diagnosed):
    tree = Tree(tmp_path / "shop", SHOP | {"shop/cart.py": BROKEN})
    record(tree.root)
    first = diagnosed(tree.root, "--no-rerun")
    assert (only(first)["status"], first["reruns"], first["coverage"]) == ("", {}, None)
    real = only(diagnosed(tree.root))
    assert only(diagnosed(tree.root, "--no-rerun"))["status_evidence"] == real["status_evidence"]


def test_modules_from_elsewhere_make_reruns_void(tmp_path, diagnosed):
    tree = Tree(tmp_path / "shop", SHOP | {"shop/cart.py": BROKEN})
    record(tree.root)
    script = tmp_path / "run.py"
    script.write_text(
        f"import sys\nsys.path.insert(0, {str(tree.root)!r})\nimport pytest, shop.cart\nsys.exit(pytest.main(sys.argv[1:]))\n",
        encoding="utf-8",
    )
    found = diagnosed(tree.root, "--pytest", f"{sys.executable} {script}")
    assert only(found)["status"] == ""
    assert any("not from the worktree" in text for text in told(found))


def test_a_command_that_cannot_run_is_told(tmp_path, diagnosed):
    tree = Tree(tmp_path / "shop", SHOP | {"shop/cart.py": BROKEN})
    record(tree.root)
    found = diagnosed(tree.root, "--pytest", "no-such-program")
    assert only(found)["status"] == ""
    assert any("no-such-program" in text for text in told(found))


def test_what_a_command_said_is_redacted_before_it_is_written(tmp_path, diagnosed):
    tree = Tree(tmp_path / "shop", SHOP | {"shop/cart.py": BROKEN})
    record(tree.root)
    script = tmp_path / "run.sh"
    script.write_text("echo error: password=correct-horse\nexit 4\n", encoding="utf-8")
    found = diagnosed(tree.root, "--pytest", f"sh {script}")
    assert any("error: password=[redacted " in text for text in told(found))
    (kept,) = tree.root.glob(".tracetriage/runs/*/analysis.json")
    assert "correct-horse" not in json.dumps(found) + kept.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [(["--pytest", ""], "--pytest"), (["nothing"], "no run"), (["--budget", "-1"], "--budget")],
)
def test_mistakes_are_told_in_a_line(shop, tracetriage, arguments, words):
    result = tracetriage("diagnose", *arguments)
    assert result.code == 2
    assert words in result.err
    assert "Traceback" not in result.err


def test_without_a_run_there_is_nothing_to_diagnose(empty, tracetriage):
    assert "no run in" in tracetriage("diagnose").mistake


@pytest.mark.linux
def test_a_killed_diagnosis_leaves_nothing_after_the_next_call(tmp_path, diagnosed):
    body = (
        "import os, time\ndef test_slow():\n    if 'TRACETRIAGE_AGAIN' in os.environ:\n        time.sleep(60)\n    assert 0\n"
    )
    tree = Tree(tmp_path / "shop", {"test_slow.py": body})
    record(tree.root)
    cache = tmp_path / "cache" / "tracetriage"
    code = "from pytest_tracetriage.commands import main; main()"
    with subprocess.Popen([sys.executable, "-c", code, "diagnose"], cwd=tree.root, stderr=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 60
        while not list(cache.glob("worktrees/*/runs/*/main.json")) and time.monotonic() < deadline:
            time.sleep(0.05)
        process.kill()
    assert [name for name in folders(cache) if name] != []
    diagnosed(tree.root, "--budget", "0")
    deadline = time.monotonic() + 20
    while marked(cache) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert (folders(cache), marked(cache)) == ([], [])


# -- how it is told ------------------------------------------------------------------------------------------------------


def test_the_result_replaces_the_analysis_and_stays_readable_for_all(tmp_path, diagnosed):
    tree = Tree(tmp_path / "shop", SHOP | {"shop/cart.py": BROKEN})
    record(tree.root)
    found = diagnosed(tree.root)
    (path,) = (tree.root / ".tracetriage" / "runs").glob("*/analysis.json")
    data = path.read_bytes()
    assert json.loads(data) == found
    assert msgspec.json.decode(data, type=Diagnosis).clusters == msgspec.json.decode(data, type=Analysis).clusters
    named = schema_of("diagnosis")["$defs"]["Diagnosis"]["properties"]
    assert found.keys() <= named.keys()


def test_the_terminal_and_markdown_say_the_same(shop, tracetriage):
    shown = tracetriage("diagnose", "--no-rerun")
    assert shown.code == 1
    assert "\x1b" not in shown.out
    assert max(map(len, shown.out.splitlines())) <= 100
    assert "where " in shown.out
    assert "maybe " in shown.out
    written = tracetriage("diagnose", "--no-rerun", "--format", "markdown")
    assert written.code == 1
    for name in ("KeyError", "ConnectionRefusedError"):
        assert name in shown.out
        assert name in written.out
    assert "What may be wrong" in written.out


def test_what_a_test_says_does_not_reach_the_terminal_or_markdown_as_it_is(tmp_path, tracetriage, monkeypatch):
    body = "def test_evil():\n    raise ValueError('\\x1b[31m<img src=x> @everyone [link](http://example.org) `code`')\n"
    tree = Tree(tmp_path / "shop", {"test_evil.py": body})
    record(tree.root)
    monkeypatch.chdir(tree.root)
    assert "\x1b" not in tracetriage("diagnose", "--no-rerun").out
    written = tracetriage("diagnose", "--no-rerun", "--format", "markdown").out
    told = "\n".join(line for line in written.splitlines() if "`" not in line)
    assert "<img" not in told
    assert "@everyone" not in told
    assert "](http" not in told
