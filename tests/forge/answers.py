"""GitHub's objects as JSON: what matters here said outright, the rest filled in as its description demands."""

from __future__ import annotations

from functools import cache
from typing import Any

from contract import description

MOMENT = "2026-01-02T03:04:05Z"


@cache
def _required(name: str) -> dict[str, Any]:
    return _object(description()["components"]["schemas"][name])


def shape(schema: str, /, **said: Any) -> dict[str, Any]:
    """Return an object of a schema: every required property, those in `said` with the value given."""
    return {**_required(schema), **said}


def _filler(schema: dict[str, Any]) -> Any:
    """Return a dull value that a schema takes."""
    if "$ref" in schema:
        schema = description()["components"]["schemas"][schema["$ref"].rsplit("/", 1)[1]]
    if schema.get("nullable"):
        return None
    if "enum" in schema:
        return schema["enum"][0]
    for several in ("allOf", "oneOf", "anyOf"):
        if several in schema:
            return _filler(schema[several][0])
    dull = {"string": "", "integer": 0, "number": 0, "boolean": False, "array": []}
    if schema.get("type") in dull:
        formats = {"uri": "https://github.test/", "date-time": MOMENT}
        return formats.get(schema.get("format", ""), dull[schema["type"]])
    return _object(schema)


def _object(schema: dict[str, Any]) -> dict[str, Any]:
    return {name: _filler(schema["properties"][name]) for name in schema.get("required", ())}


def user(login: str, number: int) -> dict[str, Any]:
    """Return an account as it stands in other objects."""
    return shape("simple-user", login=login, id=number, type="Bot" if login.endswith("[bot]") else "User")


def repository(full_name: str, number: int, url: str, web: str) -> dict[str, Any]:
    """Return a repository as it stands in a pull request."""
    owner, name = full_name.split("/")
    said = {"id": number, "name": name, "full_name": full_name, "owner": user(owner, number), "fork": number > 1}
    return shape(
        "repository",
        **said,
        url=f"{url}/repos/{full_name}",
        html_url=f"{web}/{full_name}",
        clone_url=f"{web}/{full_name}.git",
        default_branch="main",
        visibility="public",
    )
