"""Coverage maps: written and read, merged, found stale, kept in the history."""

from __future__ import annotations

import lzma
import math
import subprocess

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from remembered import ids, item, open_at

from pytest_tracetriage.collect.functions import merge_maps, stale_functions
from pytest_tracetriage.model.execution import CoverageMap, Element, Function
from pytest_tracetriage.store.coverage import MAGIC, decode, encode, read_map, write_map
from pytest_tracetriage.store.history.git import GitLocation
from pytest_tracetriage.store.history.history import open_history
from pytest_tracetriage.store.runs import StoreError

DAY = 86_400
UNTIMED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
TEXTS = st.text(max_size=5)


@st.composite
def maps(draw, tests=TEXTS):
    """Any map that a run could leave: sorted, each line once, equal sets of one function in one element."""
    ids = sorted(draw(st.sets(tests, max_size=20)))
    whole = (1 << len(ids)) - 1
    functions, elements = [], []
    for file in sorted(draw(st.sets(st.sampled_from(["a.py", "b/ö.py"])))):
        line = 1
        for name in draw(st.lists(st.sampled_from(["f", "C.f", "f.<locals>.g"]), unique=True, max_size=3)):
            line += draw(st.integers(0, 3))
            length = draw(st.integers(1, 300))
            digest = draw(st.sampled_from(["00000000", "0badcafe", "an older form"]))
            run = {at: draw(st.integers(0, whole)) for at in draw(st.sets(st.integers(line, line + min(length, 6))))}
            by_tests = {}
            for at in sorted(run):
                if run[at]:
                    by_tests.setdefault(run[at], []).append(at)
            if by_tests:
                # the length goes into the digest, since equal sources are equally long
                functions.append(Function(file, name, line, line + length, f"{digest}{length}"))
                size = (len(ids) + 7) // 8
                elements += [Element(len(functions) - 1, tuple(at), by.to_bytes(size, "little")) for by, at in by_tests.items()]
            line += length + 1
    return CoverageMap(tuple(ids), tuple(functions), tuple(elements), *draw(st.tuples(*[st.sampled_from(["", "x", "y"])] * 3)))


def said(coverage):
    """Return what a map says, as a set of (test, file, function, digest, line in it)."""
    return {
        (coverage.tests[number], function.file, function.name, function.digest, line - function.line)
        for element in coverage.elements
        for function in [coverage.functions[element.function]]
        for line in element.lines
        for number in range(len(coverage.tests))
        if element.tests[number // 8] >> number % 8 & 1
    }


@UNTIMED
@given(maps())
def test_a_map_comes_back_as_it_was(coverage):
    assert decode(encode(coverage)) == coverage
    assert encode(coverage) == encode(decode(encode(coverage)))


@UNTIMED
@given(maps(st.sampled_from("abcdefghijkl")), maps(st.sampled_from("abcdefghijkl")), maps())
def test_maps_merge_in_any_order(one, two, three):
    assert merge_maps([one, two]) == merge_maps([two, one])
    assert merge_maps([merge_maps([one, two]), three]) == merge_maps([one, merge_maps([two, three])])
    assert merge_maps([one, two, three]) == merge_maps([merge_maps([one, two]), three])
    assert merge_maps([one, one]) == one
    both = merge_maps([one, two])
    assert said(both) == said(one) | said(two)
    assert both.tests == tuple(sorted({*one.tests, *two.tests}))
    assert decode(encode(both)) == both


def test_a_function_that_moved_is_the_same_one():
    here = CoverageMap(("a",), (Function("f.py", "f", 10, 12, "1"),), (Element(0, (11,), b"\1"),))
    there = CoverageMap(("b",), (Function("f.py", "f", 20, 22, "1"),), (Element(0, (21, 22), b"\1"),))
    other = CoverageMap(("c",), (Function("f.py", "f", 10, 12, "2"),), (Element(0, (11,), b"\1"),))

    assert merge_maps([here, there, other]) == CoverageMap(
        ("a", "b", "c"),
        (Function("f.py", "f", 10, 12, "1"), Function("f.py", "f", 10, 12, "2")),
        (Element(0, (11,), b"\3"), Element(0, (12,), b"\2"), Element(1, (11,), b"\4")),
    )


SOURCE = b"""
import functools

def f(a):
    x = 1  # one
    return x


class C:
    @property
    def p(self):
        return [2]

    def q(self):
        def inner(): return "\xc3\xa4"
        return inner()
"""


def map_of(source, file="m.py"):
    from pytest_tracetriage.collect.functions import bodies_of

    functions = tuple(body.function for body in bodies_of(file, source))
    return CoverageMap(("t",), functions, tuple(Element(i, (one.end,), b"\1") for i, one in enumerate(functions)))


def stale(source, present):
    coverage = map_of(source)
    return {coverage.functions[index].name for index in stale_functions(coverage, present)}


def test_a_function_is_stale_once_its_source_is_another():
    everything = {"f", "C.p", "C.q", "C.q.<locals>.inner"}
    assert stale(SOURCE, {"m.py": SOURCE}) == set()
    assert stale(SOURCE, {"m.py": b"import new\n\n\n" + SOURCE.replace(b"\n", b"\r\n") + b"def g(): pass\n"}) == set()
    assert stale(SOURCE, {"m.py": SOURCE.replace(b"return x", b"return -x")}) == {"f"}
    assert stale(SOURCE, {"m.py": SOURCE.replace(b"@property", b"@functools.cached_property")}) == {"C.p"}
    assert stale(SOURCE, {"m.py": SOURCE.replace(b"\xc3\xa4", b"a")}) == {"C.q", "C.q.<locals>.inner"}
    assert stale(SOURCE, {"m.py": SOURCE.replace(b"class C", b"class D")}) == everything - {"f"}
    assert stale(SOURCE, {"m.py": b"def f(:\n"}) == everything
    assert stale(SOURCE, {}) == everything


def test_indentation_does_not_count():
    indented = b"if True:\n" + b"".join(b"    " + line if line.strip() else line for line in SOURCE.splitlines(keepends=True))
    assert stale(SOURCE, {"m.py": indented}) == set()


@pytest.mark.parametrize(
    ("source", "names"),
    [
        (b"# -*- coding: latin-1 -*-\ndef f():\n    return '\xe4'\n", ["f"]),
        (b"\xef\xbb\xbfdef f(): pass\r\n", ["f"]),
        (b"def f(): return '\\d'\n", ["f"]),  # a SyntaxWarning
        (b"", []),
        (b"async def f():\n    async with x:\n        def g():\n            yield\n", ["f", "f.<locals>.g"]),
        (b"try:\n    def f(): pass\nexcept E:\n    def f(): return 1\n", ["f", "f"]),
        (b"class A:\n    class B:\n        x = lambda self: 1\n        def m(self): pass\n", ["A.B.m"]),
    ],
)
def test_functions_of_a_source(source, names):
    assert [function.name for function in map_of(source).functions] == names


@pytest.mark.parametrize("source", [b"def f(:\n", b"\0", b"# coding: nonsense\n", b"def f():\n    '\xff'\n", b"(" * 10_000])
def test_what_is_no_source_is_said(source):
    with pytest.raises(ValueError, match=r"^m\.py: "):
        map_of(source)


def big(tests=2_000):
    """A map like that of a real suite: tests of a file resemble each other."""
    functions = tuple(
        Function(f"pkg/m{n // 20}.py", f"C{n % 7}.f{n}", n % 20 * 30 + 1, n % 20 * 30 + 20, f"{n:08x}") for n in range(400)
    )
    names = tuple(f"tests/test_{n // 100:02}.py::TestThing::test_case_{n:04}" for n in range(tests))
    elements = []
    for n in range(400):
        by = sum(1 << t for t in range(tests) if (t // 100 + n) % 5 == 0 and math.isqrt(t * n) % (n % 6 + 2))
        elements.append(Element(n, (functions[n].line + 1, functions[n].line + 4), by.to_bytes(tests // 8, "little")))
    return CoverageMap(names, functions, tuple(elements), "c" * 40)


def test_a_test_costs_less_than_a_hundred_bytes(tmp_path):
    coverage = big()
    write_map(tmp_path, coverage)
    assert (tmp_path / "coverage.map").stat().st_size <= 100 * len(coverage.tests)
    assert read_map(tmp_path) == coverage
    assert read_map(tmp_path / "nowhere") is None


def test_damaged_maps_are_refused():
    data = encode(big(80))
    for broken in (
        b"",
        b"PK",
        data[:-20],
        data[: len(MAGIC)],
        MAGIC + b"x" * 50,
        data[:200] + b"\0\0" + data[202:],
        data.replace(b"/1\n", b"/2\n"),
    ):
        with pytest.raises(StoreError):
            decode(broken)


@UNTIMED
@given(st.data())
def test_hostile_columns_are_refused_or_a_sound_map(data):
    columns = msgspec.msgpack.decode(lzma.decompress(encode(big(16))[len(MAGIC) :]))
    at = data.draw(st.sampled_from([(5, 0), (5, 2), (6, 0), (6, 2), (7, 0), (7, 1)]))
    numbers = columns[at[0]][at[1]]
    numbers[data.draw(st.integers(0, len(numbers) - 1))] = data.draw(st.integers(-(2**40), 2**40))
    try:
        coverage = decode(MAGIC + lzma.compress(msgspec.msgpack.encode(columns)))
    except StoreError:
        return
    assert all(0 <= element.function < len(coverage.functions) for element in coverage.elements)
    assert all(len(element.tests) == 2 for element in coverage.elements)


def test_a_bomb_is_refused(monkeypatch):
    monkeypatch.setattr("pytest_tracetriage.store.coverage._LARGEST", 1 << 20)
    with pytest.raises(StoreError, match="1 MiB"):
        decode(MAGIC + lzma.compress(bytes(1 << 21), preset=0))


def test_a_bomb_of_many_sets_of_many_tests_is_refused():
    tests, sets = 100_000, 1_000_000
    columns = ("", "", "", ("",) * tests, (), ((),) * 5, ((),) * 3, ((0,) * sets, (0,) * sets), b"")
    bomb = MAGIC + lzma.compress(msgspec.msgpack.encode(columns), preset=0)
    assert len(bomb) < 10_000
    with pytest.raises(StoreError, match="2 GiB"):
        decode(bomb)


# -- the history ---------------------------------------------------------------------------------------------------------


def green(test, commit="c1"):
    return CoverageMap((test,), (Function("f.py", "f", 1, 2, "1"),), (Element(0, (2,), b"\1"),), commit, "", "tracetriage")


def add(history, when, test, commit, **more):
    run = item(when, [test], commit=commit, **more).run
    return history.add_maps([(run, green(test, commit))])


def named(found):
    return sorted(test for coverage in found for test in coverage.tests)


def test_the_newest_maps_of_a_line_are_kept(tmp_path):
    history = open_at(tmp_path)
    for number, commit in enumerate(["a1", "b2", "b2", "c3"]):
        assert add(history, 100 + number, f"t{number}", commit)
    assert len(list(tmp_path.iterdir())) == 2
    assert named(history.maps()) == ["t3"]
    assert named(history.maps(["d4", "b2", "a1"])) == ["t2"]
    assert history.maps(["a1"]) == history.maps([]) == []
    assert add(history, 90, "late", "a0") == 0  # what is older than those kept is not kept


def test_each_job_and_leg_has_its_own(tmp_path):
    history = open_at(tmp_path)
    add(history, 100, "one", "a1", job="j", leg="1")
    add(history, 100.5, "two", "a1", job="j", leg="2")
    add(history, 200, "three", "b2", job="j", leg="2")
    assert named(history.maps()) == named(history.maps(["b2", "a1"])) == ["one", "three"]
    assert named(history.maps(["a1"])) == ["one", "two"]
    assert merge_maps(history.maps()).tests == ("one", "three")


@pytest.mark.parametrize("more", [{"dirty": True}, {"pull_request": "7"}, {"exit_status": 1}])
def test_what_is_no_green_run_of_a_commit_is_not_kept(tmp_path, more):
    history = open_at(tmp_path)
    assert add(history, 100, "t", "a1", **more) == 0
    assert history.maps() == []


def test_maps_do_not_disturb_runs_and_go_with_them(tmp_path):
    history = open_at(tmp_path)
    history.add([item(100, ["t"]), item(10 * DAY, ["t"])])
    add(history, 100, "old", "a1")
    add(history, 10 * DAY, "new", "b2")
    history.compact()
    assert len(ids(history)) == 2
    assert named(history.maps(["a1"])) == ["old"]
    history.prune(5 * DAY)
    assert len(ids(history)) == 1
    assert history.maps(["a1"]) == []
    assert named(history.maps()) == ["new"]
    assert history.problems == []


def test_a_damaged_map_is_left_out_and_told(tmp_path):
    history = open_at(tmp_path)
    add(history, 100, "t", "a1")
    path = next(tmp_path.iterdir())
    path.write_bytes(path.read_bytes()[:-9])
    assert history.maps() == []
    assert path.name in history.problems[0]


def test_on_a_branch_there_is_one_a_day(tmp_path):
    project = tmp_path / "project"
    project.mkdir()
    for command in (
        ["init", "-q"],
        ["config", "user.email", "a@b.c"],
        ["config", "user.name", "A"],
        ["commit", "-q", "--allow-empty", "-m", "x"],
    ):
        subprocess.run(["git", *command], cwd=project, check=True)
    history = open_history(GitLocation("maps", project, tmp_path / "cache"))
    assert add(history, 10 * DAY, "t1", "a1")
    assert add(history, 10.5 * DAY, "t2", "b2") == 0
    assert add(history, 11.5 * DAY, "t3", "c3")
    again = open_history(GitLocation("maps", project, tmp_path / "cache2"))
    assert named(again.maps()) == ["t3"]
    assert add(again, 13 * DAY, "t4", "d4")
    assert named(again.maps(["a1"])) == []
    assert named(again.maps(["c3"])) == ["t3"]
    history.add([item(100, ["t"])])
    assert len(ids(history)) == 1
