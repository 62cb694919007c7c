"""A test server for GitHub: REST under `/api/v3`, git over HTTP at `/OWNER/REPO.git`, state in memory, faults on demand.

In a test: `with GitHubServer(folder) as server:`, then `server.api_url`, `server.world`, `server.fault(...)`.
From a script: `python tests/forge/server.py --port 0 --folder FOLDER --state FILE` prints its address on one line.

- `GET /_test/state`: comments, checks, statuses, pulls, violations and the log of requests as JSON (FILE gets it at the end);
- `POST /_test/pulls`: `{"head_branch": ..., "head_sha": ..., "head_repository": "fork/name"}` opens a pull request;
- `POST /_test/repositories`: `{"full_name": "fork/name"}` creates a bare repository;
- `POST /_test/comments`: `{"pull": 1, "login": "stranger", "body": ...}`;
- `POST /_test/runs`: a workflow run; `POST /_test/artifacts`: `{"run": 1, "name": ..., "data": BASE64}`;
- `POST /_test/tokens`: `{"value": "ghs_...", "login": "github-actions[bot]", "writes": ["checks"], "app": 15368}`;
- `POST /_test/faults`: `{"kind": "502", "method": "POST", "path": ".*/comments", "nth": 1, "after": true}`.

Every request below `/api/v3` and every answer to it is judged by GitHub's OpenAPI description: `violations`.
"""

from __future__ import annotations

import argparse
import base64
import json
import signal
import sys
import threading
import time
from dataclasses import asdict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

import faults
import githttp
import rest_checks  # noqa: F401  # the operations register themselves
import rest_pulls  # noqa: F401
import rest_repository  # noqa: F401
import routes
from contract import Contract
from typing_extensions import Self
from world import Artifact, Token, WorkflowRun, World

API = "/api/v3"
FULL_NAME = "acme/shop"


class GitHubServer:
    """A running server. `folder` holds its bare repositories; what is there already is served as it is."""

    def __init__(self, folder: Path, full_name: str = FULL_NAME, port: int = 0) -> None:
        self.world = World(folder, full_name)
        self.contract = Contract()
        self.plan = faults.Plan()
        self.log: list[dict[str, Any]] = []
        self.lock = threading.Lock()
        self._http = _HttpServer(("127.0.0.1", port), _Handler)
        self._http.github = self
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)

    @property
    def url(self) -> str:
        """What `GITHUB_SERVER_URL` is set to."""
        return f"http://127.0.0.1:{self._http.server_address[1]}"

    @property
    def api_url(self) -> str:
        """What `GITHUB_API_URL` is set to."""
        return self.url + API

    @property
    def violations(self) -> list[str]:
        """What GitHub's description does not allow, of all requests and answers so far."""
        return self.contract.violations

    def fault(self, kind: str, method: str = ".*", path: str = ".*", **more: Any) -> faults.Fault:
        """Plan a fault and return it."""
        fault = faults.Fault(kind, method, path, **more)
        self.plan.faults.append(fault)
        return fault

    def state(self) -> dict[str, Any]:
        """Return everything that a test may ask about, as plain data."""
        with self.lock:
            return {
                "comments": [asdict(item) for item in self.world.comments.values()],
                "checks": [asdict(item) for item in self.world.checks.values()],
                "statuses": [asdict(item) for item in self.world.statuses],
                "pulls": [asdict(item) for item in self.world.pulls.values()],
                "violations": list(self.violations),
                "log": list(self.log),
            }

    def seed(self, kind: str, said: dict[str, Any]) -> Any:
        """Do what a `POST /_test/KIND` asks for, and return what came of it as plain data."""
        if kind == "pulls":
            return asdict(self.world.open_pull(**said))
        if kind == "repositories":
            return str(self.world.create_repository(**said))
        if kind == "comments":
            return asdict(self.world.say(**said))
        if kind == "runs":
            self.world.runs[said["id"]] = WorkflowRun(**said)
            return said
        if kind == "artifacts":
            number = next(self.world.ids)
            self.world.artifacts[number] = Artifact(number, said["run"], said["name"], base64.b64decode(said["data"]))
            return {"id": number}
        if kind == "tokens":
            self.world.tokens[said["value"]] = Token(**{**said, "writes": tuple(said.get("writes", ()))})
            return said
        if kind == "faults":
            self.fault(**said)
            return said
        raise KeyError(kind)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        for fault in self.plan.faults:
            fault.released.set()
        self._http.shutdown()
        self._http.server_close()


class _HttpServer(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    github: GitHubServer

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is what these tests are about; anything else is this server's own mistake."""
        if not isinstance(sys.exc_info()[1], ConnectionError | TimeoutError):
            error = sys.exc_info()[1]
            self.github.contract.violations.append(f"the test server itself: {error!r}")


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _HttpServer

    def log_message(self, *args: Any) -> None:
        """Say nothing: the log is state."""

    def _any(self) -> None:
        parts = urlsplit(self.path)
        body = self._body()
        if parts.path.startswith(f"{API}/"):
            self._rest(parts.path.removeprefix(API), parts.query, body)
        elif ".git/" in parts.path:
            self._git(parts.path, parts.query, body)
        elif parts.path.startswith("/_blobs/"):
            number = int(parts.path.removeprefix("/_blobs/").removesuffix(".zip"))
            self._send(200, {"content-type": "application/zip"}, self.server.github.world.artifacts[number].data)
        elif parts.path == "/_test/state":
            self._json(200, self.server.github.state())
        elif parts.path.startswith("/_test/") and self.command == "POST":
            self._seed(parts.path.removeprefix("/_test/"), body)
        else:
            self._json(404, {"message": "Not Found"})

    do_GET = do_POST = do_PATCH = do_PUT = do_DELETE = do_HEAD = _any  # noqa: N815  # what http.server asks for

    def _rest(self, path: str, query: str, body: bytes) -> None:
        github = self.server.github
        github.contract.request(self.command, path, query, body or None, self.headers.get("content-type", ""))
        entry: dict[str, Any] = {"method": self.command, "path": unquote(path), "query": query, "status": 0}
        with github.lock:
            github.log.append(entry)
        fault = github.plan.strike(self.command, unquote(path))
        if fault and not fault.after and faults.answer(fault, self, 200, b"{}" * 40):
            entry["status"] = fault.kind
            return
        answer = self._answer(unquote(path), query, body)
        data = routes.encode(answer.body)
        github.contract.response(self.command, path, query, answer.status, data, "application/json" if data else "")
        github.plan.meet(self.command, unquote(path))
        entry["status"] = answer.status
        if fault and fault.after and faults.answer(fault, self, answer.status, data):
            entry["status"] = f"{answer.status}, then {fault.kind}"
            return
        headers = {"x-ratelimit-limit": "5000", "x-ratelimit-remaining": "4999", "x-ratelimit-used": "1", **answer.headers}
        headers["x-ratelimit-reset"] = str(int(time.time()) + 3600)
        self._send(answer.status, {**headers, "content-type": "application/json; charset=utf-8"}, data)

    def _answer(self, path: str, query: str, body: bytes) -> routes.Answer:
        github = self.server.github
        value = githttp.token_of(self.headers)
        token = github.world.tokens.get(value or "")
        if value is not None and token is None:
            return routes.RefusedError(401, "Bad credentials", status="401").answer
        said = json.loads(body) if body else None
        with github.lock:
            return routes.answer(
                github.world, github.api_url, github.url, self.command, path, dict(parse_qsl(query)), said, token
            )

    def _git(self, path: str, query: str, body: bytes) -> None:
        github = self.server.github
        status, headers, data = githttp.serve(github.world, self.command, path, query, self.headers, body)
        with github.lock:
            github.log.append({"method": self.command, "path": path, "query": query, "status": status})
        self._send(status, headers, data)

    def _seed(self, kind: str, body: bytes) -> None:
        try:
            with self.server.github.lock:
                self._json(201, self.server.github.seed(kind, json.loads(body)))
        except (KeyError, TypeError, ValueError) as error:
            self._json(422, {"message": repr(error)})

    def _body(self) -> bytes:
        if "chunked" not in self.headers.get("transfer-encoding", ""):
            return self.rfile.read(int(self.headers.get("content-length") or 0))
        chunks = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            chunks.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(chunks)

    def _json(self, status: int, body: Any) -> None:
        self._send(status, {"content-type": "application/json; charset=utf-8"}, json.dumps(body).encode())

    def _send(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.send_response(status)
        for name, value in headers.items():
            if name.lower() != "content-length":
                self.send_header(name, value)
        if status != 204:
            self.send_header("content-length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def main() -> None:
    """Serve until a signal comes; print the address first, write the state last."""
    parser = argparse.ArgumentParser(description="A test server for GitHub.")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--repository", default=FULL_NAME)
    parser.add_argument("--folder", type=Path, required=True, help="where the bare repositories are, or will be")
    parser.add_argument("--state", type=Path, help="the file that the state is written to at the end")
    options = parser.parse_args()
    stopped = threading.Event()
    for name in (signal.SIGTERM, signal.SIGINT):
        signal.signal(name, lambda *_: stopped.set())
    with GitHubServer(options.folder.resolve(), options.repository, options.port) as server:
        print(server.url, flush=True)  # noqa: T201
        stopped.wait()
        if options.state:
            options.state.write_text(json.dumps(server.state(), indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
