"""One group of runs beside the base branch: new, known, fixed, flaky; shards, legs and attempts are one analysis."""

from __future__ import annotations

import itertools
import json
import sys

import pytest
from commands.recorded import PAY, PRICE, STOCK, failure, record

A, B, C, D = (f"tests/test_{name}.py::test_{name}" for name in "abcd")
PULL = {"branch": "topic", "event": "pull_request", "pull_request": "5", "ci_run": "50"}


@pytest.fixture
def remembered(empty, tracetriage):
    """Write a run of its own workflow run and add it to the history; return its folder."""

    def add(number, outcomes, **more):
        folder = record(empty / "recorded", number, outcomes, **{"ci_run": str(number), **more})
        result = tracetriage("history", "add", folder)
        assert (result.code, result.err) == (0, "")
        return folder

    return add


@pytest.fixture
def reviewed(empty, tracetriage):
    """Return the analysis that `report` gives of run folders, its clusters by their first word."""

    def of(*folders):
        result = tracetriage("report", *folders, "--format", "json", "--history", empty / ".tracetriage" / "history")
        assert result.code in {0, 1}, result.err
        found = json.loads(result.out)
        found["by"] = {cluster["name"].split()[0]: cluster for cluster in found["clusters"]}
        return found

    return of


def test_new_known_and_fixed_against_the_base(empty, remembered, reviewed):
    remembered(1, {A: PRICE, B: STOCK, C: "passed"}, commit="a")
    remembered(2, {A: PRICE, B: STOCK, C: "passed"}, commit="b")
    found = reviewed(record(empty / "pr", 9, {A: PRICE, B: "passed", C: PAY}, commit="c", **PULL))
    assert {word: cluster["seen"] for word, cluster in found["by"].items()} == {
        "KeyError": "known",
        "TimeoutError": "new",
        "TypeError": "fixed",
    }
    assert (found["by"]["KeyError"]["since"], found["by"]["KeyError"]["runs"]) == ("a" * 8, 2)
    assert found["by"]["KeyError"]["frequency"] == {"failed": 2, "runs": 2}
    assert found["by"]["KeyError"]["status"] == "real"


def test_what_another_pull_request_shows_is_new_here_and_keeps_its_id(empty, remembered, reviewed):
    remembered(1, {A: "passed", B: "passed"})
    remembered(2, {A: PRICE, B: "passed"}, branch="other", event="pull_request", pull_request="4", commit="b")
    first = reviewed(record(empty / "pr", 8, {A: PRICE, B: "passed"}, commit="c", **PULL))["by"]["KeyError"]
    assert first["seen"] == "new"
    # What that pull request broke is not fixed by one that never had it.
    assert reviewed(record(empty / "pr2", 9, {A: "passed"}, commit="d", **PULL))["clusters"] == []


def test_a_branch_called_main_of_a_fork_is_not_the_base(empty, remembered, reviewed):
    remembered(1, {A: "passed"})
    remembered(2, {A: PRICE}, branch="main", event="pull_request", pull_request="4", commit="b")
    assert reviewed(record(empty / "pr", 9, {A: PRICE}, commit="c", **PULL))["by"]["KeyError"]["seen"] == "new"


def test_a_regression_is_new_again(empty, remembered, reviewed):
    remembered(1, {A: PRICE})
    remembered(2, {A: "passed"}, commit="b")
    found = reviewed(record(empty / "pr", 9, {A: PRICE}, commit="c", **PULL))
    assert (found["by"]["KeyError"]["seen"], found["by"]["KeyError"]["since"]) == ("new", "a" * 8)


def test_a_regression_is_told_as_one(empty, remembered, tracetriage):
    remembered(1, {A: PRICE})
    remembered(2, {A: "passed"}, commit="b")
    out = tracetriage("report", record(empty / "pr", 9, {A: PRICE}, commit="c", **PULL)).out
    assert f"back: was on `main` since `{'a' * 7}`, and fixed" in out


def test_what_comes_and_goes_and_is_gone_from_the_base_is_not_waved_through(empty, remembered, reviewed, tracetriage):
    for number, outcome in enumerate((PAY, "passed", PAY, "passed"), 1):
        remembered(number, {A: outcome}, commit="abcd"[number - 1])
    pull = record(empty / "pr", 9, {A: PAY}, **{**PULL, "commit": "e"})
    assert (reviewed(pull)["by"]["TimeoutError"]["seen"], reviewed(pull)["by"]["TimeoutError"]["course"]) == (
        "known",
        "on and off",
    )
    out = tracetriage("report", pull).out
    assert "comes and goes on `main` for 2 runs" in out
    assert "nothing to mend here" not in out
    assert (
        "**Next:** run the job again: what comes and goes on `main` is not there at the moment; if it stays here, look at"
        in out
    )


def test_without_a_run_of_the_base_nothing_is_called_new(empty, remembered, reviewed):
    remembered(1, {A: PRICE}, branch="topic", commit="b")
    assert reviewed(record(empty / "pr", 9, {A: PRICE}, commit="c", **PULL))["by"]["KeyError"]["seen"] == "first-run"


def test_without_git_all_runs_are_what_there_is_to_compare_with(empty, remembered, reviewed):
    nothing = {"branch": "", "base": "", "commit": "a"}
    first = reviewed(record(empty / "one", 1, {A: PRICE}, **nothing, ci_run="1"))
    assert first["by"]["KeyError"]["seen"] == "first-run"
    remembered(1, {A: PRICE, B: "passed"}, **nothing)
    found = reviewed(record(empty / "two", 2, {A: PRICE, B: STOCK}, **nothing, ci_run="2"))
    assert {word: cluster["seen"] for word, cluster in found["by"].items()} == {"KeyError": "known", "TypeError": "new"}


def test_the_run_itself_is_not_its_own_past(empty, remembered, reviewed):
    remembered(1, {A: "passed"})
    folder = remembered(9, {A: PRICE}, **{**PULL, "commit": "c"})
    assert reviewed(folder)["by"]["KeyError"]["seen"] == "new"


def test_passed_and_failed_on_one_commit_is_flaky(empty, remembered, reviewed):
    remembered(1, {A: PAY, B: "passed"}, commit="a")
    remembered(2, {A: "passed", B: "passed"}, commit="a")
    found = reviewed(record(empty / "pr", 9, {A: PAY, B: PRICE}, commit="c", **PULL))
    assert {word: cluster["status"] for word, cluster in found["by"].items()} == {"TimeoutError": "flaky", "KeyError": "real"}
    assert "aaaaaaaa" in found["by"]["TimeoutError"]["status_evidence"]


def test_legs_that_differ_are_not_flaky(empty, reviewed):
    one = record(empty / "legs", 1, {A: PAY}, leg='{"db": "mysql"}')
    other = record(empty / "legs", 2, {A: "passed"}, leg='{"db": "sqlite"}')
    assert reviewed(one, other)["by"]["TimeoutError"]["status"] == "real"


def test_shards_are_one_analysis(empty, reviewed):
    shards = [
        record(empty / "shards", n, {f"tests/test_{n}.py::t": PRICE, f"tests/test_{n}.py::u": "passed"}, leg=str(n))
        for n in (1, 2)
    ]
    found = reviewed(*shards)
    assert found["totals"]["tests"] == 4
    assert found["by"]["KeyError"]["count"] == 2
    assert len(found["runs"]) == 2


def test_a_test_that_all_legs_run_counts_once(empty, reviewed):
    legs = [record(empty / "legs", n, {A: PRICE if n == 1 else "passed", B: "passed"}, leg=str(n)) for n in (1, 2, 3)]
    assert {key: reviewed(*legs)["totals"][key] for key in ("tests", "passed", "failed", "failures")} == {
        "tests": 2,
        "passed": 1,
        "failed": 1,
        "failures": 1,
    }


def test_a_newer_attempt_of_a_job_replaces_it_and_proves_it_flaky(empty, tracetriage):
    shard = record(empty / "group", 1, {C: "passed", D: STOCK}, leg="1", **PULL)
    before = record(empty / "group", 2, {A: PAY, B: "passed"}, leg="2", **PULL)
    after = record(empty / "group", 3, {A: "passed", B: "passed"}, leg="2", attempt=2, **PULL)
    result = tracetriage("report", shard, before, after)
    assert "1 of 4 tests fails from 1 cause" in result.out
    assert "`TimeoutError" in result.out
    assert "passed when" in result.out
    assert "TypeError" in result.out
    result = tracetriage("history", "add", empty / "group")
    assert result.out.startswith("added 3 runs")
    history = json.loads(tracetriage("history", "--format", "json", "--days", "100000").out)
    assert [(test["nodeid"], test["failed"], test["passed"]) for test in history["flaky"]] == [(A, 1, 1)]


def test_attempts_inside_a_run(empty, tracetriage):
    folder = record(empty / "group", 1, {A: [PAY, "passed"], B: "passed"}, **PULL)
    result = tracetriage("report", folder)
    assert result.code == 0
    assert "passed when" in result.out
    assert "TimeoutError" in result.out


def test_a_leg_that_is_missing_is_told(empty, remembered, tracetriage):
    for number in (1, 2):
        record(empty / "main", number, {A: "passed"}, leg=str(number), ci_run="9")
    assert tracetriage("history", "add", empty / "main").code == 0
    result = tracetriage("report", record(empty / "pr", 5, {A: "passed"}, leg="1", **{**PULL, "commit": "c"}))
    assert "no run of test 2 was found, which main has" in result.out.replace("`", "")
    assert result.err.count("no run of test 2 was found") == 1


@pytest.mark.parametrize("how", ["missing", "died"])
def test_without_all_legs_nothing_is_fixed(empty, remembered, reviewed, tracetriage, how):
    for number in (1, 2):
        record(empty / "main", number, {A: PRICE if number == 1 else "passed", C: "passed"}, leg=str(number), ci_run="9")
    assert tracetriage("history", "add", empty / "main").code == 0
    pull = {**PULL, "commit": "c"}
    two = record(empty / "pr", 6, {A: "passed", C: "passed"}, leg="2", **pull)
    one = [record(empty / "pr", 5, {C: "passed"}, leg="1", status="running", **pull)] if how == "died" else []
    assert reviewed(two, *one)["clusters"] == []
    again = record(empty / "again", 7, {A: "passed", C: "passed"}, leg="1", **pull)
    assert reviewed(two, again)["by"]["KeyError"]["seen"] == "fixed"


def test_what_is_flaky_on_the_base_is_not_fixed_by_passing(empty, remembered, reviewed):
    remembered(1, {A: PAY, B: PRICE}, ci_run="9")
    remembered(2, {A: "passed", B: PRICE}, ci_run="9", attempt=2)
    green = record(empty / "pr", 3, {A: "passed", B: "passed"}, **{**PULL, "commit": "c"})
    assert [cluster["name"].split()[0] for cluster in reviewed(green)["clusters"]] == ["KeyError"]


def test_what_comes_and_goes_on_the_base_is_not_fixed_by_passing(empty, remembered, reviewed):
    for number, commit in enumerate("abc", 1):
        remembered(number, {A: PAY if number != 2 else "passed"}, commit=commit)
    assert reviewed(record(empty / "pr", 4, {A: "passed"}, **{**PULL, "commit": "d"}))["clusters"] == []


MANY = [f"tests/test_e.py::test_{number}" for number in range(20)]


def test_a_known_cause_that_grows_from_few_tests_to_many_is_new(empty, remembered, reviewed, tracetriage):
    for number, commit in enumerate("ab", 1):
        remembered(number, dict.fromkeys(MANY, "passed") | dict.fromkeys(MANY[:2], PAY), commit=commit)
    pull = {**PULL, "commit": "c"}
    grown = record(empty / "grown", 5, dict.fromkeys(MANY, PAY), **pull)
    found = reviewed(grown)["by"]["TimeoutError"]
    assert (found["seen"], found["course"], found["runs"]) == ("new", "grown", 2)
    out = tracetriage("report", grown).out
    assert "this PR brings it" in out
    assert "on `main` by few tests, most of these pass there" in out
    # Twice as many may be chance, and tests that main does not have cannot pass there: a file that was renamed.
    for folder, tests in (("some", MANY[:4]), ("renamed", [test.replace("_e", "_f") for test in MANY])):
        run = record(empty / folder, 6, dict.fromkeys(tests, PAY), **pull)
        assert reviewed(run)["by"]["TimeoutError"]["seen"] == "known"


def test_decisions_that_cannot_be_read_are_told_once(empty, tracetriage):
    path = empty / ".tracetriage" / "policy" / "aliases.json"
    path.parent.mkdir(parents=True)
    path.write_text("{", encoding="utf-8")
    said = tracetriage("report", record(empty / "runs", 1, {A: "passed"})).err.splitlines()
    assert [line.startswith(f"tracetriage: {path}: ") for line in said] == [True]


def test_the_same_run_twice_is_told_and_counted_once(empty, tracetriage):
    one = record(empty / "one", 1, {A: PRICE})
    other = record(empty / "other", 1, {A: PRICE})
    result = tracetriage("report", one, other, "--format", "json")
    assert json.loads(result.out)["totals"]["tests"] == 1
    assert "is also in" in result.err


def test_adding_twice_changes_nothing(empty, tracetriage):
    folder = record(empty / "one", 1, {A: PRICE})
    assert tracetriage("history", "add", folder).out.startswith("added 1 run (")
    assert tracetriage("history", "add", folder).out == "added 0 runs (0 bytes), 1 were there already\n"


def test_history_without_any_run(empty, tracetriage):
    result = tracetriage("history")
    assert (result.code, result.out) == (0, "no run in the last 90 days; `tracetriage history add` adds the latest\n")
    assert "no run in" in tracetriage("history", "add").mistake
    assert "no run in" in tracetriage("report").mistake


def test_without_its_extra_the_history_says_how_to_install_it(empty, tracetriage, monkeypatch):
    monkeypatch.setitem(sys.modules, "duckdb", None)
    assert tracetriage("history").mistake.endswith("pip install 'pytest-tracetriage[history]'")
    assert tracetriage("history", "add", "--help").code == 0


def test_what_history_shows(empty, remembered, tracetriage):
    remembered(1, {A: PRICE, B: "passed"}, commit="a")
    remembered(2, {A: "passed", B: "passed"}, commit="b")
    remembered(3, {A: "passed", B: STOCK}, commit="c")
    shown = tracetriage("history", "--days", "100000").out
    lines = shown.splitlines()
    assert lines[0] == "runs"
    assert [line.split()[2] for line in lines[1:4]] == ["c" * 8, "b" * 8, "a" * 8]  # newest first
    (fixed,) = [line for line in lines if "KeyError" in line]
    (still,) = [line for line in lines if "TypeError" in line]
    assert "  fixed " in fixed
    assert "  open " in still
    assert "50.0 % now, 50.0 % to 100 % over 3 runs" in shown
    one = tracetriage("history", "--days", "100000", "--cluster", fixed.split()[0].lower()).out
    assert [line.split()[4:] for line in one.splitlines()[1:]] == [["failed", "1", "test"], ["fixed", "1", "test"]]
    assert "no cluster 'zzzzz'" in tracetriage("history", "--cluster", "zzzzz").mistake


def test_compact_and_prune(empty, remembered, tracetriage):
    for number in range(1, 5):
        remembered(number, {A: "passed"})
    assert tracetriage("history", "compact").out.startswith("packed 4 runs into 1 ")
    assert len(json.loads(tracetriage("history", "--days", "100000", "--format", "json").out)["runs"]) == 4
    assert tracetriage("history", "prune", "--days", "1").out.startswith("forgot ")


def test_a_location_that_is_none(empty, tracetriage):
    assert "git:" in tracetriage("history", "--history", "git:").mistake


def place(word, number):
    return failure(f"{word.title()}{number}Error", f"shop/{word}{number}.py:run", f"{word} number {number} broke")


def suite(shard, red):
    """The outcomes of one of four shards: 50 tests, of which those of `red` fail."""
    green = {f"tests/test_{shard}.py::test_{number}": "passed" for number in range(50)}
    return green | {nodeid: why for nodeid, why in red.items() if nodeid.startswith(f"tests/test_{shard}.py")}


def test_three_new_five_known_two_flaky_over_four_shards(empty, tracetriage):
    known = {f"tests/test_{n % 4}.py::test_{n}": place("known", n) for n in range(5)}
    flaky = {f"tests/test_{n}.py::test_4{n}": place("flaky", n) for n in range(2)}
    new = {f"tests/test_{n}.py::test_{number}": place("new", n) for n in range(3) for number in range(20, 24)}
    number = itertools.count(1)

    def group(red, folder, **more):
        for shard in range(4):
            record(empty / folder, next(number), suite(shard, red), leg=str(shard), **more)
        return empty / folder

    for ci_run in range(1, 4):
        more = {"commit": "abc"[ci_run - 1], "ci_run": str(ci_run)}
        assert tracetriage("history", "add", group(known | (flaky if ci_run == 2 else {}), f"main{ci_run}", **more)).code == 0
    again = group(known, "again", commit="b", ci_run="22")  # the same commit, and the flaky ones pass
    assert tracetriage("history", "add", again).out.startswith("added 4 runs")

    result = tracetriage("report", group(known | flaky | new, "pull", **{**PULL, "commit": "d"}))
    lines = result.out.splitlines()
    assert lines[1] == "### 19 of 200 tests fail from 10 causes (2 flaky): this PR brings 3 of them"
    assert "`shop/new" in lines[3]
    rows = [line for line in lines if line.startswith("| ")][2:]
    assert [row.split("|")[1].strip() for row in rows] == ["**new**"] * 3 + ["known"] * 5 + ["flaky"] * 2
    assert all("on `main` for 4 runs" in row for row in rows[3:8])
    assert all("fails 20 %" in row or "fails 25 %" in row for row in rows[8:])
    assert "200 tests, 4 " in result.out
    assert "pass rate 90.5 % (`main` 97.5 %)" in result.out
