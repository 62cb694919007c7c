"""What the end of a run says."""

from __future__ import annotations

import time

import pytest
from capture.suite import Suite

APP = "def total(): raise KeyError('sku')\ndef read(): raise MemoryError('full')\n"
RED = """
    from app import total, read
    def test_1(): total()
    def test_2(): total()
    def test_3(): read()
    def test_green(): pass
"""


@pytest.fixture
def suite(tmp_path):
    return Suite(tmp_path, app=APP, test_a=RED)


def ours(result):
    """Return the lines of TraceTriage's block."""
    lines = result.lines
    start = next(n for n, line in enumerate(lines) if "TraceTriage: " in line)
    end = next((n for n, line in enumerate(lines) if n > start and line.startswith("===")), len(lines))
    return lines[start:end]


def next_second():
    """Ids of runs that begin in the same second have no order."""
    time.sleep(1.05 - time.time() % 1)


def test_a_green_run_says_one_line(tmp_path):
    suite = Suite(tmp_path, test_a="def test_a(): pass\ndef test_b(): pass\n")
    result = suite.run()

    assert [line for line in result.lines if "tracetriage" in line.lower() and not line.startswith("plugins:")] == [
        "TraceTriage: 2 tests, no failures"
    ]


def test_a_red_run(suite):
    result = suite.run()

    assert result.headline == "TraceTriage: 3 failures -> 2 root causes (first run)"
    block = "\n".join(ours(result))
    assert "KeyError in total: missing 'sku'" in block
    assert "2 tests" in block
    assert "app.py:1" in block
    assert "test_a.py::test_1" in block or "test_a.py::test_2" in block
    short = suite.analysis.clusters[0].id[:5]
    assert f"again: pytest --tracetriage-rerun={short} · more: tracetriage show {short}" in block


def test_it_stands_between_the_failures_and_the_short_summary(suite):
    out = suite.run().out

    assert out.index("= FAILURES =") < out.index("TraceTriage: 3 failures") < out.index("= short test summary info =")


def test_no_line_is_wider_than_the_terminal(suite):
    suite.write(app=APP.replace("'sku'", "'" + "long " * 60 + "'"))
    for width in (60, 100):
        block = ours(suite.run(env={"COLUMNS": str(width)}))
        assert max(len(line) for line in block if not line.startswith("again: ")) <= width, "a command is not cut"


def test_quiet(suite):
    block = ours(suite.run("-q"))

    assert block[0] == "TraceTriage: 3 failures -> 2 root causes (first run)"
    assert len([line for line in block[1:] if line.strip()]) == 2, "one line a cause"
    assert "again:" not in "\n".join(block)


def test_verbose_says_why(suite):
    block = "\n".join(ours(suite.run("-v")))

    assert "why: " in block
    assert "why: " not in "\n".join(ours(suite.run()))


def test_no_summary_is_silent(suite):
    result = suite.run("--no-summary")

    assert "TraceTriage" not in result.out
    assert len(suite.analysis.clusters) == 2, "it is recorded all the same"


def test_history(suite):
    first = suite.run()
    next_second()
    again = suite.run()
    next_second()
    suite.write(
        app=APP.replace("def total(): raise KeyError('sku')", "def total(): pass"), test_n="import gone\ndef test_n(): pass\n"
    )
    mixed = suite.run("--continue-on-collection-errors")
    next_second()
    suite.write(app="def total(): pass\ndef read(): pass\n", test_n="def test_n(): pass\n")
    green = suite.run()
    next_second()
    silent = suite.run()

    assert first.headline.endswith("(first run)")
    assert again.headline == "TraceTriage: 3 failures -> 2 root causes"
    assert "known for 1 run, since 20" in again.out
    assert mixed.headline == "TraceTriage: 2 failures -> 2 root causes (1 new, 1 fixed)"
    assert green.headline == "TraceTriage: 5 tests, no failures (2 fixed)"
    assert "fixed" in "\n".join(ours(green)[1:])
    assert silent.headline == "TraceTriage: 5 tests, no failures"


def test_colour_only_where_it_is_wanted(suite):
    coloured = suite.run("--color=yes", env={"NO_COLOR": "", "FORCE_COLOR": "1"})

    assert "\x1b[" in next(line for line in coloured.lines if "TraceTriage: " in line)
    assert "\x1b[" not in suite.run("--color=no").out


def test_a_message_cannot_steer_the_terminal(suite):
    suite.write(app="def total(): raise ValueError('\\x1b[2J\\x07 gone \\r over')\ndef read(): total()\n")
    block = "\n".join(ours(suite.run()))

    assert not {"\x1b", "\x07", "\r"} & set(block)
    assert "gone" in block


def test_nothing_collected(tmp_path):
    result = Suite(tmp_path, test_a="").run()

    assert result.ret == pytest.ExitCode.NO_TESTS_COLLECTED
    assert result.warned == []
