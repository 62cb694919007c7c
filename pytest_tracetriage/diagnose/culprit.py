"""Which commit broke each cluster: all of them searched at once, in one worktree that moves from commit to commit."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct
from msgspec.structs import replace

from pytest_tracetriage.diagnose.commits import Commit, is_dependency_file, is_prose
from pytest_tracetriage.diagnose.search import OLDER, Answer, Line, Observation, Prior, answer, next_step, rates, rates_now
from pytest_tracetriage.model.diagnosis import Culprit
from pytest_tracetriage.model.trace import FAILING, Outcome

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pytest_tracetriage.diagnose.commits import Changed
    from pytest_tracetriage.diagnose.search import Seen
    from pytest_tracetriage.model.trace import Failure

UNREACHED = 0.1
"""The weight of a commit that changed functions only which the tests did not run when they passed."""
STRAY_TRIES = 5
"""Processes after which a failure that garbage collection reported is given up where it did not come again."""
STRAY = 0.5
"""How likely such a failure never comes in a process that runs the test alone."""
FLAKY_OLDER = 0.5
"""How likely a flaky failure is older than the good end, which one green run does not tell apart."""
_GREEN = frozenset({"passed", "xfailed", "xpassed"})


class Target(Struct, frozen=True):
    """What is searched for: a cluster, or those of its failures that share a signature, and the tests that stand for them.

    `key` tells it from the others. Only a failure with one of `signatures` is its own; every one is where there are none.
    `places` are (file, function) of its frames. It was seen in `failed` of failed + passed runs before. `executed` are (file,
    qualified name) of the functions that its tests ran when they passed, None where nobody recorded it. `flaky` says that a
    diagnosis has seen it pass where it fails, `stray` that garbage collection reported it, under whichever test was running.
    """

    key: str
    cluster: str
    name: str
    tests: tuple[str, ...]
    signatures: frozenset[str] = frozenset()
    places: frozenset[tuple[str, str]] = frozenset()
    failed: int = 1
    passed: int = 0
    executed: frozenset[tuple[str, str]] | None = None
    flaky: bool = False
    stray: bool = False


class Told(Struct, frozen=True, omit_defaults=True):
    """What one process told: outcomes and signatures by node id; nothing where `void` says why. A line of the cache."""

    outcomes: dict[str, Outcome] = {}
    signatures: dict[str, tuple[str, ...]] = {}
    void: str = ""


class Searched(Struct, frozen=True):
    """A search over one line of commits: what was asked of each target, and what it amounts to."""

    commits: tuple[Commit, ...]
    lines: dict[str, Line]
    answers: dict[str, Answer]
    other: dict[str, dict[int, tuple[str, ...]]]
    """Of each target: the signatures of failures that are not its own, by position."""
    void: dict[int, str]
    """Why nothing was told, by position."""
    prefix: str = ""


def places_of(failure: Failure) -> frozenset[tuple[str, str]]:
    """Return file and bare function name of a failure's frames in the project."""
    frames = (frame for error in failure.errors for frame in error.frames)
    return frozenset((frame.file, frame.function) for frame in frames if frame.origin in {"app", "test"})


def weights(target: Target, commits: Sequence[Commit], prefix: str = "") -> tuple[float, ...]:
    """Return how likely each commit after the first is to be the culprit, relative to one that changed code elsewhere.

    That decides where the search looks first, and hardly what it takes for proven. `prefix` is the project's folder in its
    repository (`sub/`).
    """
    places = {(prefix + file, function) for file, function in target.places}
    tests = {prefix + test.partition("::")[0] for test in target.tests}
    executed = None if target.executed is None else {(prefix + file, name) for file, name in target.executed}
    return tuple(_weight(commit, places, tests, executed) for commit in commits[1:])


def _weight(commit: Commit, places: set[tuple[str, str]], tests: set[str], executed: set[tuple[str, str]] | None) -> float:
    files = {file for file, _ in places} | tests
    weight = 0.01
    for changed in commit.changed:
        if is_prose(changed.file):
            continue
        touched = {(changed.file, name.rpartition(".")[2]) for name in changed.functions}
        if touched & places:
            found = 20.0
        elif touched and not changed.beside and executed is not None and not _reached(changed, executed, tests):
            found = UNREACHED
        elif changed.file in files and (touched or changed.beside or changed.unread):
            found = 6.0
        elif is_dependency_file(changed.file):
            found = 2.0
        elif touched or changed.beside or changed.unread:
            found = 1.0
        else:
            found = 0.05 if changed.added else 0.01
        weight = max(weight, found)
    return weight if commit.changed else 1.0 if len(commit.parents) > 1 else 0.01


def _reached(changed: Changed, executed: set[tuple[str, str]], tests: set[str]) -> bool:
    """Return whether the tests ran what a commit changed. Nobody records what a file of tests runs of its own."""
    return changed.file in tests or any((changed.file, name) in executed for name in changed.functions)


def seen(target: Target, told: Told) -> tuple[Seen, tuple[str, ...]]:
    """Return what one process says of a target, and the signatures of failures of its tests that are not its own.

    Its tests are not independent of each other, so all of them are one word: failed where one failed as the target does,
    passed where one passed and none did.
    """
    passed = False
    other: list[str] = []
    for test in target.tests:
        outcome = told.outcomes.get(test)
        if outcome is None and "::" not in test:  # a file that could not be collected: its tests run where it can be
            below = [found for nodeid, found in told.outcomes.items() if nodeid.startswith(f"{test}::")]
            outcome = "passed" if any(found in _GREEN for found in below) else None
        if outcome in FAILING:
            shown = told.signatures.get(test, ())
            if not target.signatures or target.signatures.intersection(shown):
                return "failed", ()
            other += shown or (str(outcome),)
        passed = passed or outcome in _GREEN
    return ("passed" if passed else "blocked"), tuple(dict.fromkeys(other))


def search(
    targets: Sequence[Target],
    commits: Sequence[Commit],
    observe: Callable[[Commit, Sequence[str]], Told | None],
    *,
    confidence: float,
    prefix: str = "",
    begun: Mapping[str, Line] | None = None,
    flaky: float | None = None,
    progress: Callable[[Mapping[str, Line]], None] = lambda _: None,
) -> Searched:
    """Search all targets in one line of commits, the good end first, until each is decided or `observe` has no more.

    `begun` are lines that something is known of already. `flaky` is how often a flaky cluster fails, where somebody knows.
    """
    wanted = {target.key: target for target in targets}
    lines = dict(begun or {})
    for target in targets:
        lines.setdefault(target.key, Line(_prior(target, commits, prefix, flaky)))
    other: dict[str, dict[int, tuple[str, ...]]] = {name: {} for name in lines}
    void: dict[int, str] = {}
    while (step := next_step(lines, confidence)) is not None:
        tests = tuple(dict.fromkeys(test for name in step.clusters for test in _asked(wanted[name], lines[name])))
        told = observe(commits[step.position], tests)
        if told is None:
            break
        if told.void:
            void[step.position] = told.void
        for name in step.clusters:
            word, strange = seen(wanted[name], told)
            if strange:
                other[name][step.position] = strange
            line = lines[name]
            lines[name] = replace(line, observations=(*line.observations, Observation(step.position, word)))
        progress(lines)
    return Searched(
        tuple(commits), lines, {name: answer(line, confidence) for name, line in lines.items()}, other, void, prefix
    )


def _prior(target: Target, commits: Sequence[Commit], prefix: str, flaky: float | None) -> Prior:
    weighed = weights(target, commits, prefix)
    found = rates(target.failed, target.passed) if flaky is None else rates(target.failed, target.passed, (flaky,))
    older = FLAKY_OLDER if target.flaky else OLDER
    if target.stray:
        return Prior(weighed, older, never=STRAY, rates=found, patience=STRAY_TRIES)
    return Prior(weighed, older, rates=found)


def _asked(target: Target, line: Line) -> tuple[str, ...]:
    """Return the tests that a process runs: one, and the others where that one has not shown the cluster, or told nothing."""
    words = [item.seen for item in line.observations]
    alone = "failed" in words and "blocked" not in words
    return target.tests[:1] if alone else target.tests


def descended(searched: Searched, target: Target, branch: Sequence[Commit], prefix: str = "") -> Line:
    """Return the line of a merge that broke `target`, along the branch that it brought in, with what is known of it."""
    line = searched.lines[target.key]
    prior = Prior(weights(target, branch, prefix), rates=rates_now(line), never=1e-6)
    return Line(prior, (Observation(len(branch) - 1, "failed"),))


def culprit(target: Target, searched: Searched, outer: Culprit | None = None) -> Culprit:
    """Return the answer for a target in words. `outer` is the merge that this search went into."""
    found = searched.answers[target.key]
    line = searched.lines[target.key]
    commits = searched.commits
    named = commits[found.positions[0]] if found.finding == "commit" else None
    if outer is not None and named is None:
        at = f"in the branch that it brought in nothing more could be told: {found.finding}"
        return replace(outer, evidence=(*outer.evidence, at))
    evidence = [*_evidence(found, line, commits), *_blocked(target, searched)]
    if target.stray and named is None:
        evidence.append("garbage collection reported it, under whichever test was running")
    if named is not None:
        evidence += _touched(target, named, searched.prefix)
    if outer is not None and named is not None:
        came = (
            "the branch that it brought in has it not: only the merge has"
            if named.id == outer.commit
            else "it came with the merge"
        )
        evidence.insert(0, f"{came} {outer.commit[:12]}")
    return Culprit(
        cluster=target.cluster,
        name=target.name,
        tests=target.tests,
        finding=found.finding,
        commit=named.id if named else "",
        subject=named.subject if named else "",
        confidence=round(min(found.confidence * (outer.confidence if outer else 1.0), 0.9999), 4),
        evidence=tuple(evidence),
        candidates=tuple(commits[position].id for position in found.positions) if named is None else (),
        rate=round(found.rate, 3),
    )


def joined(culprits: Sequence[Culprit]) -> list[Culprit]:
    """Return the answers with those of one cluster made one where they are the same; where not, it has several causes."""
    groups: dict[str, list[Culprit]] = {}
    for item in culprits:
        groups.setdefault(item.cluster, []).append(item)
    found = []
    for group in groups.values():
        told = [item for item in group if item.finding in {"commit", "commits", "older"}] or group
        same: dict[tuple[str, str, tuple[str, ...]], list[Culprit]] = {}
        for item in told:
            same.setdefault((item.finding, item.commit, item.candidates), []).append(item)
        for items in same.values():
            best = max(items, key=lambda item: item.confidence)
            several = ("the cluster has several causes: this one is of these tests",) if len(same) > 1 else ()
            tests = tuple(dict.fromkeys(test for item in items for test in item.tests))
            found.append(replace(best, tests=tests, evidence=(*best.evidence, *several)))
    return found


def _counts(line: Line, low: int, high: int) -> tuple[int, int]:
    """Return failed and all processes between two positions, those that told nothing left out."""
    words = [item.seen for item in line.observations if low <= item.position <= high and item.seen != "blocked"]
    return words.count("failed"), len(words)


def _evidence(found: Answer, line: Line, commits: Sequence[Commit]) -> list[str]:
    last = len(commits) - 1
    said = []
    if found.finding in {"commit", "commits"}:
        first, end = min(found.positions), max(found.positions)
        failed, ran = _counts(line, end, last)
        at, at_ran = _counts(line, end, end)
        said.append(f"failed in {failed} of {ran} processes from {commits[end].id[:12]} on ({at} of {at_ran} there)")
        failed, ran = _counts(line, 0, first - 1)
        at, at_ran = _counts(line, first - 1, first - 1)
        before = commits[first - 1].id[:12]
        said.append(f"failed in {failed} of {ran} processes before it ({at} of {at_ran} right before, at {before})")
    elif found.finding == "older":
        place = min((item.position for item in line.observations if item.seen == "failed"), default=0)
        failed, ran = _counts(line, place, place)
        where = f"as early as {commits[place].id[:12]}" if place else f"at the good end too, {commits[0].id[:12]}"
        said.append(f"failed in {failed} of {ran} processes {where}")
    else:
        failed, ran = _counts(line, last, last)
        said.append(f"failed in {failed} of {ran} processes at the bad end, {commits[last].id[:12]}")
    mixed = [
        commits[position].id[:12]
        for position in sorted({item.position for item in line.observations})
        if 0 < (count := _counts(line, position, position))[0] < count[1]
    ]
    if mixed:
        said.append(f"flaky: both passed and failed at {', '.join(mixed[:3])}{' ...' if len(mixed) > 3 else ''}")
    return said


def _touched(target: Target, commit: Commit, prefix: str) -> list[str]:
    """Say what the commit changed of the functions in the traceback."""
    places = {(prefix + file, function) for file, function in target.places}
    found = [
        f"{name} in {changed.file}"
        for changed in commit.changed
        for name in changed.functions
        if (changed.file, name.rpartition(".")[2]) in places
    ]
    return [f"it changed {', '.join(found[:3])}, in the traceback"] if found else []


def _blocked(target: Target, searched: Searched) -> list[str]:
    """Say which commits told nothing, and why."""
    line = searched.lines[target.key]
    told = {item.position for item in line.observations if item.seen != "blocked"}
    silent = sorted({item.position for item in line.observations} - told)
    if not silent:
        return []
    names = ", ".join(searched.commits[position].id[:12] for position in silent[:3])
    names += f" and {len(silent) - 3} more" if len(silent) > 3 else ""
    why = [
        "does not run there"
        if position in searched.void
        else "fails there by something else"
        if position in searched.other[target.key]
        else "does not exist there, or is skipped"
        for position in silent
    ]
    return [f"nothing told by {names}: its test {' or '.join(sorted(set(why)))}"]
