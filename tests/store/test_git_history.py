"""A history on a git branch: what is put is found by everybody, whatever happens to the branch, the remote or the process."""

from __future__ import annotations

import base64
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from git_server import serving
from hypothesis import given
from hypothesis import strategies as st

from pytest_tracetriage.store.history import HistoryError, git_plumbing, git_tree
from pytest_tracetriage.store.history.git import GitLocation

BRANCH = "tracetriage-history"
TOKEN = "ghs_4f9Zk2Qw8Lm1Xc7V"
REAL_GIT = shutil.which("git") or "git"

# Settings of a user's own that would get in the way if they applied.
USER_SETTINGS = """
[user]
    name = A User
    email = user@example.invalid
[commit]
    gpgSign = true
[push]
    gpgSign = true
    followTags = true
[fetch]
    prune = true
    all = true
[submodule]
    recurse = true
[protocol "ext"]
    allow = always
[safe]
    bareRepository = explicit
[core]
    hooksPath = {hooks}
    askPass = {hooks}/ask
[init]
    templateDir = {template}
"""
START = f"""
import sys
from pathlib import Path
sys.path.insert(0, {str(Path(git_tree.__file__).parents[3])!r})
from pytest_tracetriage.store.history.git import GitLocation
"""
HOOK = '#!/bin/sh\necho "$0" >> "{log}"\nexit 1\n'
HOOKS = ("pre-push", "pre-auto-gc", "ask", "reference-transaction", "pre-receive", "update", "post-receive", "post-update")


@pytest.fixture(autouse=True)
def _user(tmp_path, monkeypatch):
    """A user whose settings and hooks are hostile to us; no test may run one of the hooks."""
    log = tmp_path / "hooks.log"
    write_hooks(tmp_path / "user-hooks", log, HOOKS[:3])  # the others would run in a remote on this machine, and rightly
    write_hooks(tmp_path / "template" / "hooks", log)
    settings = tmp_path / "gitconfig"
    settings.write_text(USER_SETTINGS.format(hooks=tmp_path / "user-hooks", template=tmp_path / "template"))
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(settings))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    yield
    assert not log.exists(), log.read_text()


def write_hooks(folder, log, names=HOOKS):
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).write_text(HOOK.format(log=log))
        (folder / name).chmod(0o755)


def git(folder, *arguments, stdin=None, **more):
    """Run git as the user does, but for the hooks."""
    environment = {**os.environ, "GIT_CONFIG_GLOBAL": os.devnull, **{k: str(v) for k, v in more.items()}}
    identity = ("-c", "user.name=A User", "-c", "user.email=user@example.invalid", "-c", "protocol.file.allow=always")
    done = subprocess.run(
        [REAL_GIT, *identity, *arguments], cwd=folder, env=environment, input=stdin, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode(errors="surrogateescape").strip()


def new_project(folder, remote="", *more):
    folder.mkdir()
    git(folder, "init", "-q", "-b", "main", *more)
    (folder / "code.py").write_text("print(1)\n")
    git(folder, "add", ".")
    git(folder, "commit", "-qm", "first")
    if remote:
        git(folder, "remote", "add", "origin", str(remote))
    return folder


@pytest.fixture
def remote(tmp_path):
    path = tmp_path / "remote.git"
    git(tmp_path, "init", "-q", "--bare", "-b", "main", str(path))
    return path


@pytest.fixture
def project(tmp_path, remote):
    return new_project(tmp_path / "project", remote)


@pytest.fixture
def open_at(tmp_path, project):
    """Open the history of a project, each cache being another machine."""

    def at(cache="cache", rootdir=None, branch=BRANCH, **more):
        return GitLocation(branch, rootdir or project, tmp_path / cache, **more)

    return at


def content(location, *names):
    paths = location.fetch(frozenset(names) if names else location.names())
    return {name: Path(path).read_bytes() for name, path in paths.items()}


def on_branch(remote, branch=BRANCH):
    return set(git(remote, "ls-tree", "-r", "--name-only", branch).splitlines())


def push_tree(remote, lines, *, parent="", branch=BRANCH):
    """Let somebody else make the branch hold exactly these entries of `git mktree`."""
    tree = git(remote, "mktree", "--missing", stdin="\n".join(lines).encode())
    commit = git(remote, "commit-tree", tree, *(("-p", parent) if parent else ()), "-m", "by hand")
    git(remote, "update-ref", f"refs/heads/{branch}", commit)
    return commit


def entries(remote, branch=BRANCH):
    return git(remote, "ls-tree", branch).splitlines()


def snapshot(folder):
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else b"" for path in sorted(folder.rglob("*"))}


def run_python(code, *arguments, **environment):
    """Start a process that may use the package."""
    return subprocess.Popen(
        [sys.executable, "-c", START + code, *map(str, arguments)],
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


def finished(process):
    out, _ = process.communicate(timeout=100)
    return process.returncode, out.decode()


@pytest.fixture
def wrapped_git(tmp_path, monkeypatch):
    """Put a `git` before the real one that logs its arguments and then runs `script`."""

    def wrap(script=""):
        folder, log = tmp_path / "bin", tmp_path / "git.log"
        folder.mkdir(exist_ok=True)
        log.write_text("")
        text = f'#!/bin/sh\nprintf "%s|" "$@" >> "{log}"; echo >> "{log}"\n{script}\nexec "{REAL_GIT}" "$@"\n'
        (folder / "git").write_text(text)
        (folder / "git").chmod(0o755)
        monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
        return log

    return wrap


# What everybody does


def test_what_is_put_is_found_from_another_machine(open_at):
    here, there = open_at("here"), open_at("there")
    assert here.name == f"git:{BRANCH}"
    assert here.names() == frozenset()
    here.put({"a.parquet": b"first", "b.parquet": b""})
    assert content(there) == {"a.parquet": b"first", "b.parquet": b""}
    there.put({"c.parquet": b"\0\n\xff"}, frozenset({"a.parquet"}))
    assert content(here) == {"b.parquet": b"", "c.parquet": b"\0\n\xff"}
    assert here.notes == there.notes == []


def test_the_branch_is_an_orphan_with_a_commit_for_each_change(open_at, project, remote):
    git(project, "push", "-q", "origin", "main")
    open_at().put({"a.parquet": b"1"}, message="History: run 1\n\nmore\x1b[31m\0\ud800")
    open_at().put({"b.parquet": b"2"})
    assert git(remote, "log", "--format=%an <%ae> %cn %s", BRANCH).splitlines() == [
        "TraceTriage <tracetriage@users.noreply.invalid> TraceTriage History of test runs",
        "TraceTriage <tracetriage@users.noreply.invalid> TraceTriage History: run 1",
    ]
    assert "\x1b" not in git(remote, "log", "--format=%B", BRANCH)
    assert on_branch(remote) == {".removed", "a.parquet", "b.parquet"}
    with pytest.raises(AssertionError):
        git(remote, "merge-base", "main", BRANCH)
    git(remote, "fsck", "--strict")


def test_putting_what_is_there_makes_no_commit(open_at, remote):
    open_at().put({"a.parquet": b"1"})
    tip = git(remote, "rev-parse", BRANCH)
    open_at().put({"a.parquet": b"1"})
    open_at("other").put({"a.parquet": b"1"}, frozenset({"a.parquet"}))
    open_at().put({})
    assert git(remote, "rev-parse", BRANCH) == tip


def test_nothing_put_makes_no_branch(open_at, remote):
    open_at().put({})
    assert git(remote, "branch") == ""


def test_a_file_may_be_put_again_after_it_was_removed(open_at):
    here, there = open_at("here"), open_at("there")
    here.put({"a.parquet": b"1", "b.parquet": b"2"})
    here.put({}, frozenset({"a.parquet"}))
    assert there.names() == {"b.parquet"}
    here.put({"a.parquet": b"new"})
    there.put({"c.parquet": b"3"})  # it knows of the removal
    expected = {"a.parquet": b"new", "b.parquet": b"2", "c.parquet": b"3"}
    assert content(here) == content(there) == content(open_at("third")) == expected
    there.put({}, frozenset({"a.parquet"}))
    assert here.names() == open_at("fourth").names() == {"b.parquet", "c.parquet"}


@pytest.mark.parametrize("name", ["../x.parquet", "a/b", ".hidden", "", "x\n", "x y", "é", "x" * 201, ".removed"])
def test_an_odd_name_is_refused(open_at, remote, name):
    with pytest.raises(HistoryError, match="odd name"):
        open_at().put({name: b""})
    assert git(remote, "branch") == ""


# The cache


def test_only_what_is_asked_for_is_written(open_at, tmp_path):
    here = open_at("here")
    here.put({f"{n}.parquet": b"%d" % n for n in range(5)})
    assert content(open_at("there"), "3.parquet") == {"3.parquet": b"3"}
    assert [path.name for path in (tmp_path / "there" / "files").iterdir()] == ["3.parquet"]
    assert open_at("there").fetch(frozenset()) == {}


def test_a_cached_file_is_kept_and_a_damaged_one_replaced(open_at, tmp_path):
    here = open_at()
    here.put({"a.parquet": b"good", "b.parquet": b"fine", "c.parquet": b"gone"})
    content(here)
    files = tmp_path / "cache" / "files"
    before = (files / "b.parquet").stat().st_ino
    (files / "a.parquet").write_bytes(b"evil")
    (files / "c.parquet").unlink()
    assert content(open_at()) == {"a.parquet": b"good", "b.parquet": b"fine", "c.parquet": b"gone"}
    assert (files / "b.parquet").stat().st_ino == before


def test_a_file_that_is_not_there_is_named(open_at):
    open_at().put({"a.parquet": b""})
    with pytest.raises(HistoryError, match=f"branch {BRANCH} of origin holds no file 'x.parquet'"):
        open_at().fetch(frozenset({"a.parquet", "x.parquet"}))


def test_cached_files_are_forgotten_when_the_history_and_people_are_done_with_them(open_at, tmp_path):
    here = open_at()
    here.put({"old.parquet": b"1", "recent.parquet": b"2", "held.parquet": b"3"})
    for path in content(here) and (tmp_path / "cache" / "files").iterdir():
        os.utime(path, (time.time() - 9999,) * 2)
    content(here, "recent.parquet")
    open_at().put({}, frozenset({"old.parquet", "recent.parquet"}))
    assert sorted(path.name for path in (tmp_path / "cache" / "files").iterdir()) == ["held.parquet", "recent.parquet"]


@pytest.mark.parametrize("damage", ["objects", "swapped", "head", "refs", "config"])
def test_a_damaged_cache_is_made_anew(open_at, tmp_path, damage):
    here = open_at()
    here.put({"a.parquet": b"1" * 1000, "b.parquet": b"2" * 1000})
    repository = tmp_path / "cache" / "repository.git"
    if damage == "objects":
        for path in repository.glob("objects/*/*"):
            path.chmod(0o644)
            path.write_bytes(b"")
    elif damage == "swapped":  # whole objects, but not what their names say: git reads them without a word
        first, second = (loose(repository, data * 1000) for data in (b"1", b"2"))
        first.chmod(0o644)
        first.write_bytes(second.read_bytes())
    elif damage == "head":
        (repository / "HEAD").write_text("")
    elif damage == "refs":
        for path in repository.glob("refs/tracetriage/*/*"):
            path.write_text("nonsense\n")
    else:
        (repository / "config").write_text("[core\n")
    assert content(open_at()) == {"a.parquet": b"1" * 1000, "b.parquet": b"2" * 1000}
    open_at().put({"c.parquet": b"3"})
    assert len(open_at("other").names()) == 3


def test_another_process_may_make_the_cache_anew_meanwhile(open_at, tmp_path):
    here = open_at()
    here.put({"a.parquet": b"1"})
    assert here.names() == {"a.parquet"}
    shutil.rmtree(tmp_path / "cache")
    assert content(here, "a.parquet") == {"a.parquet": b"1"}


def loose(repository, data):
    blob = git(repository, "--git-dir", ".", "hash-object", "--stdin", stdin=data)
    return repository / "objects" / blob[:2] / blob[2:]


def test_locks_that_a_killed_git_left_are_removed(open_at, tmp_path):
    here = open_at()
    here.put({"a.parquet": b"1"})
    repository = tmp_path / "cache" / "repository.git"
    folder = next(repository.glob("refs/tracetriage/*"))
    for path in (repository / "shallow.lock", repository / "packed-refs.lock", folder / "tip.lock", folder / "kept.lock"):
        path.touch()
    open_at("other").put({"b.parquet": b"2"})
    open_at().put({"c.parquet": b"3"})
    assert open_at("other").names() == {"a.parquet", "b.parquet", "c.parquet"}


def test_branches_and_remotes_may_share_a_cache(open_at, tmp_path, project):
    git(tmp_path, "init", "-q", "--bare", "second.git")
    open_at().put({"a.parquet": b"1"})
    open_at(branch="another").put({"b.parquet": b"2"})
    git(project, "remote", "set-url", "origin", str(tmp_path / "second.git"))
    open_at().put({"c.parquet": b"3"})
    assert open_at().names() == {"c.parquet"}
    assert on_branch(tmp_path / "second.git") == {".removed", "c.parquet"}


def test_a_cache_that_cannot_be_made_is_named(open_at, tmp_path):
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(HistoryError, match=r"cache.*the history of git:tracetriage-history needs this folder"):
        open_at().names()


# Many at once

PUT = """
rootdir, cache, name = sys.argv[1:]
GitLocation("tracetriage-history", Path(rootdir), Path(cache)).put({name: name.encode() * 1000})
"""


def test_ten_processes_push_at_once_and_nothing_is_lost(open_at, project, tmp_path, remote):
    started = [run_python(PUT, project, tmp_path / f"cache{n}", f"{n}.parquet") for n in range(10)]
    assert [finished(process) for process in started] == [(0, "")] * 10
    assert content(open_at()) == {f"{n}.parquet": f"{n}.parquet".encode() * 1000 for n in range(10)}
    git(remote, "fsck", "--strict")


def test_processes_that_share_a_cache_take_turns(open_at, project, tmp_path):
    started = [run_python(PUT, project, tmp_path / "cache", f"{n}.parquet") for n in range(3)]
    assert [finished(process) for process in started] == [(0, "")] * 3
    assert open_at().names() == {f"{n}.parquet" for n in range(3)}


def test_whoever_waits_too_long_for_the_cache_is_told(open_at, tmp_path, monkeypatch):
    from pytest_tracetriage.store.history import git_cache, locations

    monkeypatch.setattr(git_cache, "LOCK_LIMIT", 0.05)
    with (
        locations.locked(tmp_path / "cache" / "lock", 1.0),
        pytest.raises(HistoryError, match="another process has held this lock"),
    ):
        open_at().names()


OVERTAKE = """
case " $* " in *" push "*)
  if [ ! -e "{flag}" ]; then touch "{flag}"; {command}; fi
esac
"""


@pytest.mark.parametrize("many", [1, 30])
def test_who_is_overtaken_builds_on_what_the_other_pushed(open_at, project, remote, tmp_path, wrapped_git, many):
    """Also a compaction, which would replace the branch."""
    old = {f"old{n}.parquet": b"%d" % n for n in range(many)}
    open_at("first").put(old)
    (tmp_path / "other.py").write_text(START + PUT)
    command = f'"{sys.executable}" "{tmp_path / "other.py"}" "{project}" "{tmp_path / "other"}" theirs.parquet > /dev/null'
    wrapped_git(OVERTAKE.format(flag=tmp_path / "flag", command=command))
    open_at().put({"mine.parquet": b"1"}, frozenset(old))
    assert (tmp_path / "flag").exists()
    assert content(open_at("third")) == {"mine.parquet": b"1", "theirs.parquet": b"theirs.parquet" * 1000}
    assert open_at().notes == []


# Killed


@pytest.mark.linux
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("call", ["init", "fetch", "fast-import", "push", "update-ref", "for-each-ref"])
def test_a_put_that_is_killed_can_be_done_again(open_at, project, tmp_path, wrapped_git, call, when):
    open_at("other").put({"a.parquet": b"1"})
    really = f'"{REAL_GIT}" "$@"; ' if when == "after" else ""
    wrapped_git(f'case " $* " in *" {call} "*) if [ -n "$KILL" ]; then {really}kill -9 $PPID; exit 1; fi; esac')
    status, _ = finished(run_python(PUT, project, tmp_path / "cache", "b.parquet", KILL="1"))
    assert status == -9
    open_at().put({"b.parquet": b"b.parquet" * 1000})
    assert content(open_at()) == content(open_at("third")) == {"a.parquet": b"1", "b.parquet": b"b.parquet" * 1000}
    assert not list((tmp_path / "cache").glob("new-*"))


# What becomes of the branch


def test_files_that_a_force_push_dropped_are_put_back(open_at, remote):
    here = open_at()
    here.put({f"{n}.parquet": b"%d" % n for n in range(4)})
    push_tree(remote, [line for line in entries(remote) if line[-9] in "01"])
    assert here.names() == {f"{n}.parquet" for n in range(4)}
    assert content(here, "3.parquet") == {"3.parquet": b"3"}
    assert here.notes == []
    open_at("other").put({"theirs.parquet": b"t"})
    here.put({"new.parquet": b"n"})
    assert here.notes == [f"2 files that branch {BRANCH} lost when it was rewritten were put back"]
    expected = {"new.parquet": b"n", "theirs.parquet": b"t", **{f"{n}.parquet": b"%d" % n for n in range(4)}}
    assert content(open_at("third")) == expected
    again = open_at()
    again.put({"newer.parquet": b"m"})
    assert again.notes == []


def test_what_was_lost_may_be_removed(open_at, remote):
    here = open_at()
    here.put({"a.parquet": b"1", "b.parquet": b"2"})
    push_tree(remote, [line for line in entries(remote) if "b.parquet" not in line])
    here.put({}, frozenset({"b.parquet"}))
    assert here.notes == []
    assert open_at().names() == open_at("other").names() == {"a.parquet"}


def test_files_that_another_machine_removed_are_not_put_back(open_at):
    here, there = open_at("here"), open_at("there")
    here.put({"a.parquet": b"1", "b.parquet": b"2"})
    there.put({"pack.parquet": b"12"}, frozenset({"a.parquet", "b.parquet"}))
    here.put({"c.parquet": b"3"})
    assert here.names() == there.names() == {"pack.parquet", "c.parquet"}
    assert here.notes == []


def test_a_machine_that_slept_too_long_puts_nothing_back(open_at, monkeypatch, remote):
    """The list of removed files forgets the oldest; whoever saw the branch before that cannot know what is missing."""
    monkeypatch.setattr(git_tree, "REMOVED_KEPT", 2)
    sleeper, here = open_at("sleeper"), open_at("here")
    here.put({f"{n}.parquet": b"%d" % n for n in range(4)})
    assert len(sleeper.names()) == 4
    here.put({"pack.parquet": b"123"}, frozenset({"0.parquet", "1.parquet", "2.parquet"}))
    assert len(git(remote, "show", f"{BRANCH}:.removed").splitlines()) == 3
    assert sleeper.names() == {"3.parquet", "pack.parquet"}
    sleeper.put({"new.parquet": b""})
    assert here.names() == {"3.parquet", "pack.parquet", "new.parquet"}
    assert sleeper.notes == []


def test_a_branch_that_was_turned_back_keeps_what_was_done_since(open_at, remote):
    here = open_at()
    here.put({"a.parquet": b"1", "b.parquet": b"2"})
    before = git(remote, "rev-parse", BRANCH)
    here.put({"pack.parquet": b"12"}, frozenset({"a.parquet", "b.parquet"}))
    git(remote, "update-ref", f"refs/heads/{BRANCH}", before)
    assert here.names() == {"pack.parquet"}
    here.put({"c.parquet": b"3"})
    assert open_at("other").names() == {"pack.parquet", "c.parquet"}


@pytest.mark.parametrize("how", ["squashed", "rebased", "amended"])
def test_a_branch_rewritten_with_the_same_files_just_goes_on(open_at, remote, tmp_path, how):
    here = open_at()
    for n in range(3):
        here.put({f"{n}.parquet": b"%d" % n})
    git(tmp_path, "clone", "-q", "-b", BRANCH, str(remote), "clone")
    clone = tmp_path / "clone"
    if how == "squashed":
        git(clone, "reset", "-q", "--soft", "HEAD~2")
        git(clone, "commit", "-q", "--amend", "-m", "all in one")
    elif how == "rebased":
        git(clone, "rebase", "-q", "--root", "--force-rebase", "--reset-author-date")
    else:
        git(clone, "commit", "-q", "--amend", "-m", "another message")
    git(clone, "push", "-q", "--force")
    here.put({"new.parquet": b"n"})
    assert content(open_at("other")) == content(here)
    assert len(here.names()) == 4
    assert here.notes == []
    assert git(remote, "rev-parse", f"{BRANCH}~1") == git(clone, "rev-parse", "HEAD")


def test_a_deleted_branch_is_made_again_with_all_that_is_known(open_at, remote):
    here = open_at()
    here.put({"a.parquet": b"1", "b.parquet": b"2", "c.parquet": b"3"})
    here.put({}, frozenset({"c.parquet"}))
    git(remote, "update-ref", "-d", f"refs/heads/{BRANCH}")
    assert content(here) == {"a.parquet": b"1", "b.parquet": b"2"}
    assert open_at("other").names() == frozenset()
    here.put({"d.parquet": b"4"})
    assert open_at("other").names() == {"a.parquet", "b.parquet", "d.parquet"}
    assert here.notes == [f"2 files that branch {BRANCH} lost when it was rewritten were put back"]


def test_a_compaction_leaves_one_commit_and_the_old_content_unreachable(open_at, remote):
    here = open_at()
    old = {f"{n}.parquet": b"old %d" % n for n in range(20)}
    here.put(old)
    here.put({"more.parquet": b"more"})
    blob = git(remote, "rev-parse", f"{BRANCH}:0.parquet")
    here.put({"pack.parquet": b"all"}, frozenset(old))
    assert git(remote, "rev-list", "--count", BRANCH) == "1"
    assert blob not in git(remote, "rev-list", "--objects", BRANCH)
    assert content(open_at("other")) == {"pack.parquet": b"all", "more.parquet": b"more"}


def test_where_the_past_may_not_be_rewritten_a_compaction_is_a_commit_like_others(open_at, remote):
    git(remote, "config", "receive.denyNonFastForwards", "true")
    here = open_at()
    old = {f"{n}.parquet": b"old %d" % n for n in range(20)}
    here.put(old)
    here.put({"pack.parquet": b"all"}, frozenset(old))
    assert git(remote, "rev-list", "--count", BRANCH) == "2"
    assert open_at("other").names() == {"pack.parquet"}


# What is not ours


def test_a_branch_of_source_code_is_not_written(open_at, project, remote):
    git(project, "push", "-q", "origin", "main")
    tip = git(remote, "rev-parse", "main")
    with pytest.raises(HistoryError, match="branch main of origin holds other things than a history: choose another branch"):
        open_at(branch="main").put({"a.parquet": b""})
    assert git(remote, "rev-parse", "main") == tip


def hostile_lines(remote):
    blob = git(remote, "hash-object", "-w", "--stdin", stdin=b"/etc/passwd")
    folder = git(remote, "mktree", stdin=f"100644 blob {blob}\tinner.parquet".encode())
    return [
        f"120000 blob {blob}\tlink.parquet",
        f"100755 blob {blob}\tprogram.parquet",
        f"040000 tree {folder}\tfolder.parquet",
        f"160000 commit {'1' * 40}\tsubmodule.parquet",
        f"100644 blob {blob}\t..",
        f"100644 blob {blob}\t.hidden",
        f"100644 blob {blob}\ta b",
        f"100644 blob {blob}\t-\x1b[31m",
        f"100644 blob {blob}\té",
    ]


def raw_tree(remote, names):
    """Write a tree with names that git itself would never write."""
    blob = bytes.fromhex(git(remote, "hash-object", "-w", "--stdin", stdin=b"hostile"))
    tree = b"".join(b"100644 %b\0%b" % (name, blob) for name in sorted(names))
    return git(remote, "hash-object", "-w", "-t", "tree", "--literally", "--stdin", stdin=tree)


def test_hostile_entries_are_ignored_and_left_alone(open_at, remote, tmp_path):
    here = open_at()
    here.put({"a.parquet": b"1"})
    push_tree(remote, [*entries(remote), *hostile_lines(remote)])
    assert open_at().names() == open_at("other").names() == {"a.parquet"}
    here.put({"b.parquet": b"2"})
    assert here.names() == {"a.parquet", "b.parquet"}
    names = git(remote, "ls-tree", "--name-only", "-z", BRANCH).split("\0")
    assert {"link.parquet", "folder.parquet", "submodule.parquet", "program.parquet"} <= set(names)
    content(here)
    assert sorted(path.name for path in (tmp_path / "cache" / "files").iterdir()) == ["a.parquet", "b.parquet"]
    with pytest.raises(HistoryError, match="holds no file"):
        here.fetch(frozenset({"link.parquet"}))


def test_names_with_slashes_lead_nowhere(open_at, remote, tmp_path):
    tree = raw_tree(remote, [b"../x", b"/etc/x", b"a/b.parquet", b"a.parquet"])
    commit = git(remote, "commit-tree", tree, "-m", "hostile")
    git(remote, "update-ref", f"refs/heads/{BRANCH}", commit)
    assert content(open_at()) == {"a.parquet": b"hostile"}
    assert [path.name for path in (tmp_path / "cache" / "files").iterdir()] == ["a.parquet"]
    with pytest.raises(HistoryError, match="other things than a history"):
        open_at().put({"b.parquet": b"2"})


def test_files_beyond_the_limit_are_left_out_and_named(open_at, monkeypatch):
    open_at().put({"small.parquet": b"1", "large.parquet": b"12345"})
    monkeypatch.setattr(git_tree, "FILE_LIMIT", 4)
    there = open_at("there")
    assert there.names() == {"small.parquet"}
    assert there.notes == [f"large.parquet of branch {BRANCH} is larger than 256 MiB and was left out"]
    there.put({"new.parquet": b"2"})
    monkeypatch.undo()
    assert open_at().names() == {"small.parquet", "large.parquet", "new.parquet"}


@pytest.mark.parametrize(
    "branch",
    ["", "-x", "--upload-pack=touch x", "a..b", "a b", "x.lock", "/x", "x/", "a//b", "@{-1}", "x~1", "x:y", "x\0y",
     "x\ny", "a\\b", "HEAD", "*", "\ud800", "x\x1b[31m"],
)  # fmt: skip
def test_a_hostile_branch_name_is_refused(open_at, branch, tmp_path):
    with pytest.raises(HistoryError, match="is no name for a branch") as caught:
        open_at(branch=branch).put({"a.parquet": b""})
    assert str(caught.value).isprintable()
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("branch", ["+x", "$(touch${IFS}pwned)", "';exit;'", "a/b/c", "%s", "é", "refs/heads/x", "@"])
def test_an_odd_branch_name_is_a_name_like_others(open_at, branch):
    open_at(branch=branch).put({"a.parquet": b""})
    assert open_at("other", branch=branch).names() == {"a.parquet"}
    assert open_at("other").names() == frozenset()


TIMES = st.integers(0, 10**11)
WORDS = st.dictionaries(st.from_regex(git_tree.FILE_NAME, fullmatch=True), st.tuples(TIMES, st.booleans()))


def as_removed(words, since):
    return git_tree.Removed(
        files={name: time for name, (time, gone) in words.items() if gone},
        again={name: time for name, (time, gone) in words.items() if not gone},
        since=since,
    )


@given(WORDS, TIMES)
def test_the_list_of_removed_files_reads_as_it_was_written(words, since):
    removed = as_removed(words, since)
    assert git_tree.parse_removed(git_tree.format_removed(removed)) == removed


@given(WORDS, WORDS, TIMES)
def test_the_last_word_on_a_removed_file_counts(old, new, since):
    joined = git_tree.join_removed(as_removed(old, 0), as_removed(new, since))
    last = {name: max([new.get(name, (-1, False)), old.get(name, (-1, False))], key=lambda word: word[0]) for name in old | new}
    assert joined == as_removed(last, since)
    assert git_tree.join_removed(joined, joined) == joined


@given(st.binary(), st.booleans())
def test_any_list_of_removed_files_can_be_read(data, ours):
    removed = git_tree.parse_removed(b"tracetriage-history 1 7\n" + data if ours else data)
    assert removed is None or all(git_tree.FILE_NAME.fullmatch(name) for name in removed.files)


@given(
    st.lists(st.tuples(st.sampled_from(["100644 blob", "120000 blob", "040000 tree", "160000 commit"]), st.binary(min_size=1)))
)
def test_any_names_in_a_tree_can_be_read(items):
    lines = [
        f"{kind} {'a' * 40} {'-' if kind[0] != '1' else 5:>7}\t".encode() + name.replace(b"\0", b"") for kind, name in items
    ]
    tree = git_tree.parse_tree(b"\0".join(lines))
    assert all(git_tree.FILE_NAME.fullmatch(name) for name in tree.files)


# The user's repository


def use(location):
    location.put({f"{n}.parquet": b"%d" % n for n in range(20)})
    location.put({"pack.parquet": b"p"}, frozenset(f"{n}.parquet" for n in range(20)))
    assert content(location) == {"pack.parquet": b"p"}


@pytest.mark.parametrize("state", ["plain", "dirty", "detached", "subfolder", "shallow", "unborn"])
def test_the_users_repository_is_not_touched(open_at, project, remote, tmp_path, state):
    rootdir = project
    write_hooks(project / ".git" / "hooks-of-ours", tmp_path / "hooks.log")
    git(project, "config", "core.hooksPath", str(project / ".git" / "hooks-of-ours"))
    if state == "dirty":
        (project / "code.py").write_text("changed")
        (project / "new.py").write_text("new")
        git(project, "add", "new.py")
        git(project, "stash", GIT_CONFIG_COUNT=1, GIT_CONFIG_KEY_0="core.hooksPath", GIT_CONFIG_VALUE_0="/dev/null")
        (project / "code.py").write_text("again")
    elif state == "detached":
        (project / ".git" / "HEAD").write_text(git(project, "rev-parse", "HEAD") + "\n")
    elif state == "subfolder":
        rootdir = project / "deep" / "tests"
        rootdir.mkdir(parents=True)
    elif state == "shallow":
        git(tmp_path, "clone", "-q", "--depth=1", f"file://{project}", "shallow")
        rootdir = tmp_path / "shallow"
        git(rootdir, "remote", "set-url", "origin", str(remote))
    elif state == "unborn":
        rootdir = tmp_path / "unborn"
        git(tmp_path, "init", "-q", "unborn")
        git(rootdir, "remote", "add", "origin", str(remote))
    before = snapshot(project), snapshot(rootdir)
    use(open_at(rootdir=rootdir))
    assert (snapshot(project), snapshot(rootdir)) == before
    assert on_branch(remote) == {".removed", "pack.parquet"}


@pytest.mark.parametrize("state", ["plain", "worktree", "shallow"])
def test_without_a_remote_the_branch_is_one_of_the_repository(tmp_path, open_at, state):
    alone = new_project(tmp_path / "alone")
    rootdir = alone
    if state == "worktree":
        rootdir = tmp_path / "worktree"
        git(alone, "worktree", "add", "-q", str(rootdir), "-b", "other")
    elif state == "shallow":
        git(tmp_path, "clone", "-q", "--depth=1", f"file://{alone}", "shallow")
        alone = rootdir = tmp_path / "shallow"
        git(alone, "remote", "remove", "origin")
    shutil.rmtree(alone / ".git" / "hooks", ignore_errors=True)
    write_hooks(alone / ".git" / "hooks", tmp_path / "hooks.log")
    with (alone / ".git" / "config").open("a") as settings:
        settings.write(f"[gc]\nauto = 1\n[core]\nhooksPath = {alone}/.git/hooks\n")
    before = snapshot(alone)
    use(open_at(rootdir=rootdir))
    added = {path: data for path, data in snapshot(alone).items() if before.get(path) != data}
    assert before.keys() <= snapshot(alone).keys()
    own = (f".git/refs/heads/{BRANCH}", f".git/logs/refs/heads/{BRANCH}")
    assert all(path in own or path.startswith(".git/objects/") for path in added), sorted(added)
    assert on_branch(alone) == {".removed", "pack.parquet"}
    if state == "worktree":
        shutil.rmtree(alone / ".git" / "hooks")
        git(alone, "worktree", "add", "-q", str(tmp_path / "checked-out"), BRANCH)
        with pytest.raises(HistoryError, match="checked out"):
            open_at(rootdir=rootdir).put({"more.parquet": b""})


def test_a_hook_that_runs_the_tests_does_not_lead_us_astray(open_at, project, remote, monkeypatch, tmp_path):
    other = new_project(tmp_path / "other-project")
    before = snapshot(other)
    for name, value in {
        "DIR": ".git",
        "WORK_TREE": ".",
        "INDEX_FILE": ".git/index",
        "OBJECT_DIRECTORY": ".git/objects",
    }.items():
        monkeypatch.setenv(f"GIT_{name}", str(other / value))
    monkeypatch.setenv("GIT_QUARANTINE_PATH", str(tmp_path))
    open_at().put({"a.parquet": b"1"})
    assert snapshot(other) == before
    monkeypatch.undo()
    assert on_branch(remote) == {".removed", "a.parquet"}


# Remotes of all kinds


def test_urls_are_understood_as_git_does(open_at, project, tmp_path, remote):
    git(project, "config", "url.file://.insteadOf", "short:")
    for url in (f"file://{remote}", "../remote.git", f"short:{remote}"):
        git(project, "remote", "set-url", "origin", url)
        open_at(f"cache{url[:4]}".replace(".", "").replace("/", ""), rootdir=project).put({"a.parquet": b"1"})
    (project / "sub").mkdir()
    git(project, "remote", "set-url", "origin", "../remote.git")
    assert open_at("sub", rootdir=project / "sub").names() == {"a.parquet"}


def test_another_url_to_push_to_is_used(open_at, project, tmp_path, remote):
    git(tmp_path, "init", "-q", "--bare", "second.git")
    git(project, "remote", "set-url", "--push", "origin", str(tmp_path / "second.git"))
    open_at().put({"a.parquet": b"1"})
    assert on_branch(tmp_path / "second.git") == {".removed", "a.parquet"}
    assert git(remote, "branch") == ""


def test_the_only_remote_is_used_whatever_its_name_but_not_one_of_several(open_at, project, remote, tmp_path):
    git(project, "remote", "rename", "origin", "upstream")
    open_at().put({"a.parquet": b"1"})
    assert on_branch(remote) == {".removed", "a.parquet"}
    git(project, "remote", "add", "fork", str(tmp_path))
    with pytest.raises(HistoryError, match="none of the remotes fork, upstream is called 'origin'"):
        open_at().names()
    assert open_at(remote="upstream").names() == {"a.parquet"}


def test_a_repository_with_longer_hashes_works_too(tmp_path, open_at):
    git(tmp_path, "init", "-q", "--bare", "--object-format=sha256", "long.git")
    rootdir = new_project(tmp_path / "long", tmp_path / "long.git", "--object-format=sha256")
    use(open_at(rootdir=rootdir))


# What goes wrong


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("{tmp}/nowhere.git", "no such repository, or it may not be seen"),
        ("http://127.0.0.1:9/x.git", "it cannot be reached from here"),
        ("http://user:hunter22@127.0.0.1:9/x.git", "it cannot be reached from here"),
        ("http://hunter22@127.0.0.1:9/x.git", "it cannot be reached from here"),
        ("ext::sh -c 'touch {tmp}/pwned'", "transport 'ext' not allowed"),
        ("--upload-pack=touch {tmp}/pwned", "no such repository"),
        ("http://[bad/x.git", "the URL of remote 'origin' is malformed"),
        ("ssh://-oProxyCommand=touch%20{tmp}/pwned/x", "strange hostname"),
    ],
)
def test_a_remote_that_cannot_be_used_is_explained(open_at, project, tmp_path, url, said):
    git(project, "config", "remote.origin.url", url.format(tmp=tmp_path))
    for step in (open_at().names, lambda: open_at().put({"a.parquet": b""})):
        with pytest.raises(HistoryError) as caught:
            step()
        text = str(caught.value)
        assert said in text
        assert "origin" in text
        assert "hunter22" not in text
        assert text.isprintable()
    assert not (tmp_path / "pwned").exists()


def test_a_folder_outside_any_repository_is_explained(open_at, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    with pytest.raises(HistoryError, match="elsewhere: not in a git repository"):
        open_at(rootdir=tmp_path / "elsewhere").names()
    with pytest.raises(HistoryError, match="nowhere"):
        open_at(rootdir=tmp_path / "nowhere").names()


def test_a_missing_git_is_explained(open_at, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(HistoryError, match="git was not found on PATH: install it"):
        open_at().names()


def test_a_hook_of_the_remote_that_declines_is_quoted(open_at, remote):
    hook = remote / "hooks" / "pre-receive"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\necho 'GH006: Protected branch'\nexit 1\n")
    hook.chmod(0o755)
    git(remote, "config", "core.hooksPath", str(hook.parent))
    with pytest.raises(HistoryError, match=f"cannot write branch {BRANCH} of origin: its rules forbid it.*GH006"):
        open_at().put({"a.parquet": b""})


def test_a_remote_that_hangs_is_given_up(open_at, monkeypatch, wrapped_git):
    wrapped_git('case " $* " in *" fetch "*) sleep 1000 & wait;; esac')
    monkeypatch.setattr(git_plumbing, "TIME_LIMIT", 0.3)
    with pytest.raises(HistoryError, match=r"it cannot be reached from here .*git fetch took longer"):
        open_at().names()


# Over HTTP, with a password


@pytest.fixture
def served(tmp_path, project, remote):
    git(remote, "config", "http.receivepack", "true")
    write_hooks(tmp_path / "user-hooks", tmp_path / "hooks.log")  # all of them: the server runs as somebody else
    with serving(tmp_path, f"x-access-token:{TOKEN}", secret=TOKEN) as server:
        git(project, "remote", "set-url", "origin", f"{server.url}/remote.git")
        yield server


@pytest.mark.linux
def test_the_token_logs_in_and_no_process_shows_it(open_at, served, wrapped_git):
    log = wrapped_git()
    use(open_at(token=TOKEN))
    encoded = base64.b64encode(f"x-access-token:{TOKEN}".encode()).decode()
    assert served.leaks == []
    assert "push" in log.read_text()
    assert TOKEN not in log.read_text()
    assert encoded not in log.read_text()
    assert served.headers
    assert all(given == [f"basic {encoded}"] for given in served.headers)


def test_the_token_is_the_only_header_even_beside_those_of_the_user(open_at, served, project, tmp_path):
    """actions/checkout leaves one in the project's settings; two are an error."""
    git(project, "config", f"http.{served.url}/.extraheader", "AUTHORIZATION: basic b3RoZXI6b3RoZXI=")
    with (tmp_path / "gitconfig").open("a") as settings:
        settings.write(f'[http "{served.url}/"]\n    extraheader = AUTHORIZATION: basic b3RoZXI6b3RoZXI=\n')
        settings.write("[http]\n    extraheader = AUTHORIZATION: basic b3RoZXI6b3RoZXI=\n")
    use(open_at(token=TOKEN))


def test_without_a_token_the_header_of_the_projects_settings_is_used(open_at, served, project):
    encoded = base64.b64encode(f"x-access-token:{TOKEN}".encode()).decode()
    git(project, "config", f"http.{served.url}/.extraheader", f"AUTHORIZATION: basic {encoded}")
    use(open_at())


@pytest.mark.linux
def test_a_password_in_the_url_is_used_and_hidden(open_at, served, project):
    git(project, "remote", "set-url", "origin", served.url.replace("//", f"//x-access-token:{TOKEN}@") + "/remote.git")
    use(open_at())
    assert served.leaks == []


@pytest.mark.parametrize("token", ["", "ghs_wrongwrong"])
def test_a_wrong_or_missing_token_is_explained_without_asking(open_at, served, token):
    with pytest.raises(HistoryError, match=r"cannot read branch .* of origin: no valid credentials: give a token") as caught:
        open_at(token=token).names()
    assert "ghs_" not in str(caught.value)
    assert base64.b64encode(f"x-access-token:{token}".encode()).decode() not in str(caught.value)


def test_a_token_without_permission_to_write_is_explained(open_at, served):
    served.read_only = True
    here = open_at(token=TOKEN)
    assert here.names() == frozenset()
    with pytest.raises(
        HistoryError, match=r"cannot write .* of origin: no permission: give the job `permissions: contents"
    ) as caught:
        here.put({"a.parquet": b""})
    assert TOKEN not in str(caught.value)


def test_a_token_is_cut_out_of_what_git_says(open_at, served, project, remote):
    git(project, "remote", "set-url", "origin", f"{served.url}/{TOKEN}.git")
    with pytest.raises(HistoryError) as caught:
        open_at(token=TOKEN).names()
    assert TOKEN not in str(caught.value)
    assert "***" in str(caught.value)


@pytest.mark.parametrize("faults", [[502], [0, 503], [429, 0, 500], [0, 0, 0, 502]])
def test_faults_that_pass_are_waited_for(open_at, served, faults):
    served.faults = list(faults)
    here = open_at(token=TOKEN)
    here.put({"a.parquet": b"1" * 3_000_000})
    assert served.faults == []
    assert content(open_at("other", token=TOKEN)) == {"a.parquet": b"1" * 3_000_000}


def test_a_remote_that_stays_broken_is_given_up(open_at, served):
    served.faults = [502] * 100
    with pytest.raises(HistoryError, match=f"cannot read branch {BRANCH} of origin: .*502"):
        open_at(token=TOKEN).names()


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("fatal: 'https://me:hunter22@host/x y'", "fatal: 'https://host/x y'"),
        ("to ssh://hunter22@host/x and http://a:b@c@d/", "to ssh://host/x and http://d/"),
        ("https://host/me@home", "https://host/me@home"),
    ],
)
def test_what_is_said_of_a_url_leaves_out_who_logs_in(said, shown):
    assert git_plumbing.without_credentials(said) == shown
