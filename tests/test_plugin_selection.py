"""`--tracetriage-select=FILE` and `--tracetriage-rerun=CLUSTER`."""

from __future__ import annotations

import json

import msgspec
import pytest
from capture.suite import Suite

TEST_A = """
    import pytest
    @pytest.mark.parametrize("n", range(3))
    def test_n(n): pass
    def test_one(): pass
    class TestIn:
        def test_x(self): pass
        def test_y(self): pass
"""


@pytest.fixture
def suite(tmp_path):
    return Suite(tmp_path, test_a=TEST_A, test_b="def test_b(): pass\n")


def ran(result):
    return sorted(line.split()[0] for line in result.lines if "PASSED" in line or "FAILED" in line.split()[1:2])


def select(suite, text, *args):
    suite.write({"ids.txt": text})
    return suite.run("-v", "--tracetriage-select=ids.txt", *args, on=False)


def test_exactly_the_tests_of_the_file(suite):
    result = select(suite, "test_a.py::test_n[1]\ntest_b.py::test_b\n")

    assert ran(result) == ["test_a.py::test_n[1]", "test_b.py::test_b"]
    assert result.counts == {"passed": 2, "deselected": 5}
    result.match("tracetriage: 2 selected by ids.txt")


def test_comments_blank_lines_and_spaces(suite):
    result = select(suite, "# the slow ones\n\n  test_a.py::test_one  \r\n#test_b.py::test_b\n")

    assert ran(result) == ["test_a.py::test_one"]
    assert "not in this collection" not in result.out


def test_a_byte_order_mark(suite):
    assert ran(select(suite, "\ufefftest_b.py::test_b\n")) == ["test_b.py::test_b"]


def test_classes_and_files_stand_for_all_in_them(suite):
    assert ran(select(suite, "test_a.py::TestIn\n")) == ["test_a.py::TestIn::test_x", "test_a.py::TestIn::test_y"]
    assert len(ran(select(suite, "test_a.py\n"))) == 6


def test_a_test_without_parameters_stands_for_all_of_it(suite):
    assert ran(select(suite, "test_a.py::test_n\n")) == [f"test_a.py::test_n[{n}]" for n in range(3)]
    assert ran(select(suite, "test_a.py::test_\n")) == []


def test_what_is_missing_is_told(suite):
    result = select(suite, "test_b.py::test_b\ntest_a.py::test_gone\ntest_z.py::test_z\n")

    assert ran(result) == ["test_b.py::test_b"]
    result.match("tracetriage: 2 of them are not in this collection: test_a.py::test_gone, test_z.py::test_z")


def test_many_missing_are_cut(suite):
    result = select(suite, "".join(f"test_a.py::gone_{n:02}\n" for n in range(30)))

    assert "30 of them are not in this collection" in result.out
    assert "gone_09 ..." in result.out
    assert "gone_10" not in result.out
    assert result.ret == pytest.ExitCode.NO_TESTS_COLLECTED


def test_a_file_that_is_not_there(suite):
    result = suite.run("--tracetriage-select=nowhere.txt", on=False)

    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert "--tracetriage-select: " in result.err
    assert "nowhere.txt: No such file or directory" in result.err


def test_a_file_that_is_no_text(suite):
    (suite.root / "ids.txt").write_bytes(b"\xff\xfe\x00bad")
    result = suite.run("--tracetriage-select=ids.txt", on=False)

    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert "ids.txt" in result.err


def test_selecting_alone_records_nothing(suite):
    select(suite, "test_b.py::test_b\n")

    assert suite.runs == []


def test_selecting_and_recording(suite):
    select(suite, "test_b.py::test_b\n", "--tracetriage")

    assert suite.outcomes() == {"test_b": "passed"}


SECRETS = """
    import os, pytest
    @pytest.mark.parametrize("password", ["hunter2hunter2", "swordfish-99", "swordfish-98"])
    def test_login(password): assert password != "hunter2hunter2"
"""


def test_redacted_ids_select_the_same_test(tmp_path):
    suite = Suite(tmp_path, test_s=SECRETS)
    suite.run()
    failed = [trace.nodeid for trace in suite.traces if trace.outcome == "failed"]
    assert "[redacted " in failed[0]
    suite.write({"ids.txt": failed[0] + "\n"})
    result = suite.run("--tracetriage-select=ids.txt")

    assert result.counts == {"failed": 1, "deselected": 2}


RED = """
    import pytest
    from app import lookup
    from other import read
    def test_1(): lookup()
    def test_2(): lookup()
    def test_other(): read()
    def test_green(): pass
"""


@pytest.fixture(scope="module")
def red(tmp_path_factory):
    app, other = "def lookup(): raise KeyError('sku')\n", "def read(): raise MemoryError('full')\n"
    suite = Suite(tmp_path_factory.mktemp("rerun"), app=app, other=other, test_r=RED)
    suite.run()
    suite.clusters = {cluster.count: cluster for cluster in suite.analysis.clusters}
    assert sorted(suite.clusters) == [1, 2]
    return suite


@pytest.mark.parametrize(
    "shape", [lambda i: i, lambda i: i[:5], lambda i: i[:5].lower()], ids=["whole", "prefix", "lower case"]
)
def test_a_cluster_again(red, shape):
    result = red.run("-v", f"--tracetriage-rerun={shape(red.clusters[2].id)}", on=False)

    assert ran(result) == ["test_r.py::test_1", "test_r.py::test_2"]
    assert "TraceTriage: 2 failures -> 1 root cause" in result.out, "it implies --tracetriage"


def test_an_unknown_cluster_names_those_there_are(red):
    result = red.run("--tracetriage-rerun=ZZZZZ")

    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert "no cluster 'ZZZZZ' in the kept runs; the latest has: " in result.err


def test_an_ambiguous_prefix_names_the_choices(red):
    analysis = msgspec.to_builtins(red.analysis)
    analysis["clusters"] = [{**analysis["clusters"][0], "id": identity.ljust(26, "A")} for identity in ("ABCDE2", "ABCDE3")]
    copy = Suite(red.root / "copy", test_r=RED)
    copy.write({".tracetriage/runs/20200101T000000Z-000000/analysis.json": json.dumps(analysis)})
    result = copy.run("--tracetriage-rerun=ABCDE", "--rootdir=.")

    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert "cluster 'ABCDE' is ambiguous: ABCDE2 " in result.err
    assert "; ABCDE3 " in result.err


def test_no_run_to_take_clusters_from(suite):
    result = suite.run("--tracetriage-rerun=ABCDE")

    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert "no run with an analysis; run `pytest --tracetriage` first" in result.err


def test_a_part_of_a_cluster_does_not_replace_the_whole(tmp_path):
    suite = Suite(tmp_path, test_a="import pytest\n@pytest.mark.parametrize('n', range(5))\ndef test_n(n): {}['k']\n")
    suite.run()
    (cluster,) = suite.analysis.clusters
    part = suite.run(f"--tracetriage-rerun={cluster.id}", "-k", "test_n and 1")
    assert part.counts == {"failed": 1, "deselected": 4}
    whole = suite.run(f"--tracetriage-rerun={cluster.id}")
    assert whole.counts == {"failed": 5}
    assert suite.analysis.clusters[0].waiting == ()
