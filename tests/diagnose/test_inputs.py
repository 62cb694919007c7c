"""From a suite that ran to what its failures share."""

from __future__ import annotations

import pytest
from capture.suite import Suite

from pytest_tracetriage.commands.accounts import inputs_of

CONFTEST = """
    import pytest

    @pytest.fixture(scope="session")
    def database(): return {}

    @pytest.fixture(scope="module")
    def shop(): return {}

    @pytest.fixture
    def cart(): return []
"""
PLANTED = """
    import pytest

    @pytest.mark.parametrize("season", ["summer", "winter", "spring"])
    @pytest.mark.parametrize("n", range(6))
    def test_total(season, n, cart):
        assert season != "winter", "no prices for the season"

    @pytest.mark.parametrize("n", range(9))
    def test_other(n, cart): pass

    def test_query_1(database): raise KeyError("table")
    def test_query_2(database): raise KeyError("table")
    def test_query_3(database): raise KeyError("table")
    def test_query_4(database): raise KeyError("table")

    @pytest.mark.parametrize("k", range(20))
    def test_more(k, shop): pass
    def test_1(): pass
    def test_2(): pass
    def test_3(): pass
    def test_4(): pass
    def test_5(): pass
"""


def shown(suite, text):
    return next(
        line for line in suite.tracetriage("show", cluster_with(suite, text).id[:8]).out.splitlines() if "shared" in line
    )


def cluster_with(suite, text):
    return next(cluster for cluster in suite.analysis.clusters if text in cluster.name)


@pytest.mark.parametrize("xdist", [False, True])
def test_a_parameter_and_a_fixture_of_the_session(tmp_path, xdist):
    suite = Suite(tmp_path, conftest=CONFTEST, test_a=PLANTED)
    suite.run(*(["-n2"] if xdist else []), plugins="xdist" if xdist else "")
    assert "season='winter': 6 of 6 failing tests, 0 of 46 passing" in shown(suite, "no prices")
    assert "fixture database: 4 of 4 failing tests, 0 of 46 passing" in shown(suite, "table")
    text = suite.tracetriage("show", cluster_with(suite, "no prices").id[:8]).out
    assert "n does not matter" in text or "n, worker do not matter" in text


def test_a_green_run_says_nothing_of_shared_fixtures(tmp_path):
    suite = Suite(tmp_path, conftest=CONFTEST, test_a="def test_a(database): pass\ndef test_b(): pass\n")
    suite.run()
    assert b'"use"' not in (suite.last / "traces" / "main.jsonl").read_bytes()


def test_a_fixture_of_every_test_is_not_told(tmp_path):
    body = "import pytest\n@pytest.fixture(scope='session', autouse=True)\ndef all_of_them(): pass\n"
    suite = Suite(tmp_path, test_a=body + "def test_a(): assert 0\ndef test_b(): pass\n")
    suite.run()
    assert b'"use"' not in (suite.last / "traces" / "main.jsonl").read_bytes()


PROMPTS = """
    import json
    import pytest
    from pytest_tracetriage import span

    PROMPTS = {"old": "Answer in JSON.\\nBe brief.", "new": "Answer in prose.\\nBe brief."}

    def ask(version, n):
        messages = [{"role": "system", "content": PROMPTS[version]}, {"role": "user", "content": f"question {n}"}]
        with span("chat", kind="llm", inputs={"messages": messages}) as call:
            call.usage("gpt-4o", input=1500, output=9)
            call.set("output", "prose" if version == "new" else "{}")
        return "prose" if version == "new" else "{}"

    @pytest.mark.parametrize("n", range(16))
    def test_answer(n):
        assert json.loads(ask("new" if n % 2 else "old", n)) == {}
"""


def test_the_version_of_a_prompt_with_its_difference(tmp_path):
    suite = Suite(tmp_path, test_a=PROMPTS)
    suite.run()
    found = inputs_of([suite.last], suite.analysis)
    ((one,),) = (shared.associations for shared in found.shared)
    assert (one.trait, one.name, one.failing, one.passing) == ("prompt", "chat", 8, 0)
    (prompt,) = found.prompts
    assert prompt.failing == one.value
    assert prompt.diff.splitlines()[2:] == ["@@ -1,2 +1,2 @@", "-Answer in JSON.", "+Answer in prose.", " Be brief."]


SEQUENCES = """
    import pytest
    from pytest_tracetriage import span

    def call(name):
        with span(name, kind="tool"): pass

    @pytest.mark.parametrize("n", range(16))
    def test_episode(n):
        for name in ["plan", "search", "apply"] if n % 2 else ["plan", "apply", "search"]:
            call(name)
        assert n % 2
"""


def test_a_sequence_of_steps_that_passing_episodes_lack(tmp_path):
    suite = Suite(tmp_path, test_a=SEQUENCES)
    suite.run()
    ((one,),) = (shared.associations for shared in inputs_of([suite.last], suite.analysis).shared)
    assert one.trait == "sequence"
    assert one.value in {"apply > search", "plan > apply"}
    assert any("plan > apply" in text or "apply > search" in text for text in one.alike)


WASTE = """
    import pytest
    from pytest_tracetriage import span, step

    LONG = "You are careful. " * 40

    def read(path, kind="tool", fails=False):
        with span("read", kind=kind, inputs={"path": path}) as one:
            if fails:
                raise OSError("busy")
            one.set("output", "the same text")

    def ask(n, cached=0):
        messages = [{"role": "system", "content": LONG}, {"role": "user", "content": str(n)}]
        with span("chat", kind="llm", inputs={"messages": messages}) as one:
            one.usage("gpt-4o", input=2000, output=10, cache_read=cached)
            one.set("output", f"answer {n}")

    def test_reads_twice():
        read("a.py"); read("b.py"); read("a.py")

    def test_tries_again():
        with pytest.raises(OSError):
            read("a.py", fails=True)
        read("a.py")

    def test_misses_the_cache():
        ask(1); ask(2); ask(3)

    def test_meets_the_cache():
        ask(1); ask(2, cached=1024)

    def test_goes_on():
        with step("Fixer"):
            try:
                with span("apply", kind="tool"):
                    raise ValueError("hunk 1 does not apply")
            except ValueError as error:
                failed = error
        ask(1)
        raise failed
"""


def test_work_that_need_not_have_been_done(tmp_path):
    suite = Suite(tmp_path, test_a=WASTE)
    suite.run()
    found = {(one.kind, one.name): one for one in inputs_of([suite.last], suite.analysis).wastes}
    assert set(found) == {("repeated call", "read"), ("retry", "read"), ("cache miss", "gpt-4o"), ("after the failure", "chat")}
    assert (found["repeated call", "read"].times, found["retry", "read"].times) == (1, 1)
    miss, late = found["cache miss", "gpt-4o"], found["after the failure", "chat"]
    assert (miss.times, miss.tokens, miss.traces) == (2, 4020, 1)
    assert (late.times, late.tokens) == (1, 2010)
    assert miss.cost == pytest.approx(2 * (2000 * 2.5 + 10 * 10) / 1e6)


def test_hostile_values_are_shown_as_text(tmp_path):
    body = """
        import pytest
        @pytest.mark.parametrize("x", ["\\x1b[31mred\\x1b[0m", "calm"])
        @pytest.mark.parametrize("n", range(9))
        def test_a(x, n): assert x == "calm"
    """
    suite = Suite(tmp_path, test_a=body)
    suite.run()
    line = shown(suite, "test_a")
    assert "\x1b" not in line
    assert "9 of 9 failing tests, 0 of 9 passing" in line
