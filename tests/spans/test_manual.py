"""`span(...)`: one operation, by hand, in a suite that runs."""

from __future__ import annotations

import json

import pytest
from capture.suite import Suite

from pytest_tracetriage import span, step

TEST_A = """
    import asyncio, threading, pytest
    from pytest_tracetriage import span, step

    def test_says_all():
        with span("ask", kind="llm", inputs={"q": [1, "why"]}, component="Fixer", retries=2, url="https://a.example") as ask:
            ask.set("output", {"answer": 42})
            ask.set("seed", 7)
            ask.usage("gpt-4o", input=100, output=20, cache_read=40, cache_creation=5, reasoning=8, provider="openai")

    def test_nested():
        with span("outer"):
            with step("Fixer"):
                with span("inner", kind="tool"):
                    pass
            with span("second"):
                pass

    def test_raises():
        with pytest.raises(KeyError):
            with span("breaks"):
                raise KeyError("sku")

    @span("search", kind="tool", index="products")
    def search(a, *, b=1):
        "Documented."
        return a + b

    @span("ask")
    async def ask(n):
        await asyncio.sleep(0)
        if n: raise ValueError(n)
        return n

    @span("stream")
    def stream():
        got = yield 1
        assert got == "more"
        with span("part"): pass
        yield 2
        return 3

    @span("drops")
    async def drops(n):
        for i in range(n): yield i

    def test_decorated():
        assert search(1, b=2) == search(2, b=1) == 3
        assert (search.__name__, search.__doc__) == ("search", "Documented.")

    def test_async():
        async def main():
            with span("gather"):
                return await asyncio.gather(ask(0), ask(1), return_exceptions=True)
        assert asyncio.run(main())[0] == 0

    def test_generators():
        items = stream()
        assert next(items) == 1 and items.send("more") == 2
        with pytest.raises(StopIteration): next(items)
        early = stream(); next(early); early.close()
        async def main(): return [item async for item in drops(3)]
        assert asyncio.run(main()) == [0, 1, 2]

    def test_thread():
        def work():
            with span("in a thread"): pass
        thread = threading.Thread(target=work); thread.start(); thread.join()

    def test_long():
        with span("n" * 1000, **{"k" * 300: "v" * 5000}) as it:
            for i in range(100): it.set(f"a{i}", i)

    class Bad:
        def __repr__(self): raise RuntimeError("no repr")

    def test_hostile():
        with span("bad", value=Bad(), inputs=Bad()): pass
        with span("surrogate \\ud800", inputs={"\\udfff": "\\ud800"}, text="\\ud800"): pass

    def test_secret():
        with span("call", inputs={"password": "hunter2hunter2"}, header="Bearer " + "a1b2c3d4" * 4):
            pass
"""


@pytest.fixture(scope="module")
def suite(tmp_path_factory):
    suite = Suite(tmp_path_factory.mktemp("manual"), test_a=TEST_A)
    result = suite.run()
    assert result.counts == {"passed": 10}, result.out
    assert result.warned == []
    return suite


def named(suite, test):
    trace = suite.trace(f"::{test}").id
    return {span.name: span for span in suite.spans if span.trace == trace}


def test_everything_said_is_kept(suite):
    ask = named(suite, "test_says_all")["ask"]
    assert (ask.kind, ask.component, ask.outcome, ask.source, ask.error) == ("llm", "Fixer", "success", "", "")
    assert json.loads(ask.inputs) == {"q": [1, "why"]}
    assert json.loads(ask.output) == {"answer": 42}
    assert ask.attributes == {"retries": "2", "url": "https://a.example", "seed": "7"}
    usage = ask.usage
    assert (usage.model, usage.provider, usage.input, usage.output) == ("gpt-4o", "openai", 100, 20)
    assert (usage.cache_read, usage.cache_creation, usage.reasoning, usage.requests) == (40, 5, 8, 1)
    assert ask.digest


def test_spans_and_steps_stand_in_each_other(suite):
    found = named(suite, "test_nested")
    assert found["outer"].parent == ""
    assert found["Fixer"].parent == found["second"].parent == found["outer"].id
    assert found["inner"].parent == found["Fixer"].id
    assert (found["inner"].kind, found["Fixer"].kind) == ("tool", "step")


def test_an_exception_makes_it_failed_and_passes_through(suite):
    found = named(suite, "test_raises")["breaks"]
    assert (found.outcome, found.error) == ("failed", "KeyError: 'sku'")


def test_decorated_functions(suite):
    trace = suite.trace("::test_decorated").id
    calls = [span for span in suite.spans if span.trace == trace]
    assert [(call.name, call.kind, call.attributes) for call in calls] == [("search", "tool", {"index": "products"})] * 2


def test_coroutines_keep_their_parents(suite):
    trace = suite.trace("::test_async").id
    spans = [span for span in suite.spans if span.trace == trace]
    gather = next(span for span in spans if span.name == "gather")
    assert sorted((span.outcome, span.parent) for span in spans if span.name == "ask") == [
        ("failed", gather.id),
        ("success", gather.id),
    ]


def test_generators_end_when_they_are_exhausted_or_closed(suite):
    trace = suite.trace("::test_generators").id
    spans = [span for span in suite.spans if span.trace == trace]
    assert [span.outcome for span in spans if span.name == "stream"] == ["success", "success"]
    assert {span.name for span in spans} == {"stream", "part", "drops"}


def test_a_thread_belongs_to_the_running_test(suite):
    assert "in a thread" in named(suite, "test_thread")


def test_everything_is_bounded(suite):
    (found,) = named(suite, "test_long").values()
    assert len(found.name) == 200
    assert len(found.attributes) <= 32
    assert max(len(key) + len(value) for key, value in found.attributes.items()) <= 700


def test_what_cannot_be_shown_costs_nothing_else(suite):
    found = named(suite, "test_hostile")
    assert found["bad"].attributes["value"] == "<Bad, whose repr raised RuntimeError>"
    assert any(name.startswith("surrogate") for name in found)


def test_secrets_are_redacted(suite):
    written = b"".join(suite.bytes_written().values())
    assert b"hunter2" not in written
    assert b"a1b2c3d4a1b2c3d4" not in written
    assert b"[redacted " in written


def test_no_content_keeps_shapes_only(tmp_path):
    suite = Suite(
        tmp_path,
        test_a="""
        from pytest_tracetriage import span

        def test_it():
            with span("ask", inputs={"question": "whose secret plan"}, note="whose secret note", retries=2) as ask:
                ask.set("output", ["whose secret answer"])
                ask.usage("gpt-4o", input=3)
        """,
    )
    suite.run("--tracetriage-no-content")
    (found,) = suite.spans
    assert b"whose secret" not in b"".join(suite.bytes_written().values())
    assert "question" in found.inputs
    assert found.output
    assert found.attributes["retries"] == "2"
    assert set(found.attributes) == {"note", "retries"}
    assert found.usage.input == 3
    assert found.digest


def test_the_same_call_has_the_same_digest_with_and_without_content(tmp_path):
    suite = Suite(
        tmp_path,
        test_a="""
        from pytest_tracetriage import span

        def test_it():
            for question in ("a", "a", "b"):
                with span("ask", inputs={"question": question}): pass
        """,
    )
    suite.run("--tracetriage-no-content")
    digests = [span.digest for span in suite.spans]
    assert digests[0] == digests[1] != digests[2]


def test_without_a_recorder_it_is_only_a_clock():
    @span("search")
    def search():
        return 1

    with span("outer") as outer, step("Fixer"):
        outer.set("a", 1)
        outer.usage("m", input=1)
        assert search() == 1
    with pytest.raises(KeyError), span("breaks"):
        raise KeyError


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (lambda: span(""), "expected the name of an operation"),
        (lambda: span(3), "expected the name of an operation"),
        (lambda: span("a", kind="step"), "kind 'step': expected one of span, op, llm"),
        (lambda: span("a").set("", 1), "expected the name of an attribute"),
        (lambda: span("a").usage("", input=1), "expected the name of a model"),
        (lambda: span("a").usage("m", input=-1), "input=-1"),
        (lambda: span("a").usage("m", input=1.5), "input=1.5"),
        (lambda: span("a").usage("m", output=True), "output=True"),
        (lambda: span("a").usage("m", input=10, cache_read=8, cache_creation=3), "has to include"),
        (lambda: span("a").usage("m", output=1, reasoning=2), "has to include"),
    ],
)
def test_mistakes_are_told(wrong, said):
    with pytest.raises(ValueError, match=said):
        wrong()
