"""Cut GitHub's OpenAPI description down to what the test server answers: `cut_openapi.py api.github.com.json openapi.json`.

The source is `generated/api.github.com.json` of the npm package `@octokit/openapi` 23.0.2 (MIT, https://github.com/octokit/openapi),
made from https://github.com/github/rest-api-description (MIT). The cut keeps the operations below, every component that they
reach, and nothing that does not validate: no prose, no examples. One thing is mended: a nullable enumeration takes null, which
OpenAPI 3.0 wants to be listed (the conclusion of a check run that is still going on).
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

REPOSITORY = "/repos/{owner}/{repo}"
OPERATIONS = {
    "/user": "get",
    "/rate_limit": "get",
    REPOSITORY: "get",
    f"{REPOSITORY}/pulls": "get",
    f"{REPOSITORY}/pulls/{{pull_number}}": "get",
    f"{REPOSITORY}/commits/{{commit_sha}}/pulls": "get",
    f"{REPOSITORY}/commits/{{ref}}/check-runs": "get",
    f"{REPOSITORY}/commits/{{ref}}/status": "get",
    f"{REPOSITORY}/commits/{{ref}}/statuses": "get",
    f"{REPOSITORY}/statuses/{{sha}}": "post",
    f"{REPOSITORY}/issues/{{issue_number}}/comments": "get post",
    f"{REPOSITORY}/issues/comments/{{comment_id}}": "get patch delete",
    f"{REPOSITORY}/check-runs": "post",
    f"{REPOSITORY}/check-runs/{{check_run_id}}": "get patch",
    f"{REPOSITORY}/check-runs/{{check_run_id}}/annotations": "get",
    f"{REPOSITORY}/actions/runs/{{run_id}}": "get",
    f"{REPOSITORY}/actions/runs/{{run_id}}/artifacts": "get",
    f"{REPOSITORY}/actions/artifacts/{{artifact_id}}/{{archive_format}}": "get",
    f"{REPOSITORY}/git/ref/{{ref}}": "get",
    f"{REPOSITORY}/contents/{{path}}": "get",
}
PROSE = {"description", "summary", "example", "examples", "externalDocs", "tags", "title", "operationId"}
NAMES = {"properties", "schemas", "responses", "parameters", "headers", "paths", "mapping"}
"""Below these, keys are names that may look like prose: a property may be called `description`."""


def without_prose(node: Any, names: bool = False) -> Any:
    """Return a node of the description without what does not validate."""
    if isinstance(node, list):
        return [without_prose(item) for item in node]
    if not isinstance(node, dict):
        return node
    kept = node if names else {key: item for key, item in node.items() if key not in PROSE and not key.startswith("x-")}
    if not names and kept.get("nullable") is True and isinstance(kept.get("enum"), list) and None not in kept["enum"]:
        kept = {**kept, "enum": [*kept["enum"], None]}
    # What an enumeration or a required list holds are values, never nodes; a dict of names holds nodes.
    return {key: without_prose(item, names=not names and key in NAMES) for key, item in kept.items()}


def references(node: Any) -> set[str]:
    """Return every `$ref` at or below a node."""
    if isinstance(node, list):
        return set().union(*map(references, node)) if node else set()
    if not isinstance(node, dict):
        return set()
    own = {node["$ref"]} if isinstance(node.get("$ref"), str) else set()
    return own.union(*map(references, node.values()))


def cut(source: dict[str, Any]) -> dict[str, Any]:
    """Return the description of OPERATIONS alone, with the components that they reach and `basic-error`."""
    paths = {
        path: {name: item for name, item in source["paths"][path].items() if name in methods.split()}
        for path, methods in OPERATIONS.items()
    }
    paths = without_prose(paths, names=True)
    components: dict[str, dict[str, Any]] = {}
    wanted = references(paths) | {"#/components/schemas/basic-error"}
    done: set[str] = set()
    while wanted - done:
        reference = min(wanted - done)
        done.add(reference)
        _, _, kind, name = reference.split("/", 3)
        if kind == "examples":
            continue
        node = without_prose(source["components"][kind][name])
        components.setdefault(kind, {})[name] = node
        wanted |= references(node)
    info = {"title": source["info"]["title"], "version": source["info"]["version"], "license": source["info"]["license"]}
    return {"openapi": source["openapi"], "info": info, "paths": paths, "components": components}


if __name__ == "__main__":
    description = cut(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))
    Path(sys.argv[2]).write_text(json.dumps(description, separators=(",", ":"), sort_keys=True) + "\n", encoding="utf-8")
