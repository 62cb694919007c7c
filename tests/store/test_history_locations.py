"""Where a history lies: a folder, or any URL that fsspec knows."""

from __future__ import annotations

import sys
import uuid
from urllib.parse import unquote

import fsspec
import pytest
from remembered import everything, ids, open_at
from test_history_compact import some_runs

from pytest_tracetriage.store.history import HistoryError, extra, remote
from pytest_tracetriage.store.history.git import GitLocation
from pytest_tracetriage.store.history.history import open_history
from pytest_tracetriage.store.history.locations import FolderLocation, open_location


@pytest.fixture(params=["memory", "file"])
def url(request, tmp_path):
    yield f"memory://{uuid.uuid4().hex}/h" if request.param == "memory" else (tmp_path / "far").as_uri()
    fsspec.filesystem("memory").store.clear()


def test_what_people_write(tmp_path):
    folder, rootdir = tmp_path / ".tracetriage", tmp_path
    assert open_location("", folder, rootdir).name == str(folder / "history")
    assert open_location(" build/h ", folder, rootdir).name == str(tmp_path / "build" / "h")
    assert open_location(str(tmp_path / "abs"), folder, rootdir).name == str(tmp_path / "abs")
    git = open_location("git:tracetriage-history", folder, rootdir, "token")
    assert isinstance(git, GitLocation)
    assert git.name == "git:tracetriage-history"
    assert isinstance(open_location("memory://h", folder, rootdir), remote.FsspecLocation)
    assert isinstance(open_location("C:/h", folder, rootdir), FolderLocation)
    assert list(tmp_path.iterdir()) == [], "nothing is made before it is needed"


def test_a_folder_at_home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("USERPROFILE", str(tmp_path / "home"))
    assert open_location("~/h", tmp_path, tmp_path).name == str(tmp_path / "home" / "h")
    assert open_location("~nobody-has-this-name/h", tmp_path, tmp_path).name == str(tmp_path / "~nobody-has-this-name" / "h")


@pytest.mark.parametrize(
    ("text", "message"),
    [("git:", "names no branch"), ("nosuch://h", "cannot be opened"), ("://h", "neither a path nor a URL")],
)
def test_what_is_no_location_is_one_line(tmp_path, text, message):
    with pytest.raises(HistoryError, match=message) as error:
        open_location(text, tmp_path, tmp_path)
    assert "\n" not in str(error.value)


def test_a_password_stands_in_no_message(tmp_path):
    location = open_location("file://ann:s3cret@/nowhere", tmp_path, tmp_path)
    assert "s3cret" not in location.name


@pytest.mark.parametrize(
    "url", ["memory://ann:s3c@ret@host/h", "memory://host/h?sig=s3c%40ret&se=2026", "memory://host/h#s3c@ret"]
)
def test_no_part_of_a_url_that_opens_doors_stands_in_a_message(tmp_path, monkeypatch, url):
    location = open_location(url, tmp_path, tmp_path)

    def refuse(*_, **__):
        raise PermissionError(f"403 for {url}, that is {unquote(url)}, with s3c@ret")

    monkeypatch.setattr(location._system, "ls", refuse)
    with pytest.raises(HistoryError, match="403 for memory://") as error:
        location.names()
    for text in (location.name, str(error.value)):
        assert "ret" not in text
    assert location.name == "memory://host/h"


def test_a_remote_history_answers_as_a_folder_does(url, tmp_path):
    plain = open_at(tmp_path / "plain")
    plain.add(some_runs())
    history = open_history(open_location(url, tmp_path / ".t", tmp_path))
    assert history.runs() == []
    history.add(some_runs())
    for _ in range(2):
        assert everything(history) == everything(plain)
        assert everything(open_history(open_location(url, tmp_path / ".elsewhere", tmp_path))) == everything(plain)
        assert history.compact().runs in (0, 6)
    history.prune(300.0)
    assert len(ids(history)) == 4
    names = history._location.names()
    assert len({name.split(".")[0] for name in names}) == 1
    assert not any(name.endswith(".tmp") for name in names)
    assert history.problems == []


def test_a_file_is_brought_once_and_forgotten_when_it_is_gone(url, tmp_path, monkeypatch):
    open_history(open_location(url, tmp_path / "writer", tmp_path)).add(some_runs(3))
    location = open_location(url, tmp_path / "reader", tmp_path)
    brought = []
    monkeypatch.setattr(
        location._system,
        "cat_file",
        lambda path, real=location._system.cat_file, **how: brought.append(path) or real(path, **how),
    )
    history = open_history(location)
    everything(history)
    everything(open_history(open_location(url, tmp_path / "reader", tmp_path)))
    assert len(brought) == len(set(brought)) == 9
    open_history(open_location(url, tmp_path / "writer", tmp_path)).compact()
    assert len(ids(history)) == 3
    [cache] = (tmp_path / "reader" / "history-cache").iterdir()
    assert len({path.name.split(".")[0] for path in cache.iterdir()}) == 1


def test_only_what_a_question_is_about_is_brought(url, tmp_path):
    open_history(open_location(url, tmp_path / "writer", tmp_path)).add(some_runs(3))
    location = open_location(url, tmp_path / "reader", tmp_path)
    open_history(location).runs()
    assert {path.name.split(".")[1] for path in location.cache.iterdir()} == {"run"}


def test_the_place_is_listed_once_for_a_question(url, tmp_path, monkeypatch):
    location = open_location(url, tmp_path, tmp_path)
    history = open_history(location)
    listed = []
    monkeypatch.setattr(location, "names", lambda real=location.names: listed.append(1) or real())
    history.add(some_runs(2))
    history.seen()
    history.slow_tests()
    history.compact()
    assert len(listed) == 4


@pytest.mark.parametrize("verb", ["ls", "pipe_file", "cat_file"])
def test_a_place_that_fails_is_one_line(tmp_path, monkeypatch, verb):
    location = open_location(f"memory://{uuid.uuid4().hex}", tmp_path, tmp_path)
    open_history(location).add(some_runs(1))

    def down(*_, **__):
        raise RuntimeError("503 Slow Down\n<html>")

    monkeypatch.setattr(location._system, verb, down)
    with pytest.raises(HistoryError, match=r"the history at memory://\w+ cannot be (read|written): 503 Slow Down$"):
        open_history(location).add(some_runs(2, 9000)) if verb == "pipe_file" else open_history(location).runs()


@pytest.mark.parametrize("module", ["duckdb", "fsspec.core"])
def test_what_is_not_installed_says_how_to(monkeypatch, module):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(HistoryError, match=r"needs (duckdb|fsspec), .*: pip install 'pytest-tracetriage\[history\]'$"):
        extra(module)
    assert remote.FsspecLocation
