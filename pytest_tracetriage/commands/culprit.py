"""`tracetriage culprit`: the commit that broke each cluster, or what drifted where none did."""

from __future__ import annotations

import os
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec

from pytest_tracetriage.capture.context import observe as observe_context
from pytest_tracetriage.collect.condense import environment
from pytest_tracetriage.commands.kept import green_before, kept_runs, latest_red
from pytest_tracetriage.commands.mapping import with_executed
from pytest_tracetriage.commands.output import emit, styled, wants_colour, width
from pytest_tracetriage.commands.project import load_extensions, open_project
from pytest_tracetriage.commands.rerunning import progress_bar, pytest_words
from pytest_tracetriage.commands.witnesses import drift_of, targets_of
from pytest_tracetriage.diagnose.commits import Repository, UnsearchableError
from pytest_tracetriage.diagnose.culprit import Target, culprit, descended, joined, search
from pytest_tracetriage.diagnose.search import answer
from pytest_tracetriage.diagnose.visits import Visits, Where
from pytest_tracetriage.execute.claims import ExecuteError, cache_folder, tidy
from pytest_tracetriage.model.diagnosis import Culprit, Search
from pytest_tracetriage.redact import Redactor, environment_secrets, folder_key, redact_by
from pytest_tracetriage.report.diagnosis import search_lines
from pytest_tracetriage.report.text import plural

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pytest_tracetriage.commands.kept import Kept
    from pytest_tracetriage.config import Settings
    from pytest_tracetriage.diagnose.commits import Commit
    from pytest_tracetriage.diagnose.culprit import Searched
    from pytest_tracetriage.diagnose.search import Line


@click.command("culprit")
@click.option("--good", metavar="REF", help="where the tests passed (default: the commit of the latest green run kept)")
@click.option("--bad", metavar="REF", help="where they fail (default: the commit of the latest red run, else HEAD)")
@click.option("--run", "run", metavar="RUN", help="the run whose clusters are searched (default: the latest red one)")
@click.option("--cluster", "clusters", metavar="CLUSTER", multiple=True, help="only this cluster; may be repeated")
@click.option("--test", "tests", metavar="NODEID", multiple=True, help="search this test instead of a run's clusters")
@click.option("--pytest", "pytest", metavar="COMMAND", help="how the project runs its tests (default: the setting `pytest`)")
@click.option(
    "--confidence", type=click.FloatRange(0.5, 0.999), default=0.95, show_default=True, help="when a cluster is decided"
)
@click.option(
    "--flake-rate",
    metavar="SHARE",
    type=click.FloatRange(0.0, 1.0, min_open=True, max_open=True),
    help="how often a flaky cluster fails, where you know it (default: it is estimated)",
)
@click.option("--budget", metavar="MINUTES", type=click.FloatRange(min=0.0, min_open=True), default=30.0, show_default=True)
@click.option(
    "--timeout", metavar="SECONDS", type=click.FloatRange(min=1.0), default=300.0, show_default=True, help="of one process"
)
@click.option("--first-parent", is_flag=True, help="name a merge, and not the commit of its branch")
@click.option("--install", is_flag=True, help="install dependencies that differ, in an environment of their own (uses pip)")
@click.option("--no-cache", is_flag=True, help="use no results of earlier searches, and leave none")
@click.option("--format", "style", type=click.Choice(["terminal", "json"]), default="terminal", show_default=True)
@click.option("--output", type=click.Path(path_type=Path, dir_okay=False), help="write to a file instead of the terminal")
def command(
    good: str | None,
    bad: str | None,
    run: str | None,
    clusters: tuple[str, ...],
    tests: tuple[str, ...],
    pytest: str | None,
    confidence: float,
    flake_rate: float | None,
    budget: float,
    timeout: float,
    first_parent: bool,
    install: bool,
    no_cache: bool,
    style: str,
    output: Path | None,
) -> int:
    """Find the commit that broke each cluster of the latest red run, or what drifted where none did.

    All clusters are searched at once, in a worktree outside of the project: your files, index and branches stay as they are.
    A flaky cluster is run again until its commit is as certain as --confidence asks, or the budget is spent.
    """
    deadline = time.monotonic() + 60 * budget
    settings = open_project()
    words = pytest_words(pytest, settings)
    if tests and (clusters or run):
        raise click.UsageError("--test stands for itself: leave out --run and --cluster")
    where = Where(
        project=settings.rootdir,
        folder=settings.folder,
        cache=cache_folder(),
        environment=environment(observe_context(settings.rootdir, {}, "")),
        command=words,
        prepare=settings.prepare,
        timeout=timeout,
        install=install,
        remember=not no_cache,
    )
    redact = Redactor(folder_key(settings.folder), environment_secrets(os.environ), redact_by(load_extensions(settings)))
    try:
        ends = _ends(settings, good, bad, run, of_tests=bool(tests))
        tidy(where.cache)
        with closing(Visits(where, ends.repository, deadline)) as visits:
            visits.here(ends.bad)
            hunt = _Hunt(settings, ends, visits, confidence, flake_rate, first_parent, deadline)
            found = hunt.found(clusters, tests)
    except (UnsearchableError, ExecuteError) as error:
        raise click.UsageError(redact(str(error))) from None
    found = redact.struct(found, Search)
    if style == "json":
        emit(msgspec.json.format(msgspec.json.encode(found)) + b"\n", output)
    else:
        emit(styled(search_lines(found, width()), colour=output is None and wants_colour()), output)
    return 1 if found.culprits else 0


@dataclass(frozen=True)
class _Ends:
    """Between which commits is searched, and the runs that are kept; `red` is the one whose clusters are."""

    repository: Repository
    kept: Sequence[Kept]
    red: Kept | None
    good: str
    bad: str


def _ends(settings: Settings, good: str | None, bad: str | None, run: str | None, *, of_tests: bool) -> _Ends:
    """Return where a search begins and ends. Raises UnsearchableError, click.UsageError."""
    repository = Repository(settings.rootdir)
    kept = kept_runs(settings.folder)
    red = None if of_tests else latest_red(kept, run)
    if red is not None and not red.red:
        raise click.UsageError(f"run {red.run.id} has no cluster: nothing is to be searched")
    last = repository.resolve(bad or (red.run.context.git.commit if red else "") or "HEAD")
    return _Ends(repository, kept, red, _good(repository, good, last, kept, red), last)


def _good(repository: Repository, good: str | None, bad: str, kept: Sequence[Kept], red: Kept | None) -> str:
    if good is not None:
        return repository.resolve(good)
    for item in reversed(green_before(kept, red)):
        commit = item.run.context.git.commit
        try:
            commit = repository.resolve(commit)
        except UnsearchableError:
            continue
        if repository.is_ancestor(commit, bad):
            return commit
    raise UnsearchableError("no green run of an ancestor is kept: name a commit where the tests passed, --good REF")


def _check(red: Kept, bad: str, problems: dict[str, None]) -> None:
    git = red.run.context.git
    if git.commit and git.commit != bad:
        problems[f"run {red.run.id} was of {git.commit[:12]}, and its clusters are searched in {bad[:12]}"] = None
    if git.dirty:
        problems[f"run {red.run.id} had changes that are not committed: only commits are searched"] = None


def _recorded(visits: Visits, repository: Repository, bad: str) -> list[Target]:
    """Return the clusters of a run of the whole suite at the bad end. Raises ExecuteError, UnsearchableError."""
    told = visits.suite(repository.commit(bad))
    if told is None:
        return []
    if told.void:
        raise ExecuteError(f"the suite cannot be run at {bad[:12]}: {told.void}")
    found = kept_runs(Path(told.folder).parent.parent)
    return targets_of(found, found[-1], (), bad) if found and found[-1].analysis else []


class _Hunt:
    """One search, and those in the branches of the merges that it finds."""

    def __init__(
        self,
        settings: Settings,
        ends: _Ends,
        visits: Visits,
        confidence: float,
        flake_rate: float | None,
        first_parent: bool,
        deadline: float,
    ) -> None:
        self._settings = settings
        self._ends = ends
        self._deadline = deadline
        self._repository = repository = ends.repository
        self._visits = visits
        self._confidence = confidence
        self._flake_rate = flake_rate
        self._first_parent = first_parent
        inside = settings.rootdir.resolve().relative_to(repository.top).as_posix()
        self._prefix = "" if inside == "." else f"{inside}/"
        self.commits = 0
        self.problems: dict[str, None] = {}

    def found(self, clusters: Sequence[str], tests: Sequence[str]) -> Search:
        """Return what became of each of these clusters (none: of all), or tests. Raises UnsearchableError, ExecuteError."""
        ends, settings = self._ends, self._settings
        problems: dict[str, None] = {}
        if tests:
            targets = [Target(test, test, test, (test,)) for test in tests]
        elif ends.red is not None:
            targets = targets_of(ends.kept, ends.red, clusters, ends.bad)
            targets = with_executed(targets, settings, ends.kept, problems)
            _check(ends.red, ends.bad, problems)
        else:
            targets = _recorded(self._visits, ends.repository, ends.bad)
        culprits = self.all(targets, ends.good, ends.bad) if targets else []
        return Search(
            good=ends.good,
            bad=ends.bad,
            commits=self.commits,
            wanted=self._confidence,
            culprits=tuple(_with_drift(item, ends.kept, settings, problems) for item in joined(culprits)),
            executions=self._visits.executions,
            problems=(*problems, *self._visits.problems, *self.problems),
        )

    def all(self, targets: Sequence[Target], good: str, bad: str) -> list[Culprit]:
        """Return the culprit of each target. Raises UnsearchableError."""
        if good == bad:
            return [Culprit(target.cluster, target.name, target.tests, "nothing committed", "", 1.0, ()) for target in targets]
        line = self._repository.line(good, bad)
        if line[0].id != good:
            self.problems[
                f"{good[:12]} is not on the line of {bad[:12]}: searched from {line[0].id[:12]}, which both share"
            ] = None
        self.commits = len(line) - 1
        with progress_bar("searching", self._deadline) as bar:
            searched = self._search(targets, line, self._told(bar))
            self._say_void(searched)
            found = {target.key: culprit(target, searched) for target in targets}
            if not self._first_parent:
                for merge, broken in self._merges(found, targets, line).items():
                    self._descend(broken, searched, self._repository.branch_of(line[merge]), found)
        return [found[target.key] for target in targets]

    def _told(self, bar: Callable[[str, int, int], None]) -> Callable[[Mapping[str, Line]], None]:
        processes = 0

        def told(lines: Mapping[str, Line]) -> None:
            nonlocal processes
            processes += 1
            decided = sum(answer(line, self._confidence).finding != "undecided" for line in lines.values())
            bar(f"{plural(processes, 'test process', 'test processes')}, clusters", decided, len(lines))

        return told

    def _search(
        self,
        targets: Sequence[Target],
        line: Sequence[Commit],
        told: Callable[[Mapping[str, Line]], None],
        begun: Mapping[str, Line] | None = None,
    ) -> Searched:
        return search(
            targets,
            self._repository.with_changes(line) if begun is None else line,
            self._visits.observe,
            confidence=self._confidence,
            prefix=self._prefix,
            begun=begun,
            flaky=self._flake_rate,
            progress=told,
        )

    def _merges(
        self, found: Mapping[str, Culprit], targets: Sequence[Target], line: Sequence[Commit]
    ) -> dict[int, list[Target]]:
        places = {commit.id: number for number, commit in enumerate(line)}
        merges: dict[int, list[Target]] = {}
        for target in targets:
            number = places.get(found[target.key].commit, 0)
            if number and len(line[number].parents) == 2:
                merges.setdefault(number, []).append(target)
        return merges

    def _descend(self, targets: Sequence[Target], outer: Searched, branch: Sequence[Commit], found: dict[str, Culprit]) -> None:
        if len(branch) < 3:
            return
        changed = self._repository.with_changes(branch)
        begun = {target.key: descended(outer, target, changed, self._prefix) for target in targets}
        inner = self._search(targets, changed, lambda _: None, begun)
        for target in targets:
            named = culprit(target, inner, found[target.key])
            found[target.key] = named
        for merge, broken in self._merges(found, targets, changed[:-1]).items():
            self._descend(broken, inner, self._repository.branch_of(changed[merge]), found)

    def _say_void(self, searched: Searched) -> None:
        for position, why in list(searched.void.items())[:3]:
            self.problems[f"{searched.commits[position].id[:12]} was skipped: {why}"] = None
        if len(searched.void) > 3:
            self.problems[f"{len(searched.void) - 3} more commits were skipped"] = None


def _with_drift(item: Culprit, kept: Sequence[Kept], settings: Settings, problems: dict[str, None]) -> Culprit:
    if item.finding in {"commit", "commits"}:
        return item
    found = drift_of(kept, item.cluster, settings.rootdir)
    if found is None:
        if item.finding != "undecided":
            problems["no kept run shows such a cluster green: what drifted since cannot be told"] = None
        return item
    return msgspec.structs.replace(item, evidence=(*item.evidence, *found.evidence), drift=found.drift)
