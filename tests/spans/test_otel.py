"""Spans of the OpenTelemetry SDK land in the trace of the test that ran, with all that the conventions say."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from capture.suite import Suite

PROVIDER = """
    from opentelemetry import trace
    from opentelemetry.sdk.trace import TracerProvider
    trace.set_tracer_provider(TracerProvider())
    tracer = trace.get_tracer("app")
"""
TEST_A = """
    import asyncio, pytest, threading
    from app import tracer
    from opentelemetry import context, trace
    from opentelemetry.trace import Status, StatusCode
    from pytest_tracetriage import span, step

    def chat(name="chat gpt-4o", **more):
        return tracer.start_as_current_span(name, attributes={
            "gen_ai.operation.name": "chat", "gen_ai.provider.name": "openai", "gen_ai.request.model": "gpt-4o",
            "gen_ai.usage.input_tokens": 100, "gen_ai.usage.output_tokens": 20, **more})

    def test_chat():
        with chat(**{
            "gen_ai.response.model": "gpt-4o-2024-08-06",
            "gen_ai.usage.cache_read.input_tokens": 40,
            "gen_ai.response.finish_reasons": ["tool_calls"],
            "gen_ai.system_instructions": '[{"type": "text", "content": "Be brief."}]',
            "gen_ai.input.messages": '[{"role": "user", "parts": [{"type": "text", "content": "Hi"}]}]',
            "gen_ai.output.messages": '[{"role": "assistant", "parts": []}]',
            "server.address": "api.example",
        }):
            pass

    def test_kinds():
        for name, attributes in {
            "agent": {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "Planner", "gen_ai.usage.input_tokens": 9},
            "tool": {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.call.arguments": '{"q": 1}',
                "gen_ai.tool.call.result": "two"},
            "embedding": {"gen_ai.operation.name": "embeddings", "gen_ai.request.model": "e", "gen_ai.usage.input_tokens": 8},
            "llm": {"openinference.span.kind": "LLM", "llm.token_count.prompt": 3, "input.value": "in",
                "output.value": '{"o": 1}'},
            "span": {"http.request.method": "GET"},
        }.items():
            with tracer.start_as_current_span(name, attributes=attributes): pass

    def test_older_names():
        with tracer.start_as_current_span("numbered", attributes={
            "llm.request.type": "chat", "gen_ai.system": "OpenAI", "gen_ai.prompt.0.role": "user",
            "gen_ai.prompt.0.content": "Hi", "gen_ai.prompt.1.role": "user", "gen_ai.completion.0.content": "Ho",
            "llm.usage.prompt_tokens": 5}): pass
        with tracer.start_as_current_span("events") as it:
            it.add_event("gen_ai.user.message", {"content": "Hi"})
            it.add_event("gen_ai.choice", {"index": 0, "message": "Ho"})

    def test_nested():
        with step("Fixer"):
            with tracer.start_as_current_span("outer"):
                with span("between"):
                    with tracer.start_as_current_span("inner"): pass
                with tracer.start_as_current_span("sibling"): pass

    def test_async():
        async def ask(n):
            with chat(f"ask {n}"):
                await asyncio.sleep(0)
        async def main():
            with tracer.start_as_current_span("gather"):
                await asyncio.gather(ask(1), ask(2))
        asyncio.run(main())

    def test_threads():
        here = context.get_current()
        with tracer.start_as_current_span("outer"):
            inside = context.get_current()
            def work():
                with tracer.start_as_current_span("alone"): pass
                token = context.attach(inside)
                with tracer.start_as_current_span("attached"): pass
                context.detach(token)
            thread = threading.Thread(target=work); thread.start(); thread.join()

    def test_errors():
        with pytest.raises(ValueError):
            with tracer.start_as_current_span("raises"): raise ValueError("no sku")
        with tracer.start_as_current_span("status") as it: it.set_status(Status(StatusCode.ERROR, "rate limit reached"))
        with tracer.start_as_current_span("typed", attributes={"error.type": "timeout"}) as it: it.set_status(StatusCode.ERROR)
        with tracer.start_as_current_span("mended") as it:
            it.record_exception(KeyError("x")); it.set_status(StatusCode.OK)
        with tracer.start_as_current_span("recorded") as it: it.record_exception(KeyError("x"))

    late = []
    def test_begins(): late.append(tracer.start_span("late"))
    def test_ends(): late.pop().end()
"""


@pytest.fixture(scope="module")
def suite(tmp_path_factory):
    suite = Suite(tmp_path_factory.mktemp("otel"), app=PROVIDER, test_a=TEST_A)
    result = suite.run()
    assert result.counts == {"passed": 9}, result.out
    assert result.warned == []
    return suite


def named(suite, test):
    trace = suite.trace(f"::{test}").id
    return {span.name: span for span in suite.spans if span.trace == trace}


def test_a_call_with_its_model_tokens_and_texts(suite):
    (chat,) = named(suite, "test_chat").values()
    assert (chat.kind, chat.source, chat.outcome, chat.stop_reason) == ("llm", "opentelemetry", "success", "tool_calls")
    assert (chat.usage.model, chat.usage.provider) == ("gpt-4o-2024-08-06", "openai")
    assert (chat.usage.input, chat.usage.output, chat.usage.cache_read) == (100, 20, 40)
    assert json.loads(chat.inputs) == {
        "system": [{"type": "text", "content": "Be brief."}],
        "messages": [{"role": "user", "parts": [{"type": "text", "content": "Hi"}]}],
    }
    assert json.loads(chat.output) == [{"role": "assistant", "parts": []}]
    assert chat.attributes["server.address"] == "api.example"
    assert not [key for key in chat.attributes if "usage" in key or "messages" in key]
    assert chat.duration >= 0
    assert abs(chat.start - suite.trace("::test_chat").start) < 5


def test_kinds_of_operations(suite):
    found = named(suite, "test_kinds")
    assert {name: span.kind for name, span in found.items()} == {
        name: name for name in ("agent", "tool", "embedding", "llm", "span")
    }
    assert found["agent"].component == "Planner"
    assert found["agent"].usage is None  # the sum of its calls, which are counted themselves
    assert (json.loads(found["tool"].inputs), json.loads(found["tool"].output)) == ({"q": 1}, "two")
    assert found["embedding"].usage.input == 8
    assert (json.loads(found["llm"].inputs), json.loads(found["llm"].output)) == ("in", {"o": 1})


def test_names_of_older_conventions(suite):
    found = named(suite, "test_older_names")
    assert json.loads(found["numbered"].inputs) == [{"role": "user", "content": "Hi"}, {"role": "user"}]
    assert json.loads(found["numbered"].output) == [{"content": "Ho"}]
    assert (found["numbered"].kind, found["numbered"].usage.input) == ("llm", 5)
    assert json.loads(found["events"].inputs) == [{"role": "user", "content": "Hi"}]
    assert json.loads(found["events"].output)[0]["message"] == "Ho"


def test_parents_are_kept_with_our_own_between_them(suite):
    found = named(suite, "test_nested")
    assert found["Fixer"].parent == ""
    assert found["outer"].parent == found["Fixer"].id
    assert found["between"].parent == found["sibling"].parent == found["outer"].id
    assert found["inner"].parent == found["between"].id


def test_coroutines(suite):
    found = named(suite, "test_async")
    assert found["ask 1"].parent == found["ask 2"].parent == found["gather"].id


def test_threads(suite):
    found = named(suite, "test_threads")
    assert found["alone"].parent == ""
    assert found["attached"].parent == found["outer"].id


def test_errors(suite):
    found = named(suite, "test_errors")
    assert {name: (span.outcome, span.error) for name, span in found.items()} == {
        "raises": ("failed", "ValueError: no sku"),
        "status": ("failed", "rate limit reached"),
        "typed": ("failed", "timeout"),
        "mended": ("success", ""),
        "recorded": ("failed", "KeyError: 'x'"),
    }


def test_a_span_belongs_to_the_test_in_which_it_began(suite):
    assert set(named(suite, "test_begins")) == {"late"}
    assert not named(suite, "test_ends")


def test_ids_never_repeat(suite):
    ids = [span.id for span in suite.spans]
    assert len(ids) == len(set(ids)) > 20


WHEN = {
    "before the tests begin": "from app import tracer\ndef test_it():\n    with tracer.start_as_current_span('a'): pass\n",
    "inside a test": "def test_it():\n    from app import tracer\n    with tracer.start_as_current_span('a'): pass\n",
    "behind a tracer": """\
from opentelemetry import trace
tracer = trace.get_tracer("early")
def test_it():
    from opentelemetry.sdk.trace import TracerProvider
    trace.set_tracer_provider(TracerProvider())
    with tracer.start_as_current_span('a'): pass
""",
    "for each test anew": """\
import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.util._once import Once
@pytest.fixture(params=[1, 2], autouse=True)
def provider():
    trace._TRACER_PROVIDER, trace._TRACER_PROVIDER_SET_ONCE = None, Once()
    trace.set_tracer_provider(TracerProvider())
def test_it():
    with trace.get_tracer("x").start_as_current_span('a'): pass
""",
}


@pytest.mark.parametrize("when", WHEN)
def test_a_provider_is_found_whenever_it_is_set(tmp_path, when):
    suite = Suite(tmp_path, {"test_a.py": WHEN[when]}, app=PROVIDER)
    suite.run()
    assert len(suite.spans) == len(suite.traces)
    assert {span.trace for span in suite.spans} == {trace.id for trace in suite.traces}


def test_one_that_a_conftest_set_is_found(tmp_path):
    suite = Suite(tmp_path, app=PROVIDER, conftest="import app", test_a=WHEN["before the tests begin"])
    suite.run()
    assert [span.name for span in suite.spans] == ["a"]


def test_the_project_still_exports_its_spans_itself(tmp_path):
    suite = Suite(
        tmp_path,
        test_a="""
        from opentelemetry import trace
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import SimpleSpanProcessor
        from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

        def test_it():
            exporter, provider = InMemorySpanExporter(), TracerProvider()
            provider.add_span_processor(SimpleSpanProcessor(exporter))
            trace.set_tracer_provider(provider)
            with trace.get_tracer("x").start_as_current_span("a"): pass
            assert provider.force_flush()
            assert [span.name for span in exporter.get_finished_spans()] == ["a"]
            provider.shutdown()
        """,
    )
    assert suite.run().counts == {"passed": 1}
    assert [span.name for span in suite.spans] == ["a"]


def test_no_content_keeps_shapes_only(tmp_path):
    suite = Suite(tmp_path, app=PROVIDER, test_a=TEST_A)
    suite.run("--tracetriage-no-content")
    (chat,) = named(suite, "test_chat").values()
    assert chat.inputs
    assert chat.output
    for text in ("Be brief", "Hi", "api.example"):
        assert text not in chat.inputs + chat.output + "".join(chat.attributes.values())
    assert chat.usage.input == 100
    assert chat.attributes["gen_ai.provider.name"] == "openai"
    assert chat.digest == named(suite, "test_chat")["chat gpt-4o"].digest


def test_under_xdist(tmp_path):
    suite = Suite(tmp_path, app=PROVIDER, test_a=TEST_A)
    assert suite.run("-n2", "-k", "not begins and not ends", plugins="xdist").counts == {"passed": 7}
    ids = [span.id for span in suite.spans]
    assert len(ids) == len(set(ids)) > 20
    assert set(named(suite, "test_chat")) == {"chat gpt-4o"}


def test_a_project_without_it_never_imports_it(tmp_path):
    suite = Suite(
        tmp_path,
        test_a="""
        import sys
        def test_it():
            ours = [name for name in sys.modules if name.startswith("pytest_tracetriage.capture.spans.")]
            assert not [name for name in sys.modules if name.partition(".")[0] in {"opentelemetry", "genai_prices"}]
            assert "pytest_tracetriage.capture.spans.otel" not in ours
        """,
    )
    assert suite.run().counts == {"passed": 1}


def test_nothing_is_seen_of_spans_when_it_is_off(tmp_path):
    suite = Suite(tmp_path, app=PROVIDER, test_a=TEST_A)
    assert suite.run(on=False).counts == {"passed": 9}
    assert not suite.folder.exists()


def test_the_loader_of_the_module_stays_its_own():
    text = """
import importlib.util, sys
from pytest_tracetriage.capture.spans.watch import ImportWatch
seen = []
watch = ImportWatch(frozenset({"opentelemetry.trace"}), seen.append, print)
watch.start()
import opentelemetry.trace
assert [module.__name__ for module in seen] == ["opentelemetry.trace"]
assert watch not in sys.meta_path
assert "exec_module" not in vars(opentelemetry.trace.__loader__)
assert opentelemetry.trace.__loader__.get_source("opentelemetry.trace")
ImportWatch(frozenset({"opentelemetry.trace"}), seen.append, print).start()
assert len(seen) == 2
"""
    subprocess.run([sys.executable, "-c", text], check=True, timeout=60)
