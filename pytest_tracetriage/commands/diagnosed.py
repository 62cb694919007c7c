"""What a diagnosis found, put beside a review: the status and suspects of its causes, and the commits that broke them.

`tracetriage diagnose` and `culprit` run where the tests can be run, a review is often made elsewhere: what they found comes
with the run's folder. Clusters are told by the tests that they share, since a review of several runs joins what each saw apart.
Nothing of this decides whether a job fails, and nothing of it is remembered.
"""

from __future__ import annotations

import math
from collections import Counter
from itertools import chain, zip_longest
from typing import TYPE_CHECKING

import msgspec
from msgspec import Struct

from pytest_tracetriage.capture.context import git
from pytest_tracetriage.collect.artifact import MAX_FOUND
from pytest_tracetriage.commands.reviewing import GIT_TIMEOUT, with_links
from pytest_tracetriage.model.analysis import Seen, Status, Suspect  # noqa: TC001 (msgspec reads the annotations)
from pytest_tracetriage.model.diagnosis import Culprit, MapUsed, Reruns
from pytest_tracetriage.model.review import Diagnosed
from pytest_tracetriage.report.github.words import COMMIT
from pytest_tracetriage.report.text import plural
from pytest_tracetriage.store.runs import CULPRIT_FILE

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from pytest_tracetriage.model.analysis import Cluster
    from pytest_tracetriage.model.review import Review


SUSPECTS = 3
CULPRITS = 3
ALWAYS = 0.9
"""A search that takes a failure to show in more processes than this must not name a commit for one that is flaky."""
_ALL = 64 * 1024 * 1024
"""Bytes that are read of all runs together."""
_GRAVEST: tuple[Status, ...] = ("real", "infrastructure", "order-dependent", "environment", "time-dependent", "flaky", "")
_SURE = {"commit": 0, "commits": 1, "nothing committed": 2, "older": 3, "not reproduced": 4, "undecided": 5}


class _Cluster(Struct, frozen=True):
    """Of a cluster, what a diagnosis may have changed."""

    tests: tuple[str, ...]
    seen: Seen
    suspects: tuple[Suspect, ...] = ()
    status: Status = ""
    status_evidence: str = ""


class _Analysis(Struct, frozen=True):
    clusters: tuple[_Cluster, ...] = ()
    reruns: Reruns = Reruns()
    coverage: MapUsed | None = None


class _Search(Struct, frozen=True):
    culprits: tuple[Culprit, ...] = ()


_READ: tuple[tuple[str, type[_Analysis | _Search]], ...] = (("analysis.json", _Analysis), (CULPRIT_FILE, _Search))


class Found(Struct, frozen=True):
    """What came with some runs: their diagnosed clusters, whether tests were run again for each, and the culprits."""

    clusters: tuple[tuple[_Cluster, bool], ...] = ()
    culprits: tuple[Culprit, ...] = ()
    problems: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        """Return whether anything was diagnosed."""
        return bool(self.clusters or self.culprits)


def found_in(folders: Iterable[Path]) -> Found:
    """Return what the folders of runs hold of diagnoses and searches. Any bytes may be in them; what is none is a problem."""
    clusters: list[tuple[_Cluster, bool]] = []
    culprits: list[Culprit] = []
    problems: list[str] = []
    left = _ALL
    for folder in folders:
        for name, kind in _READ:
            path = folder / name
            read: _Analysis | _Search
            try:
                size = path.stat().st_size
                if size > min(MAX_FOUND, left):
                    problems.append(f"{path}: {size:,} bytes are more than is read of a diagnosis")
                    continue
                left -= size
                read = msgspec.json.decode(path.read_bytes(), type=kind)
            except FileNotFoundError:
                continue
            except (OSError, msgspec.MsgspecError, ValueError, RecursionError) as error:
                problems.append(f"{path}: {getattr(error, 'strerror', None) or error}")
                continue
            if isinstance(read, _Search):
                culprits += [one for one in read.culprits if _possible(one)]
            elif read.reruns.pytest_runs > 0 or read.coverage is not None:
                clusters += [(one, read.reruns.pytest_runs > 0) for one in read.clusters if one.seen != "fixed"]
    return Found(tuple(clusters), tuple(culprits), tuple(problems))


def _possible(one: Culprit) -> bool:
    commits = [*([one.commit] if one.finding == "commit" else []), *one.candidates]
    return all(COMMIT.fullmatch(commit) for commit in commits) and math.isfinite(one.confidence) and 0 <= one.confidence <= 1


def with_diagnosis(review: Review, found: Found, rootdir: Path) -> Review:
    """Return the review with what was diagnosed of its causes, and the pages of the files that are suspect now."""
    by_test: dict[str, list[int]] = {}
    for number, (part, _) in enumerate(found.clusters):
        for test in dict.fromkeys(part.tests):
            by_test.setdefault(test, []).append(number)
    broke: dict[str, list[int]] = {}
    for number, one in enumerate(found.culprits):
        for test in dict.fromkeys(one.tests):
            broke.setdefault(test, []).append(number)
    diagnosed: dict[str, Diagnosed] = {}
    clusters = []
    for cluster in review.analysis.clusters:
        if cluster.seen != "fixed":
            alike = Counter(number for test in cluster.tests for number in by_test.get(test, ()))
            parts = [(*found.clusters[number], count) for number, count in alike.most_common()]
            culprits = sorted({number for test in cluster.tests for number in broke.get(test, ())})
            cluster = _told(cluster, parts)  # noqa: PLW2901
            rerun = any(again and part.status for part, again, _ in parts)
            flaky = rerun and cluster.status == "flaky"
            broken = [one for one in map(found.culprits.__getitem__, culprits) if not (flaky and one.rate > ALWAYS)]
            if parts or broken:
                diagnosed[cluster.id] = _diagnosed(broken, review, rootdir, rerun=rerun)
        clusters.append(cluster)
    analysis = msgspec.structs.replace(review.analysis, clusters=tuple(clusters))
    return with_links(rootdir, msgspec.structs.replace(review, analysis=analysis, diagnosed=diagnosed))


def _diagnosed(culprits: Sequence[Culprit], review: Review, rootdir: Path, *, rerun: bool) -> Diagnosed:
    ranked = sorted(culprits, key=lambda one: (_SURE[one.finding], -one.confidence, one.commit))
    kept: dict[tuple[str, str], Culprit] = {}
    for one in ranked:
        kept.setdefault((one.finding, one.commit), one)
    first = tuple(kept.values())[:CULPRITS]
    brought = bool(first) and first[0].finding == "commit" and _brought(first[0].commit, review, rootdir)
    return Diagnosed(rerun, first, brought)


def _brought(commit: str, review: Review, rootdir: Path) -> bool:
    """Return whether a commit is one of the pull request, as far as the checkout tells: the base branch lacks it."""
    if not review.pull_request or not review.base or review.base.startswith("-"):
        return False
    shared = git(rootdir, "merge-base", commit, f"refs/remotes/origin/{review.base}", timeout=GIT_TIMEOUT)
    return shared is not None and shared != "" and not shared.startswith(commit)


def _told(cluster: Cluster, parts: Sequence[tuple[_Cluster, bool, int]]) -> Cluster:
    """Return the cluster with the gravest status of its parts: a flaky test must not hide a real failure beside it."""
    again = [(part, count) for part, ran, count in parts if ran and part.status]
    if again:
        worst, _ = min(again, key=lambda pair: (_GRAVEST.index(pair[0].status), -pair[1]))
        beside = [
            f"{plural(count, 'test')} {part.status}: {part.status_evidence}"
            for part, count in again
            if part.status != worst.status
        ]
        before = [cluster.status_evidence] if cluster.status_evidence and cluster.status == "flaky" else []
        evidence = "; ".join([worst.status_evidence, *beside[:2], *before])
        cluster = msgspec.structs.replace(cluster, status=worst.status, status_evidence=evidence)
    suspects: dict[tuple[str, str], Suspect] = {}
    for one in chain.from_iterable(zip_longest(*(part.suspects[:SUSPECTS] for part, _, _ in parts))):
        if one is not None:
            suspects.setdefault((one.file, one.function), one)
    first = tuple(suspects.values())[:SUSPECTS]
    return msgspec.structs.replace(cluster, suspects=first) if first else cluster
