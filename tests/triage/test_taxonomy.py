"""Categories and owners: a real failure of each, and what looks like it but is not."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from making import analysis_of, error, fails, failure, frame

from pytest_tracetriage.config import CustomRule
from pytest_tracetriage.triage.names import LABELS
from pytest_tracetriage.triage.taxonomy import FIXES, RULES, classify, project_rules

TEST = "tests/test_a.py:test_a"
APP = "shop/cart.py:total"
LIBRARY = frame("lib/requests/adapters.py:send", origin="third-party")


def of(type_, message="", *places, **more):
    return failure(error(type_, message, *(places or (TEST, APP))), **more)


# category: (owner, a failure of it, a near miss)
REAL = {
    "CRASH": (
        "product",
        of("WorkerCrash", "the worker was killed by SIGSEGV while this test ran"),
        of("AssertionError", "assert 'ProcessCrash' in log"),
    ),
    "TIMEOUT": ("product", of("Failed", "Timeout >1.0s"), of("Failed", "DID NOT RAISE <class 'TimeoutError'>")),
    "INTERRUPTED": ("infrastructure", of("KeyboardInterrupt"), of("RuntimeError", "KeyboardInterrupt expected")),
    "RESOURCE": ("infrastructure", of("OSError", "[Errno 24] Too many open files: 'a.log'"), of("OSError", "too many carts")),
    "DISK": ("infrastructure", of("OSError", "[Errno 28] No space left on device"), of("OSError", "[Errno 2] no such device")),
    "NETWORK": (
        "infrastructure",
        of("ConnectionRefusedError", "[Errno 111] Connection refused"),
        of("AssertionError", "assert 'Connection refused' in page"),
    ),
    "MISSING_DEPENDENCY": (
        "product",
        of("ModuleNotFoundError", "No module named 'redis'"),
        of("ImportError", "cannot import name 'Redis' from 'redis'"),
    ),
    "REMOVED_API": (
        "product",
        of("ModuleNotFoundError", "No module named 'distutils'"),
        of("ModuleNotFoundError", "No module named 'distutils_extra'"),
    ),
    "COLLECTION": (
        "test",
        of("SyntaxError", "invalid syntax", TEST, phase="collect"),
        of("SyntaxError", "invalid syntax", TEST),
    ),
    "FIXTURE": ("test", of("FixtureLookupError", "fixture 'cart' not found", phase="setup"), of("KeyError", "'fixture'")),
    "SYNTAX": ("product", of("IndentationError", "unexpected indent"), of("SyntaxWarning", "invalid escape sequence")),
    "PERMISSION": (
        "infrastructure",
        of("PermissionError", "[Errno 13] Permission denied: '/etc/shop'"),
        of("AssertionError", "assert 'Permission denied' == ''"),
    ),
    "MISSING_FILE": (
        "product",
        of("FileNotFoundError", "[Errno 2] No such file or directory: 'data/a.csv'"),
        of("KeyError", "'a.csv'"),
    ),
    "RECURSION": ("product", of("RecursionError", "maximum recursion depth exceeded"), of("RuntimeError", "recursion is fine")),
    "DEPRECATION": ("product", of("DeprecationWarning", "utcnow() is deprecated"), of("UserWarning", "this is deprecated")),
    "WARNING": ("product", of("ResourceWarning", "unclosed file"), of("RuntimeError", "warning: unclosed")),
    "API_MISUSE": (
        "product",
        of("TypeError", "total() got an unexpected keyword argument 'vat'"),
        of("TypeError", "unsupported operand type(s) for +: 'int' and 'str'"),
    ),
    "TYPE_MISMATCH": (
        "product",
        of("TypeError", "unsupported operand type(s) for +: 'NoneType' and 'Decimal'"),
        of("ValueError", "could not convert string to float"),
    ),
    "EMPTY_DATA": ("product", of("IndexError", "list index out of range"), of("IndexError", "tuple assignment")),
    "DATA_SHAPE": ("product", of("KeyError", "'sku'"), of("IndexError", "pop from empty list")),
    "XPASS_STRICT": ("test", of("XPassStrict", "[XPASS(strict)] not yet", TEST), of("Failed", "expected this")),
    "ASSERTION": ("product", of("AssertionError", "assert 3 == 4", TEST), of("ArithmeticError", "assert")),
}


def test_the_table_below_has_every_category():
    assert set(REAL) == {rule.category for rule in RULES}


@pytest.mark.parametrize("category", REAL)
def test_a_real_failure_is_recognised(category):
    owner, real, _ = REAL[category]
    found = classify(real)
    assert found[:2] == (category, owner)
    assert found[2], "the evidence is named"


@pytest.mark.parametrize("category", REAL)
def test_a_near_miss_is_something_else(category):
    assert classify(REAL[category][2])[0] != category


@pytest.mark.parametrize("category", sorted({rule.category for rule in RULES} - {"INTERRUPTED"}))
def test_every_category_says_what_it_calls_for(category):
    assert FIXES[category]


REFERENCE = Path(__file__).parents[2] / "docs" / "reference" / "taxonomy.md"


def rows(heading):
    """The cells of the table under a heading of the reference, its first two lines left out."""
    text = REFERENCE.read_text(encoding="utf-8").partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    lines = [line for line in text.splitlines() if line.startswith("|")][2:]
    return [[cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]


def test_the_reference_lists_every_category_with_its_heading_and_fix():
    found = {category: (heading, fix) for category, heading, _, fix in rows("Categories")}
    assert found == {name: (LABELS[name], FIXES.get(name, "")) for name in {rule.category for rule in RULES} | {"ERROR"}}


def test_the_reference_lists_every_rule_in_order():
    found = [(category, types, message.strip("`")) for _, category, _, types, message, _ in rows("The rules, in order")]
    assert found == [(rule.category, ", ".join(f"`{name}`" for name in sorted(rule.types)), rule.message) for rule in RULES]


def test_what_no_rule_knows_is_an_error_with_its_type_as_evidence():
    assert classify(of("shop.errors.OddError", "odd")) == ("ERROR", "product", "type shop.errors.OddError")


MORE = [
    (
        of(
            "requests.exceptions.ConnectionError",
            "HTTPSConnectionPool(host='api', port=443): Max retries exceeded (Caused by NewConnectionError: "
            "Failed to establish a new connection: [Errno -2] Name or service not known)",
        ),
        "NETWORK",
    ),
    (
        of(
            "psycopg2.OperationalError",
            'could not connect to server: Connection refused\n\tIs the server running on host "db"?',
        ),
        "NETWORK",
    ),
    (of("socket.gaierror", "[Errno -3] Temporary failure in name resolution"), "NETWORK"),
    (of("OSError", "[Errno 98] Address already in use"), "NETWORK"),
    (of("MemoryError"), "RESOURCE"),
    (of("RuntimeError", "can't start new thread"), "RESOURCE"),
    (of("OSError", "[Errno 30] Read-only file system: '/data'"), "DISK"),
    (
        of("ImportError", "cannot import name 'Iterable' from 'collections' (/usr/lib/python3.10/collections/__init__.py)"),
        "REMOVED_API",
    ),
    (of("AttributeError", "module 'numpy' has no attribute 'float'"), "API_MISUSE"),
    (of("TypeError", "Cart.__init__() missing 1 required positional argument: 'prices'"), "API_MISUSE"),
    (of("subprocess.TimeoutExpired", "Command 'x' timed out after 3 seconds"), "TIMEOUT"),
    (of("json.decoder.JSONDecodeError", "Expecting value: line 1 column 1 (char 0)"), "DATA_SHAPE"),
    (of("UnicodeDecodeError", "'utf-8' codec can't decode byte 0xff"), "DATA_SHAPE"),
    (of("ValueError", "max() arg is an empty sequence"), "EMPTY_DATA"),
    (
        failure(
            error(
                "FileNotFoundError",
                "[Errno 2] No such file or directory: 'git'",
                TEST,
                frame("lib/python3.11/subprocess.py:_execute_child", origin="stdlib"),
            )
        ),
        "MISSING_DEPENDENCY",
    ),
    (
        failure(text="import file mismatch:\nimported module 'test_a' has this __file__ attribute", phase="collect"),
        "COLLECTION",
    ),
    (of("NotImplementedError"), "API_MISUSE"),
    (of("pydantic_core._pydantic_core.ValidationError", "1 validation error for Cart"), "TYPE_MISMATCH"),
]


@pytest.mark.parametrize(("found", "category"), MORE, ids=[f"{category}-{number}" for number, (_, category) in enumerate(MORE)])
def test_failures_as_libraries_write_them(found, category):
    assert classify(found)[0] == category


def test_the_category_rests_on_the_explicit_cause():
    wrapped = failure(error("ApiError", "no", APP), error("ConnectionRefusedError", "[Errno 111]", link="cause", parent=0))
    assert classify(wrapped)[:2] == ("NETWORK", "infrastructure")


def test_an_implicit_context_says_nothing():
    handled = failure(
        error("ValueError", "no price", APP), error("ConnectionRefusedError", "[Errno 111]", link="context", parent=0)
    )
    assert classify(handled)[0] == "DATA_SHAPE"


def test_members_of_a_group_count():
    group = failure(error("ExceptionGroup", "unhandled", APP), error("ConnectionResetError", link="member", parent=0))
    assert classify(group)[0] == "NETWORK"


@pytest.mark.parametrize(
    ("places", "owner"),
    [((TEST, APP), "product"), ((TEST,), "test"), ((TEST, LIBRARY), "product"), ((LIBRARY,), "product"), ((), "product")],
    ids=["application", "test alone", "library called by a test", "library", "nowhere"],
)
def test_who_owns_what_could_be_anyones(places, owner):
    assert classify(failure(error("KeyError", "'sku'", *places)))[1] == owner


def test_a_broken_fixture_is_the_tests_affair():
    broken = of("KeyError", "'user'", "tests/conftest.py:cart", phase="setup", fixture="cart (tests/conftest.py:4)")
    category, owner, evidence = classify(broken)
    assert (category, owner) == ("FIXTURE", "test")
    assert "cart (tests/conftest.py:4)" in evidence


def test_a_fixture_that_the_application_broke_is_not():
    broken = of("KeyError", "'user'", "tests/conftest.py:cart", APP, phase="setup", fixture="cart (tests/conftest.py:4)")
    assert classify(broken)[:2] == ("DATA_SHAPE", "product")


# the project's own


def category_of(rule, *errors):
    return classify(failure(*errors), (project_rules([rule]),))[0]


def test_rules_of_the_project_come_first_and_say_so():
    rule = CustomRule("SEARCH", "infrastructure", type="ConnectionRefused", message=r":9200\b")
    found = classify(of("ConnectionRefusedError", "refused 127.0.0.1:9200"), (project_rules([rule]),))
    assert found[:2] == ("SEARCH", "infrastructure")
    assert "rule of the project" in found[2]
    assert "':9200'" in found[2]
    assert category_of(rule, error("ConnectionRefusedError", "refused 127.0.0.1:92001")) == "NETWORK"


def test_all_patterns_of_a_rule_must_be_found_in_one_error():
    rule = CustomRule("X", "test", type="KeyError", message="sku", file="cart")
    assert category_of(rule, error("KeyError", "'sku'", APP)) == "X"
    assert category_of(rule, error("KeyError", "'sku'", TEST)) == "DATA_SHAPE"
    assert (
        category_of(rule, error("KeyError", "'no'", APP), error("ValueError", "sku", APP, link="context", parent=0))
        == "DATA_SHAPE"
    )


def test_a_rule_sees_every_error_of_the_chain_with_its_qualified_type():
    rule = CustomRule("X", "test", type=r"^shop\.errors\.Odd$")
    assert category_of(rule, error("RuntimeError"), error("shop.errors.Odd", link="context", parent=0)) == "X"


def test_a_rule_can_ask_for_a_file_alone():
    assert category_of(CustomRule("X", "test", file=r"^shop/"), error("KeyError", "'sku'", TEST, APP)) == "X"


def test_the_first_classifier_that_answers_decides():
    asked = []

    def silent(found):
        asked.append(found)

    def loud(_):
        return "MINE", "agent", "because"

    rule = project_rules([CustomRule("RULE", "test", type="KeyError")])
    assert classify(of("KeyError"), (silent, loud, rule)) == ("MINE", "agent", "because")
    assert len(asked) == 1
    assert classify(of("KeyError"), (silent, rule))[0] == "RULE"


def test_an_analysis_carries_category_owner_evidence_and_what_it_calls_for():
    (found,) = analysis_of(fails("tests/test_a.py::test_a", error("KeyError", "'sku'", TEST, APP))).clusters
    assert (found.category, found.owner, found.fix) == ("DATA_SHAPE", "product", FIXES["DATA_SHAPE"])
    assert found.classified == "type KeyError"


@pytest.mark.parametrize(
    ("type_", "message", "category"),
    [
        (
            "ImportError",
            "cannot import name 'Mapping' from 'collections' (/usr/lib/python3.12/collections/__init__.py)",
            "REMOVED_API",
        ),
        ("AttributeError", "module 'collections' has no attribute 'Mapping'", "REMOVED_API"),
        ("ImportError", "cannot import name 'Cart' from 'collections'", "API_MISUSE"),
    ],
)
def test_names_that_moved_to_collections_abc(type_, message, category):
    assert classify(of(type_, message))[0] == category
