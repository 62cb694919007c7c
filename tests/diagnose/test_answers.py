"""What a process says of a cluster, and what an answer rests on, in words."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from pytest_tracetriage.diagnose.commits import Changed, Commit
from pytest_tracetriage.diagnose.culprit import Target, Told, culprit, search, seen, weights

OWN = frozenset({"S"})


@pytest.mark.parametrize(
    ("tests", "signatures", "outcomes", "shown", "expected"),
    [
        (("a",), OWN, {"a": "failed"}, {"a": ("S",)}, ("failed", ())),
        (("a",), OWN, {"a": "error"}, {"a": ("R", "S")}, ("failed", ())),
        (("a",), OWN, {"a": "failed"}, {"a": ("R",)}, ("blocked", ("R",))),
        (("a",), frozenset(), {"a": "failed"}, {"a": ("R",)}, ("failed", ())),
        (("a",), OWN, {"a": "timeout"}, {}, ("blocked", ("timeout",))),
        (("a",), OWN, {"a": "passed"}, {}, ("passed", ())),
        (("a",), OWN, {"a": "xfailed"}, {}, ("passed", ())),
        (("a",), OWN, {"a": "skipped"}, {}, ("blocked", ())),
        (("a",), OWN, {}, {}, ("blocked", ())),
        (("a", "b"), OWN, {"a": "passed", "b": "failed"}, {"b": ("S",)}, ("failed", ())),
        (("a", "b"), OWN, {"a": "passed", "b": "failed"}, {"b": ("R",)}, ("passed", ("R",))),
        (("t.py",), OWN, {"t.py": "error"}, {"t.py": ("S",)}, ("failed", ())),
        (("t.py",), OWN, {"t.py::a": "passed", "t.py::b": "failed"}, {}, ("passed", ())),
        (("t.py",), OWN, {"t.py::a": "skipped"}, {}, ("blocked", ())),
    ],
)
def test_what_one_process_says(tests, signatures, outcomes, shown, expected):
    target = Target("c", "c", "name", tests, signatures)
    assert seen(target, Told(outcomes, shown)) == expected


def commits(count, **changed):
    return [Commit(f"{number:040x}", "", ("p",), f"change {number}", changed.get(f"c{number}", ())) for number in range(count)]


def test_an_answer_says_what_it_rests_on():
    line = commits(9, c5=(Changed("shop.py", ("Cart.total",)),))
    target = Target("c", "c", "name", ("t.py::a",), OWN, frozenset({("shop.py", "total")}))
    assert weights(target, line)[4] == 20

    def observe(commit, tests):
        assert tests == ("t.py::a",)
        number = int(commit.id, 16)
        if number == 6:
            return Told(void="ModuleNotFoundError")
        return Told({"t.py::a": "failed"}, {"t.py::a": ("S",)}) if number >= 5 else Told({"t.py::a": "passed"})

    searched = search([target], line, observe, confidence=0.95)
    found = culprit(target, searched)
    assert (found.finding, found.commit, found.subject) == ("commit", line[5].id, "change 5")
    assert found.evidence[0].startswith("failed in ")
    assert "it changed Cart.total in shop.py, in the traceback" in found.evidence
    assert f"right before, at {line[4].id[:12]}" in found.evidence[1]


def test_tests_of_several_clusters_run_once():
    targets = [
        Target("one", "one", "one", ("t.py::a", "t.py::b"), OWN),
        Target("two", "two", "two", ("t.py::b", "t.py::c"), OWN),
    ]
    asked = []

    def observe(commit, tests):
        asked.append(tests)

    searched = search(targets, commits(4), observe, confidence=0.95)
    assert asked == [("t.py::a", "t.py::b", "t.py::c")]
    assert {answer.finding for answer in searched.answers.values()} == {"undecided"}


@pytest.mark.parametrize(
    ("at_the_end", "then"),
    [
        (Told({"t.py::a": "failed"}, {"t.py::a": ("S",)}), ("t.py::a",)),
        (Told({"t.py::a": "passed"}), ("t.py::a", "t.py::b")),
        (Told({}), ("t.py::a", "t.py::b")),
    ],
)
def test_one_test_stands_for_a_cluster_while_it_tells_something(at_the_end, then):
    asked = []

    def observe(commit, tests):
        asked.append(tests)
        return at_the_end if len(asked) == 1 else None

    search([Target("c", "c", "name", ("t.py::a", "t.py::b"), OWN)], commits(9), observe, confidence=0.95)
    assert asked == [("t.py::a", "t.py::b"), then]


def test_a_commit_that_changes_only_what_the_tests_did_not_run_is_unlikely():
    line = commits(
        6,
        c1=(Changed("shop.py", ("Cart.total",)),),
        c2=(Changed("shop.py", ("Cart.size",)),),
        c3=(Changed("shop.py", ("Cart.size",), beside=True),),
        c4=(Changed("test_shop.py", ("test_total",)),),
        c5=(Changed("shop.py", ("Cart.size",)), Changed("other.py", unread=True)),
    )
    target = Target("c", "c", "name", ("test_shop.py::test_total",), OWN)
    told = Target("c", "c", "name", target.tests, OWN, executed=frozenset({("shop.py", "Cart.total")}))
    assert weights(target, line) == (1, 1, 1, 6, 1)
    assert weights(told, line) == (1, 0.1, 1, 6, 1)
    below = [
        Commit(c.id, c.tree, c.parents, c.subject, tuple(replace(d, file=f"sub/{d.file}") for d in c.changed)) for c in line
    ]
    assert weights(told, below, "sub/") == (1, 0.1, 1, 6, 1)


def test_what_garbage_collection_reported_is_given_up_after_a_few_processes():
    asked = []

    def observe(commit, tests):
        asked.append(commit)
        return Told({"t.py::a": "passed"})

    target = Target("c", "c", "name", ("t.py::a",), OWN, stray=True)
    line = commits(60)
    searched = search([target], line, observe, confidence=0.95)
    assert asked == [line[-1]] * len(asked)
    assert len(asked) <= 5
    found = culprit(target, searched)
    assert found.finding == "not reproduced"
    assert found.evidence[-1].startswith("garbage collection reported it")
