"""What a comment carries for machines."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from reviews import COMMIT, cause, review, target

from pytest_tracetriage.report.github.bodies import LISTED, comment, data_block, marker, read_data

_quick = settings(max_examples=200, deadline=None, derandomize=True)


def test_the_block_says_in_numbers_what_the_comment_says_in_words():
    data = read_data(comment(target(attempt=2), "tests"))
    assert (data.commit, data.ci_run, data.attempt) == (COMMIT, 1234567890, 2)
    assert (data.tests, data.failures) == (812, 39)
    assert [item.standing for item in data.causes] == ["new"] * 3 + ["known"] * 5 + ["flaky"] * 2
    assert [item.tests for item in data.causes] == [18, 2, 9, 3, 2, 2, 1, 1, 1, 1]
    assert [item.passed_again for item in data.causes] == [False] * 9 + [True]
    assert {item.status for item in data.causes} == {"real", "infrastructure", "flaky"}
    ids = {each.id for each in (*target().analysis.clusters, *target().retried)}
    assert {item.id for item in data.causes} == ids


def test_a_marker_is_one_hidden_line():
    assert marker("tests") == "<!-- tracetriage:comment tests -->"
    assert comment(target(), "tests").startswith(marker("tests") + "\n")


@_quick
@given(st.text(max_size=40), st.text(max_size=40))
def test_any_key_makes_a_marker_of_its_own(one, other):
    import re

    assert re.fullmatch(r"<!-- tracetriage:comment [\w.-]{1,64} -->", marker(one), re.ASCII)
    assert "--" not in marker(one)[4:-3]
    assert (marker(one) == marker(other)) == (one == other)


@_quick
# neither what might be a commit, nor the category of what people interrupted, which is no cause
@given(st.text(max_size=60).filter(lambda text: not re.fullmatch("[0-9a-f]*|INTERRUPTED", text)))
def test_no_text_of_a_test_is_in_the_block(text):
    poison = cause("KeyError in f: x", "shop/cart.py:1 f x", 1)
    poison = replace(poison, name=text, tests=(text,), category=text, codeowners=(text,), since=text, status_evidence=text)
    found = review(poison, commit=text, branch=text, base=text, event=text, repository=text, workflow=text, notes=(text,))
    assert data_block(found) == data_block(review(cause("KeyError in f: x", "shop/cart.py:1 f x", 1), commit=""))


@pytest.mark.parametrize("identity", ["-->" + "A" * 23, "KT7Q2", "a" * 26, "A" * 26 + "\n", ""])
def test_an_id_that_is_none_is_left_out(identity):
    found = review(replace(cause("KeyError in f: x", "shop/cart.py:1 f x", 1), id=identity))
    block = data_block(found)
    assert block.count("-->") == 1
    assert read_data(block).causes == ()


def test_the_block_is_bounded():
    many = [cause(f"KeyError in f: {number}", "shop/cart.py:1 f x", 1) for number in range(LISTED + 7)]
    data = read_data(data_block(review(*many)))
    assert (len(data.causes), data.more) == (LISTED, 7)


def test_fixed_causes_are_in_it():
    fixed = cause("KeyError in f: x", "shop/cart.py:1 f x", 1, "fixed")
    assert read_data(data_block(review(fixed))).fixed == (fixed.id,)


def test_only_the_last_line_counts():
    """What a test printed may look like a block, and stands above ours."""
    real = data_block(target())
    forged = real.replace('"attempt":1', '"attempt":7')
    assert read_data(f"{forged}\n{real}\n").attempt == 1
    assert read_data(f"{real}\nmore") is None
    assert read_data(real.replace("\n", "\r\n") + "\r\n\r\n").attempt == 1, "GitHub returns line ends of its own"


BLOCK = json.loads(data_block(target())[len("<!-- tracetriage:data ") : -len(" -->")])


def block(value):
    return f"<!-- tracetriage:data {json.dumps(value)} -->"


@pytest.mark.parametrize(
    "change",
    [
        {"schema": "tracetriage.comment/2"},
        {"commit": "x"},
        {"commit": COMMIT + "\n"},
        {"ci_run": -1},
        {"ci_run": 1e300},
        {"attempt": "1"},
        {"attempt": None},
        {"unknown": 1},
        {"causes": [BLOCK["causes"][0]] * 101},
        {"causes": [{**BLOCK["causes"][0], "id": "x" * 26}]},
        {"causes": [{**BLOCK["causes"][0], "standing": "x"}]},
        {"fixed": ["-->"]},
    ],
)
def test_what_is_not_ours_is_not_read(change):
    assert read_data(block(BLOCK)) is not None
    assert read_data(block(BLOCK | change)) is None


@_quick
@given(st.text())
def test_any_text_may_be_read(text):
    assert read_data(text) is None
    assert read_data(f"<!-- tracetriage:data {text} -->") is None


@_quick
@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(max_size=5),
        lambda deeper: st.lists(deeper) | st.dictionaries(st.sampled_from(sorted(BLOCK)), deeper),
        max_leaves=8,
    )
)
def test_any_json_may_be_read(value):
    assert read_data(block(value)) is None


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 50_000, "\ud800", "9" * 5000, '{"schema":"\ud800"}'])
def test_what_breaks_parsers_does_not_break_this_one(text):
    assert read_data(f"<!-- tracetriage:data {text} -->") is None
