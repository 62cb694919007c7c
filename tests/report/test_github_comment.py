"""The comment on a pull request: whether this change broke something, what, and what to do next."""

from __future__ import annotations

import re

import pytest
from msgspec.structs import replace
from reviews import COMMIT, MAIN, PAGES, cause, review, shards, target

from pytest_tracetriage.model.analysis import FailingTrace, Frequency, Muted, Suspect
from pytest_tracetriage.model.run import Totals
from pytest_tracetriage.model.trace import Error, Failure, Frame
from pytest_tracetriage.report.github.bodies import check, comment, summary
from pytest_tracetriage.report.github.headline import headline
from pytest_tracetriage.report.github.words import duration, often
from pytest_tracetriage.report.text import percent, wilson

NEW = cause("KeyError in Cart.total: 'sku'", "shop/cart.py:88 Cart.total return x", 18, since=COMMIT)
SECOND = cause("TypeError in Price.add: None", "shop/price.py:31 Price.add return x", 3, since=COMMIT)
KNOWN = cause("ValueError in pay: 3", "shop/pay.py:12 pay return x", 4, "known", runs=6, since="a41f2c9" + "0" * 33)
FLAKY = cause(
    "TimeoutError in search", "shop/search.py:9 search return x", 1, "known", status="flaky", frequency=Frequency(6, 43)
)
FIRST = replace(NEW, seen="first-run", status="")
FIXED = replace(cause("OSError in mail: gone", "shop/mail.py:5 send return x", 2), seen="fixed")
MODULE = replace(
    cause("ImportError in tests/test_vat.py: No module named 'vat'", "shop/vat.py:1 <module> import vat", 2),
    tests=("tests/test_vat.py", "tests/test_tax.py"),
)
COMMAND = "`pytest 'tests/test_cart.py::test_total[0]'`"
PUSH = {"pull_request": 0, "event": "push", "branch": "main"}


def died(*numbers):
    return {"legs": shards(died=numbers)}


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (review(NEW, SECOND, KNOWN), "25 of 812 tests fail from 3 causes: this PR brings 2 of them"),
        (review(NEW, SECOND, KNOWN, FIXED), "25 of 812 tests fail from 3 causes: this PR brings 2 of them and fixes 1"),
        (review(NEW, SECOND), "21 of 812 tests fail from 2 causes: this PR brings all of them"),
        (review(NEW), "18 of 812 tests fail from 1 cause: this PR brings it"),
        (review(KNOWN), "4 of 812 tests fail from 1 cause: not from this PR"),
        (review(replace(KNOWN, count=1)), "1 of 812 tests fails from 1 cause: not from this PR"),
        (review(KNOWN, FLAKY), "5 of 812 tests fail from 2 causes (1 flaky): none is from this PR"),
        (review(KNOWN, FLAKY, FIXED), "5 of 812 tests fail from 2 causes (1 flaky): none is from this PR, which fixes 1"),
        (review(FLAKY, replace(FLAKY, id="B" * 26)), "2 of 812 tests fail from 2 causes (all flaky): none is from this PR"),
        (
            review(replace(KNOWN, muted=Muted("ann", "later")), NEW),
            "22 of 812 tests fail from 2 causes (1 muted): this PR brings 1 of them",
        ),
        (
            review(FIRST, replace(SECOND, seen="first-run")),
            "21 of 812 tests fail from 2 causes: whether this PR brings them cannot be told, since no run of `main` is known",
        ),
        (
            review(FIRST, **PUSH, base=""),
            "18 of 812 tests fail from 1 cause: whether this commit brings it cannot be told, since no earlier run is known",
        ),
        (review(NEW, SECOND, KNOWN, **PUSH), "25 of 812 tests fail from 3 causes: 2 of them are new"),
        (review(NEW, KNOWN, FIXED, **PUSH), "22 of 812 tests fail from 2 causes: 1 of them is new, 1 is fixed"),
        (review(NEW, **PUSH), "18 of 812 tests fail from 1 cause: it is new"),
        (review(NEW, SECOND, **PUSH), "21 of 812 tests fail from 2 causes: all are new"),
        (review(KNOWN, FLAKY, **PUSH), "5 of 812 tests fail from 2 causes (1 flaky): none is new"),
        (review(KNOWN, FIXED, **PUSH), "4 of 812 tests fail from 1 cause: not new, 1 is fixed"),
        (review(), "All 812 tests pass"),
        (review(tests=1), "1 test passes"),
        (review(FIXED), "All 812 tests pass: this PR fixes 1 cause"),
        (review(FIXED, **PUSH), "All 812 tests pass: 1 is fixed"),
        (review(totals=Totals(tests=812, passed=800, skipped=12)), "None of 812 tests fails"),
        (review(retried=(FLAKY,)), "All 812 tests pass; 1 flaky cause passed when run again"),
        (review(totals=Totals()), "Nothing was recorded"),
        (review(totals=Totals(), legs=shards(0, 0, 1)), "No tests were run"),
        (review(MODULE, totals=Totals(errors=2, failures=2)), "2 modules cannot be collected from 1 cause: this PR brings it"),
        (
            review(NEW, MODULE, totals=Totals(tests=812, passed=794, failed=18, errors=2, failures=20)),
            "18 of 812 tests fail and 2 modules cannot be collected from 2 causes: this PR brings all of them",
        ),
        (review(NEW, totals=Totals(tests=2, failures=18)), "18 failures in 2 tests from 1 cause: this PR brings it"),
        (review(**died(2)), "1 of 4 shards did not finish; none of the 812 tests that were recorded fail"),
        (review(NEW, **died(0, 2)), "2 of 4 shards did not finish; 18 of 812 tests fail from 1 cause: this PR brings it"),
        (
            review(replace(NEW, category="INTERRUPTED"), totals=Totals(tests=9, passed=8, stuck=1)),
            "The run was interrupted; none of the 9 tests that were recorded fail",
        ),
        (target(), "39 of 812 tests fail from 9 causes (1 flaky): this PR brings 3 of them"),
    ],
)
def test_the_headline(found, words):
    assert headline(found) == words
    assert comment(found, "x").split("\n")[1] == f"### {words}"
    assert f"### {words}" in summary(found).split("\n")
    assert check(found, failing=False).title == words.replace("`", "")


def rows(text):
    """The cells of the first table."""
    lines = text.split("\n")
    start = next(number for number, line in enumerate(lines) if line.startswith("| | cause"))
    found = []
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            return found
        found.append([cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]])
    return found


def test_the_table_of_the_target():
    page = f"{PAGES}shop/"
    table = rows(comment(target(), "x"))
    assert [row[0] for row in table] == ["**new**"] * 3 + ["known"] * 5 + ["flaky"] * 2
    assert (
        table[0][1]
        == f"`KeyError in Cart.total: missing 'sku'`<br>[`shop/cart.py:88`]({page}cart.py#L88) · owner `@acme/carts`"
    )
    assert (
        table[2][1] == f"`ConnectionRefusedError in Cache.connect: 127.0.0.1:6379`<br>[`shop/cache.py:41`]({page}cache.py#L41)"
    )
    assert [row[2:] for row in table] == [
        ["18", "real, since `9f31c07` (this PR, 99 %), not on `main`"],
        ["2", "real, not on `main`"],
        ["9", "infrastructure, not on `main`"],
        ["3", "on `main` for 6 runs, since `a41f2c9`"],
        ["2", "on `main` for 31 runs, since `77d0e1f`"],
        ["2", "on `main` for 12 runs, since `0c9d3e1`"],
        ["1", "on `main` for 58 runs, since `d1d2a2d`"],
        ["1", "infrastructure, on `main` for 4 runs, since `5a59a5c`"],
        ["1", "fails 14 % [7, 27] of runs"],
        ["1", "passed when run again, fails 5 % [2, 14] of runs"],
    ]


def test_the_order_new_known_flaky_muted():
    muted = replace(SECOND, muted=Muted("ann", "the supplier mends it", "2026-12-31"))
    infrastructure = replace(cause("OSError in dial", "shop/mail.py:3 dial x", 99), status="infrastructure")
    found = review(muted, FLAKY, KNOWN, infrastructure, NEW, retried=(replace(FLAKY, id="B" * 26, name="again"),))
    table = rows(comment(found, "x"))
    assert [(row[0], row[1].partition("`<br>")[0]) for row in table] == [
        ("**new**", "`KeyError in Cart.total: 'sku'"),
        ("**new**", "`OSError in dial"),
        ("known", "`ValueError in pay: 3"),
        ("flaky", "`TimeoutError in search"),
        ("flaky", "`again"),
        ("muted", "`TypeError in Price.add: None"),
    ]
    assert [row[3] for row in table[3:]] == [
        "fails 14 % [7, 27] of runs",
        "passed when run again, fails 14 % [7, 27] of runs",
        "muted by `ann` until `2026-12-31`, not on `main`",
    ]
    assert "the supplier mends it" in comment(found, "x")


def test_a_place_has_a_link_only_where_its_file_is_known():
    here = comment(review(NEW), "x")
    assert f"[`shop/cart.py:88`]({PAGES}shop/cart.py#L88)" in here
    elsewhere = comment(review(NEW, links={"shop/other.py": PAGES + "shop/other.py"}), "x")
    assert "<br>`shop/cart.py:88` |" in elsewhere
    assert PAGES not in elsewhere


@pytest.mark.parametrize(
    "page",
    ["javascript:alert(1)", "https://x.example/a b", "https://x.example/)x", "https://x.example/<b>", "//x", "https://x\n"],
)
def test_a_page_that_is_no_plain_address_is_no_link(page):
    text = comment(review(NEW, links={"shop/cart.py": page}, url=page), "x")
    assert "](" not in text


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (
            review(NEW),
            f"look at [`shop/cart.py:88`]({PAGES}shop/cart.py#L88) (18 tests) and see it fail: {COMMAND}",
        ),
        (
            review(replace(NEW, status="infrastructure"), links={}),
            "run the job again: this looks like infrastructure; if it stays, look at `shop/cart.py:88`",
        ),
        (review(KNOWN), "nothing to mend here: the known causes fail on `main` too"),
        (
            review(KNOWN, FLAKY),
            "nothing to mend here: the known causes fail on `main` too, and what is flaky may pass when the job is run again",
        ),
        (review(KNOWN, **PUSH), "nothing new to look at: the known causes fail on `main` too"),
        (review(FLAKY), "run the job again: what is flaky may pass"),
        (review(**died(2, 3)), "see in the log of `tests (3)` why it did not finish"),
        (review(retried=(FLAKY,)), None),
        (review(), None),
    ],
)
def test_what_to_do_next(found, words):
    lines = [line for line in comment(found, "x").split("\n") if line.startswith("**Next:**")]
    assert lines == ([f"**Next:** {words}"] if words else [])


def test_the_trend():
    assert (
        "\n812 tests, 4 shards, 3 min 12 s (`main` 3 min 05 s) · pass rate 95.2 % (`main` 99.5 %) · updated for 4be1d20 · [run]"
        in comment(target(), "x")
    )
    assert "\n812 tests · pass rate 97.8 % · updated for 4be1d20, attempt 3 · [run]" in comment(review(NEW, attempt=3), "x")
    mixed = tuple(replace(leg, leg=f'{{"python": "3.{number}"}}') for number, leg in enumerate(shards()))
    assert "812 tests, 4 jobs, 3 min 12 s" in comment(review(NEW, legs=mixed), "x")
    assert (
        "(`main`" not in comment(review(NEW, baseline=replace(MAIN, tests=0)), "x").partition("pass rate")[2].partition("\n")[0]
    )


def test_the_details_of_a_cause():
    text = comment(review(NEW), "x")
    detail = text[text.index("<details>") :]
    assert detail.startswith("<details><summary>new <code>")
    assert "<code>KeyError in Cart.total: &#x27;sku&#x27;</code>, 18 tests</summary>\n\n" in detail
    for part in (
        "\n    return x\nE   KeyError: 'sku'\n```\n",
        "Why these belong together: same signature: `KeyError · shop/cart.py:Cart.total · 'sku'`",
        f"- Suspect [`shop/cart.py:88`]({PAGES}shop/cart.py#L88) `Cart.total`: in the traceback of 18 of 18 tests",
        "```sh\npytest 'tests/test_cart.py::test_total[0]'\npytest 'tests/test_cart.py::test_total[0]' 'tests/test_",
        "- `tests/test_cart.py::test_total[9]`\n- and 8 more tests\n",
        "\n````\n# Fix one root cause of failing tests\n",
    ):
        assert part in detail


def test_the_component_of_an_agent_stands_beside_the_owner():
    broken = cause("ValueError in propose: no diff", "shop/cart.py:88 propose x", 2)
    found = review(broken)
    traces = tuple(FailingTrace("1", test, "Fixer", "s", "WRONG_FIX", "agent", "") for test in broken.tests)
    known = replace(found, analysis=replace(found.analysis, traces=traces))
    assert "- Owner: product, component `Fixer`\n" in comment(known, "tests")
    partly = replace(found, analysis=replace(found.analysis, traces=traces[:1]))
    assert "component" not in comment(partly, "tests")


def test_a_long_traceback_keeps_its_end_and_says_what_is_missing():
    frames = tuple(Frame("shop/cart.py", "f", number, "app", f"call({number})") for number in range(1, 31))
    errors = (Error("KeyError", "\n".join("abcdefghijklmnopqrstuvwxyz"), frames), Error("OSError", "disk", frames, "cause", 0))
    long = replace(NEW, exemplar=replace(NEW.exemplar, failure=Failure("call", errors)))
    block = comment(review(long), "x").partition("```\n")[2].partition("\n```")[0].split("\n")
    assert block[0] == "... 32 lines left out ..."
    assert len(block) == 41
    assert block[-1] == "E   t", "20 lines of the message"
    assert "    call(30)" in block


def test_new_causes_have_their_details_first():
    text = comment(target(), "x")
    assert re.findall(r"^<details><summary>(\w+) <code>", text, re.MULTILINE) == ["new"] * 3 + ["known"] * 5 + ["flaky"] * 2


def test_causes_beyond_ten_are_folded():
    many = [cause(f"KeyError in f{number}: x", "shop/cart.py:1 f x", 100 - number, "known", runs=1) for number in range(17)]
    text = comment(review(*many, tests=9000), "x")
    assert len(rows(text)) == 10
    assert "<details><summary>and 7 more causes: 7 known</summary>\n\n| | cause" in text
    assert text.count("| known |") == 17


def test_notes_and_what_is_fixed_are_said():
    text = comment(review(FIXED, notes=("the history could not be read: no such branch",)), "x")
    assert "\n- the history could not be read: no such branch\n" in text
    assert "\n- fixed: `OSError in mail: gone`, 2 tests\n" in text
    assert (
        "- the history could not be read: no such branch\n"
        in check(review(notes=("the history could not be read: no such branch",)), failing=False).summary
    )


def test_legs_and_buckets_are_in_the_job_summary():
    text = summary(target(legs=shards(died=(1,))))
    assert "| `tests (1)` | 203 | 10 | 95.1 % | 3 min 12 s |  |" in text
    assert "| `tests (2)` | 203 | 10 | 95.1 % | 3 min 01 s | **did not finish** |" in text
    assert re.search(r"\| `product: data_shape` \| `█{14}░{6}` \| 6 \| 27 \|", text)


@pytest.mark.parametrize(
    ("found", "failing", "conclusion"),
    [
        (review(NEW), True, "failure"),
        (review(NEW), False, "neutral"),
        (review(), False, "success"),
        (review(), True, "failure"),
        (review(retried=(FLAKY,)), False, "success"),
        (review(**died(1)), False, "neutral"),
        (review(totals=Totals()), False, "neutral"),
    ],
)
def test_the_conclusion_of_the_check(found, failing, conclusion):
    made = check(found, failing=failing)
    assert made.conclusion == conclusion
    assert made.text.count("<details><summary>new") == len([each for each in found.analysis.clusters if each.seen == "new"])


def test_the_check_has_the_table_and_the_details():
    made = check(target(), failing=True)
    assert rows(made.summary) == rows(comment(target(), "x"))
    assert "**Next:** look at" in made.summary
    assert "pass rate 95.2 %" in made.summary
    assert "<details>" not in made.summary
    assert made.text.count("Prompt to copy for a coding agent") == 10


@pytest.mark.parametrize("name", ["comment.md.j2", "job_summary.md.j2", "check.md.j2"])
def test_a_project_may_bring_its_own_template(tmp_path, name):
    (tmp_path / name).write_text("ours: {{ headline }} {{ part | default('') }}\n")
    made = check(review(NEW), failing=True, overrides=tmp_path)
    texts = {
        "comment.md.j2": comment(review(NEW), "x", tmp_path),
        "job_summary.md.j2": summary(review(NEW), tmp_path),
        "check.md.j2": made.summary,
    }
    for each, text in texts.items():
        assert ("ours: 18 of 812 tests fail" in text) == (each == name)
    assert ("ours" in made.text) == (name == "check.md.j2")
    assert texts["comment.md.j2"].startswith("<!-- tracetriage:comment x -->\n"), "the marker is no business of a template"


def test_the_macros_may_be_replaced_alone(tmp_path):
    (tmp_path / "cause.md.j2").write_text(
        "{% macro table(causes) %}TABLE{% endmacro %}{% macro rest(a, b, c, d) %}{% endmacro %}"
        "{% macro detail(cause) %}DETAIL{% endmacro %}"
    )
    text = comment(review(NEW), "x", tmp_path)
    assert "TABLE" in text
    assert "DETAIL" in text


def test_a_suspect_outside_the_repository_gives_way_to_a_place_inside():
    outside = replace(NEW, suspects=(Suspect("/usr/lib/python3/json.py", "loads", 9, 1.0, "x"),))
    assert "[`shop/cart.py:88`]" in comment(review(outside), "x")


@pytest.mark.parametrize(
    ("hits", "trials", "low", "high"),
    [
        (6, 43, 0.0656, 0.2726),
        (0, 10, 0.0, 0.2775),
        (10, 10, 0.7225, 1.0),
        (1, 1, 0.2065, 1.0),
        (0, 0, 0.0, 1.0),
        (50, 100, 0.4038, 0.5962),
    ],
)
def test_the_wilson_interval(hits, trials, low, high):
    assert wilson(hits, trials) == pytest.approx((low, high), abs=1e-4)


def test_numbers_in_words():
    assert [percent(781, 812), percent(9999, 10000), percent(1, 10000), percent(0, 5), percent(5, 5)] == [
        "96.2 %",
        "99.9 %",
        "0.1 %",
        "0 %",
        "100 %",
    ]
    assert [duration(seconds) for seconds in (0.04, 4.2, 9.96, 59.6, 192, 7500)] == [
        "0.0 s",
        "4.2 s",
        "10 s",
        "1 min 00 s",
        "3 min 12 s",
        "2 h 05 min",
    ]
    assert often(Frequency(6, 43)) == "fails 14 % [7, 27] of runs"


def test_a_project_in_a_folder_says_where_its_commands_are_typed():
    text = comment(replace(review(NEW), prefix="services/@shop/"), "CI")
    assert f"and see it fail in `services/@shop`: {COMMAND}" in text
    assert "Run it locally in `services/@shop`: one test" in text
    assert "Run it locally: one test" in comment(review(NEW), "CI")
