"""Annotations stand on exact lines of the repository, and no text of a test becomes a command of the job."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from reviews import PAGES, cause, review, target

from pytest_tracetriage.model.analysis import Exemplar, Muted, Suspect
from pytest_tracetriage.model.trace import Error, Failure, Frame
from pytest_tracetriage.report.github.annotations import Annotation, annotations, batches, workflow_commands

NEW = cause("KeyError in Cart.total: 'sku'", "shop/cart.py:88 Cart.total return x", 7)
KNOWN = cause("ValueError in pay: 3", "shop/pay.py:12 pay return x", 4, "known", runs=6)
FLAKY = cause("TimeoutError in search", "shop/search.py:9 search return x", 1, "known", status="flaky")


def test_causes_stand_before_tests_and_new_ones_before_known():
    found = annotations(target())
    assert [(each.path, each.line, each.level) for each in found] == [
        ("shop/cart.py", 88, "failure"),
        ("shop/vat.py", 23, "failure"),
        ("shop/cache.py", 41, "failure"),
        ("shop/price.py", 31, "warning"),
        ("shop/export.py", 120, "warning"),
        ("shop/search.py", 64, "warning"),
        ("shop/clock.py", 9, "warning"),
        ("shop/mail.py", 52, "warning"),
        ("shop/pay.py", 12, "notice"),
        ("shop/clock.py", 30, "notice"),
        ("tests/test_cart.py", 12, "failure"),
        ("tests/test_price.py", 12, "warning"),
    ]


def test_what_an_annotation_says():
    cluster, test = annotations(review(replace(NEW, codeowners=("@acme/carts",))))
    assert cluster.title == "new: KeyError in Cart.total: 'sku'"
    assert re.sub(r"\([A-Z2-7]{5}\)", "(ID)", cluster.message).split("\n") == [
        "7 tests fail from this cause (ID): not on main",
        "owner: @acme/carts",
        *(f"tests/test_cart.py::test_total[{number}]" for number in range(5)),
        "and 2 more tests",
        "again: pytest 'tests/test_cart.py::test_total[0]'",
    ]
    assert test.title == "test_total[0] fails: KeyError in Cart.total: 'sku'"
    assert test.message.split("\n")[0] == "tests/test_cart.py::test_total[0]"
    assert test.message.endswith("    return x\nE   KeyError: 'sku'")


def test_a_muted_or_fixed_cause_has_none():
    assert annotations(review(replace(NEW, muted=Muted("ann", "x")), replace(KNOWN, seen="fixed"))) == []


def test_a_first_run_fails():
    assert {each.level for each in annotations(review(replace(NEW, seen="first-run")))} == {"failure"}


def test_what_passed_when_run_again_is_a_notice():
    assert {each.level for each in annotations(review(retried=(NEW,)))} == {"notice"}


def at(file, line, nodeid="tests/test_cart.py::test_a"):
    """A cause whose only place this is."""
    failure = Failure("call", (Error("KeyError", "x", (Frame(file, "f", line, "app", "x"),)),))
    return replace(NEW, suspects=(), exemplar=Exemplar(nodeid, failure))


OUTSIDE = [
    "/etc/passwd",
    "../x.py",
    "a/../../x.py",
    "a//x.py",
    "./x.py",
    "a\\x.py",
    "C:/x.py",
    "<string>",
    "~/x.py",
    "",
    "-x.py",
]


@pytest.mark.parametrize("file", [*OUTSIDE, "a\nb.py", "a\x00.py", "a\u202e.py"])
def test_a_path_that_leaves_the_repository_is_not_annotated(file):
    assert annotations(review(at(file, 3), links={})) == []
    assert annotations(review(at(file, 3), links={file: "https://x.example"})) == []
    assert annotations(review(replace(NEW, exemplar=None, suspects=(Suspect(file, "f", 3, 1.0, ""),)), links={})) == []


@pytest.mark.parametrize("line", [0, -1, 2**31, 10**30])
def test_a_line_that_is_none_is_not_annotated(line):
    assert annotations(review(at("shop/cart.py", line))) == []


def test_only_tracked_files_are_annotated_where_they_are_known():
    assert [each.path for each in annotations(review(at("shop/new.py", 3), links={}))] == ["shop/new.py"]
    assert annotations(review(at("shop/new.py", 3), links={"shop/cart.py": PAGES + "shop/cart.py"})) == []


def test_the_place_where_it_was_raised_stands_in_for_a_suspect_without_a_line():
    found = annotations(review(replace(NEW, suspects=(Suspect("shop/cart.py", "f", 0, 1.0, ""),))))
    assert [(each.path, each.line) for each in found] == [("shop/cart.py", 88), ("tests/test_cart.py", 12)]


def test_a_failure_in_the_test_itself_is_annotated_once():
    frame = Frame("tests/test_cart.py", "test_total", 12, "test", "assert 1 == 2")
    failure = Failure("call", (Error("AssertionError", "x", (frame,)),))
    here = replace(NEW, suspects=(), exemplar=Exemplar("tests/test_cart.py::test_total", failure))
    assert [(each.path, each.line) for each in annotations(review(here))] == [("tests/test_cart.py", 12)]


def test_commands_are_escaped():
    made = Annotation("a,b:c%.py", 3, "failure", "50 %, a:b\nc", "100 %\r\n::error::x, y: z")
    properties = "file=a%2Cb%3Ac%25.py,line=3,title=50 %25%2C a%3Ab%0Ac"
    assert workflow_commands([made]) == f"::error {properties}::100 %25%0D%0A::error::x, y: z\n"


def parsed(line):
    """A command as the runner reads it."""
    head, message = re.fullmatch(r"::(.*?)::(.*)", line).groups()
    name, _, properties = head.partition(" ")
    given = dict(pair.split("=", 1) for pair in properties.split(","))

    def plain(text, codes=("%3A:", "%2C,")):
        for code in ("%0D\r", "%0A\n", *codes, "%25%"):
            text = text.replace(code[:3], code[3:])
        return text

    return name, {key: plain(value) for key, value in given.items()}, plain(message, ())


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.text(min_size=1), st.text(), st.text(st.one_of(st.characters(), st.sampled_from("\r\n%:,=")), max_size=30))
def test_the_runner_reads_what_was_meant(path, title, message):
    text = workflow_commands([Annotation(path, 3, "warning", title, message)])
    assert text.endswith("\n")
    line = text[:-1]
    assert "\n" not in line
    assert "\r" not in line
    assert parsed(line) == ("warning", {"file": path, "line": "3", "title": title}, message)


def test_ten_of_each_level_but_one_warning_is_left_to_the_action():
    levels = ("failure", "warning", "notice")
    many = [Annotation("a.py", number, level, "t", "m") for number in range(1, 15) for level in levels]
    lines = workflow_commands(many).splitlines()
    assert [sum(line.startswith(f"::{name} ") for line in lines) for name in ("error", "warning", "notice")] == [10, 9, 10]
    assert "line=10," in lines[-1]
    assert workflow_commands(many, 2).count("\n") == 5
    assert workflow_commands([]) == ""


def test_a_long_message_keeps_both_its_ends_within_what_the_runner_passes_on():
    text = "tests/test_a.py::test_a\n" + "frame\n" * 2000 + "E   KeyError: 'sku'"
    message = parsed(workflow_commands([Annotation("a.py", 3, "failure", "t", text)])[:-1])[2]
    assert len(message) == 4096
    assert message.startswith("tests/test_a.py::test_a\n")
    assert message.endswith("E   KeyError: 'sku'")


def test_requests_take_fifty():
    many = [Annotation("a.py", number, "notice", "t", "m") for number in range(120)]
    assert [len(each) for each in batches(many)] == [50, 50, 20]
    assert [each for batch in batches(many) for each in batch] == many
    assert list(batches([])) == []
