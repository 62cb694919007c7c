"""What runs know of a cluster, those that are kept and what was run again: how often it fails, after what, on what."""

from __future__ import annotations

from dataclasses import dataclass, field
from dataclasses import replace as with_
from typing import TYPE_CHECKING

from msgspec.structs import replace

from pytest_tracetriage.collect.condense import failed_traces, tests_of
from pytest_tracetriage.collect.runs import attempts_of, before
from pytest_tracetriage.commands.project import find_cluster, only
from pytest_tracetriage.diagnose.culprit import Target, places_of
from pytest_tracetriage.diagnose.drift import differences, drift, read_installed
from pytest_tracetriage.diagnose.rerun import Recorded, Subject, ended, left_behind, verdict
from pytest_tracetriage.execute.worktree import head
from pytest_tracetriage.model.analysis import Suspect
from pytest_tracetriage.model.execution import Order
from pytest_tracetriage.store.runs import host
from pytest_tracetriage.triage.signature import signature_id

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from pathlib import Path

    from pytest_tracetriage.collect.runs import Attempt
    from pytest_tracetriage.commands.kept import Kept
    from pytest_tracetriage.model.analysis import Analysis, Cluster
    from pytest_tracetriage.model.diagnosis import Drift
    from pytest_tracetriage.model.execution import Execution
    from pytest_tracetriage.model.run import Context, Run
    from pytest_tracetriage.model.trace import Failure

EXEMPLARS = 2
"""How many tests stand for a cluster that fails in one way; where it fails in several, one stands for each."""
STRAYS = ("PytestUnraisableExceptionWarning", "PytestUnhandledThreadExceptionWarning")
"""What pytest reports under whichever test is running when garbage is collected, or a thread of another test dies."""
SIGNATURES = 4
"""How many of these are searched."""
DRIFTED = 3
"""Differences that become suspects of a cluster."""
POINTS = 0.5
"""The score from which a failure points to a dependency."""
_PASSED = frozenset({"passed", "xfailed", "xpassed"})


@dataclass(frozen=True)
class Drifted:
    """What differs between two runs, which runs those are, in words, and whether they are of the same, committed code."""

    drift: tuple[Drift, ...]
    evidence: tuple[str, ...]
    same_code: bool


def targets_of(kept: Sequence[Kept], red: Kept, names: Sequence[str], bad: str) -> list[Target]:
    """Return what is searched: the clusters of a run, those that other runs of the commit `bad` showed, or those named.

    Raises ConfigError for a name that is none.
    """
    assert red.analysis is not None
    same = [item for item in kept if bad == item.run.context.git.commit == red.run.context.git.commit]
    same = same if red in same else [*same, red]
    clusters: dict[str, Cluster] = {}
    for item in (red, *reversed(same)):
        for cluster in item.analysis.clusters if item.analysis is not None else ():
            if cluster.seen != "fixed" and cluster.tests:
                clusters.setdefault(cluster.id, cluster)
    if names:
        shown = replace(red.analysis, clusters=tuple(clusters.values()))
        wanted = [only(find_cluster([shown], name), name, [shown]) for name in names]
        clusters = {cluster.id: cluster for cluster in wanted}
    ended = {item.run.id: {test.nodeid: test for test in tests_of(item.folder)} for item in same}
    outcomes = [{name: test.outcome for name, test in tests.items()} for tests in ended.values()]
    durations = {name: test.duration for tests in ended.values() for name, test in tests.items()}
    failures = [_failures(item) for item in same]
    return [target for cluster in clusters.values() for target in _targets(cluster, same, failures, outcomes, durations)]


def _targets(
    cluster: Cluster,
    same: Sequence[Kept],
    shown: Sequence[Mapping[str, Mapping[str, Failure]]],
    outcomes: Sequence[Mapping[str, str]],
    durations: Mapping[str, float],
) -> list[Target]:
    """Return what is searched for a cluster: each of its commonest signatures, since text may have joined two causes."""
    again = [one for item in same if (one := item.cluster(cluster.id)) is not None] or [cluster]
    own = frozenset(signature.id for one in again for signature in one.signatures)
    first = cluster.exemplar.nodeid if cluster.exemplar is not None else ""
    tests = {test for one in again for test in one.tests}
    failures = [(name, failure) for test in tests for run in shown for name, failure in run.get(test, {}).items()]
    stray = frozenset(name for name, failure in failures if _stray(failure))
    if any(name in own - stray for name, _ in failures):
        own -= stray  # what garbage collection reported follows from the rest
    groups: dict[str, dict[str, Failure]] = {}
    for test in sorted(tests, key=lambda test: (test != first, durations.get(test, 0.0), test)):
        seen = [(name, failure) for run in shown for name, failure in run.get(test, {}).items() if name in own]
        for name, failure in seen[:1]:
            groups.setdefault(name, {})[test] = failure
    if not groups and cluster.exemplar is not None:  # the traces are gone, the analysis is not
        groups[""] = {first: cluster.exemplar.failure}
    found = []
    flaky = any(one.status == "flaky" for one in again)
    ranked = sorted(groups.values(), key=lambda group: (first not in group, -len(group)))[:SIGNATURES]
    for number, group in enumerate(ranked):
        failure = next(iter(group.values()))
        chosen = tuple(group)[: EXEMPLARS if len(ranked) == 1 else 1]
        failed = sum(any(own & run.get(test, {}).keys() for test in group) for run in shown)
        passed = sum(_passed(group, ended) for ended in outcomes)
        found.append(
            Target(
                key=f"{cluster.id} {number}",
                cluster=cluster.id,
                name=cluster.name,
                tests=chosen,
                signatures=own,
                places=places_of(failure),
                failed=max(1, failed),
                passed=max(1, passed) if flaky else passed,
                flaky=flaky,
                stray=_stray(failure),
            )
        )
    return found


def _stray(failure: Failure) -> bool:
    """Return whether a failure need not be of the test that it was reported for."""
    return any(error.type.rpartition(".")[2] in STRAYS for error in failure.errors)


def _failures(item: Kept) -> dict[str, dict[str, Failure]]:
    """Return the failures of a run's tests, by test and signature."""
    clusters = item.analysis.clusters if item.analysis is not None else ()
    wanted = {test for cluster in clusters if cluster.seen != "fixed" for test in cluster.tests}
    found: dict[str, dict[str, Failure]] = {}
    for trace in failed_traces(item.folder, wanted):
        if trace.failure is not None:
            found.setdefault(trace.nodeid, {}).setdefault(signature_id(trace.failure), trace.failure)
    return found


def _passed(tests: Collection[str], outcomes: Mapping[str, str]) -> bool:
    """Return whether some of these tests ran, and all that did passed."""
    words = [outcomes[test] for test in tests if test in outcomes]
    return bool(words) and all(word in _PASSED for word in words)


def drift_of(
    kept: Sequence[Kept], cluster: str, rootdir: Path, red: Kept | None = None, shown: Cluster | None = None
) -> Drifted | None:
    """Return what differs between the last run that shows a cluster green and the first red one after it, None for no such.

    `red` is a run that is known to show it, and `shown` the cluster there: only runs before count.
    """
    for item in reversed([item for item in kept if red is None or item.run.id < red.run.id]):
        found = item.cluster(cluster)
        if found is not None:
            red, shown = item, found
        elif shown is not None and _passed(shown.tests, {test.nodeid: test.outcome for test in tests_of(item.folder)}):
            break
    else:
        return None
    assert red is not None
    assert shown is not None
    exemplar = shown.exemplar
    failures = (exemplar.failure,) if exemplar is not None else ()
    files = {
        frame.file
        for failure in failures
        for error in failure.errors
        for frame in error.frames
        if frame.origin in {"app", "test"}
    }
    files |= {test.partition("::")[0] for test in shown.tests}
    changed = drift(item.run.context, red.run.context, failures, _contents(rootdir, files), read_installed())
    between = f"last green in run {item.run.id}, first red in {red.run.id}"
    commits = {name.run.context.git.commit for name in (item, red)}
    same = len(commits) == 1 and "" not in commits
    if same:
        between += ", both of one commit"
    nothing = () if changed else ("Python, platform and packages were the same in both",)
    dirty = item.run.context.git.dirty or red.run.context.git.dirty
    return Drifted(changed, (between, *nothing), same and not dirty)


def with_drift(cluster: Cluster, drifted: Drifted) -> Cluster:
    """Return a cluster with what drifted among its suspects, ahead of places where the failure points to it."""
    found = [
        Suspect(
            one.name,
            f"{one.before or 'missing'} -> {one.after or 'missing'}",
            0,
            one.score,
            f"{one.evidence}; {drifted.evidence[0]}",
            "dependency",
        )
        for one in drifted.drift[:DRIFTED]
    ]
    ahead = [one for one in found if one.score >= POINTS]
    return replace(cluster, suspects=(*ahead, *cluster.suspects, *found[len(ahead) :]))


def _contents(rootdir: Path, files: set[str]) -> dict[str, bytes]:
    found = {}
    for name in sorted(files)[:50]:
        path = rootdir / name
        try:
            if path.resolve().is_relative_to(rootdir) and path.stat().st_size < 1_000_000:
                found[name] = path.read_bytes()
        except OSError:
            continue
    return found


def passed_after(
    kept: Sequence[Kept], red: Kept, tests: Collection[str], attempts: Sequence[Attempt]
) -> dict[str, tuple[str, ...]]:
    """Return what ran before tests where they passed in earlier runs of the same commit, if more than in the red run."""
    found: dict[str, tuple[str, ...]] = {}
    for item in reversed(kept):
        same = item.run.id < red.run.id and item.run.context.git.commit == red.run.context.git.commit
        if not same or set(tests) <= found.keys():
            continue
        then = attempts_of(item.folder)
        for one in then:
            if one.nodeid in tests and one.nodeid not in found and one.outcome == "passed":
                earlier = before(one.nodeid, then)
                if _functions(earlier) - _functions(before(one.nodeid, attempts)):
                    found[one.nodeid] = earlier
    return found


def _functions(tests: Sequence[str]) -> set[str]:
    """Return the test functions of node ids: parameters may hold the time of day, or an address."""
    return {test.partition("[")[0] for test in tests}


# -- what reruns say ------------------------------------------------------------------------------------------------------


@dataclass
class Reran:
    """What became of a run's tests when they were run again, and by what they had failed there (`failures`, by test)."""

    subjects: list[Subject] = field(default_factory=list)
    together: Order | None = None
    """Of the failing tests when all of them were run again in one process."""
    uncollected: tuple[Execution, ...] = ()
    """Files that could not be collected again."""
    here: Context | None = None
    failures: dict[str, Failure] = field(default_factory=dict)

    def of(self, cluster: Cluster) -> list[Subject]:
        """Return the tests of a cluster as they were run again with all other failing tests, files as they were collected."""
        if self.together is None:
            return []
        again = Order((*self.together.executions, *self.uncollected))
        ran = {execution.nodeid for execution in again.executions}
        signatures = frozenset(signature.id for signature in cluster.signatures)
        subjects = (Subject(test, cluster.id, signatures) for test in cluster.tests if test in ran)
        return [with_(subject, context=ended(subject, [again])) for subject in subjects]


def with_status(analysis: Analysis, red: Kept, rootdir: Path, reran: Reran, attempts: Sequence[Attempt]) -> tuple[Cluster, ...]:
    """Return the clusters of a run with their status, by what became of their tests, else as an earlier diagnosis left it."""
    if reran.together is None:
        return _as_before(analysis, red)
    workers = {attempt.process for attempt in attempts} - {"main"}
    of = {attempt.nodeid: attempt for attempt in attempts}
    elsewhere = differences(red.run.context, reran.here) if reran.here is not None else ()
    changed = _written_since(red.run, rootdir, reran.failures)
    timed_out = frozenset(attempt.nodeid for attempt in attempts if attempt.outcome == "timeout")
    found = []
    for cluster in analysis.clusters:
        own = [subject for subject in reran.subjects if subject.nodeid in cluster.tests]
        again = reran.of(cluster)
        first = (own or again)[:1]
        worker = of[first[0].nodeid].process if len(workers) > 1 and first and first[0].nodeid in of else ""
        recorded = Recorded(elsewhere, changed, worker, reran.failures, timed_out)
        told = verdict(cluster, own or again[:2], recorded) if own or again else None
        if told is None or cluster.seen == "fixed":
            found.append(cluster)
            continue
        words = told.words
        passed = sum(subject.context.never for subject in again)
        if told.status == "real" and passed:
            words = f"{words}; {passed} of its {len(cluster.tests)} tests pass when run again"
        suspects = (*left_behind(own), *cluster.suspects) if told.status == "order-dependent" else cluster.suspects
        found.append(replace(cluster, status=told.status, status_evidence=words, suspects=suspects))
    return tuple(found)


def _written_since(run: Run, rootdir: Path, failures: Mapping[str, Failure]) -> tuple[str, ...]:
    """Return the files of tests and tracebacks that were written after the run, where it ran here and they lie as they lay."""
    if run.host != host():
        return ()
    if run.context.git.commit and head(rootdir) != run.context.git.commit:
        return ()
    names = {test.partition("::")[0] for test in failures}
    frames = (frame for failure in failures.values() for error in failure.errors for frame in error.frames)
    names |= {frame.file for frame in frames if frame.origin in {"app", "test"}}
    found = []
    for name in sorted(names):
        try:
            if (rootdir / name).stat().st_mtime > run.started:
                found.append(name)
        except OSError:
            found.append(name)
    return tuple(found)


def _as_before(analysis: Analysis, red: Kept) -> tuple[Cluster, ...]:
    """Return the clusters with what an earlier diagnosis of the run found out by running the same tests again."""
    earlier = {cluster.id: cluster for cluster in (red.analysis.clusters if red.analysis is not None else ())}
    found = []
    for cluster in analysis.clusters:
        old = earlier.get(cluster.id)
        if old is not None and old.tests == cluster.tests and cluster.seen != "fixed":
            cluster = replace(cluster, status=old.status, status_evidence=old.status_evidence)  # noqa: PLW2901
        found.append(cluster)
    return tuple(found)
