"""What can go wrong between a client and GitHub, planned call by call."""

from __future__ import annotations

import json
import re
import select
import socket
import struct
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from http.server import BaseHTTPRequestHandler

KINDS = (
    "timeout",
    "reset",
    "502",
    "503",
    "429",
    "429-retry-after",
    "secondary",
    "secondary-retry-after",
    "primary",
    "garbage",
    "pause",
    "meet",
)
SECONDARY = "You have exceeded a secondary rate limit. Please wait a few minutes before you try again."
PRIMARY = "API rate limit exceeded for installation ID 1."
DOCUMENTATION = "https://docs.github.com/rest/using-the-rest-api/rate-limits-for-the-rest-api"


@dataclass
class Fault:
    """One fault: it strikes once, at the nth request that matches."""

    kind: str
    method: str = ".*"
    path: str = ".*"
    """A regular expression: the whole path below the API's root, without the query."""
    nth: int = 1
    after: bool = False
    """True: the request takes effect first, and only its answer is lost."""
    wait: int = 1
    """Seconds that GitHub asks for, where the kind asks for some."""
    seen: int = 0
    reached: threading.Event = field(default_factory=threading.Event, repr=False)
    """Set when the fault strikes: where a test kills the client."""
    released: threading.Event = field(default_factory=threading.Event, repr=False)
    """A paused answer goes out when a test sets this."""

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"{self.kind!r}: expected one of {', '.join(KINDS)}")


@dataclass
class Meeting:
    """Holds the answers to the first `parties` requests that match until all of them are here: a race that always happens."""

    method: str
    path: str
    parties: int = 2
    seen: int = 0
    barrier: threading.Barrier = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self.barrier = threading.Barrier(self.parties)


class Plan:
    """The faults of a server, in the order in which they were planned."""

    def __init__(self) -> None:
        self.faults: list[Fault] = []
        self.meetings: list[Meeting] = []
        self._lock = threading.Lock()

    def strike(self, method: str, path: str) -> Fault | None:
        """Return the fault that strikes this request, if any."""
        found = None
        with self._lock:
            for fault in self.faults:
                if re.fullmatch(fault.method, method) and re.fullmatch(fault.path, path):
                    fault.seen += 1
                    if fault.seen == fault.nth and found is None:
                        found = fault
        if found:
            found.reached.set()
        return found

    def meet(self, method: str, path: str) -> None:
        """Wait for the others, where a meeting is planned for this request."""
        for meeting in self.meetings:
            if re.fullmatch(meeting.method, method) and re.fullmatch(meeting.path, path):
                with self._lock:
                    meeting.seen += 1
                    comes = meeting.seen <= meeting.parties
                if comes:
                    meeting.barrier.wait(20)


def answer(fault: Fault, handler: BaseHTTPRequestHandler, status: int, body: bytes) -> bool:
    """Answer as the fault wants, instead of with `status` and `body`. Returns False where the true answer shall go out."""
    if fault.kind == "pause":
        return _hang(handler, fault.released)
    if fault.kind == "timeout":
        return _hang(handler, threading.Event())
    if fault.kind == "reset":
        _reset(handler, status, body)
    elif fault.kind == "garbage":
        _send(handler, status, {}, b'{"id": 12, "body": "the proxy went away in the midd')
    elif fault.kind in {"502", "503"}:
        _send(handler, int(fault.kind), {}, b"<html><body><h1>Unicorn!</h1></body></html>", "text/html")
    elif fault.kind == "primary":
        reset = {
            "x-ratelimit-limit": "1000",
            "x-ratelimit-remaining": "0",
            "x-ratelimit-reset": str(int(time.time()) + fault.wait),
        }
        _refuse(handler, 403, reset, PRIMARY)
    elif fault.kind.startswith("secondary"):
        _refuse(handler, 403, _retry_after(fault), SECONDARY)
    else:
        _refuse(handler, 429, _retry_after(fault), SECONDARY)
    return True


def _retry_after(fault: Fault) -> dict[str, str]:
    return {"retry-after": str(fault.wait)} if fault.kind.endswith("retry-after") else {}


def _refuse(handler: BaseHTTPRequestHandler, status: int, headers: dict[str, str], message: str) -> None:
    _send(handler, status, headers, json.dumps({"message": message, "documentation_url": DOCUMENTATION}).encode())


def _send(
    handler: BaseHTTPRequestHandler,
    status: int,
    headers: dict[str, str],
    body: bytes,
    kind: str = "application/json; charset=utf-8",
) -> None:
    handler.send_response(status)
    for name, value in {**headers, "content-type": kind, "content-length": str(len(body))}.items():
        handler.send_header(name, value)
    handler.end_headers()
    handler.wfile.write(body)


def _reset(handler: BaseHTTPRequestHandler, status: int, body: bytes) -> None:
    """Send half of the answer, then have the kernel answer with RST: what a dying proxy looks like."""
    handler.send_response(status)
    handler.send_header("content-type", "application/json; charset=utf-8")
    handler.send_header("content-length", str(max(len(body), 64)))
    handler.end_headers()
    handler.wfile.write(body[: len(body) // 2])
    handler.wfile.flush()
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    handler.connection.close()
    handler.close_connection = True


def _hang(handler: BaseHTTPRequestHandler, released: threading.Event) -> bool:
    """Answer nothing until the client has gone (True) or a test releases the answer (False)."""
    while not released.is_set():
        readable, _, _ = select.select([handler.connection], [], [], 0.02)
        if readable:  # a client that waits for its answer sends nothing: this is its end of file, or its reset
            handler.close_connection = True
            return True
    return False
