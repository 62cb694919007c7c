"""Git as a child process: in an environment of our own, within a time limit, never asking, never telling secrets."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import threading
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING

from pytest_tracetriage.store.history import HistoryError, one_line

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

TIME_LIMIT = 60.0
"""Seconds that one git command may take."""

# What is taken over of git's variables: how to reach a remote. The rest (GIT_DIR, GIT_INDEX_FILE, ... inside a hook) would lead
# us into the user's repository, and traces could print a token.
_TAKEN = re.compile(
    r"GIT_(SSH|SSH_COMMAND|SSH_VARIANT|SSL_\w+|HTTP_\w+|PROXY_\w+|EXEC_PATH|CEILING_DIRECTORIES|DISCOVERY_ACROSS_FILESYSTEM"
    r"|CONFIG_(GLOBAL|SYSTEM|NOSYSTEM|COUNT|KEY_\d+|VALUE_\d+))"
)
_QUIET = {
    "LC_ALL": "C",
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_ASKPASS": "",
    "SSH_ASKPASS": "",
    "SSH_ASKPASS_REQUIRE": "never",
    "GCM_INTERACTIVE": "never",
    "GIT_OPTIONAL_LOCKS": "0",
}
_SETTINGS = (
    ("core.hooksPath", "/dev/null"),
    ("protocol.ext.allow", "never"),
    ("gc.auto", "0"),
    ("maintenance.auto", "false"),
    ("push.gpgSign", "false"),
    ("core.logAllRefUpdates", "false"),
)
_PASSING = re.compile(
    r"not our ref|error: (429|5\d\d)|early EOF|hung up|unexpected disconnect|reset by peer|Connection reset|RPC failed|"
    r"Empty reply|bad pack header",
    re.IGNORECASE,
)


class GitError(Exception):
    """A git command that failed. The text is one line of what it said, free of secrets and control characters."""

    def __init__(self, text: str, output: str = "", *, passing: bool = False) -> None:
        """`output` is its standard output; `passing` says that trying again may help."""
        super().__init__(text)
        self.output = output
        self.passing = passing


class Git:
    """How git is called in one repository. Holds secrets, so it shows nothing of itself."""

    def __init__(self, where: tuple[str, ...], environment: Mapping[str, str], secrets: Iterable[str] = ()) -> None:
        """`where` are the options that name the repository."""
        self._command = ("git", *where, *(part for key, value in _SETTINGS for part in ("-c", f"{key}={value}")))
        self._environment = dict(environment)
        self._secrets = tuple(secret for secret in secrets if len(secret) > 3)  # shorter ones hide nothing but the message

    def run(self, *arguments: str, stdin: bytes = b"", limit: float | None = None) -> str:
        """Return what a git command prints within `limit` seconds, else TIME_LIMIT.

        Raises GitError, and HistoryError where git is missing.
        """
        return os.fsdecode(self.read(*arguments, stdin=stdin, limit=limit))

    def read(self, *arguments: str, stdin: bytes = b"", limit: float | None = None) -> bytes:
        """Return what a git command prints, as bytes. Raises as `run` does."""
        limit = TIME_LIMIT if limit is None else limit
        with self._process(arguments) as process:
            try:
                out, err = process.communicate(stdin, timeout=limit)
            except subprocess.TimeoutExpired:
                raise GitError(f"git {arguments[0]} took longer than {limit:.0f} s") from None
        if process.returncode:
            output = self._clean(out.decode("utf-8", "replace"))
            said = self._clean(err.decode("utf-8", "replace"))
            text = _telling(said) or f"git {arguments[0]} ended with status {process.returncode}"
            raise GitError(text, output, passing=bool(_PASSING.search(said)))
        return out

    def blobs(self, blobs: Iterable[str], limit: int) -> Iterator[tuple[str, bytes]]:
        """Yield id and content of each blob. Raises as `run` does, also for one that is not there or beyond `limit` bytes."""
        try:
            with self._process(("cat-file", "--batch")) as process, _limited(process):
                asked, told = process.stdin, process.stdout
                assert asked is not None
                assert told is not None
                for blob in blobs:
                    asked.write(f"{blob}\n".encode())
                    asked.flush()
                    yield blob, _content(told, blob, limit)
                process.communicate()
        except OSError:
            raise GitError("git cat-file ended early") from None

    def within(self, blobs: Iterable[str], limit: int) -> list[str]:
        """Return those of these ids that are blobs here of at most `limit` bytes. Raises as `run` does."""
        asked = "".join(f"{blob}\n" for blob in blobs).encode()
        lines = (line.split() for line in self.run("cat-file", "--batch-check", stdin=asked).splitlines())
        return [words[0] for words in lines if len(words) == 3 and words[1] == "blob" and int(words[2]) <= limit]

    @contextmanager
    def _process(self, arguments: tuple[str, ...]) -> Iterator[subprocess.Popen[bytes]]:
        try:
            # Without a terminal of its own, ssh cannot ask for anything; a session can be ended with all its children.
            process = subprocess.Popen(
                [*self._command, *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=self._environment,
                start_new_session=True,
            )
        except FileNotFoundError:
            raise HistoryError(
                "git was not found on PATH: install it, or keep the history in a folder or behind a URL"
            ) from None
        except (OSError, ValueError) as error:
            raise HistoryError(f"git cannot be started: {self._clean(str(error))}") from None
        with process:
            try:
                yield process
            except BaseException:
                _end(process)
                raise

    def _clean(self, text: str) -> str:
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return without_credentials(text)


def git_environment(settings: Iterable[tuple[str, str]] = (), ssh: str = "") -> dict[str, str]:
    """Return the environment that git runs in; `settings` are for it alone, on no command line; `ssh` is how to call ssh."""
    taken = {name: value for name, value in os.environ.items() if not name.startswith("GIT_") or _TAKEN.fullmatch(name)}
    environment = {**taken, **_QUIET}
    count = int(taken["GIT_CONFIG_COUNT"]) if taken.get("GIT_CONFIG_COUNT", "").isdecimal() else 0
    for number, (key, value) in enumerate(settings, start=count):
        environment |= {
            f"GIT_CONFIG_KEY_{number}": key,
            f"GIT_CONFIG_VALUE_{number}": value,
            "GIT_CONFIG_COUNT": str(number + 1),
        }
    if ssh and "GIT_SSH_COMMAND" not in taken:
        environment["GIT_SSH_COMMAND"] = ssh
    return environment


def without_credentials(text: str) -> str:
    """Return a text with the user and password of each URL left out."""
    return re.sub(r"(?<=://)[^/\s'\"]*@", "", text)


def _telling(said: str) -> str:
    """Return the fatal line of git's complaint, after what the remote or ssh said just before it."""
    lines = [line.strip() for line in said.splitlines() if line.strip() and not line.startswith(("hint:", "warning:"))]
    last = next((number for number, line in enumerate(lines) if line.startswith("fatal:")), len(lines) - 1)
    text = "; ".join(line.removeprefix("remote: ") for line in lines[max(0, last - 1) : last + 1])
    return one_line(text, 300) if text else ""


def _content(told: IO[bytes], blob: str, limit: int) -> bytes:
    header = told.readline().split()
    if len(header) != 3 or header[1] != b"blob" or int(header[2]) > limit:
        raise GitError(f"object {blob} is not a blob of at most {limit} bytes")
    size = int(header[2])
    content = told.read(size + 1)
    if len(content) != size + 1:
        raise GitError(f"object {blob} cannot be read")
    return content[:size]


@contextmanager
def _limited(process: subprocess.Popen[bytes]) -> Iterator[None]:
    alarm = threading.Timer(TIME_LIMIT, _end, (process,))
    alarm.start()
    try:
        yield
    finally:
        alarm.cancel()


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is not None:
        return
    try:
        if os.name == "posix":
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()
    except OSError:
        pass
