"""`tracetriage join`, `split` and `mute`: written for all to share, heard by the next analysis."""

from __future__ import annotations

import json
from datetime import date, timedelta

import pytest

from pytest_tracetriage.store.runs import read_aliases, read_analysis

TODAY = date.today()  # noqa: DTZ011 - a person's own day, as the command takes it


@pytest.fixture
def clusters(run_folder):
    """The clusters of the run, by the first word of their names."""
    return {cluster.name.split()[0]: cluster for cluster in read_analysis(run_folder).clusters}


@pytest.fixture
def again(tracetriage):
    """Return a function that analyses the run anew and gives its clusters by id."""

    def call():
        found = json.loads(tracetriage("analyze", "--format", "json").out)
        return {cluster["id"]: cluster for cluster in found["clusters"]}

    return call


@pytest.fixture
def aliases(shop):
    return lambda: read_aliases(shop / ".tracetriage")


def test_join(shop, tracetriage, clusters, again, aliases):
    keep, lose = clusters["ValueError"], clusters["KeyError"]
    result = tracetriage("join", keep.id[:6], lose.id[:6].lower(), "--reason", "one wrong price list")
    assert result.code == 0
    assert f"joined into {keep.id}" in result.out
    assert "commit it" in result.out
    (decision,) = aliases().joins
    assert (decision.clusters, decision.reason) == ((keep.id, lose.id), "one wrong price list")
    found = again()
    assert lose.id not in found
    assert set(found[keep.id]["tests"]) == {*keep.tests, *lose.tests}
    assert "decision" in {why["evidence"] for why in found[keep.id]["why"]}


def test_split_takes_a_join_back(shop, tracetriage, clusters, again, aliases):
    a, b = clusters["ValueError"], clusters["KeyError"]
    tracetriage("join", a.id, b.id)
    tracetriage("analyze", next((shop / ".tracetriage" / "runs").iterdir()), "--save")
    result = tracetriage("split", a.id, "--reason", "no")
    assert (result.code, result.out.partition(";")[0]) == (0, "split into 2")
    assert aliases().joins == ()
    assert {a.id, b.id} <= again().keys()


def test_join_takes_a_split_back(shop, tracetriage, clusters, again):
    """The last word of a person counts: `join` said that it joined, so it must have."""
    a, b = clusters["ValueError"], clusters["KeyError"]
    tracetriage("join", a.id, b.id)
    tracetriage("analyze", next((shop / ".tracetriage" / "runs").iterdir()), "--save")
    tracetriage("split", a.id)
    tracetriage("analyze", next((shop / ".tracetriage" / "runs").iterdir()), "--save")
    assert {a.id, b.id} <= again().keys()
    assert tracetriage("join", a.id, b.id).code == 0
    assert b.id not in again()


def test_mute_and_back(shop, tracetriage, clusters, again, aliases):
    key = clusters["KeyError"]
    tomorrow = (TODAY + timedelta(days=1)).isoformat()
    result = tracetriage("mute", key.id[:5], "--owner", "ann", "--reason", "ticket 7", "--until", tomorrow)
    assert (result.code, result.out.partition(";")[0]) == (0, f"muted {key.id}")
    assert aliases().mutes[0].until == tomorrow
    assert again()[key.id]["muted"] == {"owner": "ann", "reason": "ticket 7", "until": tomorrow}
    shown = tracetriage("analyze").out
    assert "1 muted" in shown
    assert key.id not in {
        i for bucket in json.loads(tracetriage("analyze", "--format", "json").out)["buckets"] for i in bucket["clusters"]
    }
    assert shown.index("KeyError") > shown.index("ConnectionRefusedError"), "muted ones stand last"
    assert tracetriage("mute", key.id, "--off").code == 0
    assert again()[key.id]["muted"] is None


def test_a_second_mute_replaces_the_first(shop, tracetriage, clusters, aliases):
    for reason in ("one", "two"):
        tracetriage("mute", clusters["KeyError"].id, "--reason", reason)
    assert [mute.reason for mute in aliases().mutes] == ["two"]
    assert aliases().mutes[0].owner, "whoever muted answers for it"


def test_a_mute_of_yesterday_is_over(shop, tracetriage, clusters, again):
    yesterday = (TODAY - timedelta(days=1)).isoformat()
    tracetriage("mute", clusters["KeyError"].id, "--reason", "x", "--until", yesterday)
    assert again()[clusters["KeyError"].id]["muted"] is None


def test_decisions_leave_no_temporary_files(shop, tracetriage, clusters):
    tracetriage("join", clusters["KeyError"].id, clusters["ValueError"].id)
    assert [path.name for path in (shop / ".tracetriage" / "policy").iterdir()] == ["aliases.json"]


# mistakes


def test_join_needs_two_different_clusters(shop, tracetriage, clusters):
    key = clusters["KeyError"].id
    assert "at least two different clusters" in tracetriage("join", key).mistake
    assert "at least two different clusters" in tracetriage("join", key, key[:7]).mistake
    assert "Missing argument" in tracetriage("join").mistake


def test_split_of_one_signature(shop, tracetriage, clusters):
    assert "nothing to split" in tracetriage("split", clusters["KeyError"].id).mistake


def test_mute_needs_a_reason(shop, tracetriage, clusters, aliases):
    assert "needs --reason" in tracetriage("mute", clusters["KeyError"].id).mistake
    assert aliases().mutes == ()


@pytest.mark.parametrize("day", ["tomorrow", "31.12.2026", "2026-13-01", "20261231", "2026-W01-1"])
def test_mute_until_a_day_that_is_none(shop, tracetriage, clusters, day):
    mistake = tracetriage("mute", clusters["KeyError"].id, "--reason", "x", "--until", day).mistake
    assert "expected a day as YYYY-MM-DD" in mistake
    assert day in mistake


def test_unmute_what_is_not_muted(shop, tracetriage, clusters):
    assert "is not muted" in tracetriage("mute", clusters["KeyError"].id, "--off").mistake


@pytest.mark.parametrize(
    "call", [("join", "ZZZZZ", "YYYYY"), ("split", "ZZZZZ"), ("mute", "ZZZZZ", "--reason", "x")], ids=lambda call: call[0]
)
def test_a_cluster_that_does_not_exist(shop, tracetriage, clusters, call):
    mistake = tracetriage(*call).mistake
    assert "no cluster 'ZZZZZ' in the kept runs; the latest has: " in mistake
    assert clusters["KeyError"].id[:5] in mistake


@pytest.mark.parametrize("call", [("join", "", ""), ("split", ""), ("mute", "", "--reason", "x")], ids=lambda call: call[0])
def test_a_prefix_of_several(shop, tracetriage, clusters, call):
    mistake = tracetriage(*call).mistake
    assert "is ambiguous: " in mistake
    assert clusters["KeyError"].id[:5] in mistake


@pytest.mark.parametrize(
    "call", [("join", "ABCDE", "FGHIJ"), ("split", "ABCDE"), ("mute", "ABCDE", "--reason", "x")], ids=lambda call: call[0]
)
def test_no_run_yet(empty, tracetriage, call):
    assert "run `pytest --tracetriage` first" in tracetriage(*call).mistake


def test_decisions_that_cannot_be_read_are_not_overwritten(shop, tracetriage, clusters):
    path = shop / ".tracetriage" / "policy" / "aliases.json"
    path.parent.mkdir()
    path.write_text("{", encoding="utf-8")
    for call in (
        ("join", clusters["KeyError"].id, clusters["ValueError"].id),
        ("mute", clusters["KeyError"].id, "--reason", "x"),
    ):
        assert str(path) in tracetriage(*call).mistake
    assert path.read_text(encoding="utf-8") == "{"
    result = tracetriage("analyze")
    assert result.code == 1
    assert str(path) in result.out, "an analysis goes on without, and says so"
    assert "9 failures -> 5 root causes" in result.out
