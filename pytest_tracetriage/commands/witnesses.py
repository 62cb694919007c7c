"""What kept runs know of a cluster: how often it failed, when it was last green, what was installed then."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

from msgspec.structs import replace

from pytest_tracetriage.collect.condense import failed_traces, tests_of
from pytest_tracetriage.commands.project import find_cluster, only
from pytest_tracetriage.diagnose.culprit import Target, places_of
from pytest_tracetriage.diagnose.drift import Installed, drift, normal
from pytest_tracetriage.store.coverage import read_map
from pytest_tracetriage.store.runs import StoreError
from pytest_tracetriage.triage.signature import signature_id
from pytest_tracetriage.triage.spectrum import Spectrum, executed

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from pytest_tracetriage.commands.kept import Kept
    from pytest_tracetriage.model.analysis import Cluster
    from pytest_tracetriage.model.diagnosis import Drift
    from pytest_tracetriage.model.execution import CoverageMap
    from pytest_tracetriage.model.trace import Failure

EXEMPLARS = 2
"""How many tests stand for a cluster that fails in one way; where it fails in several, one stands for each."""
STRAYS = ("PytestUnraisableExceptionWarning", "PytestUnhandledThreadExceptionWarning")
"""What pytest reports under whichever test is running when garbage is collected, or a thread of another test dies."""
MAPS = 5
"""How many coverage maps are asked for the tests of the clusters."""
SIGNATURES = 4
"""How many of these are searched."""
_PASSED = frozenset({"passed", "xfailed", "xpassed"})


@dataclass(frozen=True)
class Drifted:
    """What differs between two runs, and which runs those are, in words."""

    drift: tuple[Drift, ...]
    evidence: tuple[str, ...]


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
                passed=passed,
                stray=_stray(failure),
            )
        )
    return found


def _stray(failure: Failure) -> bool:
    """Return whether a failure need not be of the test that it was reported for."""
    return any(error.type.rpartition(".")[2] in STRAYS for error in failure.errors)


def with_coverage(targets: Sequence[Target], kept: Sequence[Kept], past: Callable[[], Iterable[CoverageMap]]) -> list[Target]:
    """Return the targets with what their tests executed when they passed, by the newest map that knows them.

    `past` returns maps of the history, and is called where no kept run knows all. A map that cannot be read is passed over.
    """
    wanted = {test for target in targets for test in target.tests}
    ran: dict[str, frozenset[tuple[str, str]]] = {}
    for coverage in islice(_maps(kept, past), MAPS):
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


def _maps(kept: Sequence[Kept], past: Callable[[], Iterable[CoverageMap]]) -> Iterator[CoverageMap]:
    for item in reversed(kept):
        with suppress(StoreError):
            coverage = read_map(item.folder)
            if coverage is not None:
                yield coverage
    yield from past()


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


def drift_of(kept: Sequence[Kept], cluster: str, rootdir: Path) -> Drifted | None:
    """Return what differs between the last run that shows a cluster green and the first red one after it, None for no such."""
    red: Kept | None = None
    shown: Cluster | None = None
    for item in reversed(kept):
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
    changed = drift(item.run.context, red.run.context, failures, _contents(rootdir, files), _installed())
    between = f"last green in run {item.run.id}, first red in {red.run.id}"
    commits = {name.run.context.git.commit for name in (item, red)}
    if len(commits) == 1 and "" not in commits:
        between += ", both of one commit"
    return Drifted(changed, (between, *(() if changed else ("Python, platform and packages were the same in both",))))


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


def _installed() -> Installed:
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
