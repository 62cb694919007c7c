"""From the runs of one group to a review: triaged beside the base branch, with what the history knows of each cause."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import msgspec

from pytest_tracetriage.capture.context import git
from pytest_tracetriage.collect import condense
from pytest_tracetriage.commands import pipeline
from pytest_tracetriage.commands.accounts import accounts_of, test_spending
from pytest_tracetriage.commands.grouping import legs, missing_legs, workflow_run
from pytest_tracetriage.commands.project import given, read_history
from pytest_tracetriage.model.analysis import Source
from pytest_tracetriage.model.history import ClusterRecord, Condensed
from pytest_tracetriage.model.review import Review
from pytest_tracetriage.model.trace import FAILING
from pytest_tracetriage.triage import spending
from pytest_tracetriage.triage.analyze import analyze
from pytest_tracetriage.triage.standing import evidence_in, known_clusters, retried_only, with_standing
from pytest_tracetriage.triage.summary import merge, summarize

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from pytest_tracetriage.commands.grouping import Event, Group
    from pytest_tracetriage.config import Settings
    from pytest_tracetriage.model.analysis import Analysis, Cluster
    from pytest_tracetriage.model.history import Baseline, Seen, TestRecord, TestSpent
    from pytest_tracetriage.model.run import Run
    from pytest_tracetriage.store.history.history import History
    from pytest_tracetriage.triage.analyze import Given
    from pytest_tracetriage.triage.summary import Summary

WINDOW = 90 * 86_400
"""Seconds of the past that a review looks at."""
_LINKED = 5_000
GIT_TIMEOUT = 10.0


@dataclass(frozen=True)
class Reviewed:
    """A review, and what the history would keep of its runs."""

    review: Review
    condensed: tuple[Condensed, ...]


@dataclass(frozen=True)
class _Past:
    """What is known before the runs are looked at. `compared` says whether there is anything to compare with."""

    told: Given
    base: Sequence[Seen]
    baseline: Baseline | None
    compared: bool
    workflow: str = ""
    missing: tuple[str, ...] = ()
    """A line for each leg of the base branch that is not here."""
    whole: bool = True
    """Whether all legs that the base branch has are here and came to their end: without one, nothing is known to be fixed."""


def review_group(
    settings: Settings, group: Group, history: History | None, event: Event | None, hooks: Any, base: str = ""
) -> Reviewed:
    """Return the review of a group's runs against the `base` branch ("" for the one that they name themselves).

    Without a `history`, the kept runs of this project are what is compared with. Raises HistoryError, ConfigError.
    """
    notes: list[str] = []
    branch = event.branch if event is not None else _first(run.context.git.branch for _, run in group.current)
    base = (
        base or (event.base if event is not None else "") or _first(run.context.git.base for _, run in group.current) or branch
    )
    own = event.group if event is not None else workflow_run(group)
    past = _past(settings, group, history, hooks, (base, branch, own), notes, event.job if event is not None else "")
    found = _analysis(group, past.told, notes)
    if not past.whole:
        red = tuple(cluster for cluster in found.clusters if cluster.seen != "fixed")
        found = msgspec.structs.replace(found, clusters=red)
    tests = {run.id: condense.tests_of(folder) for folder, run in group.runs}
    if len(group.current) > 1:
        totals = condense.distinct_totals([tests[run.id] for _, run in group.current], found.totals)
        found = msgspec.structs.replace(found, totals=totals)
    retried = _retried(group, tests, past.told)
    sets = {id(cluster): frozenset(cluster.tests) for cluster in (*found.clusters, *retried)}
    condensed = tuple(
        _condensed(run, tests[run.id], found, retried, sets, test_spending(accounts_of([folder]).tests))
        for folder, run in group.runs
    )
    asked = {cluster.id: cluster.tests for cluster in (*found.clusters, *retried)}
    if history is not None and asked:
        evidence, frequencies = history.evidence(asked, condensed), history.frequencies(asked)
    else:
        evidence, frequencies = evidence_in(asked, condensed), {}
    passing = _passing(history, found, past, base, own)
    notes += [*past.missing, *(history.problems if history is not None else [])]
    standing = with_standing(found, past.base, evidence, frequencies, compared=past.compared, passing=passing)
    flaky = retried_only(retried, standing, frequencies)
    review = Review(
        analysis=standing,
        retried=flaky,
        legs=legs(group.current, {item.run.id: item.run.totals for item in condensed}),
        baseline=past.baseline,
        base=base,
        branch=branch,
        metrics=spending.figures_together(run.metrics for _, run in group.current),
        spent=spending.together(each for _, run in group.current for each in run.spent),
        notes=tuple(dict.fromkeys(notes)),
    )
    review = _told_by_the_event(review, event) if event is not None else _told_by_the_runs(review, group)
    return Reviewed(with_links(settings.rootdir, review), tuple(_with_status(item, standing) for item in condensed))


def _first(texts: Any) -> str:
    return next((text for text in texts if text), "")


def _past(
    settings: Settings,
    group: Group,
    history: History | None,
    hooks: Any,
    names: tuple[str, str, str],
    notes: list[str],
    job: str,
) -> _Past:
    base, branch, own = names
    if history is None:
        ids = frozenset(run.id for _, run in group.runs)
        kept = read_history(settings.folder, before=min(ids, default=""), without=ids)
        return _Past(given(settings, kept.known(), hooks, notes), (), None, compared=bool(kept.analyses))
    since = min((run.started for _, run in group.current), default=0.0) - WINDOW
    everywhere = history.seen(since=since, exclude=own)
    # Where no branch is known, as without git, all runs are what there is to compare with.
    on_base = history.seen(branch=base, since=since, exclude=own) if base else everywhere
    workflow = next((run.context.ci.workflow for _, run in group.current), "")
    baseline = history.baseline(base, workflow=workflow, exclude=own) if base else None
    compared = baseline is not None or bool(history.baseline(base, exclude=own) if base else history.runs(limit=1))
    missing = missing_legs(group, baseline, job) if baseline is not None else []
    whole = not missing and all(run.status == "finished" for _, run in group.current)
    told = given(settings, known_clusters(everywhere, on_base, branch), hooks, notes)
    return _Past(told, on_base, baseline, compared=compared, workflow=workflow, whole=whole, missing=tuple(missing))


def _passing(history: History | None, found: Analysis, past: _Past, base: str, own: str) -> set[str]:
    """Return which tests of causes that the base branch knows by fewer tests passed there."""
    on_base = {seen.cluster.id: seen.tests for seen in past.base}
    more = [cluster for cluster in found.clusters if len(cluster.tests) > len(on_base.get(cluster.id, cluster.tests))]
    tests = {test for cluster in more for test in cluster.tests}
    if history is None or past.baseline is None or not tests:
        return set()
    return history.passing(tests, base, past.workflow, own)


def _analysis(group: Group, told: Given, notes: list[str]) -> Analysis:
    watch = frozenset(test for cluster in told.known or () if cluster.open for test in cluster.tests)
    todo = pipeline.plan([folder for folder, _ in group.current], pipeline.BUILT_IN)
    found = pipeline.with_notes(analyze(pipeline.read(todo, pipeline.BUILT_IN, watch), told), notes)
    return msgspec.structs.replace(found, problems=(*group.problems, *found.problems))


def _retried(group: Group, tests: Mapping[str, Sequence[TestRecord]], told: Given) -> tuple[Cluster, ...]:
    """Return the causes of failures that went away when a test, or the whole job, was run again."""
    summaries: list[Summary] = []
    passed = {test.nodeid for _, run in group.current for test in tests[run.id] if test.outcome == "passed"}
    for folder, run in group.current:
        if any(test.retried for test in tests[run.id]):
            source = Source(run.id, "tracetriage")
            summaries.append(summarize(condense.retried_traces(folder), f"{folder}#retried", source))
    for folder, run in group.superseded:
        again = passed & {test.nodeid for test in tests[run.id] if test.outcome in FAILING}
        if again:
            source = Source(run.id, "tracetriage")
            summaries.append(summarize(condense.failed_traces(folder, again), f"{folder}#superseded", source))
    return tuple(c for c in analyze(merge(*summaries), told).clusters if c.seen != "fixed") if summaries else ()


def _condensed(
    run: Run,
    tests: Sequence[TestRecord],
    found: Analysis,
    retried: Sequence[Cluster],
    sets: Mapping[int, frozenset[str]],
    spent: tuple[TestSpent, ...],
) -> Condensed:
    """Return a run as the history keeps it: the group's clusters, each with those of its tests that this run saw.

    `sets` are the tests of each cluster, made once for all runs: of many legs each sees few of them.
    """
    red = {test.nodeid for test in tests if test.outcome in FAILING}
    green = {test.nodeid for test in tests if test.outcome == "passed"}
    again = {test.nodeid for test in tests if test.retried} & green
    records: dict[str, ClusterRecord] = {}
    for cluster in found.clusters:
        here = sets[id(cluster)] & (green if cluster.seen == "fixed" else red)
        if here:
            records[cluster.id] = ClusterRecord(run.id, _kept(cluster), tuple(sorted(here)))
    for cluster in retried:
        ended, passed = sets[id(cluster)] & red, sets[id(cluster)] & again
        before = records.get(cluster.id)
        if ended or passed:
            ended |= set(before.tests) if before is not None and before.cluster.seen != "fixed" else set()
            records[cluster.id] = ClusterRecord(run.id, _kept(cluster), tuple(sorted(ended)), tuple(sorted(passed)))
    record = msgspec.structs.replace(condense.run_record(run), spent=spent)
    return Condensed(record, tuple(tests), tuple(records[identity] for identity in sorted(records)))


def _kept(cluster: Cluster) -> Cluster:
    """Return a cluster without what is large and stands elsewhere."""
    return msgspec.structs.replace(
        cluster, exemplar=None, tests=(), waiting=(), why=cluster.why[:3], suspects=cluster.suspects[:3]
    )


def _with_status(item: Condensed, analysis: Analysis) -> Condensed:
    by_id = {cluster.id: cluster for cluster in analysis.clusters}
    records = tuple(
        msgspec.structs.replace(
            record,
            cluster=msgspec.structs.replace(record.cluster, status=by_id[record.cluster.id].status),
        )
        if record.cluster.id in by_id
        else record
        for record in item.clusters
    )
    return msgspec.structs.replace(item, clusters=records)


def _told_by_the_event(review: Review, event: Event) -> Review:
    return msgspec.structs.replace(
        review,
        commit=event.sha,
        event=event.name,
        pull_request=event.pull_request,
        repository=event.repository,
        workflow=event.title,
        ci_run=event.ci_run,
        attempt=event.attempt,
        url=event.url,
    )


def _told_by_the_runs(review: Review, group: Group) -> Review:
    """Return the review with what the runs say of themselves, where no event of GitHub says it."""
    for _, run in group.current:
        ci, git = run.context.ci, run.context.git
        record = condense.run_record(run)
        return msgspec.structs.replace(
            review,
            commit=ci.head or git.commit,
            event=ci.event,
            pull_request=condense.number(ci.pull_request),
            repository=ci.repository,
            workflow=ci.workflow,
            ci_run=condense.number(ci.run_id),
            attempt=record.attempt,
            url=ci.url,
        )
    return review


def with_links(rootdir: Path, review: Review) -> Review:
    """Return the review with the pages of the files that it names."""
    links, prefix = _links(rootdir, review)
    return msgspec.structs.replace(review, links=links, prefix=prefix)


def _links(rootdir: Path, review: Review) -> tuple[dict[str, str], str]:
    """Return pages of the tracked files that the review names, and where the project lies in its repository.

    Files of a traceback are what a test says: only what git knows becomes a link.
    """
    prefix = git(rootdir, "rev-parse", "--show-prefix", timeout=GIT_TIMEOUT) or ""
    files = {suspect.file for cluster in review.analysis.clusters for suspect in cluster.suspects}
    for cluster in (*review.analysis.clusters, *review.retried):
        if cluster.exemplar is not None:
            files |= {frame.file for error in cluster.exemplar.failure.errors for frame in error.frames}
    if not files or not review.commit:
        return {}, prefix
    tracked = set((git(rootdir, "ls-files", "-z", timeout=GIT_TIMEOUT) or "").split("\0"))
    server = review.url.partition(f"/{review.repository}/")[0] if review.repository and review.url else ""
    if not server.startswith(("https://", "http://")):
        return {}, prefix
    page = f"{server}/{quote(review.repository)}/blob/{quote(review.commit)}/"
    return {file: page + quote(prefix + file) for file in sorted(files & tracked)[:_LINKED]}, prefix
