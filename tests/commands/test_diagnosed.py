"""What a diagnosis found, put beside a review: matched by tests, the gravest status, and nothing of what cannot be read."""

from __future__ import annotations

import json
import zipfile

import pytest
from click.testing import CliRunner
from commands.recorded import PRICE, STOCK, record

from pytest_tracetriage.collect.artifact import MAX_FOUND, accept
from pytest_tracetriage.commands.diagnosed import found_in
from pytest_tracetriage.commands.report import command

A, B, C, D = (f"tests/test_{name}.py::test_{name}" for name in "abcd")
SHA = "a" * 40
pytestmark = pytest.mark.usefixtures("project")


@pytest.fixture
def project(tmp_path, monkeypatch):
    """Return the folder of a project that is in no repository."""
    (tmp_path / "pyproject.toml").write_text("[project]\nname = 'x'\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def diagnosis(run, *clusters, pytest_runs=3, **more):
    """Write what `tracetriage diagnose` would have left in a run's folder."""
    told = [{"seen": "new", **cluster} for cluster in clusters]
    value = {"clusters": told, "reruns": {"pytest_runs": pytest_runs}, **more}
    (run / "analysis.json").write_text(json.dumps(value), encoding="utf-8")


def suspect(function, file="shop/price.py", line=3):
    return {"file": file, "function": function, "line": line, "score": 0.9, "evidence": f"all run {function}"}


def culprit(*tests, **more):
    return {
        "cluster": "X",
        "name": "",
        "tests": tests,
        "finding": "commit",
        "commit": SHA,
        "confidence": 0.97,
        "evidence": [],
        "rate": 1.0,
        **more,
    }


def search(run, *culprits):
    """Write what `tracetriage culprit` would have left."""
    (run / "culprit.json").write_text(json.dumps({"culprits": culprits}), encoding="utf-8")


def report(*sources, style="github"):
    done = CliRunner().invoke(command, [*map(str, sources), "--format", style], standalone_mode=False)
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done.stdout


def row(text, name):
    return next(line for line in text.splitlines() if line.startswith("|") and name in line)


def red(tmp_path, number=1, **more):
    return record(tmp_path / "runs", number, {A: PRICE, B: PRICE, C: PRICE, D: "passed"}, **more)


def test_status_suspect_and_commit_are_those_of_the_clusters_that_share_tests(tmp_path):
    run = red(tmp_path)
    diagnosis(run, {"tests": [A, B, C], "status": "real", "status_evidence": "fails 4 of 4", "suspects": [suspect("Price.of")]})
    search(run, culprit(A))
    text = report(run)
    assert "real, since `aaaaaaa` (97 %)" in row(text, "KeyError")
    assert "shop/price.py:3" in row(text, "KeyError")
    assert "`Price.of`: all run Price.of" in text
    assert "::error file=shop/price.py,line=3," in report(run, style="github-annotations")


def test_a_dependency_that_drifted_is_no_file_to_look_at(tmp_path):
    run = red(tmp_path)
    drifted = suspect("2.0 -> 2.1", "requests", 0) | {"kind": "dependency"}
    told = {
        "tests": [A, B, C],
        "status": "real",
        "status_evidence": "fails 4 of 4",
        "suspects": [drifted, suspect("of", line=9)],
    }
    diagnosis(run, told)
    text = report(run)
    assert "real, drift: `requests 2.0 -> 2.1`" in row(text, "KeyError")
    assert "shop/price.py:9" in row(text, "KeyError")
    assert "Suspect `requests` `2.0 -> 2.1`: all run" in text
    assert "::error file=shop/price.py,line=9," in report(run, style="github-annotations")


def test_a_flaky_test_hides_no_real_failure_beside_it(tmp_path):
    run = red(tmp_path)
    flaky = {
        "tests": [A, B],
        "status": "flaky",
        "status_evidence": "fails 1 of 3 alone",
        "suspects": [suspect("one"), suspect("two")],
    }
    real = {"tests": [C], "status": "real", "status_evidence": "fails 3 of 3 alone", "suspects": [suspect("three")]}
    diagnosis(run, flaky, real)
    text = report(run)
    assert "| real, " in row(text, "KeyError")
    assert "fails 3 of 3 alone; 2 tests flaky: fails 1 of 3 alone" in text
    assert text.index("`one`") < text.index("`three`") < text.index("`two`"), "of each part the first"


def test_what_one_leg_found_out_holds_where_the_other_did_not_ask(tmp_path):
    legs = [red(tmp_path, number, leg=json.dumps({"python": str(number)})) for number in (1, 2)]
    told = {"tests": [A, B, C], "status": "order-dependent", "status_evidence": "passes alone", "suspects": []}
    diagnosis(legs[1], told)
    assert "order-dependent" in row(report(*legs), "KeyError")


def test_a_search_that_took_it_for_steady_names_no_commit_for_what_is_flaky(tmp_path):
    run = red(tmp_path)
    diagnosis(run, {"tests": [A, B, C], "status": "flaky", "status_evidence": "fails 1 of 3 alone", "suspects": []})
    search(run, culprit(A))
    assert row(report(run), "KeyError").startswith("| flaky |")
    assert "since" not in row(report(run), "KeyError")
    search(run, culprit(A, rate=0.4))
    assert "since `aaaaaaa`" in row(report(run), "KeyError")


@pytest.mark.parametrize(
    ("found", "words"),
    [
        ({"finding": "commits", "commit": "", "candidates": [SHA, "b" * 40]}, "since one of 2 commits (97 %)"),
        ({"finding": "older", "commit": ""}, "older than the commits that were searched"),
        ({"finding": "undecided", "commit": "", "candidates": [SHA]}, ""),
        ({"finding": "not reproduced", "commit": ""}, ""),
        (
            {
                "finding": "nothing committed",
                "commit": "",
                "drift": [{"kind": "package", "name": "dep", "before": "1.0", "after": "2.0", "score": 1, "evidence": "x"}],
            },
            "nothing committed since it passed, but `dep 1.0 -> 2.0`",
        ),
    ],
)
def test_how_a_search_ended(tmp_path, found, words):
    run = red(tmp_path)
    plain = row(report(run), "KeyError")
    search(run, culprit(A, **found))
    told = row(report(run), "KeyError")
    assert (told == plain) == (not words)
    assert words in told


@pytest.mark.parametrize(
    "written",
    [
        b"\0\xff",
        b"[" * 100_000,
        b'{"clusters": 3, "reruns": {"pytest_runs": 1}}',
        b'{"clusters": [{"tests": [1], "seen": "new"}], "reruns": {"pytest_runs": 1}}',
        b'{"clusters": [{"tests": [], "seen": "new", "status": "fine"}], "reruns": {"pytest_runs": 1}}',
        b'{"culprits": [{"cluster": "", "tests": []}]}',
        b'{"culprits": [{"finding": "everybody"}]}',
    ],
)
@pytest.mark.parametrize("name", ["analysis.json", "culprit.json"])
def test_what_is_no_diagnosis_is_told_and_changes_nothing(tmp_path, written, name):
    run = red(tmp_path)
    plain = report(run)
    (run / name).write_bytes(written)
    found = found_in([run])
    assert not found
    assert len(found.problems) <= 1
    assert report(run) == plain


@pytest.mark.parametrize(
    "more", [{"commit": "--upload-pack=x"}, {"commit": "A" * 40}, {"confidence": 3.0}, {"candidates": ["x"]}]
)
def test_a_commit_that_cannot_be_one_is_left_out(tmp_path, more):
    run = red(tmp_path)
    search(run, culprit(A, **more), culprit(B))
    assert [one.tests for one in found_in([run]).culprits] == [(B,)]


def test_an_analysis_without_reruns_and_coverage_is_no_diagnosis(tmp_path):
    run = red(tmp_path)
    diagnosis(run, {"tests": [A], "status": "flaky", "suspects": [suspect("x")]}, pytest_runs=0)
    assert not found_in([run])


def test_more_than_is_read_is_left_where_it_is(tmp_path):
    run = red(tmp_path)
    large = run / "analysis.json"
    with large.open("wb") as file:
        file.truncate(MAX_FOUND + 1)
    assert "more than is read" in found_in([run]).problems[0]
    with zipfile.ZipFile(tmp_path / "runs.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for path in (run / "run.json", run / "traces" / "main.jsonl", large):
            archive.write(path, path.relative_to(run.parent))
        archive.writestr(f"{run.name}/culprit.json", json.dumps({"culprits": [culprit(A)]}))
    (tmp_path / "unpacked").mkdir()
    (folder,) = accept(tmp_path / "runs.zip", tmp_path / "unpacked").runs
    assert sorted(path.name for path in folder.iterdir()) == ["culprit.json", "run.json", "traces"]


def test_another_cause_is_not_touched(tmp_path):
    run = record(tmp_path / "runs", 1, {A: PRICE, B: STOCK})
    before = row(report(run), "TypeError")
    diagnosis(run, {"tests": [A], "status": "real", "status_evidence": "fails", "suspects": [suspect("x")]})
    assert row(report(run), "TypeError") == before
    assert "real" in row(report(run), "KeyError")
