"""How GitHub's REST API answers, whatever is asked: who may what, pages, refusals. The operations are in `rest_*.py`."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from math import ceil
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

if TYPE_CHECKING:
    from world import Token, World


@dataclass(frozen=True)
class Call:
    """A request below the API's root."""

    world: World
    api: str
    """The API's root, as clients know it."""
    web: str
    method: str
    path: str
    query: dict[str, str]
    body: Any
    token: Token | None
    match: re.Match[str]

    def part(self, name: str) -> str:
        """Return a part of the path."""
        return self.match[name]


@dataclass(frozen=True)
class Answer:
    status: int
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)


class RefusedError(Exception):
    """An answer of 400 and above, in GitHub's words."""

    def __init__(self, code: int, message: str, /, **more: Any) -> None:
        self.answer = Answer(code, {"message": message, "documentation_url": "https://docs.github.com/rest", **more})


Route = Callable[[Call], Answer]
ROUTES: list[tuple[str, re.Pattern[str], tuple[str, ...], Route]] = []


def route(method: str, path: str, *permissions: str) -> Callable[[Route], Route]:
    """Register an operation. A `{name}` is one segment, a `{name+}` any number of them.

    A token needs to have one of `permissions`; without any, the operation reads, and a public repository is for all.
    """
    pattern = re.sub(r"\{(\w+)\+\}", r"(?P<\1>.+)", path)
    pattern = re.sub(r"\{(id|number)\}", r"(?P<\1>\\d+)", pattern)
    pattern = re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", pattern.replace("/repos", "/repos/{owner}/{repo}", 1))

    def register(function: Route) -> Route:
        ROUTES.append((method, re.compile(pattern), permissions, function))
        return function

    return register


def answer(
    world: World, api: str, web: str, method: str, path: str, query: dict[str, str], body: Any, token: Token | None
) -> Answer:
    """Answer a request below the API's root."""
    try:
        for candidate, pattern, permissions, function in ROUTES:
            match = pattern.fullmatch(path)
            if candidate == method and match:
                call = Call(world, api, web, method, path, query, body, token, match)
                _authorize(call, permissions)
                return function(call)
        raise missing()
    except RefusedError as refused:
        return refused.answer


def missing() -> RefusedError:
    return RefusedError(404, "Not Found", status="404")


def invalid(resource: str, message: str, name: str = "data") -> RefusedError:
    error = {"resource": resource, "code": "unprocessable", "field": name, "message": message}
    return RefusedError(422, "Validation Failed", errors=[error])


def _authorize(call: Call, permissions: tuple[str, ...]) -> None:
    groups = call.match.groupdict()
    if "owner" in groups and f"{groups['owner']}/{groups['repo']}".lower() != call.world.full_name.lower():
        raise missing()
    if not permissions:
        return
    if call.token is None:
        raise RefusedError(401, "Requires authentication", status="401")
    if "checks" in permissions and call.token.value.startswith("ghp_"):
        raise RefusedError(403, "You must authenticate via a GitHub App.", status="403")
    if not set(permissions) & set(call.token.writes) or ("checks" in permissions and not call.token.app):
        kind = "integration" if call.token.app else "personal access token"
        raise RefusedError(403, f"Resource not accessible by {kind}", status="403")


def page(call: Call, items: list[Any], name: str = "") -> Answer:
    """Return one page of a list with its Link header; under `name` with a total count, where the list has one."""
    size = min(100, int(call.query.get("per_page", "30")))
    number = int(call.query.get("page", "1"))
    last = max(1, ceil(len(items) / size))
    links = {"next": number + 1, "last": last} if number < last else {}
    links.update({"prev": number - 1, "first": 1} if number > 1 else {})
    text = ", ".join(
        f'<{call.api}{call.path}?{urlencode({**call.query, "page": target})}>; rel="{relation}"'
        for relation, target in links.items()
    )
    shown = items[(number - 1) * size : number * size]
    return Answer(200, {"total_count": len(items), name: shown} if name else shown, {"link": text} if text else {})


def repo_url(call: Call) -> str:
    """Return the address of the repository in the API."""
    return f"{call.api}/repos/{call.world.full_name}"


def commit(call: Call, name: str) -> str:
    """Return the SHA that a ref of a path means."""
    sha = call.world.commit_of(name)
    if not sha:
        raise RefusedError(422, f"No commit found for SHA: {name}")
    return sha


def encode(body: Any) -> bytes:
    """Return a body as bytes; an answer without one is empty."""
    return b"" if body is None else json.dumps(body).encode()
