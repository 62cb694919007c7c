"""GitHub's contract: is this request, and is this answer, what its OpenAPI description promises?"""

from __future__ import annotations

import json
import re
import threading
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, quote

from openapi_core import Config, OpenAPI
from openapi_core.datatypes import RequestParameters
from openapi_core.exceptions import OpenAPIError
from openapi_schema_validator import OAS30Validator
from werkzeug.datastructures import Headers, ImmutableMultiDict

DESCRIPTION = Path(__file__).with_name("openapi.json")
HOST = "http://github.test"
_ACCEPTED: set[tuple[object, ...]] = set()
"""Requests that were judged and found right: the same bytes again need no second judgement, which costs milliseconds."""
_SLASHES = re.compile(r"(/repos/[^/]+/[^/]+/(?:git/ref|contents|commits))/(.+?)(/(?:check-runs|status|statuses|pulls))?")


@dataclass(frozen=True)
class Allowed:
    """A deviation that is not ours to mend."""

    method: str
    path: str
    """A regular expression, the whole path."""
    complaint: str
    """A part of the complaint."""
    reason: str


ALLOWED: tuple[Allowed, ...] = ()
"""What PyGithub itself sends wrongly. Of the calls that are made here, nothing: it deviates in labels and branch protection."""


@dataclass
class _Request:
    """A request as openapi-core wants to see it."""

    method: str
    path: str
    body: bytes | None
    content_type: str
    parameters: RequestParameters
    host_url: str = HOST


@dataclass
class _Response:
    """A response as openapi-core wants to see it."""

    status_code: int
    content_type: str
    data: bytes
    headers: Headers = field(default_factory=Headers)


class Contract:
    """Judges requests and answers. The complaints of a server's lifetime are in `violations`, a line each."""

    def __init__(self) -> None:
        self.violations: list[str] = []
        self._lock = threading.Lock()  # openapi-core makes no promise about threads

    def request(self, method: str, path: str, query: str, body: bytes | None, content_type: str) -> None:
        """Judge a request. `path` starts at the API's root, percent-encoded as it came."""
        key = (method, path, query, body, content_type)
        with self._lock:
            if key in _ACCEPTED:
                return
            try:
                _api().validate_request(_request(method, path, query, body, content_type))
                unknown = _unknown_keys(method, path, body)
                if not unknown:
                    _ACCEPTED.add(key)
                self._note(method, path, unknown)
            except OpenAPIError as error:
                self._note(method, path, f"request: {_reasons(error)}")

    def response(self, method: str, path: str, query: str, status: int, body: bytes, content_type: str) -> None:
        """Judge an answer. An error that the description does not list for the operation must be GitHub's general one."""
        with self._lock:
            try:
                if status >= 400 and str(status) not in _operation(method, path).get("responses", {}):
                    error = next(_general_error().iter_errors(json.loads(body)), None)
                    self._note(method, path, f"response {status}: {error.message}" if error else "")
                    return
                _api().validate_response(
                    _request(method, path, query, None, ""), _Response(status, content_type.split(";", maxsplit=1)[0], body)
                )
            except OpenAPIError as error:
                self._note(method, path, f"response {status}: {_reasons(error)}")

    def _note(self, method: str, path: str, complaint: str) -> None:
        allowed = any(
            item.method == method and re.fullmatch(item.path, path) and item.complaint in complaint for item in ALLOWED
        )
        if complaint and not allowed:
            self.violations.append(f"{method} {path}: {complaint}")


@cache
def description() -> dict[str, Any]:
    """Return GitHub's description, cut to the operations of this server."""
    return {**json.loads(DESCRIPTION.read_text(encoding="utf-8")), "servers": [{"url": HOST}]}


@cache
def _api() -> OpenAPI:
    return OpenAPI.from_dict(description(), config=Config(spec_validator_cls=None))


@cache
def _general_error() -> OAS30Validator:
    return OAS30Validator({**description()["components"]["schemas"]["basic-error"], "required": ["message"]})


@cache
def _templates() -> list[tuple[re.Pattern[str], str]]:
    return [(re.compile(re.sub(r"\{[^}]+\}", "[^/]+", path)), path) for path in description()["paths"]]


def _operation(method: str, path: str) -> dict[str, Any]:
    for pattern, template in _templates():
        if pattern.fullmatch(one_segment(path)):
            return description()["paths"][template].get(method.lower(), {})
    return {}


def one_segment(path: str) -> str:
    """Percent-encode the slashes of a ref or a file's path: a parameter of a description is one segment, GitHub's are not."""
    match = _SLASHES.fullmatch(path)
    return f"{match[1]}/{match[2].replace('/', '%2F')}{match[3] or ''}" if match else path


def _request(method: str, path: str, query: str, body: bytes | None, content_type: str) -> _Request:
    parameters = RequestParameters(
        query=ImmutableMultiDict(parse_qsl(query, keep_blank_values=True)), header=Headers(), cookie=ImmutableMultiDict()
    )
    return _Request(
        method.lower(), quote(one_segment(path), safe="/%"), body, content_type.split(";", maxsplit=1)[0], parameters
    )


def _unknown_keys(method: str, path: str, body: bytes | None) -> str:
    """Return a complaint about keys that the description does not know: it would let them pass."""
    content = _operation(method, path).get("requestBody", {}).get("content", {}).get("application/json", {})
    if not body or not content:
        return ""
    unknown = set(json.loads(body)) - set(content["schema"].get("properties", {}))
    return f"request: unknown keys {sorted(unknown)}" if unknown else ""


def _reasons(error: BaseException) -> str:
    """Return what a schema says against a value, else the error: openapi-core's own text quotes the whole value."""
    cause: BaseException | None = error
    while cause is not None:
        found = [f"{'/'.join(map(str, item.path))}: {item.message[-200:]}" for item in getattr(cause, "schema_errors", ())]
        if found:
            return "; ".join(dict.fromkeys(found))
        cause = cause.__cause__
    return str(error)
