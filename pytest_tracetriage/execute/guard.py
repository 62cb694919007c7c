"""A process between us and pytest, which ends pytest and all it started when we die or say so. Not for Windows.

Run as `python -I -S guard.py LIFELINE STATUS COMMAND...`: while the pipe LIFELINE is open, COMMAND may run; its status and the
processor seconds of all that ran go to the pipe STATUS. The standard library alone, and little of it: each start counts.
"""

from __future__ import annotations

import os
import resource
import select
import signal
import sys
import time

TYPE_CHECKING = False  # that of `typing` would have to be imported
if TYPE_CHECKING:
    from collections.abc import Callable

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
END_LIMIT = 10.0
"""Seconds to go on killing what will not end."""


def main(arguments: list[str]) -> None:
    """Run the command until it ends or the lifeline is cut."""
    lifeline, status, command = int(arguments[0]), int(arguments[1]), arguments[2:]
    for descriptor in (lifeline, status):
        os.set_inheritable(descriptor, False)
    prctl = _prctl()
    prctl(PR_SET_CHILD_SUBREAPER, 1)  # whoever loses its parent becomes our child: nothing gets away
    wake, waker = os.pipe()
    os.set_blocking(waker, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(waker, warn_on_full_buffer=False)
    child = os.fork()
    if child == 0:
        _become(command, prctl)
    ended: dict[int, int] = {}
    while child not in ended:
        ready, _, _ = select.select([lifeline, wake], [], [])
        if lifeline in ready:
            break
        os.read(wake, 4096)
        _reap(ended)
    _end(child, ended)
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    code = os.waitstatus_to_exitcode(ended.get(child, signal.SIGKILL))
    os.write(status, f"{code} {used.ru_utime + used.ru_stime:.6f}".encode())


def _become(command: list[str], prctl: Callable[..., object]) -> None:
    os.setpgid(0, 0)
    for number in (signal.SIGPIPE, signal.SIGXFSZ):  # Python ignores them, and that would be handed down
        signal.signal(number, signal.SIG_DFL)
    prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    try:
        os.execvp(command[0], command)
    except OSError as error:
        os.write(2, f"{command[0]}: {error.strerror}\n".encode("utf-8", "surrogateescape"))
    os._exit(127)


def _reap(ended: dict[int, int]) -> bool:
    """Collect who has ended; return whether anybody is left."""
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return False
        if pid == 0:
            return True
        ended[pid] = status


def _end(child: int, ended: dict[int, int]) -> None:
    """Kill the group of `child`, then every process that is ours, until there are none."""
    deadline = time.monotonic() + END_LIMIT
    try:
        os.killpg(child, signal.SIGKILL)
    except OSError:
        pass
    while _reap(ended) and time.monotonic() < deadline:
        for pid in _children():
            try:
                os.kill(pid, signal.SIGKILL)
            except OSError:
                continue
        time.sleep(0.001)


def _children() -> list[int]:
    if sys.platform != "linux":
        return []
    own, found = str(os.getpid()), []
    for name in os.listdir("/proc"):
        if name.isdecimal():
            try:
                with open(f"/proc/{name}/stat", encoding="utf-8", errors="replace") as file:
                    parent = file.read().rpartition(")")[2].split()[1]
            except (OSError, IndexError):
                continue
            if parent == own:
                found.append(int(name))
    return found


def _prctl() -> Callable[..., object]:
    if sys.platform == "linux":
        try:
            import ctypes  # noqa: PLC0415

            return ctypes.CDLL(None).prctl
        except (ImportError, OSError, AttributeError):
            pass
    return lambda *_: 0


if __name__ == "__main__":
    main(sys.argv[1:])
