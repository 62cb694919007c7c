"""The files by which a step tells the runner something."""

from __future__ import annotations

from pytest_tracetriage.commands import channels


def test_a_line_ends_on_every_system_as_it_was_counted(tmp_path, monkeypatch):
    path = tmp_path / "summary.md"
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(path))
    monkeypatch.setattr(channels, "open", _as_on_windows, raising=False)
    channels.append("GITHUB_STEP_SUMMARY", "a\nb")
    channels.append("GITHUB_STEP_SUMMARY", "c\n")
    assert path.read_bytes() == b"a\nb\nc\n"


def _as_on_windows(path, mode, newline=None, **more):
    return open(path, mode, newline="\r\n" if newline is None else newline, **more)
