"""A diagnosis as a whole: a map found or recorded, tests run again, triage with both, inputs and hypotheses."""

from __future__ import annotations

from dataclasses import dataclass, field
from dataclasses import replace as with_
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec.structs import replace

from pytest_tracetriage.collect.condense import failed_traces
from pytest_tracetriage.collect.runs import attempts_of
from pytest_tracetriage.commands.accounts import accounts_of, inputs_of
from pytest_tracetriage.commands.kept import in_part
from pytest_tracetriage.commands.mapping import (
    BASE_FILE,
    RED_RUN,
    SHARE,
    Asked,
    ancestors,
    base_commit,
    changes_since,
    knows_enough,
    maps_of,
    neighbours,
    of_red_run,
    recorded_at,
    stand_in,
    stored_map,
)
from pytest_tracetriage.commands.pipeline import with_notes
from pytest_tracetriage.commands.rerunning import Budget, alone, brittle, in_context, with_alone, worktree_of
from pytest_tracetriage.commands.witnesses import Drifted, Reran, drift_of, passed_after, with_drift, with_status
from pytest_tracetriage.diagnose.hypotheses import Beside, by_model, by_template, evidence_of
from pytest_tracetriage.diagnose.rerun import Subject, ended, exemplars
from pytest_tracetriage.execute.claims import ExecuteError, cache_folder, tidy
from pytest_tracetriage.execute.run import DEFAULT_COMMAND
from pytest_tracetriage.execute.worktree import head
from pytest_tracetriage.llm import Model, ModelError
from pytest_tracetriage.model.analysis import Analysis
from pytest_tracetriage.model.diagnosis import Diagnosis, MapUsed
from pytest_tracetriage.model.trace import FAILING
from pytest_tracetriage.store.coverage import RED_FILE, read_map, write_map
from pytest_tracetriage.store.runs import StoreError, read_patterns, read_run
from pytest_tracetriage.triage.analyze import analyze
from pytest_tracetriage.triage.signature import signature_id
from pytest_tracetriage.triage.spectrum import Spectrum
from pytest_tracetriage.triage.spending import with_spending

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pytest_tracetriage.collect.runs import Attempt
    from pytest_tracetriage.commands.kept import Kept
    from pytest_tracetriage.config import Settings
    from pytest_tracetriage.execute.worktree import Worktree
    from pytest_tracetriage.model.analysis import Cluster
    from pytest_tracetriage.model.execution import CoverageMap, TestRun
    from pytest_tracetriage.model.hypotheses import Cited, Hypothesis
    from pytest_tracetriage.model.run import Context
    from pytest_tracetriage.redact import Redactor
    from pytest_tracetriage.triage.analyze import Given
    from pytest_tracetriage.triage.summary import Summary

_ENDS_PROCESSES = frozenset({"crashed", "timeout", "stuck"})
NO_COVERAGE = "no coverage: pip install 'pytest-tracetriage[coverage]' where the tests run, and suspects become more certain"


@dataclass(frozen=True)
class Case:
    """What is diagnosed: a red run, read as a summary, and what is known beside it. `deadline` is of the monotonic clock."""

    settings: Settings
    kept: Sequence[Kept]
    red: Kept
    summary: Summary
    told: Given
    redact: Redactor
    command: tuple[str, ...]
    deadline: float
    progress: Callable[[str, int, int], None]


@dataclass
class _State:
    """What is known so far."""

    asked: Asked
    budget: Budget
    green: CoverageMap | None = None
    red: CoverageMap | None = None
    changes: Mapping[tuple[str, str], tuple[str, ...]] = field(default_factory=dict)
    gone: frozenset[tuple[str, str]] = frozenset()
    compared: bool = False
    """Whether it is known which functions changed since the green map."""
    reran: Reran = field(default_factory=Reran)


def diagnose(case: Case, *, changes: bool, rerun: bool) -> Diagnosis:
    """Return the diagnosis of a run. What could not be done is among its problems."""
    settings, red = case.settings, case.red
    tidy(cache_folder())
    line = ancestors(settings, red.run.context.git.commit)
    asked = Asked(settings, case.kept, red, line, case.redact)
    state = _State(asked, Budget(case.deadline, case.command, case.progress))
    problems = state.budget.problems
    attempts = attempts_of(red.folder)
    failing = [attempt.nodeid for attempt in attempts if attempt.outcome in FAILING]
    spare: CoverageMap | None = None
    if failing:
        spare = stored_map(asked, failing, problems)
        state.green = spare if spare is not None and (not rerun or knows_enough(spare, failing)) else None
    try:
        state.red = read_map(red.folder, RED_FILE)
    except StoreError as error:
        problems.setdefault(str(error))
    broken = any("::" not in test for cluster in _open(red.analysis) for test in cluster.tests)
    if (failing or broken) and rerun:
        for trace in failed_traces(red.folder, set(failing)):
            if trace.failure is not None:
                state.reran.failures.setdefault(trace.nodeid, trace.failure)
        try:
            _rerun(case, state, attempts, failing, changes=changes)
        except ExecuteError as error:
            problems.setdefault(f"no test was run again: {error}")
    elif changes and state.green is not None:
        _compare(state, state.green, settings.rootdir)
    state.green = state.green or spare
    if state.green is None:
        state.green = of_red_run(case.red, state.red, state.budget.problems)
    return _told(case, state, _analysed(case, state), attempts, failing)


def _open(analysis: Analysis | None) -> list[Cluster]:
    return [cluster for cluster in (analysis.clusters if analysis is not None else ()) if cluster.seen != "fixed"]


def _analysed(case: Case, state: _State) -> Analysis:
    known = Spectrum(
        state.green,
        state.red if state.green is not None and state.green.source != RED_RUN else None,
        state.changes,
        state.gone,
    )
    return analyze(case.summary, with_(case.told, coverage=known if state.green is not None else None))


# -- running tests ----------------------------------------------------------------------------------------------------


def _rerun(case: Case, state: _State, attempts: Sequence[Attempt], failing: Sequence[str], *, changes: bool) -> None:
    settings, git = case.settings, case.red.run.context.git
    budget, reran = state.budget, state.reran
    seconds = {attempt.nodeid: attempt.seconds for attempt in attempts}
    if state.green is None and state.asked.line is not None and _may_record(case) and (base := base_commit(state.asked)):
        state.green = recorded_at(state.asked, base, attempts, failing, budget)
    if state.green is None:
        state.green = of_red_run(case.red, state.red, state.budget.problems)
    checked_out = head(settings.rootdir)
    same = not git.commit or git.commit == checked_out
    if git.dirty and not same:
        raise ExecuteError(f"the run had changes that were not committed, and {checked_out[:8]} is checked out meanwhile")
    with worktree_of(settings, "" if same else git.commit, budget, dirty=same) as tree:
        if changes and state.green is not None:
            _compare(state, state.green, tree.project)
        whole = [attempt.nodeid for attempt in attempts if attempt.outcome in FAILING - _ENDS_PROCESSES]
        recording = state.green is None and _may_record(case)
        if recording:
            chosen = neighbours(failing, attempts, SHARE * budget.left, budget.problems)
            whole = [
                attempt.nodeid
                for attempt in attempts
                if attempt.outcome not in _ENDS_PROCESSES and (chosen is None or attempt.nodeid in chosen)
            ]
        signatures = {test: signature_id(failure) for test, failure in reran.failures.items()}
        reran.subjects = exemplars(_open(_analysed(case, state)), seconds, signatures)
        orders = [tuple(whole), *alone(reran.subjects)]
        covered = recording or (state.red is None and _may_record(case))
        done = _covered(budget, tree, orders, seconds, coverage=covered)
        if done is None:
            return
        reran.together, reran.uncollected = done.orders[0], done.uncollected
        if covered:
            _take_maps(case, state, done, tree, recording=recording)
        reran.here = _context_of(done)
        reran.subjects = [
            with_(subject, context=ended(subject, done.orders[:1])) for subject in with_alone(reran.subjects, done.orders[1:])
        ]
        reran.subjects = in_context(budget, tree, reran.subjects, attempts, seconds, ran_all=len(whole) == len(attempts))
        earlier = _earlier(case, reran.subjects, attempts, whole if recording else [])
        reran.subjects = brittle(budget, tree, reran.subjects, earlier, seconds)
        if in_part(case.red.run, attempts):
            _after_files(state, tree, attempts, seconds)


def _after_files(state: _State, tree: Worktree, attempts: Sequence[Attempt], seconds: Mapping[str, float]) -> None:
    """Run tests that fail alone after the other tests of their file, then after those of all files that ran."""
    files = tuple(dict.fromkeys(attempt.nodeid.partition("::")[0] for attempt in attempts))
    for near in (True, False):
        waiting = [one.nodeid for one in state.reran.subjects if one.alone.always and not one.proof.ran and "::" in one.nodeid]
        earlier = {name: (name.partition("::")[0],) if near else files for name in waiting if near or len(files) > 1}
        state.reran.subjects = brittle(state.budget, tree, state.reran.subjects, earlier, seconds)


def _earlier(
    case: Case, subjects: Sequence[Subject], attempts: Sequence[Attempt], whole: Sequence[str]
) -> dict[str, tuple[str, ...]]:
    """Return what ran before tests where they passed: in this diagnosis, or in an earlier run of the same commit."""
    waiting = {subject.nodeid: subject for subject in subjects if subject.alone.always}
    found = {name: tuple(whole[: whole.index(name)]) for name, one in waiting.items() if one.context.never and name in whole}
    return {**passed_after(case.kept, case.red, waiting.keys() - found.keys(), attempts), **found}


def _compare(state: _State, green: CoverageMap, root: Path) -> None:
    state.changes, state.gone = changes_since(green, state.asked, root)
    state.compared = green.source != RED_RUN


def _covered(
    budget: Budget, tree: Worktree, orders: Sequence[tuple[str, ...]], seconds: Mapping[str, float], *, coverage: bool
) -> TestRun | None:
    """Run the orders with coverage, and without it where the project's Python has none."""
    before = set(budget.problems)
    done = budget.orders(tree, orders, seconds, "reruns", coverage=coverage)
    told = [problem for problem in budget.problems if problem not in before and "--tracetriage-coverage" in problem]
    if done is None and coverage and told:
        for problem in told:
            del budget.problems[problem]
        budget.problems.setdefault(NO_COVERAGE)
        return budget.orders(tree, orders, seconds, "reruns")
    return done


def _may_record(case: Case) -> bool:
    """Return whether coverage can be recorded, as far as that is known before: another Python may have it or not."""
    return case.command != DEFAULT_COMMAND or find_spec("coverage") is not None


def _take_maps(case: Case, state: _State, done: TestRun, tree: Worktree, *, recording: bool) -> None:
    """Take the maps that reruns left: of the failing tests, and of the others where there is no green map."""
    green, red = maps_of(done, tree.project)
    if green is None and red is None:
        state.budget.problems.setdefault("reruns: no coverage was recorded")
    if red is not None:
        state.red = replace(red, commit=case.red.run.context.git.commit, run=case.red.run.id, source="recorded")
        write_map(case.red.folder, state.red, RED_FILE)
    if recording and (found := stand_in(green, red)) is not None:
        state.green = found
        write_map(case.red.folder, found, BASE_FILE)


def _context_of(done: TestRun) -> Context | None:
    try:
        return read_run(Path(done.folder)).context if done.folder else None
    except StoreError:
        return None


def _drifted(case: Case, state: _State, cluster: Cluster) -> Drifted | None:
    """Return what differs beside the code since a cluster was green; None where that is not known, or the code explains it."""
    unclear = cluster.status == "" and cluster.status_evidence
    if cluster.seen == "fixed" or unclear or cluster.status not in {"", "real", "environment"}:
        return None
    found = drift_of(case.kept, cluster.id, case.settings.rootdir, case.red, cluster)
    return found if found is not None and (found.same_code or (state.compared and not state.changes)) else None


# -- what is told -----------------------------------------------------------------------------------------------------


def _told(case: Case, state: _State, analysis: Analysis, attempts: Sequence[Attempt], failing: Sequence[str]) -> Diagnosis:
    spent = accounts_of([case.red.folder])
    analysis = with_spending(analysis, spent.spent, spent.tests)
    statuses = with_status(analysis, case.red, case.settings.rootdir, state.reran, attempts)
    drifted = ((cluster, _drifted(case, state, cluster)) for cluster in statuses)
    analysis = replace(analysis, clusters=tuple(with_drift(one, found) if found else one for one, found in drifted))
    problems = state.budget.problems
    inputs = inputs_of([case.red.folder], analysis)
    kept = read_patterns(case.settings.folder)
    subjects = {cluster.id for cluster in analysis.clusters} | {test for c in analysis.clusters for test in c.tests}
    patterns = tuple(one for one in (kept.patterns if kept is not None else ()) if one.subject in subjects)
    settings = case.settings
    model = Model(settings.model, settings.model_tokens, case.redact) if settings.model else None
    evidence: dict[str, tuple[Cited, ...]] = {}
    hypotheses: list[Hypothesis] = []
    for cluster in analysis.clusters:
        if cluster.seen == "fixed":
            continue
        beside = Beside(
            shared=next((one for one in inputs.shared if one.cluster == cluster.id), None),
            prompts=[one for one in inputs.prompts if one.cluster == cluster.id],
            drift=[f"{one.file} {one.function}: {one.evidence}" for one in cluster.suspects if one.kind == "dependency"],
            patterns=[one.words for one in patterns if one.subject == cluster.id or one.subject in cluster.tests][:5],
            steps=[trace for trace in analysis.traces if trace.nodeid in cluster.tests],
        )
        cited = evidence[cluster.id] = evidence_of(cluster, beside)
        hypotheses += _hypotheses(cluster, cited, model, problems)
    green = state.green
    used = None
    if green is not None:
        knows = len(set(green.tests).intersection(failing))
        used = MapUsed(green.source, len(green.tests), knows, len(failing), green.commit, green.run)
    analysis = with_notes(analysis, [*([spent.trouble] if spent.trouble else []), *problems])
    return Diagnosis(
        **{name: getattr(analysis, name) for name in Analysis.__struct_fields__},
        coverage=used,
        shared=inputs.shared,
        prompts=inputs.prompts,
        wastes=inputs.wastes,
        patterns=patterns,
        evidence=evidence,
        hypotheses=tuple(hypotheses),
        asked=model.used if model is not None and model.used.model else None,
        reruns=state.budget.spent,
    )


def _hypotheses(
    cluster: Cluster, cited: tuple[Cited, ...], model: Model | None, problems: dict[str, None]
) -> tuple[Hypothesis, ...]:
    if model is not None:
        try:
            if found := by_model(cluster, cited, model):
                return found
            problems.setdefault(f"{model.name}: nothing that cites evidence, so hypotheses are made by template")
        except ModelError as error:
            problems.setdefault(f"{error}; hypotheses are made by template")
    return by_template(cluster, cited)
