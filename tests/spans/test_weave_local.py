"""Weave without an account: what ops and SDKs do stands under the test that did it, and nothing leaves the machine."""

from __future__ import annotations

import json
import sys

import pytest
from capture.suite import Suite
from model_server import ModelServer
from spans.obedient_model import obey

GUARD = """
    import atexit, os, pathlib, socket

    usual = {name: getattr(socket.socket, name) for name in ("connect", "connect_ex")}
    log = pathlib.Path(__file__).with_name("sockets.txt")

    def guarded(name):
        def connect(self, address):
            with log.open("a") as file:
                print(address, file=file)
            if self.family != socket.AF_UNIX and address[0] not in ("127.0.0.1", "::1", "localhost"):
                raise OSError(f"this test forbids {address}")
            return usual[name](self, address)
        return connect

    for name in usual:
        setattr(socket.socket, name, guarded(name))
    lookup = socket.getaddrinfo
    def getaddrinfo(host, *args, **options):
        with log.open("a") as file:
            print("lookup", host, file=file)
        if host not in ("127.0.0.1", "::1", "localhost", None):
            raise OSError(f"this test forbids {host}")
        return lookup(host, *args, **options)
    socket.getaddrinfo = getaddrinfo
"""
CONFTEST = (
    GUARD
    + """
    import weave
    weave.init("someone/project")
"""
)
TEST_A = """
    import asyncio, json, os, threading, pytest, weave, openai
    from pytest_tracetriage import step

    client, waiting = openai.OpenAI(max_retries=0), lambda: openai.AsyncOpenAI(max_retries=0)
    def ask(text, **more):
        return client.chat.completions.create(model="gpt-4o-mini", messages=[{"role": "user", "content": text}], **more)

    @weave.op
    def upper(text): return text.upper()

    @weave.op
    def length(text): return len(text)

    class Fixer:
        @weave.op
        def propose(self, bug):
            upper(bug)
            return ask(bug).choices[0].message.content

    class Writer(Fixer): pass
    class SearchAgent:
        @weave.op
        def run(self): return 1

    @weave.op(kind="tool")
    def grep(pattern): return pattern

    @weave.op
    async def soon(n):
        await asyncio.sleep(0)
        return n

    def test_sync(): assert Fixer().propose("hello cached 5 reason 7") == "echo hello cached 5 reason 7"
    def test_inherited(): Writer().propose("say x")
    def test_agent(): SearchAgent().run()
    def test_tool(): grep("x")
    def test_async():
        async def main():
            await asyncio.gather(soon(1), soon(2))
            await waiting().chat.completions.create(model="gpt-4o", messages=[{"role": "user", "content": "x"}])
        asyncio.run(main())
    def test_stream():
        parts = [part for part in ask("one two", stream=True, stream_options={"include_usage": True})]
        assert len(parts) > 3
    def test_async_stream():
        async def main():
            stream = await waiting().chat.completions.create(
                model="gpt-4o", stream=True, messages=[{"role": "user", "content": "x y"}],
                stream_options={"include_usage": True})
            return [part async for part in stream]
        asyncio.run(main())
    def test_threads():
        @weave.op
        def outer():
            with weave.ThreadPoolExecutor(2) as pool: list(pool.map(upper, ["a", "b"]))
        outer()
        plain = threading.Thread(target=upper, args=("c",))
        plain.start(); plain.join()
    def test_fails(): Fixer().propose("rate limit")
    def test_responses():
        client.responses.create(model="gpt-5", input="hello reason 3")
        with client.responses.stream(model="gpt-5", input="hello") as stream:
            for _ in stream: pass
    def test_embeds(): client.embeddings.create(model="text-embedding-3-small", input=["a b", "c"])
    def test_init_finish():
        own = weave.init("else/where", settings={"print_call_link": True})
        upper("before")
        assert [call.inputs["text"] for call in own.get_calls()] == ["before"]
        weave.finish()
        upper("after")
    def test_publish():
        reference = weave.publish({"a": [1, 2]}, name="thing")
        assert dict(reference.get())["a"] == [1, 2]
    def test_evaluation():
        @weave.op
        def scored(x): return x
        @weave.op
        def right(output): return {"right": output == 1}
        told = asyncio.run(weave.Evaluation(dataset=[{"x": 1}, {"x": 2}], scorers=[right]).evaluate(scored))
        assert told["right"]["right"]["true_count"] == 1
    def test_steps_and_ops():
        @weave.op
        def outer():
            with step("Verifier", "inside"): upper("deep")
        with step("Tester", "around"): outer()
    def test_leaves_a_call_open(): weave.get_client().create_call("left", {"a": 1})
    def test_after(): upper("z")
    def test_secrets():
        upper("token ghp_" + 4 * "0123456789")
        length({"password": "hunter2-hunter2", "rows": list(range(5000)), "text": "x" * 100_000})
    def test_same_twice(): upper("same"); upper("same"); upper("other")
    def test_prints_nothing(capfd):
        upper("quiet")
        assert capfd.readouterr() == ("", "")
    def test_environment_is_its_own():
        assert not [name for name in os.environ if name.startswith("WEAVE_") or name == "WANDB_ERROR_REPORTING"]
    def test_fork():
        pid = os.fork()
        if not pid:
            upper("child")
            os._exit(0)
        os.waitpid(pid, 0)
    def test_no_threads_of_weave():
        assert not [thread.name for thread in threading.enumerate() if "eave" in thread.name]
"""


@pytest.fixture(scope="module")
def server():
    with ModelServer(obey) as server:
        yield server


@pytest.fixture(scope="module")
def run(tmp_path_factory, server):
    suite = Suite(tmp_path_factory.mktemp("weave"), conftest=CONFTEST, test_a=TEST_A)
    env = {"OPENAI_BASE_URL": server.url, "OPENAI_API_KEY": "sk-" + 4 * "0123456789", "WANDB_API_KEY": 4 * "0123456789"}
    return suite, suite.run("-W", "ignore::DeprecationWarning", env=env)


@pytest.fixture(scope="module")
def suite(run):
    return run[0]


@pytest.fixture
def spans(suite):
    return lambda name: [span for span in suite.spans if span.trace == suite.trace(f"::{name}").id]


def by_name(spans):
    assert len({span.name for span in spans}) == len(spans), spans
    return {span.name: span for span in spans}


CHAT = "openai.chat.completions.create"


def test_the_run_is_what_it_was(run):
    suite, result = run

    assert result.counts == {"passed": len(suite.traces) - 1, "failed": 1}, result.out
    assert suite.outcomes()["test_fails"] == "failed"
    assert result.warned == []


def test_no_connection_leaves_the_machine(suite, server):
    port = server.url.split(":")[2].split("/")[0]
    seen = (suite.root / "sockets.txt").read_text().splitlines()

    assert seen
    assert {line for line in seen if not line.startswith("lookup")} == {f"('127.0.0.1', {port})"}
    assert {line for line in seen if line.startswith("lookup")} <= {"lookup 127.0.0.1", "lookup localhost"}


def test_ops_and_calls_nest(spans):
    found = by_name(spans("test_sync"))

    assert found["Fixer.propose"].parent == ""
    assert found["upper"].parent == found[CHAT].parent == found["Fixer.propose"].id
    assert {span.source for span in found.values()} == {"weave"}
    assert (found["upper"].kind, found[CHAT].kind, found["Fixer.propose"].component) == ("op", "llm", "Fixer")
    assert json.loads(found["upper"].inputs) == {"text": "hello cached 5 reason 7"}
    assert json.loads(found["upper"].output) == "HELLO CACHED 5 REASON 7"
    assert 0 < found[CHAT].duration <= found["Fixer.propose"].duration < 30


def test_the_component_is_the_class_or_an_agent(spans):
    assert {span.component for span in spans("test_inherited") if span.name == "Fixer.propose"} == {"Fixer"}
    assert [span.component for span in spans("test_agent")] == ["SearchAgent"]
    assert [(span.kind, span.component) for span in spans("test_tool")] == [("tool", "")]


def test_tokens_are_those_of_the_server(suite, server):
    sent = [entry for entry in server.log if entry["usage"]]
    found = [span.usage for span in suite.spans if span.usage]

    assert len(found) == len(sent) == 8
    for key, model in (("input", "prompt_tokens"), ("output", "completion_tokens")):
        other = {"prompt_tokens": "input_tokens", "completion_tokens": "output_tokens"}[model]
        wanted = sorted((entry["model"], entry["usage"].get(model, entry["usage"].get(other, 0))) for entry in sent)
        assert sorted((usage.model, getattr(usage, key)) for usage in found) == wanted
    assert (sum(usage.cache_read for usage in found), sum(usage.reasoning for usage in found)) == (5, 10)


def test_coroutines(spans):
    found = spans("test_async")

    assert sorted(span.name for span in found) == [CHAT, "soon", "soon"]
    assert {span.parent for span in found} == {""}


@pytest.mark.parametrize("name", ["test_stream", "test_async_stream"])
def test_streams_are_whole(spans, name):
    (span,) = spans(name)

    assert "echo " in json.loads(span.output)["choices"][0]["message"]["content"]
    assert span.usage.output > 1


def test_threads(spans):
    found = spans("test_threads")
    outer = next(span for span in found if span.name == "outer")

    assert sorted((json.loads(span.inputs)["text"], span.parent) for span in found if span.name == "upper") == [
        ("a", outer.id),
        ("b", outer.id),
        ("c", ""),
    ]


def test_a_failing_call(spans):
    found = by_name(spans("test_fails"))

    assert found["upper"].outcome == "success"
    for name in (CHAT, "Fixer.propose"):
        assert found[name].outcome == "failed"
        assert found[name].error.startswith("RateLimitError: Error code: 429")
        assert (found[name].output, found[name].usage) == ("", None)


def test_responses_and_embeddings(spans):
    first, second = spans("test_responses")
    (embedded,) = spans("test_embeds")

    assert (first.name, first.kind, first.usage.reasoning) == ("openai.responses.create", "llm", 3)
    assert json.loads(second.inputs) == {"extra_body": None, "extra_headers": None, "extra_query": None, "input": "hello",
                                         "model": "gpt-5", "stream": True}  # fmt: skip
    assert (embedded.kind, embedded.usage.input) == ("embedding", 3)


def test_init_and_finish_of_the_program_change_nothing(spans):
    assert [json.loads(span.inputs)["text"] for span in spans("test_init_finish")] == ["before", "after"]


def test_an_evaluation(spans):
    names = [span.attributes.get("op", span.name) for span in spans("test_evaluation")]

    assert (names.count("scored"), names.count("right"), names.count("Evaluation.evaluate")) == (2, 2, 1)


def test_steps_and_ops_stand_in_each_other(spans):
    found = by_name(spans("test_steps_and_ops"))

    assert found["around"].parent == ""
    assert found["outer"].parent == found["around"].id
    assert found["inside"].parent == found["outer"].id
    assert found["upper"].parent == found["inside"].id


def test_a_call_that_never_ends(spans):
    (left,) = spans("test_leaves_a_call_open")
    (after,) = spans("test_after")

    assert (left.name, left.outcome, left.stop_reason) == ("left", "stuck", "had not ended when the run did")
    assert after.parent == ""


def test_what_is_written_is_redacted_and_bounded(suite, spans):
    token, big = spans("test_secrets")

    assert json.loads(token.inputs)["text"].startswith("token [redacted ")
    assert json.loads(token.output).startswith("TOKEN ")
    for text in (big.inputs, big.error):
        assert len(text.encode()) <= 4096
    assert json.loads(big.inputs)["text"]["password"].startswith("[redacted ")
    written = b"".join(suite.bytes_written().values())
    assert b"hunter2-hunter2" not in written
    assert b"ghp_0123456789" not in written


def test_the_same_call_has_the_same_digest(spans):
    one, two, other = spans("test_same_twice")

    assert one.digest == two.digest != other.digest


@pytest.mark.skipif(sys.platform == "win32", reason="forks")
def test_a_forked_child(spans):
    (span,) = spans("test_fork")

    assert json.loads(span.inputs) == {"text": "child"}


def test_ids_never_repeat(suite):
    ids = [span.id for span in suite.spans]

    assert len(ids) == len(set(ids))
