"""Tests run again for a diagnosis, within its budget and a worktree: alone, after others, and after ever fewer of them."""

from __future__ import annotations

import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from threading import Timer
from typing import TYPE_CHECKING

import click

from pytest_tracetriage.collect.runs import before
from pytest_tracetriage.diagnose.rerun import AFTER_POLLUTER, IN_CONTEXT, TIMES, Again, causes_among, ended
from pytest_tracetriage.execute.claims import ExecuteError, cache_folder
from pytest_tracetriage.execute.process import prepare, split_command
from pytest_tracetriage.execute.run import DEFAULT_COMMAND, run_orders, run_tests
from pytest_tracetriage.execute.worktree import checkout
from pytest_tracetriage.model.diagnosis import Reruns
from pytest_tracetriage.triage.signature import signature_id

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from pytest_tracetriage.collect.runs import Attempt
    from pytest_tracetriage.config import Settings
    from pytest_tracetriage.diagnose.rerun import Search, Subject, Tests
    from pytest_tracetriage.execute.worktree import Worktree
    from pytest_tracetriage.model.execution import Order, TestRun

PATIENCE = 20.0
"""Seconds that tests may take beyond ten times what they took in the run."""
SLOWER = 10
LEAST = 1.0
"""Seconds below which nothing is begun any more."""
UNTOLD = 2.0
"""Seconds after which a person wants to see how far it is."""


@dataclass
class Budget:
    """The time that is left, what was spent, and what could not be done."""

    deadline: float
    command: tuple[str, ...]
    told: Callable[[str, int, int], None]
    problems: dict[str, None] = field(default_factory=dict)
    spent: Reruns = field(default_factory=Reruns)

    @property
    def left(self) -> float:
        """Return the seconds that are left."""
        return self.deadline - time.monotonic()

    def orders(
        self, worktree: Worktree, orders: Sequence[Tests], seconds: Mapping[str, float], what: str, *, coverage: bool = False
    ) -> TestRun | None:
        """Run each list of tests in a fresh process; None, and a problem, where that could not be done."""
        longest = max((sum(seconds.get(test, 0.0) for test in order) for order in orders), default=0.0)
        arguments = ("--tracetriage-coverage",) if coverage else ()

        def run() -> TestRun:
            return run_orders(
                worktree,
                orders,
                sign=signature_id,
                timeout=self.left,
                order_timeout=min(self.left, SLOWER * longest + PATIENCE),
                command=self.command,
                arguments=arguments,
                progress=lambda done: self.told(what, done, len(orders)),
            )

        return self._done(run, what)

    def tests(self, worktree: Worktree, nodeids: Sequence[str] | None, timeout: float, what: str) -> TestRun | None:
        """Run tests once as collected, with coverage; None, and a problem, where that could not be done."""

        def run() -> TestRun:
            return run_tests(
                worktree,
                nodeids,
                sign=signature_id,
                timeout=min(timeout, self.left),
                command=self.command,
                arguments=("--tracetriage-coverage",),
            )

        self.told(what, 0, 1)
        return self._done(run, what)

    def _done(self, run: Callable[[], TestRun], what: str) -> TestRun | None:
        if self.left < LEAST:
            self.problems.setdefault(f"the budget was spent before {what}")
            return None
        try:
            done = run()
        except ExecuteError as error:
            self.problems.setdefault(f"{what}: {error}")
            return None
        spent = self.spent
        self.spent = Reruns(
            pytest_runs=spent.pytest_runs + 1,
            tests=spent.tests + len(done.executions),
            seconds=spent.seconds + done.seconds,
            cpu=spent.cpu + done.cpu,
            neutralised=tuple(dict.fromkeys((*spent.neutralised, *done.neutralised))),
        )
        if done.void:
            self.problems.setdefault(f"{what}: {done.void}")
            return None
        if done.timed_out:
            self.problems.setdefault(f"the budget was spent during {what}")
        self.problems.update(dict.fromkeys(f"{what}: {note}" for note in done.notes))
        return done


@contextmanager
def worktree_of(settings: Settings, commit: str, budget: Budget, *, dirty: bool) -> Iterator[Worktree]:
    """Yield a prepared worktree of a commit, "" for the one that is checked out. Raises ExecuteError."""
    built = bool(settings.prepare)
    cache, folder = cache_folder(), settings.folder
    with checkout(settings.rootdir, commit, dirty=dirty, cache=cache, folder=folder, take_ignored=not built) as tree:
        budget.problems.update(dict.fromkeys(tree.problems))
        if built:
            prepare(tree, settings.prepare, timeout=max(1.0, budget.left))
        yield tree


def alone(subjects: Sequence[Subject]) -> list[Tests]:
    """Return the orders that run each test alone, as often as that is done."""
    return [(subject.nodeid,) for subject in subjects for _ in range(TIMES)]


def with_alone(subjects: Sequence[Subject], orders: Sequence[Order]) -> list[Subject]:
    """Return the subjects with what became of them in the orders of `alone`."""
    rows = [orders[number * TIMES : (number + 1) * TIMES] for number in range(len(subjects))]
    return [replace(subject, alone=ended(subject, row)) for subject, row in zip(subjects, rows, strict=True)]


def in_context(
    budget: Budget,
    worktree: Worktree,
    subjects: Sequence[Subject],
    attempts: Sequence[Attempt],
    seconds: Mapping[str, float],
    *,
    ran_all: bool = False,
) -> list[Subject]:
    """Run those that pass alone after the tests that ran before them: those of their file first, then all; find polluters.

    Those of one file, and those of one process, run in one order, each in its place. `ran_all`: all has run in order already.
    """
    found = {subject.nodeid: subject for subject in subjects}
    place = {attempt.nodeid: number for number, attempt in enumerate(attempts)}
    causes: dict[str, Tests] = {}
    for near in (True, False):
        waiting = [one for one in found.values() if one.alone.never and one.nodeid in place and one.nodeid not in causes]
        if not near and ran_all:
            causes |= {one.nodeid: before(one.nodeid, attempts) for one in waiting if one.context.failed}
            break
        groups: dict[str, list[Subject]] = {}
        for subject in waiting:
            process = attempts[place[subject.nodeid]].process
            groups.setdefault(f"{process} {_file(subject.nodeid)}" if near else process, []).append(subject)
        rows = []
        for group in groups.values():
            last = max(group, key=lambda one: place[one.nodeid])
            tests = (*before(last.nodeid, attempts), last.nodeid)
            own = tuple(test for test in tests if _file(test) == _file(last.nodeid))
            if len(own if near else tests) > 1 and (near or len(own) < len(tests)):
                rows.append((group, own if near else tests))
        if not rows:
            continue
        times = IN_CONTEXT if near else 1
        orders = [tests for _, tests in rows for _ in range(times)]
        done = budget.orders(worktree, orders, seconds, "reruns in context")
        if done is None:
            break
        for number, (group, tests) in enumerate(rows):
            for subject in group:
                seen = ended(subject, done.orders[number * times : (number + 1) * times])
                earlier = tests[: tests.index(subject.nodeid)]
                total = seen if seen.failed else subject.context + seen
                found[subject.nodeid] = replace(subject, context=total, before=len(earlier))
                if seen.always and earlier:
                    causes[subject.nodeid] = earlier
    if causes:
        wanted = [(found[name], tests) for name, tests in causes.items()]
        for name, (tests, proof) in _searched(budget, worktree, wanted, seconds, failing=True).items():
            found[name] = replace(found[name], polluters=tests, proof=proof)
    return list(found.values())


def brittle(
    budget: Budget, worktree: Worktree, subjects: Sequence[Subject], earlier: Mapping[str, Tests], seconds: Mapping[str, float]
) -> list[Subject]:
    """Run those that fail alone after others; find what those need that pass there.

    `earlier` are tests, or files, to run before each; orders of which one begins another are run as one.
    """
    found = {subject.nodeid: subject for subject in subjects}
    rows = [(found[name], (*tests, name)) for name, tests in earlier.items() if name in found]
    orders = [
        tests for _, tests in rows if not any(len(tests) < len(other) and other[: len(tests)] == tests for _, other in rows)
    ]
    twice = [order for order in orders for _ in range(IN_CONTEXT)]
    done = budget.orders(worktree, twice, seconds, "reruns after what they may need") if orders else None
    if done is None:
        return list(subjects)
    causes = []
    for subject, tests in rows:
        number = IN_CONTEXT * next(number for number, order in enumerate(orders) if order[: len(tests)] == tests)
        seen = ended(subject, done.orders[number : number + IN_CONTEXT])
        ran = [execution.nodeid for execution in done.orders[number].executions]
        others = tuple(name for name in ran[: ran.index(subject.nodeid)] if name != subject.nodeid) if seen.ran else ()
        if seen.never and others:
            found[subject.nodeid] = replace(subject, proof=seen, before=len(others))
            causes.append((subject, others))
        else:
            found[subject.nodeid] = replace(subject, context=subject.context + seen, before=len(others))
    for name, (tests, proof) in _searched(budget, worktree, causes, seconds, failing=False).items():
        found[name] = replace(found[name], setters=tests, proof=proof)
    return list(found.values())


def _file(nodeid: str) -> str:
    return nodeid.partition("::")[0]


def _searched(
    budget: Budget,
    worktree: Worktree,
    wanted: Sequence[tuple[Subject, Tests]],
    seconds: Mapping[str, float],
    *,
    failing: bool,
) -> dict[str, tuple[Tests, Again]]:
    """Search for the causes of all subjects at once, a round of all searches in one pytest; then prove what was found."""
    searches: list[tuple[Subject, Search]] = [(subject, causes_among(tests)) for subject, tests in wanted]
    asked: list[tuple[Subject, Search, list[Tests]]] = []
    ends: list[tuple[Subject, Tests]] = []

    def go_on(subject: Subject, search: Search, answers: list[bool] | None) -> None:
        try:
            asked.append((subject, search, next(search) if answers is None else search.send(answers)))
        except StopIteration as end:
            if end.value:
                ends.append((subject, end.value))

    for subject, search in searches:
        go_on(subject, search, None)
    while asked:
        now, asked = asked, []
        orders = [(*tests, subject.nodeid) for subject, _, several in now for tests in several]
        what = "the search for what tests leave behind" if failing else "the search for what tests need"
        done = budget.orders(worktree, orders, seconds, what)
        if done is None:
            return {}
        answers = iter(done.orders)
        for subject, search, several in now:
            seen = [ended(subject, [next(answers)]) for _ in several]
            go_on(subject, search, [bool(one.ran) and bool(one.failed) == failing for one in seen])
    if not ends:
        return {}
    orders = [(*tests, subject.nodeid) for subject, tests in ends for _ in range(AFTER_POLLUTER)]
    done = budget.orders(worktree, orders, seconds, "the proof of what was found")
    if done is None:
        return {}
    proven = {}
    for number, (subject, tests) in enumerate(ends):
        proof = ended(subject, done.orders[number * AFTER_POLLUTER : (number + 1) * AFTER_POLLUTER])
        if proof.ran and (proof.always if failing else proof.never):
            proven[subject.nodeid] = (tests, proof)
    return proven


# -- how far it is --------------------------------------------------------------------------------------------------------


def pytest_words(pytest: str | None, settings: Settings) -> tuple[str, ...]:
    """Return the command that runs a project's tests: given, set, or the usual one. Raises click.BadParameter."""
    if pytest is None:
        return settings.pytest or DEFAULT_COMMAND
    try:
        return split_command(pytest)
    except ValueError as error:
        raise click.BadParameter(f"{pytest!r}: {error}", param_hint="--pytest") from None


@contextmanager
def progress_bar(begins: str, deadline: float) -> Iterator[Callable[[str, int, int], None]]:
    """Yield what shows a bar once a command takes a while, if somebody watches: what is done now, how much of it, of how much.

    `deadline` is of the monotonic clock.
    """
    if not sys.stderr.isatty():
        yield lambda *_: None
        return
    from rich.console import Console  # noqa: PLC0415
    from rich.progress import BarColumn, Progress, TextColumn  # noqa: PLC0415

    columns = (TextColumn("{task.description}"), BarColumn(16), TextColumn("{task.percentage:.0f} % {task.fields[doing]}"))
    bar = Progress(*columns, console=Console(stderr=True), transient=True)
    task = bar.add_task(begins, total=None, doing="")
    begun = "", 0.0

    def told(what: str, done: int, total: int) -> None:
        nonlocal begun
        now = time.monotonic()
        if begun[0] != what:
            begun = what, now
        bar.update(task, completed=done, total=total, doing=doing(what, done, total, now - begun[1], deadline - now))

    patience = Timer(UNTOLD, bar.start)
    patience.daemon = True
    patience.start()
    try:
        yield told
    finally:
        patience.cancel()
        patience.join()
        bar.stop()


def doing(what: str, done: int, total: int, seconds: float, left: float) -> str:
    """Return `reruns 40/64, 1:48 left`: as the first took `seconds` (0: nobody knows), at most what is `left` of the budget."""
    longest = max(0.0, left)
    known = bool(done and seconds)
    rest = min(longest, seconds * (total - done) / done) if known else longest
    minutes, rest_seconds = divmod(round(rest), 60)
    return f"{what} {done}/{total}, {'' if known else 'at most '}{minutes}:{rest_seconds:02d} left"
