"""Where tests are run again: what the worktree holds, and that the user's tree is not touched."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from pathlib import Path

import pytest
from execute.projects import Tree, folders, git, worktree

from pytest_tracetriage.execute.claims import ExecuteError, cache_folder
from pytest_tracetriage.execute.process import prepare
from pytest_tracetriage.execute.worktree import checkout, head, switch
from pytest_tracetriage.store.history import HistoryError
from pytest_tracetriage.store.history.locations import locked


def names(root):
    found = [path for path in root.rglob("*") if ".git" not in path.relative_to(root).parts and not path.is_dir()]
    return sorted(str(path.relative_to(root)) for path in found)


def test_a_commit_with_nothing_of_what_is_not_committed(tmp_path, cache):
    tree = Tree(tmp_path / "shop", {"a.py": "1\n", "b.py": "1\n"})
    tree.write({"a.py": "2\n", "new.py": "3\n"})

    with worktree(tree, cache, dirty=False) as made:
        assert names(made.root) == ["a.py", "b.py"]
        assert (made.root / "a.py").read_text() == "1\n"
        assert made.commit == git(tree.root, "rev-parse", "HEAD") == git(made.root, "rev-parse", "HEAD") == head(tree.root)
        assert git(made.root, "status", "--porcelain") == ""


def test_uncommitted_changes_of_every_kind(tmp_path, cache):
    tree = Tree(
        tmp_path / "shop",
        {name: f"{name}\n" for name in ("staged", "unstaged", "both", "gone", "removed", "moved", "run", "hid")},
    )
    (tree.root / ".gitignore").write_text("*.log\n")
    tree.commit()
    tree.write({"staged": "s\n", "both": "index\n"})
    git(tree.root, "add", "staged", "both")
    tree.write({"unstaged": "u\n", "both": "tree\n", "untracked dir/ü\nx.py": "n\n", "noise.log": "x", "hid": "assumed\n"})
    git(tree.root, "rm", "--quiet", "removed")
    git(tree.root, "mv", "moved", "to here")
    git(tree.root, "update-index", "--assume-unchanged", "hid")
    (tree.root / "gone").unlink()
    (tree.root / "run").chmod(0o755)
    (tree.root / "link").symlink_to("staged")
    (tree.root / "absolute").symlink_to(tree.root / "staged")

    with worktree(tree, cache) as made:
        copied = names(made.root)
        assert copied == sorted(
            [".gitignore", "absolute", "both", "hid", "link", "run", "staged", "to here", "unstaged", "untracked dir/ü\nx.py"]
        )
        assert {name: (made.root / name).read_text() for name in ("staged", "unstaged", "both", "hid")} == {
            "staged": "s\n", "unstaged": "u\n", "both": "tree\n", "hid": "assumed\n"
        }  # fmt: skip
        assert (made.root / "run").stat().st_mode & stat.S_IXUSR
        assert os.readlink(made.root / "link") == "staged"
        assert os.readlink(made.root / "absolute") == str(made.root / "staged")


def test_a_repository_that_may_only_be_read(tmp_path, cache):
    tree = Tree(tmp_path / "shop", {"a.py": "1\n"})
    first = git(tree.root, "rev-parse", "HEAD")
    tree.write({"a.py": "2\n"})
    tree.commit()
    everything = [tree.root, *tree.root.rglob("*")]
    modes = {path: path.stat().st_mode for path in everything}
    for path in everything:
        path.chmod(modes[path] & ~0o222)
    try:
        with worktree(tree, cache, first, dirty=False) as made:
            assert (made.root / "a.py").read_text() == "1\n"
        with worktree(tree, cache) as made:
            assert (made.root / "a.py").read_text() == "2\n"
            (made.root / "a.py").write_text("a copy may be written\n")
    finally:
        for path in everything:
            path.chmod(modes[path])


def test_it_works_while_the_user_s_git_holds_the_index(tmp_path, cache):
    tree = Tree(tmp_path / "shop", {"a.py": "1\n"})
    (tree.root / ".git" / "index.lock").touch()
    for dirty in (True, False):
        with worktree(tree, cache, dirty=dirty) as made:
            assert names(made.root) == ["a.py"]


def test_it_becomes_another_commit(tmp_path, cache):
    tree = Tree(tmp_path / "shop", {"a.py": "1\n", "only/first.py": ""})
    first = git(tree.root, "rev-parse", "HEAD")
    (tree.root / "only" / "first.py").unlink()
    tree.write({"a.py": "2\n"})
    second = tree.commit()

    with worktree(tree, cache, first, dirty=False) as made:
        assert names(made.root) == ["a.py", "only/first.py"]
        (made.root / "built.so").touch()
        (made.root / "a.py").write_text("spoilt")
        made = switch(made, second[:10])
        assert (names(made.root), made.commit) == (["a.py"], second)
        assert (made.root / "a.py").read_text() == "2\n"
    with worktree(tree, cache) as made, pytest.raises(ExecuteError, match="cannot become another commit"):
        switch(made, first)


def test_what_a_test_commits_stays_in_the_worktree(tmp_path, cache):
    tree = Tree(tmp_path / "shop", {"a.py": "1\n"})
    git(tree.root, "tag", "v1.2")
    with worktree(tree, cache, dirty=False) as made:
        assert git(made.root, "describe", "--tags") == "v1.2"
        (made.root / "a.py").write_text("2\n")
        git(made.root, "commit", "--quiet", "-am", "of a test")
        git(made.root, "branch", "of-a-test")
    assert git(tree.root, "branch", "--list") == "* main"
    assert len(git(tree.root, "worktree", "list").splitlines()) == 1


@pytest.mark.parametrize("where", ["checked out", "kept by git"])
def test_submodules_without_a_network(tmp_path, cache, where):
    inner = Tree(tmp_path / "inner", {"inner.py": "1\n"})
    tree = Tree(tmp_path / "shop", {"a.py": "1\n"})
    git(tree.root, "submodule", "--quiet", "add", str(inner.root), "libs/inner one")
    first = tree.commit()
    module = tree.root / "libs" / "inner one"
    (module / "inner.py").write_text("2\n")
    git(module, "commit", "--quiet", "-am", "two")
    tree.commit()
    (module / "inner.py").write_text("not committed\n")
    if where == "kept by git":
        git(tree.root, "submodule", "--quiet", "deinit", "--force", "libs/inner one")

    with worktree(tree, cache, first, dirty=False) as made:
        assert (made.root / "libs" / "inner one" / "inner.py").read_text() == "1\n"
        made = switch(made, "HEAD")
        assert (made.root / "libs" / "inner one" / "inner.py").read_text() == "2\n"
        assert made.problems == ()
    with worktree(tree, cache) as made:
        inside = made.root / "libs" / "inner one" / "inner.py"
        assert inside.read_text() == "not committed\n" if where == "checked out" else not inside.exists()


def test_a_submodule_that_is_not_on_this_machine_is_told(tmp_path, cache):
    inner = Tree(tmp_path / "inner", {"inner.py": "1\n"})
    tree = Tree(tmp_path / "shop", {"a.py": "1\n"})
    git(tree.root, "submodule", "--quiet", "add", str(inner.root), "inner")
    tree.commit()
    clone = Tree(tmp_path / "clone", {}, plain=True)
    git(clone.root, "clone", "--quiet", str(tree.root), ".")

    with worktree(clone, cache, dirty=False) as made:
        assert [problem.split(":")[0] for problem in made.problems] == ["submodule inner"]
        assert "is not on this machine" in made.problems[0]


def test_a_submodule_that_is_not_on_this_machine_leaves_none_of_another_commit(tmp_path, cache):
    inner = Tree(tmp_path / "inner", {"inner.py": "1\n"})
    tree = Tree(tmp_path / "shop", {"a.py": "1\n"})
    git(tree.root, "submodule", "--quiet", "add", str(inner.root), "inner")
    first = tree.commit()
    git(tree.root, "update-index", "--cacheinfo", f"160000,{'1' * 40},inner")
    git(tree.root, "commit", "--quiet", "-m", "a commit of it that nobody has")

    with worktree(tree, cache, first, dirty=False) as made:
        assert (made.root / "inner" / "inner.py").exists()
        made = switch(made, "main")
        assert "is not on this machine" in made.problems[0]
        assert list((made.root / "inner").iterdir()) == []
        assert switch(made, first).problems == ()
        assert (made.root / "inner" / "inner.py").exists()


def test_filters_are_off_and_large_files_come_from_where_git_lfs_keeps_them(tmp_path, cache):
    content = b"large\n" * 100
    oid = hashlib.sha256(content).hexdigest()
    pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{oid}\nsize {len(content)}\n"
    tree = Tree(tmp_path / "shop", {"big.bin": pointer, "lost.bin": pointer.replace(oid, "0" * 64), ".gitattributes": ""})
    tree.write({".gitattributes": "*.bin filter=lfs -text\n*.txt eol=crlf\n*.py filter=evil\n", "a.txt": "1\n", "b.py": "1\n"})
    tree.commit()
    git(tree.root, "config", "filter.evil.smudge", f"touch '{tmp_path}/smudged'; cat")
    git(tree.root, "config", "filter.evil.required", "true")
    kept = tree.root / ".git" / "lfs" / "objects" / oid[:2] / oid[2:4]
    kept.mkdir(parents=True)
    (kept / oid).write_bytes(content)

    with worktree(tree, cache, dirty=False) as made:
        assert (made.root / "big.bin").read_bytes() == content
        assert made.problems == ("lost.bin: its LFS content is not on this machine",)
        assert (made.root / "a.txt").read_bytes() == b"1\r\n"
        assert (made.root / "b.py").read_bytes() == b"1\n"
    assert not (tmp_path / "smudged").exists()


def test_hooks_of_the_user_s_do_not_run(tmp_path, cache):
    tree = Tree(tmp_path / "shop", {"a.py": "1\n"})
    hook = tree.root / ".git" / "hooks" / "post-checkout"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text(f"#!/bin/sh\ntouch '{tmp_path}/hooked'\n")
    hook.chmod(0o755)
    with worktree(tree, cache, dirty=False) as made:
        switch(made, "HEAD")
    assert not (tmp_path / "hooked").exists()


def test_a_sparse_checkout_is_copied_as_it_is_and_checked_out_whole(tmp_path, cache):
    tree = Tree(tmp_path / "shop", {"near/a.py": "1\n", "far/b.py": "1\n"})
    git(tree.root, "sparse-checkout", "set", "near")
    with worktree(tree, cache) as made:
        assert names(made.root) == ["near/a.py"]
    with worktree(tree, cache, dirty=False) as made:
        assert names(made.root) == ["far/b.py", "near/a.py"]


@pytest.mark.parametrize("kind", ["linked worktree", "shared clone", "shallow clone"])
def test_repositories_that_lean_on_others(tmp_path, cache, kind):
    origin = Tree(tmp_path / "an origin", {"a.py": "1\n"})
    origin.write({"a.py": "2\n"})
    origin.commit()
    tree = Tree(tmp_path / "shop", {}, plain=True)
    tree.root.rmdir()
    if kind == "linked worktree":
        git(origin.root, "worktree", "add", "--quiet", "--detach", str(tree.root))
    elif kind == "shared clone":
        git(tmp_path, "clone", "--quiet", "--shared", str(origin.root), str(tmp_path / "middle"))
        git(tmp_path, "clone", "--quiet", "--shared", str(tmp_path / "middle"), str(tree.root))
    else:
        git(tmp_path, "clone", "--quiet", "--depth=1", f"file://{origin.root}", str(tree.root))

    for dirty in (True, False):
        with worktree(tree, cache, dirty=dirty) as made:
            assert (made.root / "a.py").read_text() == "2\n"
            assert git(made.root, "log", "-1", "--format=%s") == "more"
            assert git(made.root, "status", "--porcelain") == ""


def test_a_project_in_a_folder_of_its_repository(tmp_path, cache):
    tree = Tree(tmp_path / "mono", {"one/a.py": "1\n", "two/b.py": "1\n"})
    for dirty in (True, False):
        with worktree(tree, cache, dirty=dirty, inside="two") as made:
            assert made.project == made.root / "two"
            assert names(made.root) == ["one/a.py", "two/b.py"]


def test_a_project_that_no_git_knows_is_copied(tmp_path, cache):
    tree = Tree(
        tmp_path / "shop", {"a b.py": "1\n", ".venv/pyvenv.cfg": "", ".venv/x.py": "", "p/__pycache__/y.pyc": ""}, plain=True
    )
    tree.write({".tracetriage/runs/x": "", "p/y.py": "", "worktrees/w.py": ""})
    with worktree(tree, cache) as made:
        assert names(made.root) == ["a b.py", "p/y.py", "worktrees/w.py"]
        assert (made.commit, made.dirty) == ("", True)
    with pytest.raises(ExecuteError, match="is in no git repository, so there is no commit abc of it"):
        checkout(tree.root, "abc", dirty=False, cache=cache).__enter__()


def test_a_project_that_its_repository_ignores_is_copied(tmp_path, cache):
    tree = Tree(tmp_path / "outer", {".gitignore": "build/\n"})
    tree.write({"build/shop/a.py": "1\n"})
    with worktree(tree, cache, inside="build/shop") as made:
        assert names(made.project) == ["a.py"]


def test_a_repository_without_a_commit(tmp_path, cache):
    tree = Tree(tmp_path / "shop", {"a.py": "1\n"}, plain=True)
    git(tree.root, "init", "--quiet")
    with worktree(tree, cache) as made:
        assert (names(made.root), made.commit) == (["a.py"], "")


def test_an_ignored_module_below_what_was_a_file_once_is_left_out(tmp_path, cache):
    tree = Tree(tmp_path / "shop", {"prices": "once a file", "a.py": "", ".gitignore": "made.py\n"})
    first = git(tree.root, "rev-parse", "HEAD")
    (tree.root / "prices").unlink()
    tree.write({"prices/made.py": "", "prices/kept.py": ""})
    tree.commit()
    with worktree(tree, cache, dirty=False) as made:
        assert made.ignored == ("prices/made.py",)
        made = switch(made, first)
        assert (made.ignored, (made.root / "prices").read_text()) == ((), "once a file")


def test_modules_that_git_ignores_are_taken_over_unless_something_builds_them(tmp_path, cache):
    ignored = {
        "shop/_version.py": "1",
        "shop/_fast.abi3.so": "",
        "shop/notes.log": "",
        "build/lib/z.py": "",
        ".hypothesis/ex/1": "",
    }
    tree = Tree(tmp_path / "shop", {".gitignore": "_version.py\n*.so\n*.log\nbuild/\n.hypothesis/\n", "shop/__init__.py": ""})
    first = git(tree.root, "rev-parse", "HEAD")
    tree.commit()
    tree.write(ignored)
    known = [".gitignore", "shop/__init__.py"]

    with worktree(tree, cache) as made:
        assert names(made.root) == sorted([*known, "shop/_version.py", "shop/_fast.abi3.so", ".hypothesis/ex/1"])
        assert "shop/_version.py" in made.ignored
    with worktree(tree, cache, first, dirty=False) as made:  # what was compiled is not of this commit
        assert names(made.root) == sorted([*known, "shop/_version.py"])
    with worktree(tree, cache, take_ignored=False) as made:
        assert names(made.root) == known
        prepare(made, ["python3", "-c", "open('shop/_version.py', 'w').write('2')"], timeout=60)
        assert (made.root / "shop" / "_version.py").read_text() == "2"
        with pytest.raises(ExecuteError, match=r"prepare: sh -c .*: ended with status 3 in the worktree: no compiler"):
            prepare(made, ["sh", "-c", "echo no compiler >&2; exit 3"], timeout=60)
        with pytest.raises(ExecuteError, match="took longer than 1 s"):
            prepare(made, ["sleep", "600"], timeout=1)


@pytest.mark.parametrize(
    ("commit", "dirty", "told"),
    [
        ("nothing", False, "there is no commit nothing here: fetch it, or name another"),
        ("--upload-pack=x", False, "is no commit"),
        ("HEAD~1", True, "uncommitted changes belong to"),
    ],
)
def test_what_cannot_be_checked_out_is_told(tmp_path, cache, commit, dirty, told):
    tree = Tree(tmp_path / "shop", {"a.py": "1\n"})
    tree.commit()
    with pytest.raises(ExecuteError, match=told), worktree(tree, cache, commit, dirty=dirty):
        pass
    assert folders(cache) == []


def test_a_folder_that_a_test_made_unwritable_is_removed_too(tmp_path, cache):
    tree = Tree(tmp_path / "shop", {"a.py": "1\n"})
    with worktree(tree, cache) as made:
        (made.root / "deep" / "er").mkdir(parents=True)
        (made.root / "deep" / "er" / "x").touch()
        (made.root / "deep").chmod(0)


def test_where_nobody_can_remove_an_open_file(tmp_path, cache, monkeypatch):
    """As Windows has it."""
    unlink = Path.unlink

    def refusing(path, missing_ok=False):
        try:
            with locked(path, 0):
                pass
        except HistoryError:
            raise PermissionError(errno.EACCES, "used by another process", str(path)) from None
        unlink(path, missing_ok)

    tree = Tree(tmp_path / "shop", {"a.py": "1\n"})
    monkeypatch.setattr(Path, "unlink", refusing)
    with worktree(tree, cache) as one:
        (cache / "worktrees" / "left.lock").touch()
        with locked(cache / "worktrees" / "busy.lock", 0), checkout(tree.root, "", dirty=True, cache=cache) as two:
            assert one.root.exists()
            assert two.root.exists()
            assert not (cache / "worktrees" / "left.lock").exists()
        with checkout(tree.root, "", dirty=True, cache=cache):
            assert not (cache / "worktrees" / "busy.lock").exists()


def test_the_cache_belongs_to_the_user_alone(tmp_path, cache):
    tree = Tree(tmp_path / "shop", {"a.py": "1\n"})
    with worktree(tree, cache) as made:
        assert stat.S_IMODE(made.folder.parent.stat().st_mode) == 0o700
    assert cache_folder({"XDG_CACHE_HOME": str(tmp_path / "xdg")}) == tmp_path / "xdg" / "tracetriage"
    (cache / "worktrees" / ".claiming").unlink()
    (cache / "worktrees").rmdir()
    (tmp_path / "elsewhere").mkdir()
    (cache / "worktrees").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ExecuteError, match="is a symbolic link"):
        checkout(tree.root, "", dirty=True, cache=cache).__enter__()
