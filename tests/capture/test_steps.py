"""`step(...)`: what a component did, for agents that know."""

from __future__ import annotations

import sys

import pytest
from capture.suite import Suite

from pytest_tracetriage import step

TEST_A = """
    import asyncio, os, pytest, threading
    from pytest_tracetriage import step

    def test_plain():
        with step("Fixer"): pass

    def test_raises():
        with step("Fixer", "apply patch"): raise ValueError("does not apply")

    def test_says():
        with step("Fixer") as fixer:
            fixer.outcome("stuck", stop_reason="no progress", rationale="the same patch three times")

    def test_says_and_raises():
        with step("Fixer") as fixer:
            fixer.outcome("timeout", stop_reason="slow")
            raise ValueError("late")

    def test_nested():
        with step("Triage"):
            with step("Tester"): pass
            with step("Fixer"):
                with step("Verifier"): pass

    @step("Tester")
    def tested(a, *, b=1):
        "Documented."
        return a + b

    def test_decorator():
        assert tested(1, b=2) == tested(2, b=1) == 3
        assert (tested.__name__, tested.__doc__) == ("tested", "Documented.")

    @step("Triage", "asks")
    async def asks(n):
        await asyncio.sleep(0)
        if n: raise KeyError(n)
        return n

    def test_async():
        async def main(): return await asyncio.gather(asks(0), asks(1), return_exceptions=True)
        found = asyncio.run(main())
        assert found[0] == 0 and isinstance(found[1], KeyError)

    @pytest.fixture
    def prepared():
        with step("Setup"): yield

    def test_in_a_fixture(prepared):
        with step("Inside"): pass

    def test_many():
        for _ in range(50):
            with step("Loop"): pass

    def test_long_names():
        with step("C" * 1000, "n" * 1000): pass

    def test_secret():
        with step("Fixer") as fixer:
            token = "ghp_" + 4 * "0123456789"
            fixer.outcome("failed", stop_reason=f"token {token}", rationale=f"used {token}")

    def test_at_the_limits():
        with step("Fixer") as fixer:
            fixer.outcome("failed", stop_reason="r" * 256, rationale="ü" * 5120)
"""


@pytest.fixture(scope="module")
def suite(tmp_path_factory):
    suite = Suite(tmp_path_factory.mktemp("steps"), test_a=TEST_A)
    result = suite.run()
    assert (result.ret, result.warned) == (1, []), result.out
    return suite


@pytest.fixture(scope="module")
def spans(suite):
    return lambda name: [span for span in suite.spans if span.trace == suite.trace(f"::{name}").id]


def test_a_step_belongs_to_its_test(spans):
    (span,) = spans("test_plain")

    assert (span.component, span.name, span.outcome, span.kind, span.parent) == ("Fixer", "Fixer", "success", "step", "")
    assert span.start > 1_600_000_000
    assert 0 <= span.duration < 5


def test_what_leaves_a_step_fails_it(spans):
    (span,) = spans("test_raises")

    assert (span.name, span.outcome, span.error) == ("apply patch", "failed", "ValueError: does not apply")


def test_the_step_knows_best(spans):
    (said,), (raised,) = spans("test_says"), spans("test_says_and_raises")

    assert (said.outcome, said.stop_reason, said.rationale) == ("stuck", "no progress", "the same patch three times")
    assert (raised.outcome, raised.stop_reason, raised.error) == ("timeout", "slow", "ValueError: late")


def test_steps_in_steps(spans):
    found = {span.component: span for span in spans("test_nested")}

    assert found["Triage"].parent == ""
    assert found["Tester"].parent == found["Fixer"].parent == found["Triage"].id
    assert found["Verifier"].parent == found["Fixer"].id


def test_each_call_of_a_decorated_function_is_a_step(spans):
    assert [(span.component, span.outcome) for span in spans("test_decorator")] == [("Tester", "success")] * 2


def test_concurrent_coroutines(spans):
    found = spans("test_async")

    assert sorted((span.name, span.outcome, span.parent) for span in found) == [("asks", "failed", ""), ("asks", "success", "")]


def test_a_step_around_a_test(spans):
    inner, outer = spans("test_in_a_fixture")

    assert (inner.component, outer.component) == ("Inside", "Setup")


def test_ids_never_repeat(suite, spans):
    ids = [span.id for span in suite.spans]

    assert len(spans("test_many")) == 50
    assert len(ids) == len(set(ids))
    assert all(0 < len(identity.encode()) < 256 for identity in ids)
    assert not set(ids) & {trace.id for trace in suite.traces}


def test_names_are_bounded(spans):
    (span,) = spans("test_long_names")

    assert (len(span.component), len(span.name)) == (200, 200)


def test_the_words_of_a_step_are_redacted(suite, spans):
    (span,) = spans("test_secret")

    assert span.stop_reason.startswith("token [redacted ")
    assert span.rationale.startswith("used [redacted ")


def test_the_limits_themselves_are_allowed(spans):
    (span,) = spans("test_at_the_limits")

    assert (len(span.stop_reason.encode()), len(span.rationale.encode())) == (256, 10_240)


def test_a_finished_step_outlives_its_process(tmp_path):
    suite = Suite(
        tmp_path,
        test_a="""
        import os
        from pytest_tracetriage import step
        def test_dies():
            with step("Fixer"): pass
            os._exit(1)
        """,
    )
    suite.run()

    assert [span.component for span in suite.spans] == ["Fixer"]
    assert suite.traces == []


@pytest.mark.parametrize("on", [True, False], ids=["outside a test", "switched off"])
def test_no_recorder_no_effect(tmp_path, on):
    suite = Suite(
        tmp_path,
        conftest="""
        from pytest_tracetriage import step
        with step("Import") as outside: outside.outcome("failed")
        @step("Function")
        def function(): return 1
        assert function() == 1
        """,
        test_a="from pytest_tracetriage import step\n@step('A')\ndef test_a():\n    with step('B'): pass\n",
    )
    assert suite.run(on=on).counts == {"passed": 1}
    if on:
        assert [span.component for span in suite.spans] == ["B", "A"]
    else:
        assert not suite.folder.exists()


def test_in_a_program_of_its_own(tmp_path):
    suite = Suite(
        tmp_path,
        {"agent.py": "from pytest_tracetriage import step\nwith step('Fixer') as s: s.outcome('success')\nprint('done')"},
    )
    result = suite._run([sys.executable, "agent.py"], None)

    assert (result.ret, result.out) == (0, "done\n")
    assert [path.name for path in tmp_path.iterdir()] == ["agent.py"]


@pytest.mark.parametrize("outcome", ["", "ok", "passed", "SUCCESS", None])
def test_an_unknown_outcome_names_the_known(outcome):
    with step("Fixer") as fixer, pytest.raises(ValueError, match="expected one of success, failed, timeout, stuck"):
        fixer.outcome(outcome)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ({"stop_reason": "r" * 257}, "stop_reason: 257 bytes, expected at most 256"),
        ({"stop_reason": "ü" * 129}, "stop_reason: 258 bytes, expected at most 256"),
        ({"rationale": "r" * 10_241}, "rationale: 10241 bytes, expected at most 10240"),
    ],
)
def test_words_beyond_the_limits(words, told):
    with step("Fixer") as fixer, pytest.raises(ValueError, match=told):
        fixer.outcome("failed", **words)


@pytest.mark.parametrize("component", ["", "  ", None, 3])
def test_a_step_needs_a_component(component):
    with pytest.raises(ValueError, match="expected the name of a component"):
        step(component)
