"""A run that is added to a history comes back as it was, once, whatever its tests are called."""

from __future__ import annotations

import math
import tempfile
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from remembered import cluster, ids, item, open_at

from pytest_tracetriage.model.analysis import Exemplar, Suspect
from pytest_tracetriage.model.history import Condensed, RunRecord, TestRecord
from pytest_tracetriage.model.run import Totals
from pytest_tracetriage.model.trace import Failure
from pytest_tracetriage.store.history import HistoryError, tables

HOSTILE = [
    "", "'", '"; DROP TABLE tests; --', "a\0b", "a\nb\r\n", "\\N", "NULL", "$1", "é\U0001f600", "\udc80", "{}[],:", "\ufeff",
    "\x1b[31m", "../../etc/passwd", "x" * 5000,
]  # fmt: skip


def names_in(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_run_comes_back_as_it_was(tmp_path):
    run = item(
        100, ["a"], group="ci:7:1", totals=Totals(tests=1, passed=1), base="main", dirty=True, event="push", workflow="w",
        job="j", leg="{}", ci_run="7", attempt=2, repository="o/r", pull_request="5", python="3.13", platform="Linux",
        metrics={"cost": 0.25},
    ).run  # fmt: skip
    history = open_at(tmp_path / "h")
    added = history.add([Condensed(run, (TestRecord("a", "passed", 0.1),))])
    assert added.added == (run.id,)
    assert added.present == ()
    assert added.bytes == sum(path.stat().st_size for path in (tmp_path / "h").iterdir())
    assert open_at(tmp_path / "h").runs() == [run]


def test_an_empty_history_has_no_answers(tmp_path):
    history = open_at(tmp_path / "nowhere")
    assert history.runs() == history.seen() == history.pass_rate() == history.slow_tests() == history.flaky_tests() == []
    assert history.evidence({"A": ["a"]}) == []
    assert history.frequencies({"A": ["a"]})["A"].runs == 0
    assert history.baseline("main") is None
    assert history.cluster_history("A") is None
    assert history.compact().removed == history.prune(1e10).removed == 0
    assert history.add([]).added == ()
    assert history.problems == []
    assert not (tmp_path / "nowhere").exists()


def test_a_green_run_is_two_files_and_a_red_one_three(tmp_path):
    open_at(tmp_path).add([item(100, ["a"])])
    assert [name.split(".", 1)[1] for name in names_in(tmp_path)] == ["run.parquet", "tests.parquet"]
    open_at(tmp_path).add([item(200, [("a", "failed")], [(cluster("A"), ["a"], [])])])
    assert [name.split(".", 1)[1] for name in names_in(tmp_path)][2:] == ["clusters.parquet", "run.parquet", "tests.parquet"]


def test_the_file_that_makes_a_run_visible_is_written_last(tmp_path):
    order = []

    class Watched(type(open_at(tmp_path)._location)):
        def put(self, files, remove=frozenset(), message=""):
            order.extend(files)
            super().put(files, remove, message)

    history = open_at(tmp_path)
    history._location.__class__ = Watched
    history.add([item(100, [("a", "failed")], [(cluster("A"), ["a"], [])]), item(200, ["a"])])
    kinds = [name.split(".")[1] for name in order]
    assert kinds == ["tests", "clusters", "run", "tests", "run"]


def test_adding_again_changes_nothing_and_says_so(tmp_path):
    history = open_at(tmp_path)
    first = item(100, ["a"])
    history.add([first])
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    again = history.add([item(100, [("a", "failed")], [(cluster("A"), ["a"], [])]), item(200, ["b"])])
    assert again.present == (first.run.id,)
    assert len(again.added) == 1
    assert {name: (tmp_path / name).read_bytes() for name in before} == before
    assert history.seen() == []


def test_a_run_that_is_packed_is_there_too(tmp_path):
    history = open_at(tmp_path)
    history.add([item(100, ["a"]), item(200, ["a"])])
    history.compact()
    assert open_at(tmp_path).add([item(200, ["a"])]).added == ()
    assert len(ids(history)) == 2


def test_a_run_given_twice_is_added_once(tmp_path):
    history = open_at(tmp_path)
    assert len(history.add([item(100, ["a"]), item(100, ["a"])]).added) == 1
    assert history.slow_tests()[0].runs == 1


@pytest.mark.parametrize(
    "identity",
    [
        "",
        "../../x",
        "20260101T000000Z-abcdef/../x",
        "20261399T000000Z-abcdef",
        "20260101T000060Z-abcdef",
        "\uff12\uff10260101T000000Z-abcdef",
    ],
)
def test_a_run_id_that_is_none_becomes_no_file(tmp_path, identity):
    good = item(100, ["a"])
    bad = msgspec.structs.replace(good, run=msgspec.structs.replace(good.run, id=identity))
    with pytest.raises(HistoryError, match="is not a run id"):
        open_at(tmp_path).add([good, bad])
    assert names_in(tmp_path) == []


def test_hostile_names_are_only_names(tmp_path):
    history = open_at(tmp_path)
    tests = [(name, "failed") for name in HOSTILE]
    shown = cluster("A", name="'; DROP")
    history.add([item(100, tests, [(shown, HOSTILE, [])]), item(200, HOSTILE)])
    for _ in range(2):
        [seen] = history.seen()
        assert seen.tests == {tables.text(name) for name in HOSTILE}
        assert seen.cluster.name == "'; DROP"
        assert {test.nodeid for test in history.slow_tests(100)} == {tables.text(name) for name in HOSTILE}
        assert history.frequencies({shown.id: HOSTILE})[shown.id].runs == 2
        assert len(history.evidence({shown.id: HOSTILE})) == len(HOSTILE)
        history.compact()
    assert history.problems == []


@settings(max_examples=15, deadline=None)
@given(
    st.dictionaries(
        st.text(st.characters(), max_size=30),  # surrogates and NUL included
        st.tuples(st.sampled_from(tables.OUTCOMES[1:]), st.floats(0, 1e6), st.integers(0, 70_000)),
        max_size=20,
    )
)
def test_tests_come_back(tests):
    records = tuple(TestRecord(nodeid, *told) for nodeid, told in [(n, (o, d, r)) for n, (o, d, r) in tests.items()])
    expected = {}
    for nodeid, (outcome, duration, retried) in tests.items():
        expected[tables.text(nodeid)] = (outcome, duration, min(retried, 65_535))
    with tempfile.TemporaryDirectory() as folder:
        history = open_at(Path(folder))
        history.add([Condensed(item(100).run, records), item(200)])
        for _ in range(2):
            assert rows_of(history) == sorted(
                (nodeid, tables.OUTCOMES.index(outcome), retried, tables.bucket(duration))
                for nodeid, (outcome, duration, retried) in expected.items()
            )
            history.compact()
        assert history.problems == []


def rows_of(history):
    def ask(view):
        with view.open({entry.key: 0 for entry in view.entries}, ("tests",)) as (sql, _):
            return sorted(sql.execute("SELECT nodeid, outcome, retried, usual + apart FROM tests").fetchall())

    return history._reader.ask(ask)


@given(st.floats(1e-9, 1e9))
def test_a_duration_is_kept_to_five_percent(duration):
    assert tables.seconds(tables.bucket(duration)) == pytest.approx(duration, rel=0.05)


@pytest.mark.parametrize("duration", [0.0, -1.0, math.nan, math.inf, -math.inf])
def test_what_is_no_duration_is_none(duration):
    assert tables.seconds(tables.bucket(duration)) == 0.0


@given(st.integers(0, 2**33), st.integers(0, 2**24 - 1))
def test_a_run_id_is_a_number_and_back(moment, rest):
    key = (moment << 24) | rest
    assert tables.run_key(tables.run_id(key)) == key


def test_keys_sort_as_run_ids_do():
    keys = [tables.run_key(one) for one in ("20251231T235959Z-ffffff", "20260101T000000Z-000000", "20260101T000000Z-00000a")]
    assert keys == sorted(keys)


def test_what_json_cannot_hold_does_not_make_a_run_unreadable(tmp_path):
    shown = msgspec.structs.replace(
        cluster("A"),
        name="\udc80",
        suspects=(Suspect("f", "g", 1, math.nan, ""), Suspect("f", "h", 1, 0.5, "")),
        exemplar=Exemplar("a", Failure("call", ())),
    )
    run = item(100, [("a", "failed")], [(shown, ["a"], [])], branch="b\udcff", metrics={"x": math.inf, "y": 1.0})
    history = open_at(tmp_path)
    history.add([run])
    [back] = history.runs()
    assert back.metrics == {"y": 1.0}
    assert back.branch == "b\\udcff"
    [seen] = history.seen()
    assert [suspect.function for suspect in seen.cluster.suspects] == ["h"]
    assert seen.cluster.exemplar is None
    assert history.problems == []


def test_a_record_of_a_later_version_with_more_fields_is_read(tmp_path):
    class Later(RunRecord, frozen=True):
        colour: str = "green"

    given_run = item(100, ["a"]).run
    later = Later(**msgspec.structs.asdict(given_run))
    history = open_at(tmp_path)
    history.add([Condensed(later, (TestRecord("a", "passed", 0.1),))])
    assert history.runs() == [given_run]
