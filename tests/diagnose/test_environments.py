"""Environments for what commits need: made by pip from files on this machine."""

from __future__ import annotations

import os
import subprocess
import zipfile
from concurrent.futures import ThreadPoolExecutor

import pytest

from pytest_tracetriage.diagnose.drift import install

INFO = "tracetriage_former-1.0.dist-info"
NEEDED = {
    "tracetriage_former.py": "VALUE = 1\n",
    f"{INFO}/METADATA": "Metadata-Version: 2.1\nName: tracetriage_former\nVersion: 1.0\n",
    f"{INFO}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    f"{INFO}/RECORD": "".join(f"{name},,\n" for name in ("tracetriage_former.py", f"{INFO}/METADATA", f"{INFO}/WHEEL")),
}


@pytest.fixture
def project(tmp_path, monkeypatch):
    """Return a project whose own modules are called as those that make environments."""
    with zipfile.ZipFile(tmp_path / "tracetriage_former-1.0-py3-none-any.whl", "w") as file:
        for name, text in NEEDED.items():
            file.writestr(name, text)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    made = tmp_path / "project"
    made.mkdir()
    for name in ("venv.py", "pip.py", "sysconfig.py", "secrets.py"):
        (made / name).write_text("raise SystemExit('not this one')\n", encoding="utf-8")
    (made / "requirements.txt").write_text("tracetriage-former==1.0\n", encoding="utf-8")
    return made


def test_two_at_a_time_make_one_environment_whatever_the_projects_modules_are_called(project, tmp_path):
    with ThreadPoolExecutor(2) as pool:
        made = [pool.submit(install, project, "v1", tmp_path / "cache", {}) for _ in range(2)]
        first, second = (one.result() for one in made)
    assert first == second
    asked = [str(first / "python"), "-I", "-c", "import tracetriage_former, pytest; print(tracetriage_former.VALUE)"]
    assert subprocess.run(asked, capture_output=True, text=True, check=True).stdout == "1\n"
    assert [path.name for path in first.parent.parent.iterdir() if path.is_dir()] == [first.parent.name]
