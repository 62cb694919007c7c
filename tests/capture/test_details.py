"""What a trace says beside its outcome: phases, fixtures, markers, parameters, sections, warnings."""

from __future__ import annotations

import pytest
from capture.suite import Suite

TEST_A = """
    import logging, sys, time, warnings
    import pytest

    pytestmark = pytest.mark.of_module("m", level=1)

    @pytest.fixture
    def slow():
        time.sleep(0.05)
        return 1

    @pytest.fixture
    def on_top(slow): return slow

    @pytest.fixture(scope="module")
    def shared():
        time.sleep(0.05)

    @pytest.fixture
    def broken(slow): raise ConnectionError("no database")

    @pytest.fixture(scope="module")
    def broken_once(): raise ConnectionError("no server")

    def test_fixtures(on_top): pass
    def test_shared(shared): pass
    def test_shared_again(shared): pass
    def test_phases(slow): time.sleep(0.03)
    def test_broken(broken): pass
    def test_broken_once(broken_once): pass
    def test_broken_again(broken_once): pass

    @pytest.mark.of_class("c")
    class TestMarked:
        @pytest.mark.of_function(3, "x", [1, 2], limit=0.5)
        @pytest.mark.bare
        def test_marked(self): pass
        def test_inherits(self): pass

    def test_only_module(): pass

    class Thing:
        def __repr__(self): raise RuntimeError("repr was called")

    @pytest.mark.parametrize("n, text, thing, kind", [(1, "one", Thing(), int), (-2.5, "ü", Thing(), list)])
    def test_params(n, text, thing, kind): pass

    @pytest.fixture(params=["sqlite", "postgres"])
    def database(request): return request.param
    def test_fixture_params(database): pass

    def test_prints():
        print("to stdout")
        print("to stderr", file=sys.stderr)
        logging.getLogger("shop").warning("to the log")
        assert 0

    def test_prints_and_passes(): print("nobody reads this")

    def test_prints_much():
        print("A" * 50_000 + "the end")
        assert 0

    def test_warns():
        warnings.warn("old way", DeprecationWarning)
        warnings.warn("odd", UserWarning)

    def test_warns_much():
        for n in range(50): warnings.warn(f"number {n}", UserWarning)
"""
INI = "[pytest]\nmarkers =\n    of_module\n    of_class\n    of_function\n    bare\n"


@pytest.fixture(scope="module")
def suite(tmp_path_factory):
    suite = Suite(tmp_path_factory.mktemp("details"), {"pytest.ini": INI}, test_a=TEST_A)
    suite.result = suite.run()
    assert suite.result.warned == []
    return suite


def test_phases_are_seconds(suite):
    phases = suite.trace("::test_phases").phases

    assert phases["setup"] >= 0.05
    assert 0.03 <= phases["call"] < phases["setup"] + 1
    assert 0 <= phases["teardown"] < 0.05


def test_each_fixture_has_its_seconds(suite):
    fixtures = suite.trace("::test_fixtures").fixtures

    assert set(fixtures) == {"slow", "on_top"}
    assert fixtures["slow"] >= 0.05 > fixtures["on_top"]


def test_a_shared_fixture_counts_for_the_test_that_paid(suite):
    assert suite.trace("::test_shared").fixtures["shared"] >= 0.05
    assert suite.trace("::test_shared_again").fixtures == {}


def test_a_failing_fixture_is_named_with_its_place(suite):
    failure = suite.trace("::test_broken").failure

    assert failure.fixture == "broken (test_a.py:19)"
    assert failure.errors[0].type == "ConnectionError"
    assert set(suite.trace("::test_broken").fixtures) == {"slow", "broken"}


def test_a_cached_failure_of_a_fixture_names_it_again(suite):
    first, again = suite.trace("::test_broken_once").failure, suite.trace("::test_broken_again").failure

    assert first.fixture == again.fixture != ""
    assert first.errors == again.errors


def test_markers_with_arguments_the_nearest_first(suite):
    markers = suite.trace("::test_marked").markers

    assert [marker.name for marker in markers] == ["bare", "of_function", "of_class", "of_module"]
    assert markers[1].args == ("3", "'x'", "list(1, 2)")
    assert markers[1].kwargs["limit"] == "0.5"
    assert (markers[2].args, markers[2].kwargs) == (("'c'",), {})
    assert (markers[3].args, markers[3].kwargs) == (("'m'",), {"level": "1"})


def test_markers_of_class_and_module_reach_every_test(suite):
    assert [marker.name for marker in suite.trace("::test_inherits").markers] == ["of_class", "of_module"]
    assert [marker.name for marker in suite.trace("::test_only_module").markers] == ["of_module"]


def test_parametrize_is_told_as_parameters_not_as_marker(suite):
    first, second = (trace for trace in suite.traces if "::test_params" in trace.nodeid)

    assert first.params == {"n": "1", "text": "'one'", "thing": "<Thing>", "kind": "<int>"}
    assert second.params == {"n": "-2.5", "text": "'ü'", "thing": "<Thing>", "kind": "<list>"}
    assert [marker.name for marker in first.markers] == ["of_module"]


def test_parameters_of_a_fixture(suite):
    found = [trace.params for trace in suite.traces if "::test_fixture_params" in trace.nodeid]

    assert found == [{"database": "'sqlite'"}, {"database": "'postgres'"}]


def test_captured_sections_of_a_failure(suite):
    sections = dict(suite.trace("::test_prints").sections)

    assert sections["Captured stdout call"] == "to stdout\n"
    assert sections["Captured stderr call"] == "to stderr\n"
    assert "to the log" in sections["Captured log call"]


def test_the_output_of_a_passing_test_is_not_kept(suite):
    assert suite.trace("::test_prints_and_passes").sections == ()


def test_long_output_is_cut_in_its_middle_and_says_so(suite):
    (section,) = suite.trace("::test_prints_much").sections

    assert 10_000 <= len(section[1]) < 11_000
    assert "characters left out" in section[1]
    assert section[1].endswith("the end\n")


def test_warnings_with_their_place(suite):
    first, second = suite.warnings("::test_warns")

    assert (first.category, first.message, first.file) == ("DeprecationWarning", "old way", "test_a.py")
    assert (second.category, second.message) == ("UserWarning", "odd")
    assert second.line == first.line + 1


def test_warnings_are_bounded(suite):
    found = suite.warnings("::test_warns_much")

    assert [warned.message for warned in found] == [f"number {n}" for n in range(20)]


def test_ids_are_unique_and_short(suite):
    ids = [record.id for record in (*suite.traces, *suite.spans, *suite.sources)]

    assert len(ids) == len(set(ids))
    assert all(0 < len(identity) < 256 for identity in ids)


def test_messages_hold_no_colours(tmp_path):
    suite = Suite(tmp_path, test_a="def test_a(): assert {'a': 1} == {'a': 2}\n")

    suite.run("--color=yes", "-v", env={"NO_COLOR": ""})

    assert suite.trace("test_a").failure is not None
    assert all(b"u001b" not in text for text in suite.bytes_written().values())
