"""A git server on loopback: `git http-backend` behind a password, which looks for secrets on every command line."""

from __future__ import annotations

import base64
import os
import subprocess
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


class GitServer:
    """Serves the bare repositories of a folder. `faults` is popped for each request: a status to answer with, 0 for none."""

    def __init__(self, folder, login="", *, read_only=False, secret=""):
        self.folder = folder
        self.expected = f"basic {base64.b64encode(login.encode()).decode()}" if login else ""
        self.read_only = read_only
        self.secret = secret
        self.faults = []
        self.headers = []
        self.leaks = []
        self.lock = threading.Lock()
        self.url = ""

    def refusal(self, handler):
        """Return the status to refuse a request with, 0 to serve it."""
        given = handler.headers.get_all("Authorization") or []
        with self.lock:
            self.headers.append(given)
            self.leaks += leaked(self.secret) if self.secret else []
            fault = self.faults.pop(0) if self.faults else 0
        if fault:
            return fault
        if len(given) > 1:
            return 400  # as GitHub does
        if self.expected and given != [self.expected]:
            return 401
        return 403 if self.read_only and "git-receive-pack" in handler.path else 0


def leaked(secret):
    """Return the command lines of all processes that show a secret."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes()
        except OSError:
            continue
        if secret.encode() in line:
            found.append(line)
    return found


@contextmanager
def serving(folder, login="", *, read_only=False, secret=""):
    state = GitServer(folder, login, read_only=read_only, secret=secret)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            answer(self, state)

        do_POST = do_GET  # noqa: N815

        def log_message(self, *args):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def answer(handler, state):
    body = read_body(handler)
    status = state.refusal(handler)
    if status:
        handler.send_response(status)
        if status == 401:
            handler.send_header("WWW-Authenticate", 'Basic realm="git"')
        handler.send_header("Content-Length", "0")
        handler.end_headers()
        return
    path, _, query = handler.path.partition("?")
    environment = {
        "PATH": os.environ["PATH"],
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_PROJECT_ROOT": str(state.folder),
        "GIT_HTTP_EXPORT_ALL": "1",
        "REMOTE_USER": "someone",
        "PATH_INFO": path,
        "QUERY_STRING": query,
        "REQUEST_METHOD": handler.command,
        "CONTENT_TYPE": handler.headers.get("Content-Type", ""),
        "CONTENT_LENGTH": str(len(body)),
        "HTTP_CONTENT_ENCODING": handler.headers.get("Content-Encoding", ""),
        "GIT_PROTOCOL": handler.headers.get("Git-Protocol", ""),
    }
    done = subprocess.run(["git", "http-backend"], input=body, env=environment, capture_output=True, check=False)
    head, _, content = done.stdout.partition(b"\r\n\r\n")
    fields = [line.split(": ", 1) for line in head.decode().splitlines()]
    status = next((int(value.split()[0]) for name, value in fields if name == "Status"), 200)
    handler.send_response(status)
    for name, value in fields:
        if name != "Status":
            handler.send_header(name, value)
    handler.send_header("Content-Length", str(len(content)))
    handler.end_headers()
    handler.wfile.write(content)


def read_body(handler):
    if handler.headers.get("Transfer-Encoding") != "chunked":
        return handler.rfile.read(int(handler.headers.get("Content-Length", 0)))
    parts = []
    while size := int(handler.rfile.readline(), 16):
        parts.append(handler.rfile.read(size))
        handler.rfile.readline()
    handler.rfile.readline()
    return b"".join(parts)
