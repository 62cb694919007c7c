"""What happens to a history: files that cannot be read, writers that are killed, several at once."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from remembered import everything, ids, in_short, open_at
from test_history_compact import some_runs, stems

from pytest_tracetriage.store.history import HistoryError
from pytest_tracetriage.store.history.history import open_history
from pytest_tracetriage.store.history.locations import FolderLocation
from pytest_tracetriage.store.history.pieces import pieces_of
from pytest_tracetriage.store.history.reading import session

HERE = Path(__file__).parent
KINDS = ("tests", "clusters", "run")
BROKEN = {
    "empty": lambda data: b"",
    "cut": lambda data: data[: len(data) * 2 // 3],
    "no end": lambda data: data[:-1],
    "text": lambda data: b"id,name\n1,2\n" * 50,
    "only the mark": lambda data: b"PAR1" + b"\xff" * 100 + b"PAR1",
    "zeros": lambda data: b"\0" * len(data),
}


def write_table(path, query):
    import duckdb

    duckdb.sql(query).write_parquet(str(path))


def forge_run(path, schema="tracetriage.history/1", record="{}", more=""):
    run = f"{200 << 24}::BIGINT AS run, '{schema}' AS schema, 1::BIGINT AS tests, 0::BIGINT AS clusters"
    write_table(path, f"SELECT {run}, {record}::VARCHAR AS record{more}")


# files that cannot be read


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("how", BROKEN)
def test_a_broken_piece_is_left_out_and_named(tmp_path, how, kind):
    runs = some_runs(4)
    open_at(tmp_path / "h").add(runs)
    open_at(tmp_path / "rest").add([runs[0], *runs[2:]])
    name = f"{runs[1].run.id}.{kind}.parquet"
    path = tmp_path / "h" / name
    path.write_bytes(BROKEN[how](path.read_bytes()))
    history = open_at(tmp_path / "h")
    history.slow_tests()
    history.seen()
    assert in_short(history) == in_short(open_at(tmp_path / "rest"))
    [problem] = history.problems
    assert name in problem
    assert problem.endswith("it is left out")
    assert "\n" not in problem
    assert len(problem) < len(str(tmp_path)) + 400


@pytest.mark.parametrize("kind", KINDS)
def test_a_broken_piece_stays_where_it_is_when_others_are_packed(tmp_path, kind):
    runs = some_runs(4)
    history = open_at(tmp_path)
    history.add(runs)
    path = tmp_path / f"{runs[1].run.id}.{kind}.parquet"
    path.write_bytes(b"")
    history.compact()
    assert len(history.problems) == 1
    assert len(stems(tmp_path)) == 2
    assert len(ids(open_at(tmp_path), since=0.0)) in (3, 4)
    history.prune(before=1000.0)
    assert stems(tmp_path) == []


def test_where_a_pack_is_broken_the_pieces_left_over_count(tmp_path):
    runs = some_runs(4)
    history = open_at(tmp_path / "h")
    history.add(runs)
    shutil.copytree(tmp_path / "h", tmp_path / "loose")
    history.compact()
    for path in (tmp_path / "loose").iterdir():
        shutil.copy(path, tmp_path / "h" / path.name)
    next((tmp_path / "h").glob("pack-*.tests.parquet")).write_bytes(b"PAR1")
    found = open_at(tmp_path / "h")
    assert found.slow_tests() == open_at(tmp_path / "loose").slow_tests()
    assert len(found.problems) == 1


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_with_other_columns_is_left_out(tmp_path, kind):
    runs = some_runs(3)
    open_at(tmp_path).add(runs)
    for number, query in enumerate(("SELECT 1 AS colour", "SELECT 'x' AS nodeid, 'y' AS run, 'z' AS outcome")):
        write_table(tmp_path / f"{runs[number].run.id}.{kind}.parquet", query)
    history = open_at(tmp_path)
    history.seen()
    assert [test.runs for test in history.slow_tests()] == [1, 1, 1]
    assert len(history.problems) == 2
    assert all("columns" in problem for problem in history.problems)


@pytest.mark.parametrize("more", ["", ", 5 AS weather"])
def test_a_run_of_a_newer_version_is_named_as_such(tmp_path, more):
    runs = some_runs(2)
    open_at(tmp_path).add(runs)
    forge_run(tmp_path / f"{runs[1].run.id}.run.parquet", "tracetriage.history/2", "'{}'", more)
    history = open_at(tmp_path)
    assert ids(history) == [runs[0].run.id]
    [problem] = history.problems
    assert "schema 'tracetriage.history/2' is not 'tracetriage.history/1'" in problem
    assert "newer pytest-tracetriage" in problem


OTHER = '{"id": "20200101T000000Z-000000", "group": "", "started": 1, "finished": 1, "totals": {}}'


@pytest.mark.parametrize("record", ["'{'", "NULL", "'[]'", f"'{OTHER}'"])
def test_a_forged_record_is_left_out(tmp_path, record):
    runs = some_runs(2)
    open_at(tmp_path).add(runs)
    forge_run(tmp_path / f"{runs[1].run.id}.run.parquet", record=record)
    history = open_at(tmp_path)
    assert ids(history) == [runs[0].run.id]
    assert len(history.problems) == 1


def test_a_cluster_that_cannot_be_read_is_left_out(tmp_path):
    runs = some_runs(2)
    open_at(tmp_path).add(runs)
    query = f"""
        SELECT '{"A" * 26}' AS id, {200 << 24}::BIGINT AS run, 'new' AS seen, 'n' AS name, ['a'] AS tests, ['a'] AS retried,
        ['s'] AS signatures, '[]' AS cluster
    """
    write_table(tmp_path / f"{runs[1].run.id}.clusters.parquet", query)
    history = open_at(tmp_path)
    assert [seen.last_run for seen in history.seen()] == [runs[0].run.id]
    assert len(history.problems) == 1


@pytest.mark.parametrize("kind", ["tests", "clusters"])
def test_a_file_that_is_missing_is_named(tmp_path, kind):
    runs = some_runs(2)
    open_at(tmp_path).add(runs)
    (tmp_path / f"{runs[1].run.id}.{kind}.parquet").unlink()
    history = open_at(tmp_path)
    history.slow_tests()
    history.seen()
    assert ids(history) == [runs[0].run.id]
    assert f"{runs[1].run.id}.{kind}.parquet: this file of the piece is missing" in history.problems[0]


@settings(max_examples=12, deadline=None)
@given(
    st.sampled_from(KINDS), st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(1, 255)), min_size=1, max_size=4)
)
@example("tests", [(0.25, 1)])  # inside what zstd packed
def test_bits_that_turned_are_no_crash(kind, flips):
    with tempfile.TemporaryDirectory() as folder:
        runs = some_runs(2)
        open_at(Path(folder)).add(runs)
        path = Path(folder, f"{runs[1].run.id}.{kind}.parquet")
        data = bytearray(path.read_bytes())
        for where, bits in flips:
            data[int(where * len(data))] ^= bits
        path.write_bytes(data)
        history = open_at(Path(folder))
        in_short(history)
        assert runs[0].run.id in ids(history)


def test_a_place_that_cannot_be_read_or_written_is_one_line(tmp_path):
    (tmp_path / "file").touch()
    history = open_at(tmp_path / "file")
    for ask in (history.runs, lambda: history.add(some_runs(1))):
        with pytest.raises(HistoryError, match=r"the history at .*file cannot be read: Not a directory"):
            ask()


# shut in


@pytest.mark.parametrize(
    "query",
    [
        "SELECT * FROM read_text('/etc/hostname')",
        "SELECT * FROM read_csv('https://127.0.0.1:9/x.csv')",
        "SELECT * FROM 'https://127.0.0.1:9/x.parquet'",
        "INSTALL httpfs",
        "LOAD httpfs",
        "COPY (SELECT 1) TO '/tmp/out-of-its-folder.csv'",
        "ATTACH '/tmp/out-of-its-folder.db'",
        "SET enable_external_access = true",
        "SET autoinstall_known_extensions = true",
        "SET lock_configuration = false",
    ],
)
def test_the_database_reaches_nothing_but_its_folder(tmp_path, query):
    import duckdb

    with session([str(tmp_path / "x.parquet")]) as (sql, _), pytest.raises(duckdb.Error):
        sql.execute(query)


def test_a_folder_whose_name_looks_like_a_pattern_or_sql(tmp_path):
    folder = tmp_path / "it's [a-z]*?{x}; DROP" / "year=2026"
    history = open_at(folder)
    history.add(some_runs())
    plain = open_at(tmp_path / "plain")
    plain.add(some_runs())
    for _ in range(2):
        assert everything(history) == everything(plain)
        history.compact()
    assert history.problems == []


# several at once


class Disturbed(FolderLocation):
    """Packs everything behind the reader's back, once, when it fetches."""

    def __init__(self, path, late):
        super().__init__(path)
        self.late = late
        self.left = 2

    def fetch(self, names):
        paths = super().fetch(names) if self.late else {}
        if self.left and names:
            self.left -= 1
            open_at(self.path).add(some_runs(2, 10_000 * (self.left + 1)))
            open_at(self.path).compact()
        return paths if self.late else super().fetch(names)


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("warm", [False, True])
def test_files_that_vanish_while_they_are_read_are_looked_for_again(tmp_path, late, warm):
    open_at(tmp_path).add(some_runs())
    location = Disturbed(tmp_path, late)
    history = open_history(location)
    if warm:
        history.runs()
    assert history.slow_tests()[0].runs >= 6
    assert len(ids(history)) == 10
    assert history.slow_tests()[0].runs == 10
    assert history.problems == []


ADDER = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from remembered import open_at
from test_history_compact import some_runs
from pytest_tracetriage.store.history import compact
compact.LOOSE = 4
history = open_at(Path(sys.argv[2]))
print("ready", flush=True)
sys.stdin.readline()
for run in some_runs(12, int(sys.argv[3])):
    assert history.add([run]).added == (run.run.id,)
    assert run.run.id in {one.id for one in history.runs(limit=1000)}
history.compact()
assert not history.problems, history.problems
"""


def test_processes_that_add_and_pack_at_once_lose_nothing(tmp_path):
    begins = (1000, 50_000)
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", ADDER, str(HERE), str(tmp_path), str(begin)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for begin in begins
    ]  # fmt: skip
    for process in processes:
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in processes:
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors
    runs = [run for begin in begins for run in some_runs(12, begin)]
    history = open_at(tmp_path)
    assert ids(history) == [run.run.id for run in runs]
    (tmp_path / "alone").mkdir()
    alone = open_at(tmp_path / "alone")
    alone.add(runs)
    assert everything(history) == everything(alone)
    assert history.problems == []


# writers that are killed

KILLED = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from remembered import open_at
from test_history_compact import some_runs
left = int(sys.argv[4])
def dying(function):
    def wrapper(self, *args, **kwargs):
        global left
        if self.parent == Path(sys.argv[2]) or (args and Path(args[0]).parent == Path(sys.argv[2])):
            if not left:
                os.kill(os.getpid(), signal.SIGKILL)
            left -= 1
        return function(self, *args, **kwargs)
    return wrapper
history = open_at(Path(sys.argv[2]))
history.runs()
for name in ("replace", "write_bytes", "unlink"):
    setattr(Path, name, dying(getattr(Path, name)))
if sys.argv[3] == "add":
    history.add(some_runs(2, 9000))
elif sys.argv[3] == "compact":
    history.compact()
else:
    history.prune(250.0)
"""


def killed_after(steps, folder, what):
    """Run something in a process that is killed before its file operation number `steps`. Return whether it was."""
    command = [sys.executable, "-c", KILLED, str(HERE), str(folder), what, str(steps)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode in (0, -signal.SIGKILL), done.stderr
    return done.returncode != 0


@pytest.mark.linux
@pytest.mark.parametrize("what", ["add", "compact", "prune", "prune a pack"])
def test_a_writer_that_is_killed_leaves_nothing_half(tmp_path, what):
    first, runs = tmp_path / "first", some_runs(4)
    open_at(first).add(runs)
    if what == "prune a pack":
        open_at(first).compact()
    steps, dead = 0, True
    while dead:
        folder = tmp_path / f"after-{steps}"
        shutil.copytree(first, folder)
        dead = killed_after(steps, folder, what.split()[0])
        history = open_at(folder)
        found = ids(history)
        there = [run for run in (*runs, *some_runs(2, 9000)) if run.run.id in found]
        alone = open_at(tmp_path / f"alone-{steps}")
        alone.add(there)
        assert in_short(history) == in_short(alone), "every run is there wholly, and once, or not at all"
        if what in {"add", "compact"}:
            assert found[:4] == [run.run.id for run in runs], "and what was there before still is"
        else:
            assert found[-2:] == [run.run.id for run in runs[2:]]
        history.add(some_runs(2, 9000))
        history.compact()
        history.prune(250.0)
        assert len(ids(history)) == 4, "and whoever comes next finishes it"
        assert len(pieces_of(path.name for path in folder.iterdir())) <= 2
        assert history.problems == []
        steps += 2  # a file is written under a passing name, then renamed
    assert steps > 3
    assert os.listdir(first)
