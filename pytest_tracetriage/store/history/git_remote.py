"""Where the branch of a history lives: the project's remote, or the project's own repository when it has none."""

from __future__ import annotations

import base64
import hashlib
import re
from pathlib import Path
from urllib.parse import unquote, urlsplit, urlunsplit

from pytest_tracetriage.store.history import HistoryError, one_line
from pytest_tracetriage.store.history.git_plumbing import Git, GitError, git_environment, without_credentials

# What git says -> what it means and what to do. The first that matches.
_ADVICE = (
    (r"dubious ownership", "git mistrusts the folder's owner: `git config --global --add safe.directory` with its path"),
    (
        r"error: 403|permission to \S+ denied|write access|unpacker error|Permission denied$|read-only|insufficient permission",
        "no permission: give the job `permissions: contents: write`, or a token or account that may push",
    ),
    (
        r"error: 401|Authentication failed|could not read (Username|Password)|Permission denied \(|Host key verification",
        "no valid credentials: give a token, a credential helper or an ssh key that needs no questions",
    ),
    (
        r"Could not resolve|Failed to connect|Couldn't connect|unable to connect|Connection (refused|timed|reset)|took longer",
        "it cannot be reached from here",
    ),
    (r"not found|does not appear to be a git repository|error: 404", "no such repository, or it may not be seen"),
    (r"declined|prohibited|protected|denied|not allowed", "its rules forbid it: allow pushes to this branch"),
    (r"No space left|Disk quota", "the disk is full"),
)


class Remote:
    """Where the branch is read and written. Holds secrets, so it shows nothing of itself."""

    def __init__(self, label: str, url: str, push_url: str, object_format: str) -> None:
        """`label` is what messages call it; the URLs are as git understands them from any folder, without passwords."""
        self.label = label
        self.url = url
        self.push_url = push_url
        self.object_format = object_format
        self.local = False
        """Whether it is the project's own repository."""
        self.settings: list[tuple[str, str]] = []
        """Settings of git with secrets in them."""
        self.secrets: set[str] = set()
        self.ssh = ""

    def git(self, *where: str) -> Git:
        """Return git with what it needs to reach this remote."""
        return Git(where, git_environment(self.settings, self.ssh), self.secrets)

    def key(self, branch: str) -> str:
        """Return what tells this branch of this remote from all others in one cache."""
        return hashlib.sha256(f"{self.url}\0{branch}".encode("utf-8", "surrogateescape")).hexdigest()[:16]


def find_remote(rootdir: Path, name: str, token: str) -> Remote:
    """Return the remote of the repository around `rootdir`, `token` its password over HTTP. Raises HistoryError."""
    git = Git(("-C", str(rootdir)), git_environment(), (token,))
    try:
        common, _, object_format = (
            git.run("rev-parse", "--git-common-dir", "--show-object-format").rstrip("\n").rpartition("\n")
        )
        own = (rootdir / common).resolve()
        names = git.run("remote").split()
        if not names:
            remote = Remote("the local repository", str(own), str(own), object_format)
            remote.local = True
            return remote
        if name not in names and len(names) > 1:
            raise HistoryError(f"{rootdir}: none of the remotes {', '.join(names)} is called {name!r}: rename or add one")
        name = name if name in names else names[0]
        urls = [git.run("remote", "get-url", *more, "--", name).splitlines()[0] for more in ((), ("--push",))]
        urls = [_absolute(git, url, own) for url in urls]
        bare = [_without_login(url) for url in urls]
    except ValueError:
        raise HistoryError(f"{one_line(str(rootdir))}: the URL of remote {name!r} is malformed") from None
    except GitError as error:
        text = "not in a git repository" if "not a git repository" in str(error) else explained(str(error))
        raise HistoryError(f"{one_line(str(rootdir))}: {text}") from None
    remote = Remote(name, bare[0], bare[1], object_format)
    remote.ssh = _setting(git, "core.sshCommand")
    for url, plain in dict(zip(urls, bare, strict=True)).items():
        header = _authorization(git, url, plain, token)
        if header:
            # The empty value drops those that the user's own settings hold: two such headers are an error at GitHub.
            remote.settings += [(f"http.{plain}.extraheader", ""), (f"http.{plain}.extraheader", header)]
            remote.secrets |= {header, header.split()[-1]}
        remote.secrets |= {token, urlsplit(url).password or "" if "://" in url else ""}
    return remote


def explained(text: str) -> str:
    """Return what git said, led by what it means and what to do where that is known."""
    said = one_line(without_credentials(text), 400)
    advice = next((advice for pattern, advice in _ADVICE if re.search(pattern, said, re.IGNORECASE)), "")
    return f"{advice} (git: {said})" if advice else said


def check_branch(git: Git, branch: str) -> None:
    """Raise HistoryError when git does not allow this name for a branch."""
    try:
        if branch.isprintable() and git.run("check-ref-format", "--branch", branch).rstrip("\n") == branch:
            return
    except GitError:
        pass
    raise HistoryError(f"{one_line(repr(branch))} is no name for a branch: choose another one for the history")


def _absolute(git: Git, url: str, own: Path) -> str:
    """Return a path as git takes it: relative to the top of the work tree, or to a repository that has none."""
    if "://" in url or re.match(r"[^/]*:", url):
        return url
    try:
        top = Path(git.run("rev-parse", "--show-toplevel").rstrip("\n"))
    except GitError:
        top = own
    return str((top / url).resolve())


def _without_login(url: str) -> str:
    """Return an HTTP URL without user and password; git would show them to everybody who lists processes."""
    parts = urlsplit(url) if re.match("https?://", url) else None
    if parts is None or not parts.password:
        return url
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def _authorization(git: Git, url: str, plain: str, token: str) -> str:
    """Return the header that logs in over HTTP: by token, by the URL's password, or as the project's own settings do."""
    if not re.match("https?://", url):
        return ""
    parts = urlsplit(url)
    if token:
        login = f"x-access-token:{token}"
    elif parts.password:
        login = f"{unquote(parts.username or '')}:{unquote(parts.password)}"
    else:  # actions/checkout leaves its token there
        return _setting(git, "http.extraheader", plain)
    return f"AUTHORIZATION: basic {base64.b64encode(login.encode()).decode()}"


def _setting(git: Git, name: str, url: str = "") -> str:
    try:
        return git.run("config", *(("--get-urlmatch", name, url) if url else ("--get", name))).rstrip("\n")
    except GitError:
        return ""
