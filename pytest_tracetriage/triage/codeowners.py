"""CODEOWNERS: whom to tell of a cluster. The last matching line wins, as GitHub and GitLab read it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

PLACES = (".github/CODEOWNERS", "CODEOWNERS", "docs/CODEOWNERS", ".gitlab/CODEOWNERS")

_WILD = {"/**/": "/(?:.*/)?", "**/": "(?:.*/)?", "/**": "/.*", "**": ".*", "*": "[^/]*", "?": "[^/]"}

Rules = tuple[tuple["re.Pattern[str]", tuple[str, ...]], ...]


def parse(text: str) -> Rules:
    """Return the rules of a CODEOWNERS file in its order; a line that cannot be read is skipped, as GitHub does."""
    rules = []
    for line in text.splitlines():
        words = re.split(r"(?<!\\)\s+", re.sub(r"(^|\s)#.*", "", line).strip())
        pattern = words[0].replace("\\ ", " ") if words else ""
        if not pattern or pattern.startswith(("[", "^[", "!")):
            continue
        rules.append((re.compile(_expression(pattern)), tuple(word for word in words[1:] if "@" in word)))
    return tuple(rules)


def owners(rules: Rules, files: Iterable[str], prefix: str = "") -> tuple[str, ...]:
    """Return the owners of the first of `files` (relative to the project, with `/`) that has any.

    `prefix` is where the project lies in its repository, such as `services/shop/`: the rules are about the repository.
    """
    for file in files:
        for expression, names in reversed(rules):
            if expression.match(prefix + file):
                if names:
                    return names
                break
    return ()


def _expression(pattern: str) -> str:
    anchored = "/" in pattern.rstrip("/")
    folder = pattern.endswith("/")
    out = []
    for part in re.split(r"(/\*\*/|\*\*/|/\*\*|\*\*|\*|\?)", pattern.strip("/")):
        out.append(_WILD.get(part, re.escape(part)))
    # `docs/*` owns the files of docs, not those of its folders; everything else owns what lies below it
    below = "/.*" if folder else "" if pattern.endswith("/*") else "(?:/.*)?"
    return ("" if anchored else "(?:.*/)?") + "".join(out) + below + r"\Z"
