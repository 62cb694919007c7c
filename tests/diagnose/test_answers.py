"""What a process says of a cluster, and what an answer rests on, in words."""

from __future__ import annotations

import pytest

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
