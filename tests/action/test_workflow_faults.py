"""Reporting that fails costs one warning, and never changes a job's result."""

from __future__ import annotations

import subprocess

import pytest
from acting import only
from tested_project import MENDED_STOCK
from world import READ_ONLY

pytestmark = pytest.mark.linux

NOWHERE = "http://127.0.0.1:9"
BOTH = pytest.mark.parametrize(("files", "result"), [(MENDED_STOCK, "success"), ({"README.md": "red"}, "failure")])


def unharmed(ran, result):
    assert ran.results == {"Tests": result}
    assert len(ran.warnings) == 1, ran.warnings


@BOTH
def test_the_api_is_down(project, files, result):
    pull = project.open_pull("topic", files)
    ran = project.pull(pull, environment={"GITHUB_API_URL": NOWHERE})

    unharmed(ran, result)
    assert ran.summary


@BOTH
def test_a_token_without_permission(project, files, result):
    pull = project.open_pull("topic", files)
    ran = project.pull(pull, token=READ_ONLY)

    unharmed(ran, result)
    assert ran.summary
    assert project.server.state()["comments"] == []


def test_a_token_that_nobody_knows(project):
    unharmed(project.push(project.commit(MENDED_STOCK), token="ghs_" + "x" * 36), "success")


def test_a_history_that_cannot_be_reached(project):
    workflow = project.variant("tests.yml", "git:tracetriage-history", f"memory-of/{'x' * 300}")
    unharmed(project.push(project.commit(MENDED_STOCK), workflow), "success")


def test_a_corrupt_trace(project):
    pull = project.open_pull("topic", MENDED_STOCK, fork="stranger/shop")
    project.pull(pull, "fork-tests.yml", run_id=901, token=READ_ONLY)
    run = only([path.parent for path in (project.artifacts / "901").rglob("run.json")])
    spoiled = (
        lambda: next((run / "traces").iterdir()).write_bytes(b"\0\xff{\n" * 1000),
        lambda: (run / "run.json").write_bytes(b'{"schema": "tracetriage.run/1", "id"'),
        (run / "run.json").unlink,
    )
    for spoil in spoiled:
        spoil()
        ran = project.after(pull, 901)
        assert ran.results == {"Root causes": "success"}
        assert len(ran.warnings) == 1, (ran.warnings, ran.summary)


@pytest.fixture
def full_disk(tmp_path):
    """Return a folder on a disk that has no room left."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16k", "none", disk], capture_output=True, check=False).returncode:
        pytest.skip("NOT SHOWN: this machine lets nobody mount a tmpfs")
    with pytest.raises(OSError, match="No space left"):
        (disk / "filler").write_bytes(bytes(1 << 20))
    yield disk
    subprocess.run(["umount", "-l", disk], check=False)


@BOTH
def test_no_room_for_traces(project, full_disk, files, result):
    new = f"git:tracetriage-history\n          settings: dir = {full_disk}/t\n"
    ran = project.push(project.commit(files), project.variant("tests.yml", "git:tracetriage-history\n", new))

    unharmed(ran, result)


@BOTH
def test_no_room_for_the_history(project, full_disk, files, result):
    ran = project.push(project.commit(files), project.variant("tests.yml", "git:tracetriage-history", f"{full_disk}/history"))

    unharmed(ran, result)
    assert "No space left on device" in ran.warnings[0]
    assert ran.summary


def test_nothing_can_be_installed(project):
    nowhere = {"PIP_INDEX_URL": NOWHERE, "PIP_RETRIES": "0", "UV_DEFAULT_INDEX": NOWHERE, "PIP_CONFIG_FILE": "/dev/null"}
    ran = project.push(project.commit(MENDED_STOCK), packages=False, environment=nowhere)

    unharmed(ran, "success")
    assert "the tests run all the same" in ran.warnings[0]
    assert "6 passed" in ran.log


def test_a_suite_that_breaks_is_red_whatever_is_forgiven(project):
    workflow = project.variant("tests.yml", "command: pytest\n", "command: pytest --no-such-option\n          fail-on: new\n")
    ran = project.push(project.commit({"README.md": "first"}), workflow)
    unharmed(ran, "failure")
