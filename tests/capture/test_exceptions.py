"""The exception chain of a failure: causes, contexts, groups, notes, frames; bounded whatever is raised."""

from __future__ import annotations

import sys

import pytest
from capture.suite import Suite

APP = """
    import json

    def parse(text): return json.loads(text)

    class Cart:
        def total(self): return {}["sku"]

    def helper(value):
        __tracebackhide__ = True
        check(value)

    def check(value):
        if not value:
            raise ValueError("no value")
"""
TEST_A = """
    import json, sys
    import pytest
    from shop.cart import Cart, helper, parse

    def test_plain(): Cart().total()

    def test_cause():
        try: parse("{")
        except ValueError as error: raise RuntimeError("outer") from error

    def test_context():
        try: Cart().total()
        except KeyError: raise RuntimeError("while handling")

    def test_suppressed():
        try: Cart().total()
        except KeyError: raise RuntimeError("alone") from None

    def test_deep_chain():
        error = None
        for n in range(100):
            new = RuntimeError(f"level {n}")
            new.__cause__ = error
            error = new
        raise error

    def test_cycle():
        a, b = ValueError("a"), ValueError("b")
        a.__cause__, b.__cause__ = b, a
        raise a

    def test_self_cause():
        a = ValueError("a")
        a.__context__ = a
        raise a

    def recurse(n): return recurse(n - 1) if n else 1 / 0
    def test_recursion_1000():
        sys.setrecursionlimit(5000)
        recurse(1000)
    def endless(): endless()
    def test_recursion_error(): endless()

    class BadStr(Exception):
        def __str__(self): raise RuntimeError("no text")
        __repr__ = __str__
    def test_bad_str(): raise BadStr()

    class NotText(Exception):
        def __str__(self): return 7
        __repr__ = object.__repr__
    def test_str_of_another_type(): raise NotText()

    class BadAttributes(Exception):
        @property
        def exceptions(self): raise RuntimeError("gotcha")
    def test_bad_attributes(): raise BadAttributes("kept")

    def test_long_message(): raise ValueError("x" * 100_000 + "the end")
    def test_surrogate(): raise ValueError("lone \\udc80 surrogate")
    def test_control(): raise ValueError("nul \\x00 and \\x1b[31mred")
    def test_hidden(): helper(0)
    def test_stdlib(): json.loads("{")
    def test_third():
        from iniconfig import IniConfig
        IniConfig("x.ini", data="no section")
    def test_exec(): exec(compile("1/0", "<made up>", "exec"))

    def test_notes():
        error = ValueError("noted")
        error.__notes__ = ["first note", "second note"]
        raise error

    def test_again_1(): Cart().total()
    def test_again_2(): Cart().total()
"""
GROUPS = """
    def test_group():
        try: 1 / 0
        except ZeroDivisionError as error:
            first = error
        raise ExceptionGroup("several", [first, ExceptionGroup("inner", [KeyError("k")])])

    def test_many_members(): raise ExceptionGroup("many", [ValueError(str(n)) for n in range(1000)])

    def test_deep_group():
        group = ValueError("innermost")
        for n in range(200): group = ExceptionGroup("level", [group])
        raise group

    def test_cause_of_member():
        member = ValueError("member")
        member.__cause__ = KeyError("why")
        raise ExceptionGroup("one", [member])
"""


@pytest.fixture(scope="module")
def suite(tmp_path_factory):
    suite = Suite(tmp_path_factory.mktemp("exceptions"), shop__cart=APP, test_a=TEST_A)
    suite.write({"shop/__init__.py": ""})
    if sys.version_info >= (3, 11):
        suite.write(test_group=GROUPS)
    suite.result = suite.run("--tb=no")
    return suite


@pytest.fixture(scope="module")
def errors(suite):
    return lambda name: suite.trace(f"::{name}").failure.errors


def links(errors):
    return [(error.type, error.link, error.parent) for error in errors]


def test_a_cause(errors):
    assert links(errors("test_cause")) == [("RuntimeError", "raised", -1), ("json.decoder.JSONDecodeError", "cause", 0)]


def test_a_context(errors):
    assert links(errors("test_context")) == [("RuntimeError", "raised", -1), ("KeyError", "context", 0)]


def test_a_suppressed_context_is_left_out(errors):
    assert links(errors("test_suppressed")) == [("RuntimeError", "raised", -1)]


def test_a_long_chain_is_bounded(errors):
    chain = errors("test_deep_chain")

    assert len(chain) == 20
    assert (chain[0].message, chain[1].message) == ("level 99", "level 98")


def test_cycles_end(errors):
    assert [error.message for error in errors("test_cycle")] == ["a", "b"]
    assert [error.message for error in errors("test_self_cause")] == ["a"]


def test_a_thousand_frames_are_bounded_and_say_so(errors):
    (error,) = errors("test_recursion_1000")

    assert len(error.frames) == 50
    assert error.omitted == 1002 - 50
    assert error.frames[0].function == "test_recursion_1000"
    assert error.frames[-1].code == "def recurse(n): return recurse(n - 1) if n else 1 / 0"


def test_endless_recursion(errors):
    (error,) = errors("test_recursion_error")

    assert (error.type, len(error.frames)) == ("RecursionError", 50)


@pytest.mark.parametrize("name", ["test_bad_str", "test_str_of_another_type"])
def test_a_message_that_cannot_be_had(errors, name):
    (error,) = errors(name)

    assert "str() of" in error.message
    assert "raised" in error.message


def test_a_text_that_ends_the_process_is_survived(tmp_path):
    suite = Suite(
        tmp_path,
        test_a="""
        class BaseStr(Exception):
            def __str__(self): raise SystemExit(3)
            __repr__ = __str__
        def test_base_str(): raise BaseStr()
        def test_after(): pass
        """,
    )
    result = suite.run("--tb=no")

    assert suite.outcomes() == {"test_base_str": "failed", "test_after": "passed"}
    assert "BaseStr" in suite.trace("test_base_str").failure.errors[0].message
    assert (result.ret, result.warned) == (1, [])


def test_attributes_that_raise_do_not_matter(errors):
    assert [(error.type.rpartition(".")[2], error.message) for error in errors("test_bad_attributes")] == [
        ("BadAttributes", "kept")
    ]


def test_nothing_of_it_was_an_internal_error(suite):
    assert suite.result.warned == []


def test_a_long_message_is_cut(errors):
    (error,) = errors("test_long_message")

    assert len(error.message) < 21_000
    assert "characters left out" in error.message
    assert error.message.endswith("the end")


def test_what_json_cannot_hold_is_escaped(errors):
    assert errors("test_surrogate")[0].message == "lone \\udc80 surrogate"
    assert errors("test_control")[0].message == "nul \x00 and red"  # colours are dropped


def test_notes(errors):
    assert errors("test_notes")[0].notes == ("first note", "second note")


def test_hidden_frames_are_left_out(errors):
    assert [frame.function for frame in errors("test_hidden")[0].frames] == ["test_hidden", "check"]


def test_frames_say_where_they_belong(errors):
    app, stdlib = errors("test_plain")[0].frames, errors("test_stdlib")[0].frames
    third = errors("test_third")[0].frames[-1]

    assert [(frame.file, frame.origin) for frame in app] == [("test_a.py", "test"), ("shop/cart.py", "app")]
    assert {frame.origin for frame in stdlib[1:]} == {"stdlib"}
    assert third.origin == "third-party"
    assert "iniconfig" in third.file


def test_frames_have_code_and_name(errors):
    frame = errors("test_plain")[0].frames[-1]

    assert (frame.function, frame.line, frame.code) == ("total", 7, 'def total(self): return {}["sku"]')
    if sys.version_info >= (3, 11):
        assert frame.qualname == "Cart.total"


def test_code_without_a_file(errors):
    frame = errors("test_exec")[0].frames[-1]

    assert (frame.file, frame.line, frame.code, frame.source) == ("<made up>", 1, "", "")


def test_sources_are_kept_once_a_run(suite):
    ids = [source.id for source in suite.sources]
    totals = [source for source in suite.sources if source.function == "total"]

    assert len(ids) == len(set(ids))
    assert [(source.file, source.line) for source in totals] == [("shop/cart.py", 7)]
    assert totals[0].text == '    def total(self): return {}["sku"]\n'
    used = {
        frame.source
        for name in ("test_plain", "test_again_1", "test_again_2")
        for frame in suite.trace(name).failure.errors[0].frames[1:]
    }
    assert used == {totals[0].id}


def test_every_source_that_a_frame_names_exists(suite):
    kept = {source.id for source in suite.sources}
    named = {f.source for t in suite.traces if t.failure for e in t.failure.errors for f in e.frames if f.source}

    assert named
    assert named <= kept


def test_pytest_counts_the_same_without_the_plugin(suite):
    plain = suite.run("--tb=no", on=False)

    assert (suite.result.counts, suite.result.ret) == (plain.counts, plain.ret)


@pytest.mark.skipif(sys.version_info < (3, 11), reason="groups came with 3.11")
class TestGroups:
    def test_members_stand_under_their_group(self, errors):
        assert links(errors("test_group")) == [
            ("ExceptionGroup", "raised", -1),
            ("ZeroDivisionError", "member", 0),
            ("ExceptionGroup", "member", 0),
            ("KeyError", "member", 2),
        ]

    def test_many_members_are_bounded(self, errors):
        assert [error.message for error in errors("test_many_members")][1:] == [str(n) for n in range(10)]

    def test_groups_in_groups_are_bounded(self, errors):
        assert len(errors("test_deep_group")) == 20

    def test_the_cause_of_a_member(self, errors):
        assert links(errors("test_cause_of_member")) == [
            ("ExceptionGroup", "raised", -1),
            ("ValueError", "member", 0),
            ("KeyError", "cause", 1),
        ]
