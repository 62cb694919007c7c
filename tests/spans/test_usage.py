"""Tokens by the names that providers and conventions give them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_tracetriage.capture.spans.genai import MAX_TOKENS, usage_of_attributes, usage_of_summary
from pytest_tracetriage.capture.spans.weave_calls import Call, Naming, span_of
from pytest_tracetriage.model.trace import Usage

OPENAI_CHAT = {
    "requests": 1,
    "prompt_tokens": 2006,
    "completion_tokens": 300,
    "total_tokens": 2306,
    "prompt_tokens_details": {"cached_tokens": 1920, "audio_tokens": 0},
    "completion_tokens_details": {"reasoning_tokens": 192, "accepted_prediction_tokens": 0},
}
OPENAI_RESPONSES = {
    "input_tokens": 328,
    "input_tokens_details": {"cached_tokens": 128},
    "output_tokens": 52,
    "output_tokens_details": {"reasoning_tokens": 32},
    "total_tokens": 380,
}
ANTHROPIC = {
    "input_tokens": 21,
    "cache_creation_input_tokens": 188_086,
    "cache_read_input_tokens": 1_000,
    "output_tokens": 393,
    "service_tier": "standard",
}


@pytest.mark.parametrize(
    ("given_usage", "expected"),
    [
        (OPENAI_CHAT, Usage("m", input=2006, output=300, cache_read=1920, reasoning=192)),
        (OPENAI_RESPONSES, Usage("m", input=328, output=52, cache_read=128, reasoning=32)),
        ({"prompt_tokens": 8, "total_tokens": 8}, Usage("m", input=8)),
        (ANTHROPIC, Usage("m", input=189_107, output=393, cache_creation=188_086, cache_read=1_000)),
        ({**ANTHROPIC, "cache_creation_input_tokens": None}, Usage("m", input=1_021, output=393, cache_read=1_000)),
        (
            {**ANTHROPIC, "cache_creation": {"ephemeral_5m_input_tokens": 86, "ephemeral_1h_input_tokens": 188_000}},
            Usage("m", input=189_107, output=393, cache_creation=188_086, cache_read=1_000, cache_creation_1h=188_000),
        ),
        (
            {"input_tokens": 1, "output_tokens": 2, "cache_creation": {"ephemeral_1h_input_tokens": 9}},
            Usage("m", input=1, output=2),
        ),
        # LiteLLM speaks OpenAI's names with Anthropic's counts beside them: its prompt_tokens include the cache
        (
            {"prompt_tokens": 500, "completion_tokens": 5, "cache_read_input_tokens": 400, "cache_creation_input_tokens": 50},
            Usage("m", input=500, output=5, cache_creation=50, cache_read=400),
        ),
        ({"requests": 3, "prompt_tokens": 9, "completion_tokens": 3}, Usage("m", input=9, output=3, requests=3)),
        ({"requests": 1}, Usage("m")),
        ({"prompt_tokens": 0, "completion_tokens": 0}, Usage("m")),
        # both names at once are one count
        ({"prompt_tokens": 9, "input_tokens": 9, "completion_tokens": 3, "output_tokens": 3}, Usage("m", input=9, output=3)),
    ],
)
def test_what_providers_report(given_usage, expected):
    assert usage_of_summary("m", given_usage) == expected


@pytest.mark.parametrize("nothing", [{}, {"total_cost": 3}, {"prompt_tokens_details": {"cached_tokens": 3}}])
def test_what_says_nothing_is_no_usage(nothing):
    assert usage_of_summary("m", nothing) is None


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        (
            {
                "gen_ai.operation.name": "chat",
                "gen_ai.provider.name": "openai",
                "gen_ai.request.model": "gpt-4o",
                "gen_ai.response.model": "gpt-4o-2024-08-06",
                "gen_ai.usage.input_tokens": 100,
                "gen_ai.usage.output_tokens": 180,
                "gen_ai.usage.cache_read.input_tokens": 50,
                "gen_ai.usage.cache_creation.input_tokens": 25,
                "gen_ai.usage.reasoning.output_tokens": 30,
            },
            Usage("gpt-4o-2024-08-06", "openai", 100, 180, 25, 50, 30),
        ),
        (
            {
                "gen_ai.system": "anthropic",
                "gen_ai.request.model": "claude",
                "gen_ai.usage.prompt_tokens": 9,
                "gen_ai.usage.completion_tokens": 2,
                "gen_ai.usage.cache_read_input_tokens": 4,
            },
            Usage("claude", "anthropic", 9, 2, cache_read=4),
        ),
        (
            {
                "openinference.span.kind": "LLM",
                "llm.model_name": "gpt-4o-mini",
                "llm.provider": "azure",
                "llm.token_count.prompt": 12,
                "llm.token_count.completion": 34,
                "llm.token_count.prompt_details.cache_read": 5,
                "llm.token_count.prompt_details.cache_write": 6,
                "llm.token_count.completion_details.reasoning": 7,
            },
            Usage("gpt-4o-mini", "azure", 12, 34, 6, 5, 7),
        ),
        ({"gen_ai.operation.name": "embeddings", "gen_ai.usage.input_tokens": 8}, Usage("", input=8)),
        # who leaves the cache out of the input is understood
        (
            {"gen_ai.usage.input_tokens": 3, "gen_ai.usage.cache_read.input_tokens": 40},
            Usage("", input=43, cache_read=40),
        ),
    ],
)
def test_what_conventions_report(attributes, expected):
    assert usage_of_attributes(attributes) == expected


@pytest.mark.parametrize(
    "of_a_sum",
    [
        {"gen_ai.operation.name": "invoke_agent"},
        {"gen_ai.operation.name": "execute_tool"},
        {"openinference.span.kind": "CHAIN"},
        {"openinference.span.kind": "AGENT"},
    ],
)
def test_the_sum_of_an_agent_is_not_counted_again(of_a_sum):
    assert usage_of_attributes({**of_a_sum, "gen_ai.usage.input_tokens": 8, "llm.token_count.prompt": 8}) is None


def test_a_span_without_counts_has_no_usage():
    assert usage_of_attributes({"gen_ai.operation.name": "chat", "gen_ai.request.model": "gpt-4o"}) is None


JUNK = st.one_of(
    st.none(),
    st.booleans(),
    st.text(max_size=5),
    st.integers(),
    st.floats(),
    st.lists(st.integers(), max_size=2),
    st.dictionaries(st.sampled_from(["cached_tokens", "reasoning_tokens"]), st.one_of(st.integers(), st.text(max_size=3))),
)
KEYS = st.sampled_from([*OPENAI_CHAT, *OPENAI_RESPONSES, *ANTHROPIC])
NAMES = st.sampled_from(
    [
        "gen_ai.usage.input_tokens",
        "gen_ai.usage.output_tokens",
        "gen_ai.usage.cache_read.input_tokens",
        "gen_ai.usage.reasoning.output_tokens",
        "llm.token_count.prompt",
        "gen_ai.request.model",
        "gen_ai.operation.name",
        "openinference.span.kind",
    ]
)


@given(st.dictionaries(KEYS, JUNK))
def test_any_summary_gives_counts_that_fit_together(usage):
    check(usage_of_summary("m", usage))


@given(st.dictionaries(NAMES, JUNK))
def test_any_attributes_give_counts_that_fit_together(attributes):
    check(usage_of_attributes(attributes))


def check(found):
    if found is None:
        return
    assert 0 <= found.cache_read + found.cache_creation <= found.input <= 3 * MAX_TOKENS
    assert 0 <= found.reasoning <= found.output <= 2 * MAX_TOKENS
    assert found.requests >= 1


@pytest.mark.parametrize("gross", [True, False], ids=["weave-0.54", "weave-0.52"])
def test_what_anthropic_took_from_a_cache_counts_once_whatever_weave_adds(gross):
    usage = {**ANTHROPIC, "input_tokens": 189_107} if gross else ANTHROPIC
    call = Call("c", "anthropic.Messages.create", "t", "", None, {"started_at": 1.0}, 1)
    end = {"ended_at": 2.0, "summary": {"usage": {"claude": usage}}, "output": {"_class_name": "Message", "usage": ANTHROPIC}}
    assert span_of(call, end, Naming()).usage == Usage(
        "claude", input=189_107, output=393, cache_creation=188_086, cache_read=1_000
    )
