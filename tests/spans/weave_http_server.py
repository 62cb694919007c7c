"""A loopback server that speaks Weave's HTTP as far as a tracing client needs it, and keeps what it was sent.

    with WeaveServer() as server:
        environ = server.environ  # WF_TRACE_SERVER_URL, WANDB_BASE_URL, WANDB_API_KEY

`python weave_http_server.py PORT_FILE` serves in a process of its own, which a test may kill.
"""

from __future__ import annotations

import email
import gzip
import hashlib
import json
import sys
import threading
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

KEY = "0" * 40


class WeaveServer:
    """What it was sent: `calls` by id, `feedback` in order, `paths` of all requests."""

    def __init__(self) -> None:
        self.calls: dict[str, dict[str, Any]] = {}
        self.feedback: list[dict[str, Any]] = []
        self.paths: list[str] = []
        self.lock = threading.Lock()
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._http.server_port}"

    def __enter__(self) -> WeaveServer:  # noqa: PYI034 - Self is 3.11
        threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._http.shutdown()
        self._http.server_close()

    @property
    def environ(self) -> dict[str, str]:
        return environ_of(self.url)

    def named(self, name: str) -> list[dict[str, Any]]:
        """Return the calls of an op, or those displayed under `name`."""
        return [call for call in self.calls.values() if name in (call.get("display_name"), op_of(call))]


def environ_of(url: str) -> dict[str, str]:
    return {"WF_TRACE_SERVER_URL": url, "WANDB_BASE_URL": url, "WANDB_API_KEY": KEY}


def op_of(call: dict[str, Any]) -> str:
    return str(call["op_name"]).rpartition("/op/")[2].partition(":")[0]


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:43]


def answer(server: WeaveServer, path: str, sent: Any) -> Any:
    """Return what the service answers, None where it knows no such path."""
    if path == "/server_info":
        return {"min_required_weave_python_version": "0.0.0", "trace_server_version": None}
    if path == "/graphql":
        if "viewer" in sent["query"]:
            return {"data": {"viewer": {"username": "someone", "defaultEntity": {"name": "someone"}}}}
        name = (sent.get("variables") or {}).get("name")
        if "upsertModel" in sent["query"]:
            return {"data": {"upsertModel": {"model": {"name": name, "description": ""}}}}
        return {"data": {"project": {"name": name}}}
    if path.endswith("/calls/complete"):
        for call in sent["batch"]:
            _keep(server, call)
        return {}
    if path.endswith(("/call/start", "/call/end")):
        part = sent.get("start") or sent.get("end")
        _keep(server, part)
        return {"id": part["id"], "trace_id": part.get("trace_id", "")}
    if path == "/call/upsert_batch":
        for item in sent["batch"]:
            _keep(server, item["req"].get("start") or item["req"].get("end"))
        return {"res": []}
    if path in {"/file/create", "/files/create"}:
        return {"digest": _digest(sent)}
    if path == "/obj/create":
        return {"digest": _digest(json.dumps(sent["obj"]["val"]).encode()), "object_id": sent["obj"]["object_id"]}
    if path == "/table/create":
        return {"digest": _digest(json.dumps(sent["table"]).encode()), "row_digests": ["x" for _ in sent["table"]["rows"]]}
    if path in {"/feedback/create", "/feedback/batch/create"}:
        batch = sent.get("batch", [sent])
        server.feedback += batch
        made = [
            {"id": str(uuid.uuid4()), "created_at": "2026-01-01T00:00:00Z", "wb_user_id": "x", "payload": item["payload"]}
            for item in batch
        ]
        return {"res": made} if "batch" in sent else made[0]
    return None


def _keep(server: WeaveServer, part: dict[str, Any]) -> None:
    with server.lock:
        known = server.calls.setdefault(part["id"], {})
        known.update({key: value for key, value in part.items() if value is not None or key not in known})


def _handler(server: WeaveServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *args: object) -> None:
            pass

        def do_GET(self) -> None:
            self._serve(None)

        def do_POST(self) -> None:
            data = self.rfile.read(int(self.headers.get("content-length") or 0))
            if self.headers.get("content-encoding") == "gzip":
                data = gzip.decompress(data)
            kind = self.headers.get("content-type") or ""
            if kind.startswith("multipart/"):
                form = email.message_from_bytes(b"content-type: " + kind.encode() + b"\r\n\r\n" + data)
                files = [part.get_payload(decode=True) for part in form.get_payload() if part.get_filename()]
                self._serve(files[0] if files else b"")
            else:
                self._serve(json.loads(data or b"{}"))

        def _serve(self, sent: Any) -> None:
            server.paths.append(self.path)
            found = answer(server, self.path, sent)
            data = json.dumps({"reason": f"no such path {self.path}"} if found is None else found).encode()
            self.send_response(404 if found is None else 200)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

    return Handler


def main(port_file: str) -> None:
    with WeaveServer() as server:
        part = Path(f"{port_file}.part")
        part.write_text(server.url, encoding="utf-8")
        part.replace(port_file)
        sys.stdin.read()


if __name__ == "__main__":
    main(*sys.argv[1:])
