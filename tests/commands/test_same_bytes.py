"""The same traces in one source, in two, or in any order: the same bytes of buckets and clusters."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import msgspec
import pytest


def parts(result):
    """The bytes of buckets and clusters, and the totals."""
    found = msgspec.json.decode(result.out, type=dict[str, msgspec.Raw])
    return bytes(found["buckets"]), bytes(found["clusters"]), bytes(found["totals"])


@pytest.fixture
def bytes_of(tracetriage):
    return lambda *sources: parts(tracetriage("analyze", *sources, "--format", "json"))


@pytest.fixture
def dealt(run_folder, tmp_path):
    """Return a function that writes a run's records to new run folders: a list of lists of lines."""
    made = iter(range(100))

    def deal(*shards):
        folders = []
        for lines in shards:
            folder = tmp_path / f"dealt{next(made)}"
            (folder / "traces").mkdir(parents=True)
            shutil.copy(run_folder / "run.json", folder)
            (folder / "traces" / "main.jsonl").write_bytes(b"".join(lines))
            folders.append(folder)
        return folders

    return deal


@pytest.fixture
def records(run_folder):
    return (run_folder / "traces" / "main.jsonl").read_bytes().splitlines(keepends=True)


def test_own_traces_in_halves(bytes_of, dealt, records):
    whole = bytes_of(*dealt(records))
    half = len(records) // 2
    a, b = dealt(records[:half], records[half:])
    assert bytes_of(a, b) == whole
    assert bytes_of(b, a) == whole
    assert whole[1].count(b'"seen"') == 5, "five causes"


def test_own_traces_shuffled_and_dealt_at_random(bytes_of, dealt, records):
    whole = bytes_of(*dealt(records))
    for seed in range(3):
        shuffled = list(records)
        random.Random(seed).shuffle(shuffled)
        assert bytes_of(*dealt(shuffled)) == whole
        assert bytes_of(*dealt(shuffled[:7], shuffled[7:9], shuffled[9:])) == whole


def test_own_traces_in_several_files_of_one_run(bytes_of, dealt, records):
    (whole,) = dealt(records)
    (workers,) = dealt([])
    for number in range(3):
        (workers / "traces" / f"gw{number}.jsonl").write_bytes(b"".join(records[number::3]))
    assert bytes_of(workers) == bytes_of(whole)


def log_lines():
    return Path("log.jsonl").read_bytes().splitlines(keepends=True)


def test_a_reportlog_in_halves(shop, tmp_path, bytes_of):
    lines = log_lines()
    half = next(number for number, line in enumerate(lines) if b"test_equal" in line)
    (tmp_path / "a.jsonl").write_bytes(b"".join(lines[:half]))
    (tmp_path / "b.jsonl").write_bytes(b"".join(lines[half:]))
    whole = bytes_of("log.jsonl")
    assert bytes_of(tmp_path / "a.jsonl", tmp_path / "b.jsonl") == whole
    assert bytes_of(tmp_path / "b.jsonl", tmp_path / "a.jsonl") == whole


def test_a_reportlog_shuffled(shop, tmp_path, bytes_of):
    whole, lines = bytes_of("log.jsonl"), log_lines()
    for seed in range(4):
        random.Random(seed).shuffle(lines)
        (tmp_path / "mixed.jsonl").write_bytes(b"".join(lines))
        assert bytes_of(tmp_path / "mixed.jsonl") == whole


def test_a_source_given_twice_counts_once(shop, run_folder, bytes_of):
    assert bytes_of(run_folder, run_folder) == bytes_of(run_folder)
    assert bytes_of("log.jsonl", "log.jsonl") == bytes_of("log.jsonl")
