"""Git over HTTP, by git's own `http-backend`; who may push is what GitHub would say."""

from __future__ import annotations

import base64
import binascii
import subprocess
from http import HTTPStatus
from typing import TYPE_CHECKING

from world import World, git_environment

if TYPE_CHECKING:
    from email.message import Message

Answer = tuple[int, dict[str, str], bytes]


def token_of(headers: Message) -> str | None:
    """Return the token of an Authorization header: basic (its password) as git sends it, or a bearer's. None without one."""
    kind, _, value = (headers.get("authorization") or "").partition(" ")
    if kind.lower() in {"token", "bearer"}:
        return value.strip()
    if kind.lower() != "basic":
        return None
    try:
        return base64.b64decode(value).decode().partition(":")[2]
    except (binascii.Error, UnicodeDecodeError):
        return ""


def serve(world: World, method: str, path: str, query: str, headers: Message, body: bytes) -> Answer:
    """Answer a request of git's smart protocol. Reading is for all; pushing needs a token that may write contents."""
    writes = "git-receive-pack" in path + query
    value = token_of(headers)
    token = world.tokens.get(value or "")
    if (writes and value is None) or (value is not None and token is None):
        return _refuse(HTTPStatus.UNAUTHORIZED, "Invalid username or token.")
    if writes and token is not None and "contents" not in token.writes:
        return _refuse(HTTPStatus.FORBIDDEN, f"Permission to {world.full_name}.git denied to {token.login}.")
    environment = {
        **git_environment(),
        "GIT_PROJECT_ROOT": str(world.folder),
        "GIT_HTTP_EXPORT_ALL": "1",
        "REQUEST_METHOD": method,
        "PATH_INFO": path,
        "QUERY_STRING": query,
        "REMOTE_USER": token.login if token else "",
        "REMOTE_ADDR": "127.0.0.1",
        "CONTENT_TYPE": headers.get("content-type", ""),
        "CONTENT_LENGTH": str(len(body)),
        "HTTP_CONTENT_ENCODING": headers.get("content-encoding", ""),
        "GIT_PROTOCOL": headers.get("git-protocol", ""),
    }
    done = subprocess.run(["git", "http-backend"], env=environment, input=body, capture_output=True, check=False)
    head, _, answer = done.stdout.partition(b"\r\n\r\n")
    fields = dict(line.split(": ", 1) for line in head.decode().split("\r\n") if ": " in line)
    return int(fields.pop("Status", "200").split()[0]), fields, answer


def _refuse(status: HTTPStatus, message: str) -> Answer:
    asks = {"WWW-Authenticate": 'Basic realm="GitHub"'} if status == HTTPStatus.UNAUTHORIZED else {}
    return status, {"Content-Type": "text/plain", **asks}, f"{message}\n".encode()
