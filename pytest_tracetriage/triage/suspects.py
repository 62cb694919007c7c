"""Where to look and whom to tell: suspects from tracebacks alone, and the owners that CODEOWNERS names.

The deepest application frame comes first, each caller counts half as much. Text cannot see a fault that no traceback passes
through; where a run stored a coverage map, diagnosis ranks anew. Of CODEOWNERS the last matching line wins, as GitHub and
GitLab read it.
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING

from pytest_tracetriage.model.analysis import Suspect
from pytest_tracetriage.triage.signature import place

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pytest_tracetriage.model.trace import Failure, Frame
    from pytest_tracetriage.triage.join import Fact


CALLER = 0.5
MAX_SUSPECTS = 10

Place = tuple[str, str]


def suspects(facts: Sequence[Fact], count: int) -> tuple[Suspect, ...]:
    """Return at most ten suspects of a cluster of `count` tests, the most suspicious first.

    `facts` are the signatures that tell its cause. A signature weighs the root of its tests.
    """
    total = math.fsum(math.sqrt(max(1, len(fact.members))) for fact in facts)
    scores: dict[Place, list[float]] = {}
    tests: dict[Place, int] = {}
    lines: dict[Place, dict[int, int]] = {}
    names: dict[Place, set[str]] = {}
    for fact in facts:
        share = math.sqrt(max(1, len(fact.members))) / total / len(fact.failures)
        met: set[Place] = set()
        for failure in fact.failures:
            for depth, frame in enumerate(_innermost_first(failure)):
                where = (frame.file, frame.function)
                scores.setdefault(where, []).append(share * CALLER**depth)
                numbers = lines.setdefault(where, {})
                numbers[frame.line] = numbers.get(frame.line, 0) + len(fact.members)
                names.setdefault(where, set()).add(frame.qualname.replace("<locals>.", "") or frame.function)
                met.add(where)
        for where in met:
            tests[where] = tests.get(where, 0) + len(fact.members)
    ranked = sorted(scores, key=lambda where: (-round(math.fsum(scores[where]), 9), where))
    found = [
        Suspect(
            file=where[0],
            function=names[where].pop() if len(names[where]) == 1 else where[1],
            line=min(lines[where], key=lambda line: (-lines[where][line], line)),
            score=round(min(1.0, math.fsum(scores[where])), 4),
            evidence=f"in the traceback of {tests[where]} of {count} tests",
        )
        for where in ranked[:MAX_SUSPECTS]
    ]
    return _uncalled(facts, count) or tuple(found) or _test_place(facts[0])


def _uncalled(facts: Sequence[Fact], count: int) -> tuple[Suspect, ...]:
    """Return the `setup()`s that pytest no longer calls, those that most tests miss first."""
    tests: dict[Frame, int] = {}
    for fact in facts:
        if (setup := fact.failure.uncalled) is not None:
            tests[setup] = tests.get(setup, 0) + len(fact.members)
    ranked = sorted(tests, key=lambda setup: (-tests[setup], setup.file, setup.line))
    return tuple(
        Suspect(
            file=setup.file,
            function=setup.qualname,
            line=setup.line,
            score=round(tests[setup] / count, 4),
            evidence=f"not called for {tests[setup]} of {count} tests",
        )
        for setup in ranked[:MAX_SUSPECTS]
    )


def _innermost_first(failure: Failure) -> list[Frame]:
    """Return the application's frames, those of the raised error first, each function once."""
    found: dict[Place, Frame] = {}
    for error in failure.errors:
        for frame in reversed(error.frames):
            if frame.origin == "app":
                found.setdefault((frame.file, frame.function), frame)
    return list(found.values())


def _test_place(fact: Fact) -> tuple[Suspect, ...]:
    frame = place(fact.failures[0].errors)
    if frame is None or frame.origin != "test":
        return ()
    name = frame.qualname.replace("<locals>.", "") or frame.function
    return (Suspect(frame.file, name, frame.line, 0.1, "no application frame in any traceback: where the test failed"),)


CODEOWNERS_PLACES = (".github/CODEOWNERS", "CODEOWNERS", "docs/CODEOWNERS", ".gitlab/CODEOWNERS")

_WILD = {"/**/": "/(?:.*/)?", "**/": "(?:.*/)?", "/**": "/.*", "**": ".*", "*": "[^/]*", "?": "[^/]"}

OwnerRules = tuple[tuple["re.Pattern[str]", tuple[str, ...]], ...]


def parse_codeowners(text: str) -> OwnerRules:
    """Return the rules of a CODEOWNERS file in its order; a line that cannot be read is skipped, as GitHub does."""
    rules = []
    for line in text.splitlines():
        words = re.split(r"(?<!\\)\s+", re.sub(r"(^|\s)#.*", "", line).strip())
        pattern = words[0].replace("\\ ", " ") if words else ""
        if not pattern or pattern.startswith(("[", "^[", "!")):
            continue
        rules.append((re.compile(_expression(pattern)), tuple(word for word in words[1:] if "@" in word)))
    return tuple(rules)


def owners(rules: OwnerRules, files: Iterable[str], prefix: str = "") -> tuple[str, ...]:
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
