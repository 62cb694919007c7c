"""What a pytest in a worktree sees: its environment, where its modules come from, and whether they did."""

from __future__ import annotations

import os
import sys
import sysconfig
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_tracetriage.execute.claims import MARK

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from pytest_tracetriage.execute.worktree import Worktree

# Inside a git hook these lead into the user's repository; the others belong to the pytest, or to the step of a CI job, that
# started us.
_TAKEN_AWAY = (
    "GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY", "GIT_ALTERNATE_OBJECT_DIRECTORIES", "GIT_COMMON_DIR",
    "GIT_PREFIX", "GIT_NAMESPACE", "PYTEST_CURRENT_TEST", "PYTEST_VERSION", "PYTEST_XDIST_WORKER", "PYTEST_XDIST_WORKER_COUNT",
    "PYTEST_XDIST_TESTRUNUID", "COV_CORE_SOURCE", "COV_CORE_CONFIG", "COV_CORE_DATAFILE", "COV_CORE_CONTEXT", "COVERAGE_FILE",
    "COVERAGE_PROCESS_START", "COVERAGE_PROCESS_CONFIG", "GITHUB_STEP_SUMMARY", "GITHUB_OUTPUT", "GITHUB_ENV", "GITHUB_PATH",
    "GITHUB_STATE", "OLDPWD",
)  # fmt: skip
_INSTALLED = frozenset({"site-packages", "dist-packages"})


def subprocess_environment(worktree: Worktree, scratch: Path, environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return the environment of a command in a worktree: as `environ`, but with nothing in it that leads to the user's tree.

    `scratch` is the folder for what TraceTriage and pytest write.
    """
    kept = {name: value for name, value in environ.items() if name not in _TAKEN_AWAY and not name.startswith("TRACETRIAGE")}
    named = [path for path in environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    carried = [moved(path, worktree.original, worktree.root) or path for path in named]
    roots = source_roots(worktree)
    return {
        **kept,
        "PYTHONPATH": os.pathsep.join(dict.fromkeys((*roots, *carried))),
        "PYTEST_DEBUG_TEMPROOT": str(scratch),
        "PWD": str(worktree.project),
        "TRACETRIAGE_DIR": str(scratch / "tracetriage"),
        MARK: str(worktree.folder),
    }


def source_roots(worktree: Worktree) -> list[str]:
    """Return the folders of a worktree that modules are imported from, the first counts.

    Those are the counterparts of what is imported from the user's tree here (editable installs, paths), `src`, and the project.
    """
    named = [entry for path in (*sys.path, *_editable_roots()) if (entry := moved(path, worktree.original, worktree.root))]
    usual = [str(worktree.project / "src"), str(worktree.project)]
    first = [entry for entry in named if entry not in usual]
    return [path for path in dict.fromkeys((*first, *usual)) if os.path.isdir(path)]


def moved(path: str, original: Path, tree: Path) -> str:
    """Return the counterpart in `tree` of a path in the user's tree, "" for one that lies elsewhere or is installed."""
    if not os.path.isabs(path):
        return ""
    for spelled in dict.fromkeys((os.path.normpath(path), os.path.realpath(path))):
        found = Path(spelled)
        if found.is_relative_to(tree):
            return ""
        if found.is_relative_to(original) and not _is_installed(found, original):
            return str(tree / found.relative_to(original))
    return ""


def _is_installed(path: Path, original: Path) -> bool:
    """Return whether a path is of what is installed, in the user's tree too: pip checks dependencies out into environments."""
    prefix = Path(sys.prefix)
    inner = path.relative_to(original) if path.is_relative_to(original) else path
    return bool(_INSTALLED & set(inner.parts)) or (prefix.is_relative_to(original) and path.is_relative_to(prefix))


def lead_into(tree: Path, original: Path) -> None:
    """Make this process import from the worktree what it would import from the user's tree. Called before anything is."""
    sys.path[:] = [moved(path, original, tree) or path for path in sys.path]
    for mapping in _editable_mappings():
        for name, path in list(mapping.items()):
            if isinstance(path, str) and (there := moved(path, original, tree)):
                mapping[name] = there


def _editable_mappings() -> Iterator[dict[str, Any]]:
    """Yield the tables of the finders that setuptools and `editables` install: module name -> where it lies."""
    for finder in sys.meta_path:
        module = sys.modules.get(getattr(finder, "__module__", ""))
        for found in (getattr(module, "MAPPING", None), getattr(finder, "_redirections", None)):
            if isinstance(found, dict):
                yield found


def _editable_roots() -> list[str]:
    roots = []
    for mapping in _editable_mappings():
        for name, path in mapping.items():
            place = Path(str(path))
            place = place.parent if place.name == "__init__.py" else place
            parts = str(name).split(".")
            if place.with_suffix("").parts[-len(parts) :] == tuple(parts):
                roots.append(str(place.parents[len(parts) - 1]))
    return roots


def modules_from_elsewhere(
    files: Mapping[str, str], *, tree: Path, original: Path, roots: Iterable[str]
) -> list[tuple[str, str]]:
    """Return the modules of the project, with their files, that were loaded from outside of the worktree.

    `files` are the modules of a process by name. One from the user's tree is such a module, and one from anywhere that the
    worktree has too: an installed copy of the project.
    """
    trees = _prefixes(tree)
    originals = _prefixes(original)
    libraries = tuple(f"{sysconfig.get_paths()[key]}{os.sep}" for key in ("stdlib", "platstdlib"))
    tops = {entry.partition(".")[0] for root in roots for entry in _entries(root)}
    found = []
    for name, file in files.items():
        if file.startswith(trees) or not os.path.isabs(file):
            continue
        installed = _is_installed(Path(file), original)
        if file.startswith(originals) and not installed:
            if not os.path.realpath(file).startswith(trees):
                found.append((name, file))
        elif name.partition(".")[0] in tops and (installed or not file.startswith(libraries)):
            inner = name.replace(".", os.sep)
            inner = f"{inner}{os.sep}__init__" if Path(file).stem == "__init__" else inner
            if any(os.path.isfile(f"{root}{os.sep}{inner}.py") for root in roots) and not os.path.realpath(file).startswith(
                trees
            ):
                found.append((name, file))
    return sorted(found)


def _prefixes(folder: Path) -> tuple[str, ...]:
    return tuple({f"{folder}{os.sep}", f"{os.path.realpath(folder)}{os.sep}"})


def _entries(root: str) -> list[str]:
    try:
        return os.listdir(root)
    except OSError:
        return []
