"""Tokens and cost: of a call, a test, a cluster, a run; counted by hand beside."""

from __future__ import annotations

import builtins
import json
from decimal import Decimal

import jsonschema
import msgspec
import pytest
from capture.suite import Suite
from hypothesis import given
from hypothesis import strategies as st

from pytest_tracetriage.model.run import Spent
from pytest_tracetriage.model.trace import Span, Usage
from pytest_tracetriage.report.text import money, spent_text
from pytest_tracetriage.triage.spending import INSTALL, MAX_MODELS, Account, Calls, Prices, together

NOVEMBER = 1_763_900_000.0
# US dollars a million tokens, from the price lists of the providers: input, cached input, cache writes, output.
PRICES = {
    "gpt-4o": (2.50, 1.25, 2.50, 10.00),
    "o3-mini": (1.10, 0.55, 1.10, 4.40),
    "gpt-5-mini": (0.25, 0.025, 0.25, 2.00),
    "claude-sonnet-4-5": (3.00, 0.30, 3.75, 15.00),
    "gpt-4o-mini": (0.15, 0.075, 0.15, 0.60),
}
USAGES = [
    Usage("gpt-4o", input=1_200, output=340, cache_read=1_024),
    Usage("gpt-4o", input=90_000, output=12_000),
    Usage("o3-mini", input=5_000, output=9_000, cache_read=2_048, reasoning=8_192),
    Usage("gpt-5-mini", input=100_000, output=50_000, cache_read=64_000, reasoning=40_000),
    Usage("claude-sonnet-4-5", input=60_000, output=4_000, cache_creation=20_000, cache_read=30_000),
    Usage("gpt-4o-mini", "openai", input=3_333, output=777, cache_read=1_111),
]


def by_hand(usage):
    full, cached, written, out = (Decimal(str(price)) for price in PRICES[usage.model])
    plain = usage.input - usage.cache_read - usage.cache_creation
    total = plain * full + usage.cache_read * cached + usage.cache_creation * written + usage.output * out
    return total / 1_000_000


@pytest.mark.parametrize("usage", USAGES, ids=lambda usage: usage.model)
def test_five_models_cost_what_a_count_by_hand_says(usage):
    assert Prices().cost(usage, NOVEMBER) == by_hand(usage)


def test_what_is_kept_in_a_cache_for_an_hour_costs_twice_the_input():
    usage = Usage("claude-sonnet-4-5", input=50_000, cache_creation=50_000, cache_creation_1h=20_000)
    account = Account()
    for _ in range(2):
        account.add(usage, Prices().cost(usage, NOVEMBER))
    assert Prices().cost(usage, NOVEMBER) == Decimal("0.2325")
    assert account.spent()[0].usage.cache_creation_1h == 40_000


def test_a_long_input_has_the_higher_price_of_its_own_length():
    prices = Prices()
    short, long = (Usage("gemini-2.5-pro", input=count) for count in (150_000, 300_000))
    assert prices.cost(short, NOVEMBER) == Decimal("0.1875")
    assert prices.cost(long, NOVEMBER) == Decimal("0.75")
    account = Account()
    for _ in range(2):
        account.add(short, prices.cost(short, NOVEMBER))
    assert account.spent()[0].cost == 0.375


@pytest.mark.parametrize(
    "usage",
    [
        Usage("my-own-model", input=10),
        Usage("my-own-model", "openai", input=10),
        Usage("", input=10),
        Usage("gpt-4o", input=-5),
        Usage("gpt-4o", input=5, cache_read=50),
    ],
)
def test_what_has_no_price_has_none(usage):
    prices = Prices()
    assert [prices.cost(usage, NOVEMBER) for _ in range(2)] == [None, None]


def test_a_provider_by_another_name_hides_no_price():
    usage = Usage("gpt-4o", "LangChain", input=1_000_000)
    assert Prices().cost(usage, NOVEMBER) == Decimal("2.5")


def test_without_genai_prices_nothing_has_a_price(monkeypatch):
    real = builtins.__import__

    def missing(name, *args, **kwargs):
        if name == "genai_prices":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", missing)
    prices = Prices()
    assert prices.missing
    assert prices.cost(USAGES[0], NOVEMBER) is None


USAGE = st.builds(
    Usage,
    st.sampled_from(["a", "b"]),
    st.sampled_from(["", "openai"]),
    *[st.integers(0, 10**6) for _ in range(5)],
    requests=st.integers(1, 3),
)
COST = st.one_of(st.none(), st.decimals(0, 10, places=6))


@given(st.lists(st.tuples(USAGE, COST), max_size=8), st.randoms())
def test_sums_are_the_same_in_any_order(calls, order):
    def spent(items):
        account = Account()
        for usage, cost in items:
            account.add(usage, cost)
        return account.spent()

    shuffled = list(calls)
    order.shuffle(shuffled)
    found = spent(calls)
    assert spent(shuffled) == found
    assert sum(each.usage.input for each in found) == sum(usage.input for usage, _ in calls)
    assert sum(each.usage.requests for each in found) == sum(usage.requests for usage, _ in calls)
    assert {msgspec.json.encode(item) for item in together(found)} == {msgspec.json.encode(item) for item in found}


def test_many_models_are_bounded():
    account = Account()
    for number in range(3 * MAX_MODELS):
        account.add(Usage(f"m{number}", input=1), None)
    spent = account.spent()
    assert len(spent) == MAX_MODELS + 1
    assert sum(each.usage.input for each in spent) == 3 * MAX_MODELS


@pytest.mark.parametrize("order", ["wwoo", "wowo", "oowwo", "ooo", "oww"])
def test_a_call_that_two_recorders_saw_counts_once(order):
    calls = Calls()
    sources = {"w": "weave", "o": "opentelemetry"}
    spans = [
        Span(f"s{n}", "t", "chat", 0, 0, source=sources[letter], usage=Usage("m", input=9)) for n, letter in enumerate(order)
    ]
    assert sum(len(calls.new(span)) for span in spans) == max(order.count("w"), order.count("o"))
    mine = Span("x", "t", "chat", 0, 0, usage=Usage("m", input=9))
    assert calls.new(mine)
    assert calls.new(mine)
    assert calls.new(msgspec.structs.replace(spans[0], trace="other"))
    assert not calls.new(msgspec.structs.replace(mine, usage=None))


def test_each_model_of_a_call_that_two_recorders_saw_counts_once():
    calls = Calls()
    both = Span("w", "t", "route", 0, 0, source="weave", usage=Usage("a", input=9), further=(Usage("b", input=7),))
    seen = [Span(f"o{n}", "t", "chat", 0, 0, source="opentelemetry", usage=Usage("b", input=n)) for n in (7, 7, 5)]
    assert [[usage.input for usage in calls.new(span)] for span in (both, *seen)] == [[9, 7], [], [7], [5]]


@pytest.mark.parametrize(
    ("spent", "text"),
    [
        ((Spent(Usage("m", input=31_000, output=204, requests=42), 0.1849),), "42 calls, 31,204 tokens, $0.18"),
        ((Spent(Usage("m", input=1), 0.0042),), "1 call, 1 token, $0.0042"),
        ((Spent(Usage("x\x1b[31m", input=2), None),), "1 call, 2 tokens (no price for x [31m)"),
        (
            (Spent(Usage("a", input=2), 1234.5), Spent(Usage("b", input=2), None)),
            "2 calls, 4 tokens, $1,234.50 (no price for b)",
        ),
    ],
)
def test_in_words(spent, text):
    assert spent_text(spent) == text


def test_many_models_without_a_price_are_not_all_named():
    text = spent_text([Spent(Usage(f"m{n}", input=1)) for n in range(9)])
    assert text == "9 calls, 9 tokens (no price for m0, m1, m2 and 6 more)"


def test_why_there_is_no_price_is_said():
    assert spent_text([Spent(Usage("m", input=1))], INSTALL) == f"1 call, 1 token ({INSTALL})"


@pytest.mark.parametrize(
    ("dollars", "text"),
    [(0.0, "$0.00"), (0.00001, "<$0.0001"), (0.0999, "$0.0999"), (0.1, "$0.10"), (12.345, "$12.35"), (-0.5, "$-0.50")],
)
def test_money(dollars, text):
    assert money(dollars) in {text, text.replace("35", "34")}


CALLS = """
    import pytest
    from pytest_tracetriage import span

    def ask(model, **usage):
        with span("ask", kind="llm") as it: it.usage(model, **usage)

    @pytest.mark.parametrize("n", [1, 2])
    def test_wrong(n):
        ask("gpt-4o", input=1_000_000 * n, cache_read=400_000)
        assert price() == 1

    def price(): raise KeyError("sku")

    def test_other():
        ask("o3-mini", input=1000, output=2000, reasoning=1500)
        raise ValueError("other")

    def test_right():
        ask("gpt-4o", output=10_000)
        ask("my-model", input=7)
"""


def test_a_run_its_tests_and_clusters(tmp_path):
    suite = Suite(tmp_path, test_a=CALLS)
    result = suite.run()
    # 1.0 + 2.0 million in, of which .8 cached: 2.2 * 2.5 + .8 * 1.25; 10,000 out: .1; o3-mini: .0011 + .0088
    result.match("LLM: 5 calls, 3,013,007 tokens, $6.61 (no price for my-model)")
    spent = {each.usage.model: each for each in suite.info.spent}
    assert {model: (each.usage.requests, each.cost) for model, each in spent.items()} == {
        "gpt-4o": (3, 6.6),
        "my-model": (1, None),
        "o3-mini": (1, 0.0099),
    }
    assert (spent["gpt-4o"].usage.input, spent["gpt-4o"].usage.cache_read) == (3_000_000, 800_000)
    assert spent["o3-mini"].usage.reasoning == 1500
    assert suite.analysis.spent == suite.info.spent
    costs = {cluster.name.partition(" ")[0]: cluster.spent[0].cost for cluster in suite.analysis.clusters}
    assert costs == {"KeyError": 6.5, "ValueError": 0.0099}
    printed = msgspec.json.decode(suite.tracetriage("analyze", "--format", "json").out)
    assert printed["spent"] == list(msgspec.to_builtins(suite.info.spent))
    assert printed == msgspec.json.decode((suite.last / "analysis.json").read_bytes()) | {"runs": printed["runs"]}
    assert "\nLLM: 5 calls, 3,013,007 tokens, $6.61 (no price for my-model)\n" in suite.tracetriage("analyze").out
    shown = suite.tracetriage("show", suite.analysis.clusters[0].id).out
    assert "2 calls, 3,000,000 tokens, $6.50" in shown


def test_attempts_that_were_run_again_are_paid_too(tmp_path):
    suite = Suite(
        tmp_path,
        test_a="""
        from pytest_tracetriage import span
        tries = []
        def test_it():
            tries.append(1)
            with span("ask") as it: it.usage("gpt-4o", input=1000)
            assert len(tries) == 3
        """,
    )
    suite.run("--reruns=2", plugins="rerunfailures")
    assert suite.info.spent[0].usage.requests == 3


def test_under_xdist_nothing_is_lost(tmp_path):
    suite = Suite(tmp_path, test_a=CALLS)
    result = suite.run("-n2", plugins="xdist")
    result.match("LLM: 5 calls, 3,013,007 tokens, $6.61 (no price for my-model)")


def test_a_run_that_was_killed_is_counted_afterwards(tmp_path):
    suite = Suite(
        tmp_path,
        test_a="""
        import os
        from pytest_tracetriage import span
        def test_it():
            with span("ask") as it: it.usage("gpt-4o", input=1_000_000)
            os._exit(3)
        """,
    )
    suite.run()
    printed = msgspec.json.decode(suite.tracetriage("analyze", "--format", "json").out)
    assert [(each["usage"]["model"], each["cost"]) for each in printed["spent"]] == [("gpt-4o", 2.5)]
    assert printed["clusters"][0]["spent"][0]["cost"] == 2.5


def test_a_run_without_calls_says_nothing_and_loads_nothing(tmp_path):
    suite = Suite(
        tmp_path,
        conftest="""
        import sys
        def pytest_unconfigure():
            ours = {"pytest_tracetriage.triage.spending", "pytest_tracetriage.triage.spending", "genai_prices"}
            print("LOADED", sorted(ours & set(sys.modules)))
        """,
        test_a="def test_it(): pass",
    )
    result = suite.run("-s")
    assert "LOADED []" in result.out
    assert "LLM:" not in result.out
    assert suite.info.spent == ()
    assert msgspec.json.decode((suite.last / "run.json").read_bytes()).get("spent") is None


def test_lines_that_cannot_be_read_are_counted(tmp_path):
    suite = Suite(tmp_path, test_a=CALLS)
    suite.run()
    with next((suite.last / "traces").glob("*.jsonl")).open("ab") as file:
        file.write(b'{"record":"span","id":3}\n{"record":"metric","name":\n{"record":"span","id":"torn')
    done = suite.tracetriage("analyze", "--format", "json")
    assert "3 spans or metrics could not be read" in done.err
    assert msgspec.json.decode(done.out)["spent"][0]["cost"] == 6.6


def test_a_call_that_names_two_models_counts_both(tmp_path):
    suite = Suite(
        tmp_path,
        test_a="""
        import weave
        @weave.op
        def route():
            weave.get_current_call().summary["usage"] = {
                "gpt-4o": {"prompt_tokens": 1_000_000, "completion_tokens": 0},
                "broken": {},
                "gpt-4o-mini": {"prompt_tokens": 3_000_000, "prompt_tokens_details": {"cached_tokens": 1_000_000}}}
        @weave.op
        def around(): route()
        def test_routes():
            around()
            assert 0
        """,
    )
    result = suite.run()
    (inner, outer) = suite.spans

    assert "LLM: 2 calls, 4,000,000 tokens, $2.88" in result.out
    assert [(usage.model, usage.input) for usage in inner.usages] == [("gpt-4o", 1_000_000), ("gpt-4o-mini", 3_000_000)]
    assert outer.usages == ()
    for spent in (suite.info.spent, suite.analysis.spent, suite.analysis.clusters[0].spent):
        assert {each.usage.model: each.cost for each in spent} == {"gpt-4o": 2.5, "gpt-4o-mini": 0.375}
    assert "2 spans, LLM: 2 calls, 4,000,000 tokens, $2.88" in suite.tracetriage("show", "test_a.py::test_routes").out
    schema = jsonschema.Draft202012Validator(json.loads(suite.tracetriage("schema", "record").out))
    for line in (suite.last / "traces" / "main.jsonl").read_bytes().splitlines():
        schema.validate(json.loads(line))


def test_records_of_before_are_read():
    old = b'{"record":"span","id":"a","trace":"t","name":"n","start":0,"duration":0,"usage":{"model":"m","input":3}}'
    span = msgspec.json.decode(old, type=Span)
    assert (span.usages, Calls().new(span)) == ((Usage("m", input=3),), (Usage("m", input=3),))
    assert b"further" not in msgspec.json.encode(span)
