"""What coverage.py has recorded, as a map: of a run of ours, or of any run with node ids as contexts.

Its data files are read by their documented tables: coverage itself need not be installed for that.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from pytest_tracetriage.capture.contexts import DATA_SUFFIX, USES_SUFFIX
from pytest_tracetriage.capture.coverage import BORROWED_SUFFIX, CONTEXT, FOLDER, TROUBLE_SUFFIX
from pytest_tracetriage.collect.formats import lines, open_source
from pytest_tracetriage.collect.functions import bodies_of
from pytest_tracetriage.config import find_rootdir
from pytest_tracetriage.model.execution import CoverageMap, Element
from pytest_tracetriage.origin import Project
from pytest_tracetriage.store.coverage import GREEN_FILE, RED_FILE, write_map
from pytest_tracetriage.store.runs import StoreError, read_run

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping

    from pytest_tracetriage.collect.functions import Body
    from pytest_tracetriage.model.execution import Function

FAILED = frozenset({"failed", "error", "timeout", "crashed", "stuck"})
_MANY = 5
"""Tests of which at least two share a line of code, unless sys.monitoring has recorded them."""

Executed = dict[str, dict[int, set[str]]]
"""By file, and by lines as a set (bit n stands for line n): the contexts that ran exactly these lines of it."""


class CoverageError(Exception):
    """Coverage data that no map can be made of; the text says what, where, and what to do."""


@dataclass(frozen=True)
class Recorded:
    """What the tests of a run have run: those that passed, those that failed. `problems` says in lines what is missing."""

    green: CoverageMap | None
    red: CoverageMap | None
    problems: tuple[str, ...] = ()


class _Ended(msgspec.Struct, frozen=True):
    """As much of a trace as matters here."""

    id: str
    nodeid: str
    outcome: str
    attempt: int = 1
    rerun: bool = False
    subtest: str = ""


_ended = msgspec.json.Decoder(_Ended).decode
_used = msgspec.json.Decoder(tuple[str, list[str]]).decode


def read_coverage_data(path: Path, root: Path | None = None, redact: Callable[[str], str] = str) -> CoverageMap:
    """Return the map that a data file of coverage.py holds, as of a green run with `--cov-context=test`.

    `root` is the root of the project, by default that around the file. Raises CoverageError.
    """
    executed: Executed = {}
    try:
        _read(path, executed, redact)
    except (sqlite3.Error, OSError) as error:
        raise CoverageError(f"{path}: no data file of coverage that can be read: {error}") from None
    members: dict[str, set[str]] = {}
    for context in {context for sets in executed.values() for contexts in sets.values() for context in contexts}:
        if (found := CONTEXT.search(context)) and found["test"]:
            members[context] = {found["test"]}
    if not members:
        raise CoverageError(f"{path}: it does not say which test ran a line: record it by pytest --cov --cov-context=test")
    tests = set().union(*members.values())
    coverage, problems = _map_of(executed, members, tests, tests, Project(str(root or find_rootdir(path.parent.absolute()))))
    if not coverage.elements:
        raise CoverageError(f"{path}: no function of the project is in it" + "".join(f"; {problem}" for problem in problems))
    if len(tests) >= _MANY and not any(_several(element.tests) for element in coverage.elements):
        raise CoverageError(
            f"{path}: each line is credited to one test only, as sys.monitoring does: record it again with COVERAGE_CORE=ctrace"
        )
    return msgspec.structs.replace(coverage, source="pytest-cov")


def collect_coverage(folder: Path, project: Project) -> Recorded:
    """Return what the processes of a run have recorded, those too that died. Nothing is removed."""
    executed: Executed = {}
    problems: dict[str, None] = {}
    members: dict[str, set[str]] = {}
    borrowed = False
    for path in sorted((folder / FOLDER).glob("*")):
        try:
            if path.suffix == TROUBLE_SUFFIX:
                problems.setdefault(f"coverage was not recorded: {path.read_text(encoding='utf-8')}")
            elif path.suffix == USES_SUFFIX:
                _read_uses(path, members)
            elif path.suffix in {BORROWED_SUFFIX, DATA_SUFFIX}:
                borrowed |= path.suffix == BORROWED_SUFFIX
                _read(path, executed)
        except (OSError, ValueError, sqlite3.Error) as error:
            problems.setdefault(f"coverage of {path.name} cannot be read: {error}")
    if not executed:
        return Recorded(None, None, tuple(problems))
    last, contexts = _read_traces(folder)
    everyone = _resolved(executed, members, contexts)
    maps: list[CoverageMap | None] = []
    for wanted in ({"passed"}, FAILED):
        tests = {nodeid for nodeid, outcomes in last.items() if outcomes <= wanted or (wanted is FAILED and outcomes & FAILED)}
        coverage, more = _map_of(executed, everyone, tests, last.keys(), project) if tests else (None, [])
        problems.update(dict.fromkeys(more))
        maps.append(coverage)
    try:
        commit = read_run(folder).context.git.commit
    except StoreError:
        commit = ""
    source = "pytest-cov" if borrowed else "tracetriage"
    green, red = (
        coverage and msgspec.structs.replace(coverage, commit=commit, run=folder.name, source=source) for coverage in maps
    )
    return Recorded(green, red, tuple(problems))


def keep_coverage(folder: Path, project: Project) -> tuple[str, ...]:
    """Write the maps of a run into its folder, and remove what they were made of; return what is missing, in lines.

    Raises OSError.
    """
    recorded = collect_coverage(folder, project)
    for coverage, name in ((recorded.green, GREEN_FILE), (recorded.red, RED_FILE)):
        if coverage is not None:
            write_map(folder, coverage, name)
    shutil.rmtree(folder / FOLDER, ignore_errors=True)
    return recorded.problems


def _read(path: Path, executed: Executed, redact: Callable[[str], str] = str) -> None:
    """Add the lines of a data file. Raises sqlite3.Error, OSError."""
    if not path.is_file():
        raise FileNotFoundError("no such file")
    with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as data:
        files = dict(data.execute("SELECT id, path FROM file"))
        contexts = {number: redact(name) for number, name in data.execute("SELECT id, context FROM context")}
        arcs: dict[tuple[int, int], int] = {}
        for file, context, begin, end in data.execute("SELECT file_id, context_id, fromno, tono FROM arc"):
            numbers = 1 << max(0, begin) | 1 << max(0, end)
            arcs[file, context] = arcs.get((file, context), 0) | numbers
        rows = [(file, context, numbers & ~1) for (file, context), numbers in arcs.items()]
        for file, context, bits in data.execute("SELECT file_id, context_id, numbits FROM line_bits"):
            rows.append((file, context, int.from_bytes(bits, "little")))
    for file, context, numbers in rows:
        if file in files and contexts.get(context):
            executed.setdefault(files[file], {}).setdefault(numbers, set()).add(contexts[context])


def _read_uses(path: Path, users: dict[str, set[str]]) -> None:
    """Add, for each context of a fixture, the contexts of the tests that used it."""
    for line in path.read_bytes().splitlines():
        try:
            context, fixtures = _used(line)
        except msgspec.MsgspecError:  # cut off by the death of its process
            continue
        for fixture in fixtures:
            users.setdefault(fixture, set()).add(context)


def _read_traces(folder: Path) -> tuple[dict[str, set[str]], dict[str, str]]:
    """Return how each test ended, on each worker that ran it, and the test of each context of a last attempt."""
    outcomes: dict[str, set[str]] = {}
    contexts: dict[str, str] = {}
    for path in sorted((folder / "traces").glob("*.jsonl*")):
        before: dict[str, str] = {}
        with open_source(path) as file:
            for _, line in lines(file):
                if line is None or not line.startswith(b'{"record":"trace"'):
                    continue
                try:
                    trace = _ended(line)
                except (msgspec.MsgspecError, RecursionError):
                    continue
                if trace.subtest:
                    continue
                if not trace.rerun:
                    follows = trace.attempt > 1 and before.get(trace.nodeid)
                    contexts[f"{follows}+" if follows else trace.id] = trace.nodeid
                    outcomes.setdefault(trace.nodeid, set()).add(trace.outcome)
                before[trace.nodeid] = trace.id
    return outcomes, contexts


def _resolved(executed: Executed, users: Mapping[str, set[str]], traces: Mapping[str, str]) -> dict[str, set[str]]:
    """Return the node ids that each context counts for."""

    def test(context: str) -> set[str]:
        if context in traces:
            return {traces[context]}
        found = CONTEXT.search(context)
        return {found["test"]} if found and found["test"] else set()

    members = {}
    for context in {context for sets in executed.values() for contexts in sets.values() for context in contexts}:
        found = CONTEXT.search(context)
        if found and found["fixture"]:
            members[context] = {nodeid for user in users.get(found["fixture"], ()) for nodeid in test(user)}
        else:
            members[context] = test(context)
    return members


def _map_of(
    executed: Executed, members: Mapping[str, set[str]], wanted: set[str], known: Collection[str], project: Project
) -> tuple[CoverageMap, list[str]]:
    """Return the map of the tests that are wanted, and in lines what is missing from it. `known` are all tests."""
    tests = sorted(wanted & set().union(*members.values()))
    number = {nodeid: place for place, nodeid in enumerate(tests)}
    numbers_of = {context: [number[one] for one in nodeids if one in number] for context, nodeids in members.items()}
    size = (len(tests) + 7) // 8
    own = {_definition(nodeid) for nodeid in known}
    found: list[tuple[Function, dict[int, list[int]]]] = []
    problems = []
    for name, file, path in sorted(_project_files(executed, project)):
        run: dict[int, int] = {}
        for numbers, contexts in executed[path].items():
            if by := _set_of(size, (numbers_of.get(context, ()) for context in contexts)):
                run[numbers] = by
        if run:
            try:
                bodies = bodies_of(name, Path(file).read_bytes())
            except (OSError, ValueError) as error:
                problems.append(f"no coverage of {name}, which cannot be read: {error}")
                continue
            found += [
                (body.function, by_tests)
                for body in bodies
                if (name, body.function.name.partition(".<locals>.")[0]) not in own and (by_tests := _by_tests(body, run))
            ]
    elements = [
        Element(index, tuple(numbers), by.to_bytes(size, "little"))
        for index, (_, by_tests) in enumerate(found)
        for by, numbers in sorted(by_tests.items(), key=lambda item: item[1])
    ]
    return CoverageMap(tuple(tests), tuple(function for function, _ in found), tuple(elements)), problems


def _project_files(executed: Executed, project: Project) -> Iterator[tuple[str, str, str]]:
    """Yield for each file of the project its name, where it lies, and what it is called in the data."""
    real = os.path.realpath(project.root).replace("\\", "/") + "/"
    for path in executed:
        inside = path.replace("\\", "/").removeprefix(real)  # coverage resolves links, pytest does not
        whole = str(Path(project.root, inside))
        name, origin = project.locate(whole)
        if origin in {"app", "test"} and not Path(name).is_absolute():
            yield name, whole, path


def _by_tests(body: Body, run: Mapping[int, int]) -> dict[int, list[int]]:
    """Return the lines of a function by the tests that run them."""
    ways: dict[int, int] = {}
    for numbers, by in run.items():
        if inside := numbers & body.lines:
            ways[inside] = ways.get(inside, 0) | by
    tests: dict[int, int] = {}
    for inside, by in ways.items():
        left = inside
        while left:
            line = left.bit_length() - 1
            tests[line] = tests.get(line, 0) | by
            left ^= 1 << line
    found: dict[int, list[int]] = {}
    for line in sorted(tests):
        found.setdefault(tests[line], []).append(line)
    return found


def _definition(nodeid: str) -> tuple[str, str]:
    """Return the file and the qualified name of a test's own function: it is run by that test alone, and says nothing."""
    file, *names = nodeid.partition("[")[0].split("::")
    return file, ".".join(names).partition("@")[0]


def _set_of(size: int, several: Iterable[Iterable[int]]) -> int:
    """Return numbers as a set of `size` bytes: bit n stands for n."""
    held = bytearray(size)
    for numbers in several:
        for number in numbers:
            held[number >> 3] |= 1 << (number & 7)
    return int.from_bytes(held, "little")


def _several(tests: bytes) -> bool:
    held = int.from_bytes(tests, "little")
    return bool(held & (held - 1))
