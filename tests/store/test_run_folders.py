"""Runs on disk: ids, atomic writes, retention, and files that cannot be read."""

from __future__ import annotations

import os
import time

import msgspec
import pytest

from pytest_tracetriage.model.analysis import Aliases, Analysis, Join, Mute
from pytest_tracetriage.model.run import RUN_SCHEMA, Run, Totals
from pytest_tracetriage.store import runs
from pytest_tracetriage.store.runs import StoreError


def add_run(folder, second, status="finished", **more):
    identity = runs.new_run_id(second)
    run = Run(schema=RUN_SCHEMA, id=identity, status=status, started=float(second), **more)
    (folder / "runs" / identity / "traces").mkdir(parents=True)
    runs.write_run(folder / "runs" / identity, run)
    return identity


def names_in(folder):
    return sorted(path.name for path in folder.iterdir())


def test_ids_sort_by_time():
    ids = [runs.new_run_id(second) for second in (0, 1, 59, 60, 86_400, 1.7e9, 1.8e9)]
    assert ids == sorted(ids)
    assert all(runs.RUN_ID.fullmatch(identity) for identity in ids)


def test_ids_of_one_second_sort_too():
    ids = [runs.new_run_id(1.7e9 + millisecond / 1000) for millisecond in range(1000)]
    assert ids == sorted(set(ids))


def test_folders_are_listed_by_time_and_nothing_else_is(tmp_path):
    ids = [add_run(tmp_path, second) for second in (300, 100, 200)]
    (tmp_path / "runs" / "notes").mkdir()
    (tmp_path / "runs" / "20260101T000000Z-abcdef").touch()
    assert [path.name for path in runs.run_folders(tmp_path)] == sorted(ids)
    assert runs.run_folders(tmp_path / "nowhere") == []


def test_a_write_leaves_no_temporary_file(tmp_path):
    path = tmp_path / "run.json"
    for text in (b"one", b"two"):
        runs.write_atomically(path, text)
        assert path.read_bytes() == text
    assert names_in(tmp_path) == ["run.json"]


def test_a_write_that_fails_leaves_the_old_file_and_no_temporary_one(tmp_path, monkeypatch):
    path = tmp_path / "run.json"
    path.write_bytes(b"old")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(type(path), "replace", full)
    with pytest.raises(OSError, match="No space"):
        runs.write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert names_in(tmp_path) == ["run.json"]


def test_run_and_analysis_come_back_as_they_were(tmp_path):
    identity = add_run(tmp_path, 100, totals=Totals(tests=3, passed=3), args=("-q",))
    folder = tmp_path / "runs" / identity
    found = Analysis((), Totals(tests=3, passed=3), (), (), ())
    runs.write_analysis(folder, found)
    assert runs.read_run(folder).totals.tests == 3
    assert runs.read_analysis(folder) == found
    assert names_in(folder) == ["analysis.json", "run.json", "traces"]


def test_the_folder_ignores_itself_but_not_its_policy(tmp_path):
    runs.prepare_folder(tmp_path / ".tracetriage")
    lines = (tmp_path / ".tracetriage" / ".gitignore").read_text(encoding="utf-8").splitlines()
    assert "*" in lines
    assert "!policy/**" in lines


def test_a_gitignore_that_people_changed_is_left_alone(tmp_path):
    runs.prepare_folder(tmp_path)
    (tmp_path / ".gitignore").write_text("mine\n", encoding="utf-8")
    runs.prepare_folder(tmp_path)
    assert (tmp_path / ".gitignore").read_text(encoding="utf-8") == "mine\n"


@pytest.mark.parametrize(("keep", "left"), [(1, 1), (3, 3), (5, 5), (9, 5)])
def test_the_newest_are_kept(tmp_path, keep, left):
    ids = [add_run(tmp_path, second) for second in range(100, 600, 100)]
    runs.forget_runs(tmp_path, keep)
    assert [path.name for path in runs.run_folders(tmp_path)] == ids[5 - left :]


def test_the_current_run_counts_and_is_never_forgotten(tmp_path):
    ids = [add_run(tmp_path, second) for second in range(100, 600, 100)]
    runs.forget_runs(tmp_path, 2, current=ids[0])
    assert [path.name for path in runs.run_folders(tmp_path)] == [ids[0], ids[-1]]


def test_a_run_that_is_still_written_is_left(tmp_path):
    alive = add_run(tmp_path, time.time() - 60, "running", pid=os.getpid(), host=runs.host())
    dead = add_run(tmp_path, 100, "running", pid=2**22 + 1, host=runs.host())
    newest = add_run(tmp_path, time.time() + 60)
    runs.forget_runs(tmp_path, 1)
    left = [path.name for path in runs.run_folders(tmp_path)]
    assert alive in left
    assert newest in left
    assert dead not in left


def test_a_run_whose_files_are_broken_is_forgotten_like_any_other(tmp_path):
    old = add_run(tmp_path, 100)
    (tmp_path / "runs" / old / "run.json").write_bytes(b"{")
    newest = add_run(tmp_path, 200)
    runs.forget_runs(tmp_path, 1)
    assert [path.name for path in runs.run_folders(tmp_path)] == [newest]


@pytest.mark.parametrize(
    "raw",
    [b"", b"{", b"[]", b"\xff\xfe\x00", b'{"schema": 3}', b"[" * 100_000],
    ids=["empty", "cut", "list", "binary", "type", "deep"],
)
@pytest.mark.parametrize(("name", "read"), [("run.json", runs.read_run), ("analysis.json", runs.read_analysis)])
def test_a_corrupt_file_is_one_clear_error(tmp_path, name, read, raw):
    (tmp_path / name).write_bytes(raw)
    with pytest.raises(StoreError) as error:
        read(tmp_path)
    assert str(error.value).startswith(f"{tmp_path / name}: ")
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < len(str(tmp_path)) + 200


@pytest.mark.parametrize("read", [runs.read_run, runs.read_analysis])
def test_a_missing_file_is_one_clear_error(tmp_path, read):
    with pytest.raises(StoreError, match=r"\.json: No such file or directory"):
        read(tmp_path)


def test_a_run_of_a_newer_version_is_refused_by_name(tmp_path):
    run = Run(schema="tracetriage.run/2", id="x", status="finished", started=0.0)
    runs.write_run(tmp_path, run)
    with pytest.raises(StoreError, match=r"run\.json: schema 'tracetriage\.run/2' is not 'tracetriage\.run/1'"):
        runs.read_run(tmp_path)


def test_an_analysis_of_a_newer_version_is_refused_by_name(tmp_path):
    newer = Analysis((), Totals(), (), (), (), schema="tracetriage.analysis/2")
    runs.write_analysis(tmp_path, newer)
    with pytest.raises(StoreError, match=r"tracetriage\.analysis/2"):
        runs.read_analysis(tmp_path)


# what people decided


def test_nobody_has_decided_anything(tmp_path):
    assert runs.read_aliases(tmp_path) == Aliases()


def test_decisions_come_back_as_they_were(tmp_path):
    decided = Aliases(
        joins=(Join(("A" * 26, "B" * 26), "ann", "one redis"),), mutes=(Mute("A" * 26, "ann", "später", "2026-12-31"),)
    )
    path = runs.write_aliases(tmp_path, decided)
    assert runs.read_aliases(tmp_path) == decided
    assert names_in(path.parent) == ["aliases.json"]
    assert len(path.read_text(encoding="utf-8").splitlines()) > 10, "people review it"


@pytest.mark.parametrize("raw", [b"", b"{", b'{"joins": [3]}', b"\xff\xfe", b'{"schema": "tracetriage.aliases/9"}'])
def test_decisions_that_cannot_be_read_are_one_clear_error(tmp_path, raw):
    path = tmp_path / "policy" / "aliases.json"
    path.parent.mkdir()
    path.write_bytes(raw)
    with pytest.raises(StoreError) as error:
        runs.read_aliases(tmp_path)
    assert str(error.value).startswith(f"{path}: ")
    assert "\n" not in str(error.value)


def test_unknown_fields_of_newer_versions_are_ignored(tmp_path):
    identity = add_run(tmp_path, 100)
    path = tmp_path / "runs" / identity / "run.json"
    path.write_bytes(msgspec.json.encode({**msgspec.json.decode(path.read_bytes()), "colour": "green"}))
    assert runs.read_run(path.parent).id == identity
