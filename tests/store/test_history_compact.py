"""Packs: the same answers from fewer bytes, whatever overlaps, and old runs forgotten."""

from __future__ import annotations

import shutil

import pytest
from remembered import cluster, everything, ids, item, open_at

from pytest_tracetriage.store.history import compact


def some_runs(count=6, begin=100):
    """Return runs that give every question something to answer."""
    runs = []
    for number in range(count):
        shown = [(cluster("A"), ["a"], [])] if number % 3 == 0 else [(cluster("B"), [], ["b"])]
        tests = [("a", "failed" if number % 3 == 0 else "passed", 0), ("b", "passed", number % 2), "c"]
        runs.append(item(begin + 100 * number, tests, shown, group=f"g{begin}-{number // 2}"))
    return runs


def stems(folder):
    return sorted({path.name.split(".")[0] for path in folder.iterdir()})


def copy(source, target, stem):
    target.mkdir(exist_ok=True)
    for path in source.glob(f"{stem}.*"):
        shutil.copy(path, target / path.name)


def test_a_pack_answers_as_its_pieces_did(tmp_path):
    history = open_at(tmp_path)
    history.add(some_runs())
    before = everything(history)
    done = history.compact()
    assert (done.runs, done.packs, done.removed) == (6, 1, 18)
    [stem] = stems(tmp_path)
    assert stem.startswith(f"pack-{ids(history)[0]}-{ids(history)[-1]}-")
    assert done.bytes == sum(path.stat().st_size for path in tmp_path.iterdir())
    assert everything(history) == everything(open_at(tmp_path)) == before
    assert history.problems == []


def test_compacting_again_changes_nothing(tmp_path):
    history = open_at(tmp_path)
    history.add(some_runs(1))
    assert history.compact().packs == 0, "one piece is as good as a pack of it"
    history.add(some_runs(3, 5000))
    history.compact()
    before = stems(tmp_path)
    assert history.compact().packs == 0
    assert stems(tmp_path) == before


def test_packs_are_sorted_so_that_a_node_id_is_found_fast(tmp_path):
    import duckdb

    history = open_at(tmp_path)
    history.add(some_runs())
    history.compact()
    [path] = tmp_path.glob("*.tests.parquet")
    rows = duckdb.sql("SELECT nodeid, run FROM read_parquet($path)", params={"path": str(path)}).fetchall()
    assert rows == sorted(rows)
    assert len(rows) == 18


@pytest.mark.parametrize("which", ["loose left over", "same pack twice", "packs that share runs", "pack within a pack"])
def test_what_overlaps_counts_once(tmp_path, which):
    runs = some_runs()
    alone = open_at(tmp_path / "alone")
    alone.add(runs)
    expected = everything(alone)

    both, other = tmp_path / "both", tmp_path / "other"
    parts = {
        "loose left over": (runs, runs[:3]),
        "same pack twice": (runs, runs),
        "packs that share runs": (runs[:4], runs[2:]),
        "pack within a pack": (runs, runs[1:3]),
    }[which]
    open_at(both).add(parts[0])
    open_at(both).compact()
    open_at(other).add(parts[1])
    if which != "loose left over":
        open_at(other).compact()
    copy(other, both, "*")
    history = open_at(both)
    assert everything(history) == expected
    assert history.add(runs).added == ()
    history.compact()
    assert len(stems(both)) == 1, "a compaction clears it up"
    assert everything(history) == everything(open_at(both)) == expected
    assert history.problems == []


def test_a_pack_is_full_at_some_size(tmp_path, monkeypatch):
    monkeypatch.setattr(compact, "PACK_RUNS", 4)
    history = open_at(tmp_path)
    history.add(some_runs(10))
    before = everything(history)
    assert history.compact().packs == 3
    assert everything(history) == before
    full = stems(tmp_path)[:2]
    history.add(some_runs(3, 5000))
    history.compact()
    assert set(full) <= set(stems(tmp_path)), "full packs are left alone"
    assert len(stems(tmp_path)) == 4
    monkeypatch.setattr(compact, "PACK_TESTS", 7)
    history.add(some_runs(3, 9000))
    history.compact()
    assert len(ids(history)) == 16


def test_small_packs_grow_together(tmp_path):
    history = open_at(tmp_path)
    for number in range(8):
        history.add(some_runs(2, 1000 * (number + 1)))
        history.compact()
    assert len(stems(tmp_path)) <= 4
    assert len(ids(history)) == 16


def test_an_add_packs_when_too_much_lies_loose(tmp_path, monkeypatch):
    monkeypatch.setattr(compact, "LOOSE", 5)
    history = open_at(tmp_path)
    for run in some_runs(5):
        history.add([run])
    assert len(stems(tmp_path)) == 5
    assert len(history.add(some_runs(1, 5000)).added) == 1
    assert len(stems(tmp_path)) == 1
    assert len(ids(history)) == 6


def test_runs_are_added_though_packing_fails(tmp_path, monkeypatch):
    from pytest_tracetriage.store.history import HistoryError

    monkeypatch.setattr(compact, "LOOSE", 1)
    history = open_at(tmp_path)
    put = history._location.put

    def only_additions(files, remove=frozenset(), message=""):
        if any(name.startswith("pack-") for name in files):
            raise HistoryError("no space left")
        put(files, remove, message)

    history._location.put = only_additions
    assert len(history.add(some_runs(2)).added) == 2
    assert history.problems == ["the runs were added, but not packed: no space left"]


# prune


@pytest.mark.parametrize("packed", [False, True])
def test_old_runs_are_forgotten(tmp_path, packed):
    runs = some_runs()
    history = open_at(tmp_path / "h")
    history.add(runs)
    if packed:
        history.compact()
    done = history.prune(before=300.0)
    assert done.runs == tuple(run.run.id for run in runs[:2])
    assert ids(history) == ids(open_at(tmp_path / "h")) == [run.run.id for run in runs[2:]]
    kept = open_at(tmp_path / "kept")
    kept.add(runs[2:])
    assert everything(history) == everything(kept)
    assert history.prune(before=300.0).removed == 0
    history.prune(before=1e9)
    assert list((tmp_path / "h").iterdir()) == []


def test_a_run_is_forgotten_wherever_it_stands(tmp_path):
    runs = some_runs()
    other = open_at(tmp_path / "other")
    other.add(runs[:4])
    history = open_at(tmp_path / "h")
    history.add(runs[1:])
    history.compact()
    copy(tmp_path / "other", tmp_path / "h", "*")
    history.prune(before=300.0)
    assert ids(history) == [run.run.id for run in runs[2:]]
    assert history.slow_tests()[0].runs == 4


def test_what_dead_writers_left_goes_with_its_time(tmp_path):
    history = open_at(tmp_path)
    history.add(some_runs(2))
    half = ("tests", "clusters")
    old, new = "19700101T000001Z-000000", "20380101T000000Z-000000"
    for identity in (old, new):
        for kind in half:
            (tmp_path / f"{identity}.{kind}.parquet").write_bytes(b"half")
        (tmp_path / f"{identity}.run.parquet.77.ab.tmp").write_bytes(b"half")
        (tmp_path / f"pack-{old}-{identity}-0123456789abcdef.tests.parquet").write_bytes(b"half")
    (tmp_path / "notes.txt").touch()
    assert len(ids(history)) == 2
    history.compact()
    assert (tmp_path / f"{old}.tests.parquet").exists(), "someone may be writing it"
    history.prune(before=50.0)
    left = {path.name for path in tmp_path.iterdir() if not path.name.startswith(f"pack-{ids(history)[0]}")}
    assert left == {
        "notes.txt", f"{new}.tests.parquet", f"{new}.clusters.parquet", f"{new}.run.parquet.77.ab.tmp",
        f"pack-{old}-{new}-0123456789abcdef.tests.parquet",
    }  # fmt: skip
    assert history.problems == []
