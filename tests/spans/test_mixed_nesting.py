"""Who stands in whom, where Weave, OpenTelemetry, `span` and `step` are mixed in any order."""

from __future__ import annotations

from collections import Counter

import pytest
from capture.suite import Suite
from spans.weave_http_server import WeaveServer

KINDS = "snwo"
TEST_A = """
    import asyncio, contextvars, threading, weave
    from opentelemetry import trace
    from opentelemetry.sdk.trace import TracerProvider
    from pytest_tracetriage import span, step

    trace.set_tracer_provider(TracerProvider())
    tracer = trace.get_tracer("suite")

    def opened(kind, path):
        if kind == "s": return step("Fixer", path)
        if kind == "n": return span(path)
        return tracer.start_as_current_span(path)

    def inside(kind, path, work):
        if kind == "w":
            return weave.op(work, name=path)()
        with opened(kind, path):
            return work()

    async def inside_soon(kind, path, work):
        if kind == "w":
            return await weave.op(work, name=path)()
        with opened(kind, path):
            return await work()

    def nest(deep, path=""):
        for kind in "snwo" if len(path) < deep else "":
            inside(kind, path + kind, lambda: nest(deep, path + kind))

    async def nest_soon(deep, path=""):
        async def one(kind):
            async def work():
                await asyncio.sleep(0)
                await nest_soon(deep, path + kind)
                await asyncio.sleep(0)
            await inside_soon(kind, path + kind, work)
        await asyncio.gather(*map(one, "snwo" if len(path) < deep else ""))

    def nest_in_threads(deep, path=""):
        def one(kind):
            inside(kind, path + kind, lambda: nest_in_threads(deep, path + kind))
        threads = [threading.Thread(target=contextvars.copy_context().run, args=(one, kind))
                   for kind in ("snwo" if len(path) < deep else "")]
        for thread in threads: thread.start()
        for thread in threads: thread.join()

    def test_plain(): nest(3)
    def test_coroutines(): asyncio.run(nest_soon(3))
    def test_threads(): nest_in_threads(3)
    def test_a_thread_that_outlives_what_began_it():
        def work(later):
            context = contextvars.copy_context()
            later.append(lambda: context.run(inside, "w", "snoww", lambda: None))
            later.append(lambda: context.run(inside, "o", "snowo", lambda: None))
        later = []
        deepest = lambda: inside("w", "snow", lambda: work(later))
        inside("s", "s", lambda: inside("n", "sn", lambda: inside("o", "sno", deepest)))
        for one in later: one()
    def test_a_parent_that_is_named():
        client = weave.get_client()
        call = client.create_call("w", {}, use_stack=False)
        with tracer.start_as_current_span("o") as outer, span("on"):
            client.finish_call(client.create_call("ww", {}, parent=call))
            elsewhere = trace.set_span_in_context(outer)
            with step("Fixer", "ons"), tracer.start_as_current_span("onso"):
                tracer.start_span("oo", context=elsewhere).end()
        client.finish_call(call)
    def test_left_open():
        weave.get_client().create_call("w", {})
        trace.set_span_in_context(tracer.start_span("o"))
        inside("s", "ws", lambda: inside("o", "wso", lambda: None))
    def test_after(): nest(1)
"""


@pytest.fixture(scope="module", params=["local", "cloud"])
def suite(request, tmp_path_factory):
    suite = Suite(tmp_path_factory.mktemp("mixed"), test_a=TEST_A)
    with WeaveServer() as server:
        asked = ["--tracetriage-weave-project=team/project"] if request.param == "cloud" else []
        result = suite.run(*asked, "-pno:warnings", env=server.environ)
    assert (result.counts, result.warned) == ({"passed": len(suite.traces)}, []), result.out
    assert len(suite.traces) == 7
    return suite


def paths(suite, test):
    """Return how often each path stands in the tree, as `path below parent's path`."""
    spans = [span for span in suite.spans if span.trace == suite.trace(f"::{test}").id]
    names = {span.id: span.name for span in spans}
    return Counter(f"{span.name} below {names.get(span.parent, span.parent)}" for span in spans)


def wanted(deep):
    found, level = Counter(), [""]
    for _ in range(deep):
        below = [path + kind for path in level for kind in KINDS]
        found.update(f"{path} below {path[:-1]}" for path in below)
        level = below
    return found


@pytest.mark.parametrize(("test", "deep"), [("test_plain", 3), ("test_coroutines", 3), ("test_threads", 3), ("test_after", 1)])
def test_each_span_stands_in_the_innermost(suite, test, deep):
    assert paths(suite, test) == wanted(deep)


def test_what_a_copied_context_knows_outlives_it(suite):
    assert paths(suite, "test_a_thread_that_outlives_what_began_it") == Counter(
        f"{path} below {path[:-1]}" for path in ("s", "sn", "sno", "snow", "snoww", "snowo")
    )


def test_a_parent_that_the_program_names_is_kept(suite):
    assert paths(suite, "test_a_parent_that_is_named") == Counter(
        ["w below ", "ww below w", "o below ", "on below o", "ons below on", "onso below ons", "oo below o"]
    )


def test_a_call_that_is_left_open_is_what_weave_says_it_is(suite):
    assert paths(suite, "test_left_open") == Counter(["w below ", "ws below w", "wso below ws"])
