"""When weave is imported, and what becomes of spans when a process does not end as it should."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from capture.suite import Suite
from model_server import ModelServer
from spans.obedient_model import obey

ROOT = Path(__file__).parents[2]
IMPORTED = """
    import atexit, sys
    @atexit.register
    def tell():
        heavy = {name.partition(".")[0] for name in sys.modules} & {"weave", "openai", "opentelemetry", "genai_prices"}
        print("HEAVY", sorted(heavy), "WATCH", [type(finder).__name__ for finder in sys.meta_path].count("ImportWatch"))
"""
OP = "import weave, os, signal\n@weave.op\ndef work(n): return n\n"


def heavy(result):
    return next(line for line in result.lines if line.startswith("HEAVY"))


WATCHES = """
    import pathlib, sys
    from pytest_tracetriage.capture.spans.watch import ImportWatch

    folder = pathlib.Path(sys.argv[1])
    def raising(module): raise LookupError(module.__name__)
    during, seen, troubles = [], [], []
    class During:
        def __init__(self, name): during.append(name)
        def __enter__(self): during.append("in")
        def __exit__(self, *_): during.append("out")
    def watching(*names, tell=seen.append):
        watch = ImportWatch(frozenset(names), tell, troubles.append, During)
        watch.start()
        return watch
"""


@pytest.mark.parametrize(
    "text",
    [
        """
        watch = watching("one", "two", "pack.three")
        import two
        assert [module.__name__ for module in seen] == ["two"] and during == ["two", "in", "out"]
        assert watch not in sys.meta_path and "exec_module" not in vars(two.__loader__)
        import one, pack.three
        assert len(seen) == 1
        """,
        """
        import two
        watching("one", "two")
        assert [module.__name__ for module in seen] == ["two"]
        """,
        """
        watch = watching("one", tell=raising)
        import one
        assert [str(trouble) for trouble in troubles] == ["one"] and watch not in sys.meta_path
        """,
        """
        watch = watching("broken", "one")
        try: import broken
        except ZeroDivisionError: pass
        assert during == ["broken", "in", "out"] and not seen and watch in sys.meta_path
        (folder / "broken.py").write_text("")
        import importlib; importlib.invalidate_caches()
        import broken
        assert [module.__name__ for module in seen] == ["broken"]
        """,
        """
        import importlib.machinery, importlib.util
        class Slots:
            __slots__ = ()
            def create_module(self, spec): return None
            def exec_module(self, module): module.x = 1
        class Finder:
            @staticmethod
            def find_spec(name, path, target=None):
                return importlib.machinery.ModuleSpec(name, Slots()) if name == "slotted" else None
        sys.meta_path.insert(0, Finder)
        watching("slotted", "one")
        import slotted
        assert slotted.x == 1 and not seen
        import one
        assert [module.__name__ for module in seen] == ["one"]
        """,
        """
        import importlib.machinery
        class Shared:
            def create_module(self, spec): return None
            def exec_module(self, module): module.x = 1
        shared = Shared()
        class Finder:
            @staticmethod
            def find_spec(name, path, target=None):
                return importlib.machinery.ModuleSpec(name, shared) if name.startswith("shared_") else None
        sys.meta_path.insert(0, Finder)
        watching("shared_a")
        import importlib.util
        importlib.util.find_spec("shared_a")
        import shared_b
        assert not seen and shared_b.x == 1
        import shared_a
        assert [module.__name__ for module in seen] == ["shared_a"] and shared_a.x == 1 and "exec_module" not in vars(shared)
        """,
        """
        watch = watching("one")
        watch.stop()
        import one
        assert not seen and not during and watch not in sys.meta_path
        """,
    ],
    ids=["first of several", "already there", "trouble", "a broken import", "slots", "a loader of several", "stopped"],
)
def test_imports_are_seen(tmp_path, text):
    Suite(tmp_path, {"broken.py": "1 / 0\n", "pack/three.py": ""}, one="", two="")
    code = textwrap.dedent(WATCHES) + textwrap.dedent(text)
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)]), "PYTHONDONTWRITEBYTECODE": "1"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert (done.returncode, done.stderr) == (0, "")


@pytest.fixture
def openai_env():
    with ModelServer(obey) as server:
        yield {"OPENAI_BASE_URL": server.url, "OPENAI_API_KEY": "x"}


def texts(spans):
    return [json.loads(span.inputs)["n"] for span in spans]


def test_a_project_without_weave_never_imports_it(tmp_path):
    suite = Suite(
        tmp_path, conftest=IMPORTED, test_a="import json, asyncio\ndef test_a(): assert 0\ndef test_b(): import email.mime\n"
    )

    assert heavy(suite.run()) == "HEAVY [] WATCH 0"


def test_an_idle_run_does_not_watch(tmp_path):
    suite = Suite(tmp_path, conftest=IMPORTED, test_a="def test_a(): import openai\n")

    assert heavy(suite.run(on=False)) == "HEAVY ['openai'] WATCH 0"


@pytest.mark.parametrize(
    ("conftest", "head", "inside"),
    [("import openai", "", ""), ("", "import openai", ""), ("", "", "import openai"), ("", "", "from openai import OpenAI")],
    ids=["conftest", "module", "test", "from"],
)
def test_an_sdk_is_seen_wherever_it_is_imported(tmp_path, openai_env, conftest, head, inside):
    suite = Suite(
        tmp_path,
        conftest=f"{conftest}\n",
        test_a=f"""
        {head}
        def test_a():
            {inside or "pass"}
            import openai, importlib.resources, inspect
            client = openai.OpenAI(max_retries=0)
            client.embeddings.create(model="m", input="x y")
            assert inspect.getsource(openai).startswith("# File generated")
            assert (importlib.resources.files(openai) / "py.typed").is_file()
        """,
    )
    result = suite.run("-W", "error", env=openai_env)

    assert result.counts == {"passed": 1}, result.out
    assert result.warned == []
    assert [(span.name, span.usage.input) for span in suite.spans] == [("openai.embeddings.create", 2)]


def test_without_weave_nothing_is_missing(tmp_path, openai_env):
    hidden = "import sys\nsys.modules['weave'] = None\n"
    suite = Suite(
        tmp_path,
        conftest=hidden,
        test_a="import openai\ndef test_a(): openai.OpenAI().embeddings.create(model='m', input='x')\n",
    )
    result = suite.run(env=openai_env)

    assert (result.counts, result.warned, suite.spans) == ({"passed": 1}, [], [])


def test_another_weave_is_told_in_one_line(tmp_path):
    suite = Suite(tmp_path, {"weave/__init__.py": "__version__ = '0.99.1'\n"}, test_a="import weave\ndef test_a(): pass\n")
    result = suite.run()

    assert result.counts == {"passed": 1}
    (line,) = result.warned
    assert "no spans from weave (0.99.1; known are 0.52, 0.53, 0.54)" in line


def test_a_module_of_the_project_may_be_called_weave(tmp_path):
    suite = Suite(tmp_path, weave="def cloth(): return 1\n", test_a="import weave\ndef test_a(): weave.cloth()\n")
    result = suite.run()

    assert (result.counts, result.warned) == ({"passed": 1}, [])


def test_no_content_keeps_shapes_and_no_text(tmp_path, openai_env):
    suite = Suite(
        tmp_path,
        test_a=OP
        + """
import openai
def test_a():
    openai.OpenAI().chat.completions.create(model="gpt-4o", messages=[{"role": "user", "content": "canary-one"}])
    work({"a": ["canary-two", 1], "canary three": 1})
""",
    )
    result = suite.run("--tracetriage-no-content", env=openai_env)

    assert result.counts == {"passed": 1}
    chat, work = suite.spans
    assert json.loads(chat.inputs) == {"messages": [{"content": "text(10)", "role": "text(4)"}], "model": "text(6)"}
    assert json.loads(work.inputs) == {"n": {"a": ["text(10)", "int"], "key1": "int"}}
    assert (chat.usage.model, chat.usage.input) == ("gpt-4o", 2)
    assert len(work.digest) == 16
    assert b"canary" not in b"".join(data for name, data in suite.bytes_written().items() if name.startswith("runs"))


def test_components_are_the_projects_own(tmp_path):
    toml = '[tool.tracetriage]\ncomponents = ["Planner"]\n'
    code = (
        OP + "class Planner:\n    @weave.op\n    def plan(self): return 1\n"
        "class Fixer:\n    @weave.op\n    def fix(self): return 1\n"
    )
    suite = Suite(tmp_path, {"pyproject.toml": toml}, test_a=code + "def test_a():\n    Planner().plan()\n    Fixer().fix()\n")
    suite.run()

    assert {span.name: span.component for span in suite.spans} == {"Planner.plan": "Planner", "Fixer.fix": ""}


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
@pytest.mark.parametrize("end", ["os._exit(3)", "os.kill(os.getpid(), signal.SIGKILL)"], ids=["os._exit", "SIGKILL"])
def test_what_has_ended_outlives_the_process(tmp_path, end):
    suite = Suite(
        tmp_path,
        test_a=OP
        + f"@weave.op\ndef outer(): {end}\ndef test_a():\n    for n in range(200): work(n)\n    outer()\ndef test_b(): pass\n",
    )
    suite.run()

    assert texts(suite.spans) == list(range(200))
    assert {span.trace for span in suite.spans} == {"main.1"}
    assert suite.traces == []


def test_each_worker_writes_its_own(tmp_path):
    code = OP + "import pytest\n@pytest.mark.parametrize('n', range(20))\ndef test_n(n): work(n)\n"
    suite = Suite(tmp_path, test_a=code)
    result = suite.run("-n2", plugins="xdist")

    assert (result.counts, result.warned) == ({"passed": 20}, [])
    node = {trace.id: trace.nodeid for trace in suite.traces}
    assert sorted(texts(suite.spans)) == list(range(20))
    assert all(node[span.trace].endswith(f"[{json.loads(span.inputs)['n']}]") for span in suite.spans)
    assert len({span.id for span in suite.spans}) == 20


def test_a_run_inside_the_run_gives_the_spans_back(tmp_path):
    inner = "import weave\n@weave.op\ndef inside(): return 1\ndef test_inner(): inside()\n"
    suite = Suite(
        tmp_path,
        {"inner.txt": inner},
        conftest="pytest_plugins = ['pytester']\n",
        test_a=OP
        + """
import pathlib
def test_outer(pytester):
    work(1)
    pytester.makepyfile(pathlib.Path(__file__).with_name("inner.txt").read_text())
    assert pytester.inline_run("-ptracetriage", "--tracetriage", "-p", "no:cacheprovider").ret == 0
    work(2)
""",
    )
    result = suite.run()

    assert result.counts == {"passed": 1}, result.out
    assert texts([span for span in suite.spans if span.name == "work"])[:1] == [1]
