"""A disk that is full, a folder that cannot be written or is taken away: records are lost, tests never."""

from __future__ import annotations

import subprocess
import sys

import pytest
from capture.suite import Suite

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="mounts and limits")

TEST_A = """
    import pytest
    @pytest.mark.parametrize("n", range(60))
    def test_n(n): pass
    @pytest.mark.parametrize("n", range(20))
    def test_fails(n):
        print("x" * 3000)
        assert n < 0
"""
EXPECTED = {"passed": 60, "failed": 20}


def unharmed(suite: Suite, result) -> None:
    assert result.ret == 1
    assert result.counts == EXPECTED
    assert len(result.warned) == 1, result.out
    assert "INTERNALERROR" not in result.out + result.err
    assert "Traceback" not in result.err


@pytest.fixture
def mounted(tmp_path):
    """Return a function that mounts a tmpfs with these options and returns its folder; unmounts it at the end."""
    mounts = []

    def mount(options):
        folder = tmp_path / "mount"
        folder.mkdir(exist_ok=True)
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "none", folder], capture_output=True, check=False)
        if done.returncode:
            pytest.skip(f"NOT SHOWN: this machine lets nobody mount a tmpfs: {done.stderr.decode().strip()}")
        mounts.append(folder)
        return folder

    yield mount
    for folder in mounts:
        subprocess.run(["umount", "-l", folder], check=False)


@pytest.mark.parametrize("size", ["4k", "64k"])
def test_a_full_disk(tmp_path, mounted, size):
    suite = Suite(tmp_path / "project", test_a=TEST_A)
    result = suite.run("-o", f"tracetriage_dir={mounted(f'size={size}')}/t")

    unharmed(suite, result)
    assert "No space left on device" in result.warned[0]


def test_what_fitted_on_the_disk_can_be_read(tmp_path, mounted):
    folder = mounted("size=64k")
    suite = Suite(tmp_path / "project", test_a=TEST_A)
    result = suite.run("-o", f"tracetriage_dir={folder}/t")
    answer = suite.tracetriage("analyze", "--format", "json", str(next(folder.glob("t/runs/*"))))

    assert "records lost" in result.warned[0]
    assert answer.ret == 1, answer
    assert '"clusters"' in answer.out


def test_a_disk_that_only_reads(tmp_path, mounted):
    folder = mounted("size=64k,ro")
    suite = Suite(tmp_path / "project", test_a=TEST_A)

    result = suite.run("-o", f"tracetriage_dir={folder}/t")
    unharmed(suite, result)
    assert "no failures" not in result.out


def test_a_limit_to_the_size_of_files(tmp_path):
    import resource

    suite = Suite(tmp_path, test_a=TEST_A)

    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))

    unharmed(suite, suite.run(preexec_fn=limit))


@pytest.mark.parametrize("place", [".tracetriage", ".tracetriage/runs"])
def test_a_file_where_the_folder_should_be(tmp_path, place):
    suite = Suite(tmp_path, {place: "in the way"}, test_a=TEST_A)

    unharmed(suite, suite.run())
    assert (suite.root / place).read_text() == "in the way"


@pytest.mark.parametrize("name", ["run.json", "traces"])
def test_a_test_takes_a_part_of_the_run_away(tmp_path, name):
    suite = Suite(
        tmp_path,
        test_0=f"""
        import pathlib, shutil
        def test_takes():
            for path in pathlib.Path(".tracetriage/runs").glob("*/{name}"):
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        """,
        test_a=TEST_A,
    )
    result = suite.run()

    assert (result.ret, result.counts) == (1, {"passed": 61, "failed": 20})
    assert len(result.warned) <= 1
    assert "INTERNALERROR" not in result.out + result.err


def test_a_test_takes_the_folder_away(tmp_path):
    suite = Suite(tmp_path, test_0='import shutil\ndef test_takes(): shutil.rmtree(".tracetriage")\n', test_a=TEST_A)
    result = suite.run()

    assert (result.ret, result.counts) == (1, {"passed": 61, "failed": 20})
    assert len(result.warned) == 1
    assert "INTERNALERROR" not in result.out + result.err


def test_a_test_that_changes_the_working_folder(tmp_path):
    suite = Suite(tmp_path, test_0="import os\ndef test_moves(tmp_path): os.chdir(tmp_path)\n", test_a=TEST_A)
    result = suite.run()

    assert (result.warned, suite.info.totals.tests) == ([], 81)


def test_a_test_that_closes_every_file(tmp_path):
    suite = Suite(tmp_path, test_0="import os\ndef test_closes(): os.closerange(10, 100)\n", test_a=TEST_A)
    plain, result = suite.run("-s", on=False), suite.run("-s")

    assert (result.ret, result.counts) == (plain.ret, plain.counts)
    assert "INTERNALERROR" not in result.out + result.err


def test_without_a_name_for_the_user_or_home(tmp_path):
    suite = Suite(tmp_path, test_a="def test_a(): pass\n")
    result = suite.run(env={"HOME": "", "USER": "", "TMPDIR": str(tmp_path), "LANG": "C", "LC_ALL": "C", "TERM": ""})

    assert (result.ret, result.warned) == (0, [])
    assert len(suite.runs) == 1
