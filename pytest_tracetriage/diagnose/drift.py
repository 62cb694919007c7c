"""What tests run on: what differs between a green and a red run; an environment for a commit's dependencies."""

from __future__ import annotations

import ast
import os
import re
import sys
import sysconfig
from functools import cache
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from pytest_tracetriage.collect.functions import parsed
from pytest_tracetriage.config import read_pyproject
from pytest_tracetriage.execute.claims import MARK, ExecuteError, building
from pytest_tracetriage.execute.process import printable, run_command
from pytest_tracetriage.model.diagnosis import Drift, DriftKind

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

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


def differences(there: Context, here: Context) -> tuple[str, ...]:
    """Return in words how a run's context differs from the one here: `Python 3.12.1 there, 3.11.9 here`."""
    found = [f"{name} {old or 'none'} there, {new or 'none'} here" for _, name, old, new in _changed(there, here)]
    if there.ci.provider != here.ci.provider:
        found.append(f"{there.ci.provider or 'no CI'} there, {here.ci.provider or 'no CI'} here")
    return tuple(found)


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
        tree = parsed(content)
    except ValueError:
        return frozenset()
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
            found.add(node.module.partition(".")[0])
    return frozenset(found)


@cache
def read_installed() -> Installed:
    """Return which modules packages bring and what they need, as far as they are installed here."""
    from importlib.metadata import distributions, packages_distributions  # noqa: PLC0415

    modules = {name: tuple(normal(dist) for dist in dists) for name, dists in packages_distributions().items()}
    needs: dict[str, frozenset[str]] = {}
    for dist in distributions():
        asked = (text.split(";")[0] for text in dist.requires or () if "extra ==" not in text)
        names = (word for text in asked for word in [normal(_name(text))] if word)
        needs[normal(dist.metadata["Name"] or "")] = frozenset(names)
    return Installed(modules, needs)


def _name(requirement: str) -> str:
    for number, character in enumerate(requirement):
        if not (character.isalnum() or character in "-_."):
            return requirement[:number]
    return requirement


def normal(name: str) -> str:
    """Return the name of a package as run.json has it."""
    return re.sub(r"[-_.]+", "-", name).lower()


INSTALL_LIMIT = 900.0
"""Seconds that an installation may take."""
GROUPS = ("test", "tests", "testing", "dev")
"""Extras and dependency groups that a project's tests may need."""


class InstallError(Exception):
    """Dependencies could not be installed; the text is for people."""


def install(project: Path, needs: str, cache: Path, problems: dict[str, None]) -> Path | None:
    """Return the folder of programs of an environment with what the project at `project` needs, made where there is none.

    None where nothing says what it needs. `needs` names the state of the files that do. Raises InstallError.
    """
    asked, files, unread = _asked(project)
    for name in unread:
        problems[f"{name}: not installed from; only requirements*.txt and [project] of pyproject.toml are"] = None
    if not asked and not files:
        return None
    name = blake2b(f"{needs}\n{sys.version}\n{sys.prefix}".encode(), digest_size=8).hexdigest()
    folder = cache / "environments" / name
    programs = folder / ("Scripts" if os.name == "nt" else "bin")
    try:
        with building(folder, INSTALL_LIMIT) as needed:
            if needed:
                _build(folder, programs, project, asked, files)
    except ExecuteError as error:
        raise InstallError(f"dependencies were not installed: {error}") from None
    return programs


def _build(folder: Path, programs: Path, project: Path, asked: Sequence[str], files: Sequence[str]) -> None:
    # In the project's folder, since files of requirements name others from there; isolated, since a module of the project
    # would be taken for one of the standard library or of pip there.
    def call(*command: str) -> str:
        environment = {**os.environ, MARK: str(folder)}
        ended = run_command(command, folder=project, environment=environment, timeout=INSTALL_LIMIT)
        said = [line for line in ended.output.splitlines() if line.strip()]
        if ended.timed_out or ended.status:
            how = f"took longer than {INSTALL_LIMIT:.0f} s" if ended.timed_out else f"status {ended.status}"
            telling = [line for line in said if line.startswith("ERROR")] or said or [how]
            raise ExecuteError(printable(telling[-1]))
        return said[-1] if said else ""

    call(sys.executable, "-I", "-m", "venv", str(folder))
    # What is installed here comes after: the tools, and what did not change.
    python = str(programs / ("python.exe" if os.name == "nt" else "python"))
    borrowed = dict.fromkeys(sysconfig.get_paths()[key] for key in ("purelib", "platlib"))
    here = [path for path in sys.path if path and Path(path).is_dir() and "site-packages" in path] or list(borrowed)
    own = call(python, "-I", "-c", "import sysconfig; print(sysconfig.get_paths()['purelib'])")
    Path(own, "tracetriage_borrowed.pth").write_text(
        "".join(f"import site; site.addsitedir({path!r})\n" for path in here), encoding="utf-8"
    )
    listed = folder / "asked.txt"
    listed.write_text("".join(f"{text}\n" for text in asked), encoding="utf-8")
    options = ["--disable-pip-version-check", "--no-input", "--quiet"]
    wanted = [part for file in (str(listed), *files) for part in ("-r", file)]
    call(python, "-I", "-m", "pip", "install", *options, *wanted)


def _asked(project: Path) -> tuple[list[str], list[str], list[str]]:
    """Return requirements, files of them, and the names of files that say it in a way that is not read."""
    files = sorted(path.name for path in project.glob("requirements*.txt"))
    declared: Mapping[str, Any] = read_pyproject(project)
    table = declared.get("project", {})
    asked = [*table.get("dependencies", ())]
    for place in (table.get("optional-dependencies", {}), declared.get("dependency-groups", {})):
        for group in GROUPS:
            asked += [text for text in place.get(group, ()) if isinstance(text, str)]
    unread = [name for name in ("setup.py", "setup.cfg", "Pipfile") if (project / name).is_file() and not asked]
    return list(dict.fromkeys(asked)), files, unread
