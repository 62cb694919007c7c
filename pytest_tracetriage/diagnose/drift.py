"""What drifted where no commit explains a failure: packages, Python, platform, between its last green and its first red run."""

from __future__ import annotations

import ast
import re
from typing import TYPE_CHECKING

from msgspec import Struct

from pytest_tracetriage.model.diagnosis import Drift, DriftKind

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from pytest_tracetriage.model.run import Context
    from pytest_tracetriage.model.trace import Failure

_INSTALLED = re.compile(r"(?:^|/)(?:site|dist)-packages/([^/]+)")
_WORD = re.compile(r"[A-Za-z][A-Za-z0-9_.-]*")
RAISED, RUNNING, TYPE, MESSAGE, IMPORTED, NEEDED, ELSE = 0.95, 0.9, 0.85, 0.8, 0.6, 0.4, 0.1
LONE = 0.9
"""What the only difference scores, whatever points to it."""
TOLD = 20
"""How many differences are told."""


class Installed(Struct, frozen=True):
    """What is known of packages beside their versions, by normalised name: `modules` by top-level module name."""

    modules: Mapping[str, tuple[str, ...]] = {}
    needs: Mapping[str, frozenset[str]] = {}
    """What each requires."""


def drift(
    before: Context,
    after: Context,
    failures: Iterable[Failure] = (),
    sources: Mapping[str, bytes] | None = None,
    installed: Installed = Installed(),  # noqa: B008 - frozen
) -> tuple[Drift, ...]:
    """Return what differs between two runs, the likeliest cause of `failures` first.

    `sources` are the contents of the project's files in their tracebacks: what they import is evidence.
    """
    changed = _changed(before, after)
    pointed = _pointed(tuple(failures), sources or {}, installed)
    found = []
    for kind, name, old, new in changed:
        score, why = pointed.get(name if kind in {"package", "pytest"} else "", (ELSE, ""))
        if not why:
            score, why = _unpointed(kind, name, pointed, installed)
        if len(changed) == 1:
            score, why = max(score, LONE), f"the only difference; {why}" if why else "the only difference"
        found.append(Drift(kind, name, old, new, score, why or "nothing points to it"))
    return tuple(sorted(found, key=lambda item: (-item.score, item.kind, item.name))[:TOLD])


def _changed(before: Context, after: Context) -> list[tuple[DriftKind, str, str, str]]:
    found: list[tuple[DriftKind, str, str, str]] = []
    if (before.python, before.implementation) != (after.python, after.implementation):
        names = (before.implementation, after.implementation)
        same = names[0] == names[1]
        found.append(
            (
                "python",
                "Python",
                before.python if same else f"{names[0]} {before.python}",
                after.python if same else f"{names[1]} {after.python}",
            )
        )
    if before.platform != after.platform:
        found.append(("platform", "platform", before.platform, after.platform))
    if before.pytest != after.pytest:
        found.append(("pytest", "pytest", before.pytest, after.pytest))
    for name in sorted({*before.packages, *after.packages} - {"pytest"}):
        old, new = before.packages.get(name, ""), after.packages.get(name, "")
        if old != new:
            found.append(("package", name, old, new))
    return found


def _pointed(failures: tuple[Failure, ...], sources: Mapping[str, bytes], installed: Installed) -> dict[str, tuple[float, str]]:
    """Return the packages that failures point to, with how far and why."""
    found: dict[str, tuple[float, str]] = {}

    def point(module: str, score: float, why: str) -> None:
        top = module.partition(".")[0]
        for name in {*installed.modules.get(top, ()), normal(top)}:
            if score > found.get(name, (0.0, ""))[0]:
                found[name] = (score, why)

    for failure in failures:
        for error in failure.errors:
            for number, frame in enumerate(error.frames, start=1):
                inside = _INSTALLED.search(frame.file.replace("\\", "/"))
                if inside:
                    raised = number == len(error.frames)
                    module = inside[1].removesuffix(".py")
                    point(
                        module,
                        RAISED if raised else RUNNING,
                        "the failure is raised in it" if raised else "it stands in the traceback",
                    )
            if "." in error.type:
                point(error.type, TYPE, f"the error is its {error.type}")
            for word in dict.fromkeys(_WORD.findall(error.message)):
                if len(word) > 2:
                    point(word.rstrip("."), MESSAGE, "the message names it")
    for file, content in sources.items():
        for module in imports(content):
            point(module, IMPORTED, f"{file}, in the traceback, imports it")
    return found


def _unpointed(kind: DriftKind, name: str, pointed: Mapping[str, tuple[float, str]], installed: Installed) -> tuple[float, str]:
    if kind != "package":
        return 2 * ELSE, ""
    for needing, (score, _) in sorted(pointed.items(), key=lambda item: -item[1][0]):
        if name in installed.needs.get(needing, frozenset()):
            return round(NEEDED * score, 3), f"{needing} needs it, to which the failure points"
    return ELSE, ""


def imports(content: bytes) -> frozenset[str]:
    """Return the top-level modules that a Python file imports, anywhere in it; none where it cannot be parsed."""
    try:
        tree = ast.parse(content)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return frozenset()
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
            found.add(node.module.partition(".")[0])
    return frozenset(found)


def normal(name: str) -> str:
    """Return the name of a package as run.json has it."""
    return re.sub(r"[-_.]+", "-", name).lower()
