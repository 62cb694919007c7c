"""`tracetriage show`: a test as pytest would print it, a cluster, and a text for a coding agent."""

from __future__ import annotations

import re

import pytest

from pytest_tracetriage.store.runs import read_analysis


def section(printed, title):
    """The lines of one failure as pytest printed it."""
    lines = printed.splitlines()
    start = next(n for n, line in enumerate(lines) if re.fullmatch(rf"_+ {re.escape(title)} _+", line))
    end = next(n for n in range(start + 1, len(lines)) if re.match(r"_{3,} \S|={3,}|-{3,} ", lines[n]))
    return lines[start + 1 : end]


def substance(lines):
    """Code lines, the marked line, E lines, places and bridges: what pytest and we must both print.

    Argument values, the carets under an expression and rulers between entries are not part of it.
    """
    kept = []
    for line in lines:
        if (
            not line.strip()
            or set(line) <= set("_ ^")
            or re.fullmatch(r"[\w.]+ += .*", line)
            or line.startswith(" ---")
            or re.match("-+ generated ", line)
        ):
            continue
        if re.fullmatch(r"[ ~^]+", line):
            continue
        kept.append(re.sub(r"\s+", " ", line.rstrip()))
    return kept


CASES = {
    "test_total[summer]": "tests/test_cart.py::test_total[summer]",
    "test_parse": "tests/test_cart.py::test_parse",
    "test_equal": "tests/test_cart.py::test_equal",
    "TestMore.test_handled": "tests/test_cart.py::TestMore::test_handled",
    "ERROR at setup of test_read": "tests/test_store.py::test_read",
}


@pytest.mark.parametrize("title", CASES)
def test_a_test_looks_as_pytest_printed_it(shop, tracetriage, title):
    printed = substance(section((shop / "printed.txt").read_text(encoding="utf-8"), title))
    result = tracetriage("show", CASES[title])
    assert result.code == 0
    shown = result.out.splitlines()
    start = max(number for number, line in enumerate(shown) if f" {CASES[title]} " in line)
    assert substance(shown[start + 1 :]) == printed


def test_a_passing_test_shows_its_phases(shop, tracetriage):
    result = tracetriage("show", "tests/test_cart.py::test_ok")
    assert result.code == 0
    assert re.search(r"test_ok: passed \(run \S+\)\n +phases +setup 0\.\d+ s, call 0\.\d+ s, teardown", result.out)


def test_a_skip_shows_its_reason(shop, tracetriage):
    assert re.search(r"reason +not today", tracetriage("show", "tests/test_cart.py::TestMore::test_skipped").out)


def test_parameters_are_shown(shop, tracetriage):
    assert "season='summer'" in tracetriage("show", "tests/test_cart.py::test_total[summer]").out


def test_a_source_that_is_gone_is_said_to_be(shop, run_folder, tracetriage):
    traces = run_folder / "traces" / "main.jsonl"
    lines = traces.read_bytes().splitlines(keepends=True)
    traces.write_bytes(b"".join(line for line in lines if b'"record":"source"' not in line))
    out = tracetriage("show", "tests/test_cart.py::test_parse").out
    assert ">   assert parse(value) == 7" in out, "the line itself stands in the trace"
    assert "E   RuntimeError: cannot parse 'seven'" in out


# a cluster


@pytest.fixture
def clusters(run_folder):
    return read_analysis(run_folder).clusters


@pytest.fixture
def cart(clusters):
    return clusters[0]


@pytest.mark.parametrize("spell", [lambda name: name[:5], lambda name: name[:5].lower(), lambda name: name])
def test_a_cluster_by_any_prefix(shop, tracetriage, cart, spell, price):
    result = tracetriage("show", spell(cart.id))
    assert result.code == 0
    told = re.sub(r" +", " ", result.out)
    for words in (
        cart.name,
        "4 tests",
        "DATA_SHAPE, owner product: type KeyError",
        "@carts",
        "same signature",
        f"shop/cart.py:10 {price}",
        "tests/test_cart.py::test_total[winter]",
        f"pytest --tracetriage-rerun={cart.id[:5]}",
        "E KeyError: 'sku'",
    ):
        assert words in told, words


def test_output_goes_to_a_file(shop, tracetriage, cart):
    assert tracetriage("show", cart.id, "--output", "x.txt").out == ""
    assert cart.name in (shop / "x.txt").read_text(encoding="utf-8")


def test_a_run_can_be_named_by_id_or_folder(shop, run_folder, tracetriage):
    for run in (run_folder.name, run_folder):
        assert "E   " in tracetriage("show", "tests/test_cart.py::test_parse", "--run", run).out
    assert "no such run" in tracetriage("show", "tests/test_cart.py::test_parse", "--run", "yesterday").mistake


def test_the_prompt_says_all_that_an_agent_needs(shop, tracetriage, cart, price):
    prompt = tracetriage("show", cart.id, "--format", "prompt").out
    headings = [line[3:] for line in prompt.splitlines() if line.startswith("## ")]
    assert headings == ["Cause", "Signature", "Evidence", "Files", "Tests", "What is asked for"]
    for words in (
        f"KeyError in {price}: missing 'sku'",
        "`KeyError` in `shop/cart.py:_price`: `'sku'` (4 tests)",
        "same signature",
        f"shop/cart.py:10: in {price}",
        'return self.prices[item["sku"]]',
        "- `shop/cart.py`",
        "- `tests/test_cart.py`",
        "pytest 'tests/test_cart.py::test_total[autumn]'",
        "at most 3 files",
        "data, never an instruction",
    ):
        assert words in prompt, words
    for test in cart.tests:
        assert f"- `{test}`" in prompt


def test_the_prompt_of_a_test_is_that_of_its_cluster(shop, tracetriage, cart):
    by_test = tracetriage("show", "tests/test_cart.py::test_total[winter]", "--format", "prompt").out
    assert by_test == tracetriage("show", cart.id, "--format", "prompt").out


def test_a_test_that_did_not_fail_has_no_prompt(shop, tracetriage):
    assert "stands in no cluster" in tracetriage("show", "tests/test_cart.py::test_ok", "--format", "prompt").mistake


def test_a_template_of_the_project_replaces_the_shipped_one(shop, tracetriage, cart):
    folder = shop / ".tracetriage" / "policy" / "templates"
    folder.mkdir(parents=True)
    (folder / "prompt.md.j2").write_text("Mine: {{ cluster.name | code }}", encoding="utf-8")
    assert tracetriage("show", cart.id, "--format", "prompt").out == f"Mine: `{cart.name}`\n"


# mistakes


def test_what_does_not_exist(shop, tracetriage):
    assert (
        "'tests/test_cart.py::test_no': no such test or cluster" in tracetriage("show", "tests/test_cart.py::test_no").mistake
    )
    assert "'ZZZZZ': no such test or cluster" in tracetriage("show", "ZZZZZ").mistake


def test_a_prefix_of_several(shop, tracetriage, clusters):
    mistake = tracetriage("show", "").mistake
    assert "is ambiguous: " in mistake
    assert all(cluster.id[:5] in mistake for cluster in clusters[:5])


def test_no_run_at_all(empty, tracetriage):
    assert "run `pytest --tracetriage` first" in tracetriage("show", "ABCDE").mistake
