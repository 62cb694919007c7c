"""Agents in a suite: a real failure of each type, and what looks like it but is not; components, and what joins."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from triage.episode_suite import Episodes

from pytest_tracetriage.triage.names import LABELS
from pytest_tracetriage.triage.step_rules import STEP_RULES, has_words
from pytest_tracetriage.triage.taxonomy import FIXES

SUITE = """
def test_session_error():
    with step("Tester", name="open the shop"):
        raise RuntimeError("the browser session was closed before the page came")

def test_not_session_error():
    with step("Fixer", name="open the shop"):
        raise RuntimeError("the browser session was closed before the page came")

def test_action_failed():
    with step("Tester"):
        with span("click", kind="tool", inputs={"selector": "#buy"}):
            raise LookupError("no element matches #buy")

def test_not_action_failed():
    with step("Tester"):
        with span("compare prices", inputs={"a": 1}):
            raise LookupError("no price for 'pear'")

def test_misclassification():
    with step("Triage", name="classify") as triage:
        triage.outcome("failed", stop_reason="wrong class", rationale="NETWORK, where the log shows a time-out")
    assert False, "the class is wrong"

def test_not_misclassification():
    with step("Triage", name="read the log"):
        raise KeyError("log")

def test_localization_failed():
    with step("Triage", name="find the fault"):
        raise ValueError("no frame of the stack trace lies in the project")

def test_not_localization_failed():
    with step("Tester", name="find the fault"):
        raise ValueError("no frame of the stack trace lies in the project")

def test_invalid_patch():
    with step("Fixer", name="mend") as fixer:
        fixer.outcome("failed", stop_reason="invalid patch", rationale="hunk 2 of 3 does not apply")
    assert False, "no patch"

def test_not_invalid_patch():
    with step("Verifier", name="mend"):
        raise AttributeError("'NoneType' object has no attribute 'lines'")

def test_wrong_fix():
    with step("Fixer", name="mend") as fixer:
        fixer.outcome("failed", stop_reason="wrong fix", rationale="two other tests fail with it")
    assert False, "worse than before"

def test_not_wrong_fix():
    with step("Fixer", name="mend"):
        raise OSError("the disk is too slow")

def test_deploy_failed():
    with step("Verifier", name="bring it up"):
        raise RuntimeError("deployment of shop:7 was refused")

def test_not_deploy_failed():
    with step("Triage", name="bring it up"):
        raise RuntimeError("deployment of shop:7 was refused")

def test_test_still_fails():
    with step("Verifier", name="once more") as verifier:
        verifier.outcome("failed", stop_reason="1 failed", rationale="test_total still fails")
    assert False, "not mended"

def test_not_test_still_fails():
    with step("Verifier", name="once more"):
        raise KeyError("report")
"""
WORDS = """
CASES = [
    ("Tester", "expected 3 obsessions"), ("Tester", "the blog in the archive has no date"),
    ("Tester", "the browserslist is old"), ("Tester", "transactions and reactions differ"),
    ("Tester", "the pressure is -1"), ("Tester", "the filler is dry"), ("Tester", "clickbait in line 3"),
    ("Triage", "cannot allocate a room"), ("Triage", "the relocated shop"),
    ("Fixer", "line breaks are missing"), ("Fixer", "the broker has no offer"), ("Fixer", "no difference in price"),
    ("Fixer", "the connection broke down"), ("Fixer", "dispatch has failed"),
    ("Verifier", "restart_count"), ("Verifier", "the containerd socket"), ("Verifier", "0 failed"),
]

@pytest.mark.parametrize("component, words", CASES, ids=[words for _, words in CASES])
def test_near(component, words):
    with step(component, name="compare"):
        raise ValueError(words)

SAID = [
    ("Tester", "the action 'buy' is not there"), ("Tester", "could not be clicked"), ("Tester", "filling in the name"),
    ("Tester", "pressing Enter did nothing"), ("Tester", "two browsers were closed"),
    ("Fixer", "it breaks 3 others"), ("Fixer", "the fix broke the build"), ("Fixer", "breaks tests"),
    ("Verifier", "restarting the shop"),
]

@pytest.mark.parametrize("component, words", SAID, ids=[words for _, words in SAID])
def test_said(component, words):
    with step(component, name="compare"):
        raise ValueError(words)
"""
SAID = {
    "the action 'buy' is not there": "ACTION_FAILED",
    "could not be clicked": "ACTION_FAILED",
    "filling in the name": "ACTION_FAILED",
    "pressing Enter did nothing": "ACTION_FAILED",
    "two browsers were closed": "SESSION_ERROR",
    "it breaks 3 others": "WRONG_FIX",
    "the fix broke the build": "WRONG_FIX",
    "breaks tests": "WRONG_FIX",
    "restarting the shop": "DEPLOY_FAILED",
}
TYPES = [
    "SESSION_ERROR",
    "ACTION_FAILED",
    "MISCLASSIFICATION",
    "LOCALIZATION_FAILED",
    "INVALID_PATCH",
    "WRONG_FIX",
    "DEPLOY_FAILED",
    "TEST_STILL_FAILS",
]
OF = dict(zip(TYPES, ["Tester", "Tester", "Triage", "Triage", "Fixer", "Fixer", "Verifier", "Verifier"], strict=True))


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    return Episodes(tmp_path_factory.mktemp("agents"), SUITE)


@pytest.mark.parametrize("category", TYPES)
def test_each_type_of_each_agent(ran, category):
    place = ran.places[category.lower()]
    assert (place.category, place.owner, place.component) == (category, "agent", OF[category])
    assert place.step in ran.spans
    assert OF[category] in place.evidence


@pytest.mark.parametrize("category", [name for name in TYPES if name not in {"SESSION_ERROR", "DEPLOY_FAILED"}])
def test_a_cluster_has_the_type_of_its_failing_step(ran, category):
    cluster = ran.cluster(category.lower())
    assert (cluster.category, cluster.owner) == (category, "agent")
    assert cluster.fix


@pytest.mark.parametrize("category", TYPES)
def test_what_looks_like_it_is_not(ran, category):
    place = ran.places[f"not_{category.lower()}"]
    assert place.category not in TYPES
    assert place.component


def test_words_of_the_types_are_whole_words(tmp_path):
    ran = Episodes(tmp_path, WORDS)
    near = {name: place.category for name, place in ran.places.items() if name.startswith("near[")}
    assert len(near) == 17
    assert {name: category for name, category in near.items() if category != "DATA_SHAPE"} == {}
    assert {name[5:-1]: place.category for name, place in ran.places.items() if name.startswith("said[")} == SAID


def test_the_json_of_analyze_has_them(ran):
    found = {trace["nodeid"]: trace for trace in ran.as_json()}
    assert len(found) == 2 * len(TYPES)
    one = found["test_it.py::test_deploy_failed"]
    assert set(one) == {"id", "nodeid", "component", "step", "category", "owner", "evidence", "run"}
    assert one["run"] == ran.suite.last.name
    assert "deployment of shop:7 was refused" in one["evidence"]


def test_a_test_that_is_shown_names_its_component_and_step(ran):
    shown = ran.shown("action_failed")
    assert "component Tester" in " ".join(shown.split())
    assert "broke at  click" in shown
    assert "↑ it broke here" in shown


ONE_COMPONENT = """
def test_a():
    with step("Fixer"):
        raise ValueError("no diff")

def test_b():
    with step("Fixer"):
        raise ValueError("no diff")
"""
TWO_COMPONENTS = """
def test_a():
    with step("Fixer"):
        raise ValueError("no diff")

def test_b():
    with step("Tester"):
        raise ValueError("no diff")
"""
ONE_UNKNOWN = """
def load(number):
    raise LookupError(f"no number {number}")

def test_a():
    with step("Fixer"):
        load(1)

def test_b():
    load(2)
"""


def test_a_cluster_that_is_shown_names_its_component_beside_the_owner(tmp_path):
    ran = Episodes(tmp_path, ONE_COMPONENT)
    assert ran.cluster("a") is ran.cluster("b")
    assert ", component Fixer: " in ran.suite.tracetriage("show", ran.cluster("a").id).out
    assert ", component `Fixer`;" in ran.suite.tracetriage("analyze", "--format", "markdown").out


@pytest.mark.parametrize("suite", [TWO_COMPONENTS, ONE_UNKNOWN], ids=["two", "one-unknown"])
def test_a_cluster_has_no_component_where_not_all_of_its_tests_broke_there(tmp_path, suite):
    ran = Episodes(tmp_path, suite)
    assert ran.cluster("a") is ran.cluster("b")
    assert ", component " not in ran.suite.tracetriage("show", ran.cluster("a").id).out
    assert ", component " not in ran.suite.tracetriage("analyze", "--format", "markdown").out
    assert "component " not in ran.result.out


def test_the_summary_names_the_component_in_the_second_line(tmp_path):
    one = Episodes(tmp_path, "def test_a():\n    with step('Fixer'):\n        raise ValueError('no diff')\n")
    lines = one.result.lines
    title = next(number for number, line in enumerate(lines) if "ValueError in test_a" in line)
    assert " · component Fixer · " in lines[title + 1]


SETTINGS = """
[tool.tracetriage]
components = ["Repairer", "Price Finder"]

[[tool.tracetriage.rules]]
category = "NO_PRICE"
owner = "product"
component = "Price"
message = "no price"

[[tool.tracetriage.rules]]
category = "SLOW_SHOP"
owner = "infrastructure"
step = "^shop"
"""
OWN = """
def test_named_by_span():
    with span("Repairer.propose_patch", kind="op"):
        with span("ask", kind="op"):
            raise ValueError("odd")

def test_named_in_words():
    with span("price_finder.look_up", kind="op"):
        raise LookupError("there is no price for a pear")

def test_not_a_word_of_it():
    with span("prerepairers", kind="op"):
        raise ValueError("odd")

def test_two_names():
    with span("Repairer.hand_to_price_finder", kind="op"):
        raise ValueError("odd")

def test_by_rule_of_a_step():
    with span("shop: search", kind="op"):
        raise ArithmeticError("seven pages")

class Repairer:
    def work(self):
        raise ValueError("odd, and nobody recorded it")

def test_not_the_tests_own_class():
    Repairer().work()

def test_by_class():
    from repairs import Repairer
    Repairer().work()
"""


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    root = tmp_path_factory.mktemp("own")
    (root / "repairs.py").write_text("class Repairer:\n    def work(self):\n        raise ValueError('odd')\n")
    return Episodes(root, OWN, settings=SETTINGS)


def test_configured_components_are_found_in_names(own):
    found = {name: place.component for name, place in own.places.items()}
    assert found == {
        "named_by_span": "Repairer",
        "named_in_words": "Price Finder",
        "not_a_word_of_it": "",
        "two_names": "",
        "by_rule_of_a_step": "",
        "by_class": "Repairer",
    }


def test_the_class_of_the_failing_frame_names_a_component_without_spans(own):
    place = own.places["by_class"]
    assert (place.step, place.category) == ("", "DATA_SHAPE")


def test_the_rules_of_a_project_name_components_and_steps(own):
    place = own.places["named_in_words"]
    assert (place.category, place.owner) == ("NO_PRICE", "product")
    assert "rule of the project: component 'Price' and message 'no price'" in place.evidence
    assert own.places["by_rule_of_a_step"].category == "SLOW_SHOP"
    assert own.cluster("by_rule_of_a_step").owner == "infrastructure"
    assert own.places["named_by_span"].category == "DATA_SHAPE"


JOINED = """
def quota(who):
    with step("Fixer"):
        with span("ask the model", kind="op"):
            raise RuntimeError(f"quota of project {who} is used up")

def test_a():
    try:
        quota(1)
    except RuntimeError:
        value = []
    assert value == ["a patch"]

def test_b():
    try:
        quota(2)
    except RuntimeError:
        reply = {}
    reply["diff"]

def test_c():
    with step("Tester"):
        with span("ask the model", kind="op"):
            raise RuntimeError("quota of project 3 is used up")
"""


def test_clusters_join_on_the_failing_span(tmp_path):
    ran = Episodes(tmp_path, JOINED)
    joined = ran.cluster("a")
    assert joined is ran.cluster("b")
    assert joined is not ran.cluster("c")
    (why,) = [why for why in joined.why if why.evidence == "same failing span"]
    assert why.detail == "Fixer: ask the model · RuntimeError: quota of project # is used up"


REFERENCE = Path(__file__).parents[2] / "docs" / "reference" / "taxonomy.md"


def rows(heading):
    """The cells of the table under a heading of the reference, its first two lines left out."""
    text = REFERENCE.read_text(encoding="utf-8").partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    lines = [line for line in text.splitlines() if line.startswith("|")][2:]
    return [[cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]


def test_the_reference_lists_every_category_of_a_step():
    found = {category: (heading, fix) for category, heading, _, fix in rows("Failing steps of agents")}
    assert found == {name: (LABELS[name], FIXES[name]) for name in {rule.category for rule in STEP_RULES}}


def test_the_reference_lists_every_rule_of_a_step_in_order():
    found = [(category, owner, mode) for _, category, owner, mode, _ in rows("The rules of steps, in order")]
    assert found == [(rule.category, rule.owner, rule.mode) for rule in STEP_RULES]
    for (_, _, _, _, text), rule in zip(rows("The rules of steps, in order"), STEP_RULES, strict=True):
        for pattern in (rule.says, rule.name, rule.signal, rule.component, rule.kind, *rule.types):
            assert f"`{pattern}`" in text or not pattern


@pytest.mark.parametrize(
    ("name", "wanted", "has"),
    [
        ("Fixer.propose_patch", "Fixer", True),
        ("FixerAgent", "Fixer", True),
        ("fixer", "Fixer", True),
        ("prefixer", "Fixer", False),
        ("price_finder", "Price Finder", True),
        ("price of the finder", "Price Finder", False),
        ("", "Fixer", False),
        ("anything", "", False),
    ],
)
def test_names_are_compared_by_their_words(name, wanted, has):
    assert has_words(name, wanted) is has
