"""A command that ends in time, with all it started, whatever becomes of it or of us."""

from __future__ import annotations

import contextlib
import os
import select
import shlex
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import IO, TYPE_CHECKING

from msgspec import Struct

from pytest_tracetriage.execute.claims import ExecuteError
from pytest_tracetriage.execute.environment import subprocess_environment

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pytest_tracetriage.execute.worktree import Worktree

OUTPUT_LIMIT = 64 * 1024
"""How many bytes at the end of the output are kept."""
_GUARD = Path(__file__).with_name("guard.py")
_PATIENCE = 15.0
_TICK = 0.2


class Ended(Struct, frozen=True):
    """How a command ended. `status` is negative for a signal, `cpu` the processor seconds of it and all it started."""

    status: int
    output: str
    seconds: float
    cpu: float
    timed_out: bool


def run_command(
    command: Sequence[str],
    *,
    folder: Path,
    environment: Mapping[str, str],
    timeout: float,
    tick: Callable[[], None] | None = None,
) -> Ended:
    """Run a command, without a shell, in `folder` for at most `timeout` seconds; what it started ends with it.

    `tick` is called a few times a second meanwhile. Raises ExecuteError where it cannot be started.
    """
    start = time.monotonic()
    with contextlib.ExitStack() as stack:
        pipes = _pipes(stack) if os.name == "posix" else None
        try:
            process = _start(command, folder, environment, pipes)
        except (OSError, ValueError) as error:
            if pipes is not None:
                _close(pipes.lifeline_read, pipes.lifeline_write, pipes.status_write)
            raise ExecuteError(f"{shlex.join(command)}: cannot be started: {error}") from None
        if pipes is not None:
            _close(pipes.lifeline_read, pipes.status_write)
        assert process.stdout is not None
        tail = _Tail(process.stdout)
        timed_out = False
        try:
            timed_out = not _wait(process, start + timeout, tick, pipes)
        finally:
            if pipes is not None:
                _close(pipes.lifeline_write)
            elif process.poll() is None:
                subprocess.run(["taskkill", "/F", "/T", "/PID", str(process.pid)], capture_output=True, check=False)
            try:
                process.wait(_PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        status, cpu = _told(pipes) if pipes is not None else (process.returncode, 0.0)
        return Ended(status, tail.text(), time.monotonic() - start, cpu, timed_out)


def prepare(worktree: Worktree, command: Sequence[str], *, timeout: float) -> str:
    """Run the command that builds what git ignores, in the worktree; return what it printed. Raises ExecuteError."""
    environment = subprocess_environment(worktree, worktree.folder)
    ended = run_command(command_in(worktree, command), folder=worktree.project, environment=environment, timeout=timeout)
    if ended.timed_out or ended.status:
        how = f"took longer than {timeout:.0f} s" if ended.timed_out else f"ended with status {ended.status}"
        last = next((line for line in reversed(ended.output.splitlines()) if line.strip()), "")
        raise ExecuteError(f"prepare: {shlex.join(command)}: {how} in the worktree: {printable(last)}")
    return ended.output


def split_command(text: str) -> tuple[str, ...]:
    """Return the words of a command as a shell would split them; nothing else of a shell is in force. Raises ValueError."""
    words = tuple(shlex.split(text))
    if not words:
        raise ValueError("a command")
    return words


def command_in(worktree: Worktree, command: Sequence[str]) -> list[str]:
    """Return a command for the worktree: a program that is only in the user's tree (`.venv/bin/python`) is taken from there."""
    program = command[0]
    if "/" in program and not Path(program).is_absolute() and not (worktree.project / program).exists():
        place = worktree.original / worktree.project.relative_to(worktree.root) / program
        if place.exists():
            program = str(place)
    return [program, *command[1:]]


def printable(text: str, limit: int = 300) -> str:
    """Return one line that holds no control characters: what a test printed is hostile."""
    text = "".join(character if character.isprintable() else " " for character in text[: limit * 2]).strip()
    return text if len(text) <= limit else text[: limit - 1] + "…"


class _Pipes(Struct, frozen=True):
    lifeline_read: int
    lifeline_write: int
    status_read: int
    status_write: int


def _pipes(stack: contextlib.ExitStack) -> _Pipes:
    pipes = _Pipes(*os.pipe(), *os.pipe())
    stack.callback(_close, pipes.status_read)
    return pipes


def _close(*descriptors: int) -> None:
    for descriptor in descriptors:
        with contextlib.suppress(OSError):
            os.close(descriptor)


def _start(
    command: Sequence[str], folder: Path, environment: Mapping[str, str], pipes: _Pipes | None
) -> subprocess.Popen[bytes]:
    words = list(command)
    passed: tuple[int, ...] = ()
    if pipes is not None:
        passed = (pipes.lifeline_read, pipes.status_write)
        words = [sys.executable, "-I", "-S", str(_GUARD), *map(str, passed), *words]
    return subprocess.Popen(
        words,
        cwd=folder,
        env=dict(environment),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        pass_fds=passed,
        start_new_session=os.name == "posix",
    )


def _wait(process: subprocess.Popen[bytes], deadline: float, tick: Callable[[], None] | None, pipes: _Pipes | None) -> bool:
    """Return whether the process ended before the deadline."""
    while (left := deadline - time.monotonic()) > 0:
        seconds = min(left, _TICK) if tick is not None else left
        ended = _ends(process, seconds, pipes)
        if tick is not None:
            tick()
        if ended:
            return True
    return process.poll() is not None


def _ends(process: subprocess.Popen[bytes], seconds: float, pipes: _Pipes | None) -> bool:
    if pipes is not None:  # its last word, or its death: sooner known than by asking for its status again and again
        return bool(select.select([pipes.status_read], [], [], seconds)[0])
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(seconds)
        return True
    return False


def _told(pipes: _Pipes) -> tuple[int, float]:
    """Return status and processor seconds that the guard told; one that was killed told nothing."""
    os.set_blocking(pipes.status_read, False)
    try:
        status, cpu = os.read(pipes.status_read, 100).split()
        return int(status), float(cpu)
    except (OSError, ValueError):
        return -9, 0.0


class _Tail:
    """Reads a stream to its end in a thread, and keeps the last of it."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self._kept = b""
        self._thread = threading.Thread(target=self._read, name="tracetriage-output", daemon=True)
        self._thread.start()

    def _read(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            while chunk := self._stream.read1(OUTPUT_LIMIT):  # type: ignore[attr-defined]
                self._kept = (self._kept + chunk)[-OUTPUT_LIMIT:]

    def text(self) -> str:
        """Return the end of the stream, without waiting for a stranger that holds it open."""
        self._thread.join(2.0)
        if not self._thread.is_alive():
            self._stream.close()
        return self._kept.decode("utf-8", "replace")
