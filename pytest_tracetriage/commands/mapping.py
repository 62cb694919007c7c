"""The coverage map that a command works on: one that was kept, one that the project made, or one that is recorded now."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec.structs import replace

from pytest_tracetriage.collect.coverage import CoverageError, collect_coverage, read_coverage_data
from pytest_tracetriage.collect.functions import bodies_of, merge_maps, stale_functions
from pytest_tracetriage.commands.kept import green_before, open_past
from pytest_tracetriage.commands.rerunning import worktree_of
from pytest_tracetriage.config import find_rootdir
from pytest_tracetriage.diagnose.commits import changed_by
from pytest_tracetriage.execute.claims import ExecuteError
from pytest_tracetriage.origin import Project
from pytest_tracetriage.store.coverage import GREEN_FILE, RED_FILE, read_map, write_map
from pytest_tracetriage.store.history import HistoryError
from pytest_tracetriage.store.history.git_plumbing import Git, GitError, git_environment
from pytest_tracetriage.store.runs import StoreError
from pytest_tracetriage.triage.spectrum import Spectrum, executed

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

    from pytest_tracetriage.collect.runs import Attempt
    from pytest_tracetriage.commands.kept import Kept
    from pytest_tracetriage.commands.rerunning import Budget
    from pytest_tracetriage.config import Settings
    from pytest_tracetriage.diagnose.culprit import Target
    from pytest_tracetriage.model.execution import CoverageMap, TestRun

BASE_FILE = "coverage-base.map"
"""In a red run's folder: the green map that a diagnosis recorded for it."""
RED_RUN = "red run"
"""The source of a map for which no green run was to be had."""
ENOUGH = 0.5
"""The share of the failing tests that a map must know, else another one is looked for."""
SLOWER = 3.0
"""How many times longer a suite may take when its coverage is recorded."""
START = 15.0
"""Seconds that a pytest may take to start and to collect."""
MAPS = 5
"""How many coverage maps a search for culprits asks for what tests execute."""
SHARE = 0.6
"""Of the budget, what recording a map may take."""
_COMMITS = 5000


@dataclass(frozen=True)
class Asked:
    """What a map is looked for: a red run of a project. `line` are its commit and those before, None where nobody knows."""

    settings: Settings
    kept: Sequence[Kept]
    red: Kept
    line: Sequence[str] | None
    redact: Callable[[str], str]


def ancestors(settings: Settings, commit: str) -> list[str] | None:
    """Return a commit and those before it, the nearest first; None where that cannot be told."""
    if not commit:
        return None
    try:
        git = Git(("-C", str(settings.rootdir)), git_environment())
        return git.run("rev-list", f"--max-count={_COMMITS}", commit, "--").split()
    except (GitError, HistoryError):
        return None


def stored_map(asked: Asked, failing: Collection[str], problems: dict[str, None]) -> CoverageMap | None:
    """Return the newest map that knows enough of the failing tests, else the one that knows most of them, if any does."""
    best: CoverageMap | None = None
    known = 0
    for find in (_of_runs, _of_history, _of_project):
        for coverage in find(asked, problems):
            knows = len(set(coverage.tests).intersection(failing))
            if knows > known:
                best, known = coverage, knows
            if best is coverage and knows_enough(coverage, failing):
                return best
    return best


def knows_enough(coverage: CoverageMap, failing: Collection[str]) -> bool:
    """Return whether a map knows so many of the failing tests that no other is needed."""
    return len(set(coverage.tests).intersection(failing)) >= ENOUGH * len(failing)


def _of_runs(asked: Asked, problems: dict[str, None]) -> list[CoverageMap]:
    """Return the maps of kept runs, newest first; what an earlier diagnosis recorded for the run is the newest."""
    places = [(asked.red.folder, BASE_FILE)]
    for item in reversed(asked.kept):
        commit = item.run.context.git.commit
        if item.run.id < asked.red.run.id and (asked.line is None or not commit or commit in asked.line):
            places.append((item.folder, GREEN_FILE))
    found = []
    for folder, name in places:
        try:
            coverage = read_map(folder, name)
        except StoreError as error:
            problems.setdefault(str(error))
            continue
        if coverage is not None:
            found.append(coverage)
    return found


def _of_history(asked: Asked, problems: dict[str, None]) -> list[CoverageMap]:
    found = _past(asked.settings, problems, asked.line)
    found = [coverage for coverage in found if not coverage.run or coverage.run < asked.red.run.id]
    return [merge_maps(found)] if len(found) > 1 else found


def _past(settings: Settings, problems: dict[str, None], line: Sequence[str] | None) -> list[CoverageMap]:
    try:
        history = open_past(settings, None)
        return history.maps(line) if history is not None else []
    except HistoryError as error:
        problems.setdefault(f"the history's coverage was not used: {error}")
        return []


def _of_project(asked: Asked, _: dict[str, None]) -> list[CoverageMap]:
    """Return what pytest-cov left, where it is from before the run and half of its functions are still what they were."""
    path = asked.settings.rootdir / ".coverage"
    try:
        if not path.is_file() or path.stat().st_mtime >= asked.red.run.started:
            return []
        coverage = read_coverage_data(path, asked.settings.rootdir, asked.redact)
    except (CoverageError, OSError):
        return []  # most have no contexts: nobody said they should
    stale = stale_functions(coverage, sources_of(asked.settings.rootdir, coverage))
    return [coverage] if 2 * len(stale) < len(coverage.functions) else []


def with_executed(
    targets: Sequence[Target], settings: Settings, kept: Sequence[Kept], problems: dict[str, None]
) -> list[Target]:
    """Return the targets with what their tests executed when they passed, by the newest map that knows them.

    The history is asked where no kept run knows all. A map that cannot be read is passed over.
    """
    wanted = {test for target in targets for test in target.tests}
    ran: dict[str, frozenset[tuple[str, str]]] = {}
    for coverage in islice(_maps(settings, kept, problems), MAPS):
        if wanted <= ran.keys():
            break
        found = executed(Spectrum(green=coverage), wanted - ran.keys())
        if found is None:
            continue
        for test, bit in found.bits.items():
            functions = (item.function for item in found.elements if item.failing & bit)
            # A commit is known by the outermost function that it changed.
            ran[test] = frozenset((function.file, function.name.partition(".<locals>.")[0]) for function in functions)
    return [
        replace(target, executed=frozenset().union(*(ran[test] for test in target.tests)))
        if ran.keys() >= set(target.tests)
        else target
        for target in targets
    ]


def _maps(settings: Settings, kept: Sequence[Kept], problems: dict[str, None]) -> Iterator[CoverageMap]:
    for item in reversed(kept):
        with suppress(StoreError):
            coverage = read_map(item.folder)
            if coverage is not None:
                yield coverage
    yield from _past(settings, problems, None)


def maps_of(done: TestRun, project: Path) -> tuple[CoverageMap | None, CoverageMap | None]:
    """Return the maps of tests that passed and of tests that failed in a run in a worktree, however it ended."""
    if not done.folder:
        return None, None
    folder = Path(done.folder)
    try:
        maps = read_map(folder, GREEN_FILE), read_map(folder, RED_FILE)
    except StoreError:
        return None, None
    if maps == (None, None):  # it did not come to its end
        recorded = collect_coverage(folder, Project(str(find_rootdir(project))))
        return recorded.green, recorded.red
    return maps


def stand_in(green: CoverageMap | None, red: CoverageMap | None) -> CoverageMap | None:
    """Return what stands for a green map where the failing tests were never green: what they run now.

    Left out is what only they run to show a value: pytest asks for it when an assertion has failed.
    """
    if red is None:
        return None
    merged = merge_maps([coverage for coverage in (green, red) if coverage is not None])
    failing = set(red.tests)
    passing = sum(1 << number for number, test in enumerate(merged.tests) if test not in failing)
    shows = {number for number, function in enumerate(merged.functions) if "repr" in function.name.rpartition(".")[2]}
    kept = tuple(
        element
        for element in merged.elements
        if element.function not in shows or int.from_bytes(element.tests, "little") & passing
    )
    return replace(merged, elements=kept, source=RED_RUN, commit="", run="")


def of_red_run(red: Kept, failed: CoverageMap | None, problems: dict[str, None]) -> CoverageMap | None:
    """Return what stands for a green map where the red run itself was recorded with coverage, `failed` its failing tests."""
    try:
        passing = read_map(red.folder, GREEN_FILE)
    except StoreError as error:
        problems.setdefault(str(error))
        return None
    return stand_in(passing, failed) if passing is not None else None


def neighbours(
    failing: Collection[str], attempts: Sequence[Attempt], seconds: float, problems: dict[str, None]
) -> list[str] | None:
    """Return the tests to record within so many seconds: all (None), else the failing ones, then those of their files."""
    if START + SLOWER * sum(attempt.seconds for attempt in attempts) <= seconds:
        return None
    files = {nodeid.partition("::")[0] for nodeid in failing}

    def distance(attempt: Attempt) -> int:
        return 0 if attempt.nodeid in failing else 1 if attempt.nodeid.partition("::")[0] in files else 2

    chosen: set[str] = set()
    spent = START
    for attempt in sorted(attempts, key=distance):
        spent += SLOWER * attempt.seconds
        if spent <= seconds or not chosen:
            chosen.add(attempt.nodeid)
    problems.setdefault(f"the map knows {len(chosen)} of {len(attempts)} tests: recording all would not fit into the budget")
    return [attempt.nodeid for attempt in attempts if attempt.nodeid in chosen]


def base_commit(asked: Asked) -> str:
    """Return the commit to record a green map at: the newest green one, else where the branch began, "" for none."""
    git = asked.red.run.context.git
    places = {commit: number for number, commit in enumerate(asked.line or ())}
    green = [item.run.context.git for item in green_before(asked.kept, asked.red)]
    known = [one.commit for one in green if one.commit in places and not one.dirty]
    known = [commit for commit in known if commit != git.commit or git.dirty]
    if known:
        return min(known, key=lambda commit: places[commit])
    reading = Git(("-C", str(asked.settings.rootdir)), git_environment())
    for name in (f"origin/{git.base}", git.base) if git.base else ():
        try:
            base = reading.run("merge-base", git.commit, name).strip()
        except (GitError, HistoryError):
            continue
        if base != git.commit:
            return base
    return git.commit if git.dirty else ""


def recorded_at(
    asked: Asked, base: str, attempts: Sequence[Attempt], failing: Collection[str], budget: Budget
) -> CoverageMap | None:
    """Return the map of a run at an earlier commit, kept beside the red run; None where it knows none of the failing tests."""
    limit = SHARE * budget.left
    chosen = neighbours(failing, attempts, limit, budget.problems)
    try:
        with worktree_of(asked.settings, base, budget, dirty=False) as tree:
            done = budget.tests(tree, chosen, limit, f"recording coverage at {base[:8]}")
            coverage = maps_of(done, tree.project)[0] if done is not None else None
    except ExecuteError as error:
        budget.problems.setdefault(f"no coverage was recorded at {base[:8]}: {error}")
        return None
    if coverage is None or not set(coverage.tests).intersection(failing):
        return None
    coverage = replace(coverage, commit=base, run="", source="recorded")
    write_map(asked.red.folder, coverage, BASE_FILE)
    return coverage


# -- what changed since --------------------------------------------------------------------------------------------------


def sources_of(root: Path, coverage: CoverageMap) -> dict[str, bytes]:
    """Return the present content of the files that a map has functions of."""
    found = {}
    for name in dict.fromkeys(function.file for function in coverage.functions):
        try:
            found[name] = (root / name).read_bytes()
        except OSError:
            continue
    return found


def changes_since(
    coverage: CoverageMap, asked: Asked, root: Path
) -> tuple[dict[tuple[str, str], tuple[str, ...]], frozenset[tuple[str, str]]]:
    """Return the functions changed since a map, with the commits that changed them, and those that are gone.

    `root` is the project as it is red.
    """
    red = asked.red.run.context.git
    sources = sources_of(root, coverage)
    present: set[tuple[str, str]] = set()
    for name, source in sources.items():
        try:
            present |= {(name, body.function.name) for body in bodies_of(name, source)}
        except ValueError:
            continue
    stale = {(coverage.functions[index].file, coverage.functions[index].name) for index in stale_functions(coverage, sources)}
    by = _commits(asked.settings, coverage.commit, red.commit) if coverage.commit and red.commit else {}
    last = ("uncommitted changes",) if red.dirty else ()
    changes = {place: by.get(place) or last for place in stale & present}
    for place, commits in by.items():  # what is new is in no map
        changes.setdefault(place, commits)
    return changes, frozenset(stale - present)


def _commits(settings: Settings, old: str, new: str) -> Mapping[tuple[str, str], tuple[str, ...]]:
    git = Git(("-C", str(settings.rootdir)), git_environment())
    try:
        return changed_by(git, old, new, git.run("rev-parse", "--show-prefix").strip())
    except (GitError, HistoryError):
        return {}
