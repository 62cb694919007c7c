"""A diagnosis as a whole: a map found or recorded, tests run again, triage with both, inputs and hypotheses."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field
from dataclasses import replace as with_
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec.structs import replace

from pytest_tracetriage.collect.condense import failed_traces
from pytest_tracetriage.collect.runs import attempts_of, before
from pytest_tracetriage.commands.accounts import accounts_of, inputs_of
from pytest_tracetriage.commands.kept import green_before
from pytest_tracetriage.commands.mapping import (
    BASE_FILE,
    RED_RUN,
    Asked,
    ancestors,
    changes_since,
    knows_enough,
    maps_of,
    neighbours,
    stand_in,
    stored_map,
)
from pytest_tracetriage.commands.pipeline import with_notes
from pytest_tracetriage.commands.rerunning import Budget, alone, brittle, in_context, with_alone
from pytest_tracetriage.diagnose.drift import drift
from pytest_tracetriage.diagnose.hypotheses import Beside, by_model, by_template, evidence_of
from pytest_tracetriage.diagnose.rerun import Recorded, Subject, ended, exemplars, verdict
from pytest_tracetriage.execute.claims import ExecuteError, cache_folder
from pytest_tracetriage.execute.process import prepare
from pytest_tracetriage.execute.run import DEFAULT_COMMAND
from pytest_tracetriage.execute.worktree import checkout, head
from pytest_tracetriage.llm import Model, ModelError
from pytest_tracetriage.model.analysis import Analysis, Suspect
from pytest_tracetriage.model.diagnosis import Diagnosis, MapUsed
from pytest_tracetriage.model.execution import Order
from pytest_tracetriage.model.trace import FAILING
from pytest_tracetriage.store.coverage import GREEN_FILE, RED_FILE, read_map, write_map
from pytest_tracetriage.store.history import HistoryError
from pytest_tracetriage.store.history.git_plumbing import Git, GitError, git_environment
from pytest_tracetriage.store.runs import StoreError, host, read_patterns, read_run
from pytest_tracetriage.triage.analyze import analyze
from pytest_tracetriage.triage.signature import signature_id
from pytest_tracetriage.triage.spectrum import Spectrum
from pytest_tracetriage.triage.spending import with_spending

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from pytest_tracetriage.collect.runs import Attempt
    from pytest_tracetriage.commands.kept import Kept
    from pytest_tracetriage.config import Settings
    from pytest_tracetriage.execute.worktree import Worktree
    from pytest_tracetriage.model.analysis import Cluster
    from pytest_tracetriage.model.execution import CoverageMap, Execution, TestRun
    from pytest_tracetriage.model.hypotheses import Cited, Hypothesis
    from pytest_tracetriage.model.run import Context
    from pytest_tracetriage.model.trace import Failure
    from pytest_tracetriage.redact import Redactor
    from pytest_tracetriage.triage.analyze import Given
    from pytest_tracetriage.triage.summary import Summary

SHARE = 0.6
"""Of the budget, what recording a map may take."""
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

    budget: Budget
    green: CoverageMap | None = None
    red: CoverageMap | None = None
    changes: Mapping[tuple[str, str], tuple[str, ...]] = field(default_factory=dict)
    gone: frozenset[tuple[str, str]] = frozenset()
    subjects: list[Subject] = field(default_factory=list)
    uncollected: tuple[Execution, ...] = ()
    """Files that could not be collected again."""
    together: Order | None = None
    """What became of the failing tests when all of them were run again in one process."""
    here: Context | None = None
    failures: dict[str, Failure] = field(default_factory=dict)
    """Of the run, by test."""


def diagnose(case: Case, *, changes: bool, rerun: bool) -> Diagnosis:
    """Return the diagnosis of a run. What could not be done is among its problems."""
    settings, red = case.settings, case.red
    state = _State(Budget(case.deadline, case.command, case.progress))
    problems = state.budget.problems
    attempts = attempts_of(red.folder)
    failing = [attempt.nodeid for attempt in attempts if attempt.outcome in FAILING]
    line = ancestors(settings, red.run.context.git.commit)
    spare: CoverageMap | None = None
    if failing:
        spare = stored_map(Asked(settings, case.kept, red, line, case.redact), failing, problems)
        state.green = spare if spare is not None and (not rerun or knows_enough(spare, failing)) else None
    try:
        state.red = read_map(red.folder, RED_FILE)
    except StoreError as error:
        problems.setdefault(str(error))
    broken = any("::" not in test for cluster in _open(red.analysis) for test in cluster.tests)
    if (failing or broken) and rerun:
        for trace in failed_traces(red.folder, set(failing)):
            if trace.failure is not None:
                state.failures.setdefault(trace.nodeid, trace.failure)
        try:
            _rerun(case, state, attempts, failing, line, changes=changes)
        except ExecuteError as error:
            problems.setdefault(f"no test was run again: {error}")
    elif changes and state.green is not None:
        _note_changes(case, state, settings.rootdir)
    state.green = state.green or spare
    if state.green is None:
        state.green = _of_red_run(case, state)
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


def _rerun(
    case: Case, state: _State, attempts: Sequence[Attempt], failing: Sequence[str], line: Sequence[str] | None, *, changes: bool
) -> None:
    settings, git = case.settings, case.red.run.context.git
    budget = state.budget
    seconds = {attempt.nodeid: attempt.seconds for attempt in attempts}
    if state.green is None and line is not None and _may_record(case):
        base = _base(case, line)
        if base:
            state.green = _recorded_at(case, state, base, attempts, failing)
    if state.green is None:
        state.green = _of_red_run(case, state)
    checked_out = head(settings.rootdir)
    same = not git.commit or git.commit == checked_out
    if git.dirty and not same:
        raise ExecuteError(f"the run had changes that were not committed, and {checked_out[:8]} is checked out meanwhile")
    with _tree(case, "" if same else git.commit, dirty=same, budget=budget) as tree:
        if changes and state.green is not None:
            _note_changes(case, state, tree.project)
        whole = [attempt.nodeid for attempt in attempts if attempt.outcome in FAILING - _ENDS_PROCESSES]
        recording = state.green is None and _may_record(case)
        if recording:
            chosen = neighbours(failing, attempts, SHARE * budget.left)
            whole = [
                attempt.nodeid
                for attempt in attempts
                if attempt.outcome not in _ENDS_PROCESSES and (chosen is None or attempt.nodeid in chosen)
            ]
        state.subjects = _chosen(_analysed(case, state), seconds, state)
        orders = [tuple(whole), *alone(state.subjects)]
        covered = recording or (state.red is None and _may_record(case))
        done = _covered(budget, tree, orders, seconds, coverage=covered)
        if done is None:
            return
        state.together, state.uncollected = done.orders[0], done.uncollected
        if covered:
            _take_maps(case, state, done, tree, recording=recording)
        state.here = _context_of(done)
        state.subjects = [
            with_(subject, context=ended(subject, done.orders[:1])) for subject in with_alone(state.subjects, done.orders[1:])
        ]
        state.subjects = in_context(budget, tree, state.subjects, attempts, seconds, ran_all=len(whole) == len(attempts))
        earlier = _earlier(case, state, attempts, whole if recording else [])
        state.subjects = brittle(budget, tree, state.subjects, earlier, seconds)


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


@contextmanager
def _tree(case: Case, commit: str, *, dirty: bool, budget: Budget) -> Iterator[Worktree]:
    settings = case.settings
    built = bool(settings.prepare)
    with checkout(
        settings.rootdir, commit, dirty=dirty, cache=cache_folder(), folder=settings.folder, take_ignored=not built
    ) as tree:
        budget.problems.update(dict.fromkeys(tree.problems))
        if built:
            prepare(tree, settings.prepare, timeout=max(1.0, budget.left))
        yield tree


def _base(case: Case, line: Sequence[str]) -> str:
    """Return the commit to record a green map at: the newest green one, else where the branch began, "" for none."""
    git = case.red.run.context.git
    places = {commit: number for number, commit in enumerate(line)}
    green = [item.run.context.git for item in green_before(case.kept, case.red)]
    known = [one.commit for one in green if one.commit in places and not one.dirty]
    known = [commit for commit in known if commit != git.commit or git.dirty]
    if known:
        return min(known, key=lambda commit: places[commit])
    reading = Git(("-C", str(case.settings.rootdir)), git_environment())
    for name in (f"origin/{git.base}", git.base) if git.base else ():
        try:
            base = reading.run("merge-base", git.commit, name).strip()
        except (GitError, HistoryError):
            continue
        if base != git.commit:
            return base
    return git.commit if git.dirty else ""


def _recorded_at(
    case: Case, state: _State, base: str, attempts: Sequence[Attempt], failing: Sequence[str]
) -> CoverageMap | None:
    """Return the map of a run at an earlier commit, None where it knows none of the failing tests."""
    budget = state.budget
    limit = SHARE * budget.left
    chosen = neighbours(failing, attempts, limit)
    try:
        with _tree(case, base, dirty=False, budget=budget) as tree:
            done = budget.tests(tree, chosen, limit, f"recording coverage at {base[:8]}")
            coverage = maps_of(done, tree.project)[0] if done is not None else None
    except ExecuteError as error:
        budget.problems.setdefault(f"no coverage was recorded at {base[:8]}: {error}")
        return None
    if coverage is None or not set(coverage.tests).intersection(failing):
        return None
    coverage = replace(coverage, commit=base, run="", source="recorded")
    write_map(case.red.folder, coverage, BASE_FILE)
    return coverage


def _of_red_run(case: Case, state: _State) -> CoverageMap | None:
    """Return what stands for a green map where the red run itself was recorded with coverage."""
    try:
        passing = read_map(case.red.folder, GREEN_FILE)
    except StoreError as error:
        state.budget.problems.setdefault(str(error))
        return None
    return stand_in(passing, state.red) if passing is not None else None


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


def _chosen(analysis: Analysis, seconds: Mapping[str, float], state: _State) -> list[Subject]:
    signatures = {test: signature_id(failure) for test, failure in state.failures.items()}
    return exemplars(_open(analysis), seconds, signatures)


def _earlier(case: Case, state: _State, attempts: Sequence[Attempt], whole: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Return what ran before tests where they passed: in this diagnosis, or in an earlier run of the same commit."""
    waiting = {subject.nodeid: subject for subject in state.subjects if subject.alone.always}
    found = {}
    for nodeid, subject in waiting.items():
        if subject.context.never and nodeid in whole:
            found[nodeid] = tuple(whole[: whole.index(nodeid)])
    commit = case.red.run.context.git.commit
    for item in reversed(case.kept):
        if item.run.id >= case.red.run.id or item.run.context.git.commit != commit or not waiting.keys() - found.keys():
            continue
        then = attempts_of(item.folder)
        for one in then:
            if one.nodeid in waiting and one.nodeid not in found and one.outcome == "passed":
                tests = before(one.nodeid, then)
                if _functions(tests) - _functions(before(one.nodeid, attempts)):
                    found[one.nodeid] = tests
    return found


def _functions(tests: Sequence[str]) -> set[str]:
    """Return the test functions of node ids: parameters may hold the time of day, or an address."""
    return {test.partition("[")[0] for test in tests}


# -- what changed -----------------------------------------------------------------------------------------------------


def _note_changes(case: Case, state: _State, root: Path) -> None:
    settings, context = case.settings, case.red.run.context
    assert state.green is not None
    git: Git | None = None
    prefix = ""
    if context.git.commit:
        git = Git(("-C", str(settings.rootdir)), git_environment())
        try:
            prefix = git.run("rev-parse", "--show-prefix").strip()
        except (GitError, HistoryError):
            git = None
    state.changes, state.gone = changes_since(state.green, root, git, context.git.commit, prefix, dirty=context.git.dirty)


def _drift(case: Case, state: _State, cluster: Cluster) -> list[str]:
    """Return what differs between the run of the green map, else the last green one, and the red one, beside the code."""
    green = state.green
    runs = [item for item in case.kept if green is not None and green.run and item.run.id == green.run]
    runs = runs or green_before(case.kept, case.red)[-1:]
    if not runs or cluster.exemplar is None:
        return []
    found = drift(runs[-1].run.context, case.red.run.context, (cluster.exemplar.failure,))
    return [f"{one.name} {one.before or 'missing'} -> {one.after or 'missing'}: {one.evidence}" for one in found[:3]]


def differences(one: Context, other: Context, first: str, second: str) -> tuple[str, ...]:
    """Return in words how two contexts differ: Python, platform, packages, CI."""
    pairs = [
        ("Python", f"{one.implementation} {one.python}", f"{other.implementation} {other.python}"),
        ("platform", one.platform, other.platform),
        *(
            (name, one.packages.get(name, "none"), other.packages.get(name, "none"))
            for name in sorted({*one.packages, *other.packages})
        ),
    ]
    told = [f"{name} {before} {first}, {after} {second}" for name, before, after in pairs if before != after]
    if one.ci.provider != other.ci.provider:
        told.append(f"{one.ci.provider or 'no CI'} {first}, {other.ci.provider or 'no CI'} {second}")
    return tuple(told)


# -- what is told -----------------------------------------------------------------------------------------------------


def _told(case: Case, state: _State, analysis: Analysis, attempts: Sequence[Attempt], failing: Sequence[str]) -> Diagnosis:
    spent = accounts_of([case.red.folder])
    analysis = with_spending(analysis, spent.spent, spent.tests)
    analysis = replace(analysis, clusters=_with_status(case, state, analysis, attempts))
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
            drift=_drift(case, state, cluster) if not state.changes else (),
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


def _with_status(case: Case, state: _State, analysis: Analysis, attempts: Sequence[Attempt]) -> tuple[Cluster, ...]:
    if state.together is None:
        return _as_before(case, analysis)
    red = case.red.run
    workers = {attempt.process for attempt in attempts} - {"main"}
    of = {attempt.nodeid: attempt for attempt in attempts}
    elsewhere = differences(red.context, state.here, "there", "here") if state.here is not None else ()
    changed = _written_since(case, state)
    timed_out = frozenset(attempt.nodeid for attempt in attempts if attempt.outcome == "timeout")
    found = []
    for cluster in analysis.clusters:
        own = [subject for subject in state.subjects if subject.nodeid in cluster.tests]
        signatures = frozenset(signature.id for signature in cluster.signatures)
        again = _together(cluster, signatures, state)
        first = (own or again)[:1]
        worker = of[first[0].nodeid].process if len(workers) > 1 and first and first[0].nodeid in of else ""
        recorded = Recorded(elsewhere, changed, worker, state.failures, timed_out)
        told = verdict(cluster, own or again[:2], recorded) if own or again else None
        if told is None or cluster.seen == "fixed":
            found.append(cluster)
            continue
        words = told.words
        passed = sum(subject.context.never for subject in again)
        if told.status == "real" and passed:
            words = f"{words}; {passed} of its {len(cluster.tests)} tests pass when run again"
        suspects = (*_left_behind(own), *cluster.suspects) if told.status == "order-dependent" else cluster.suspects
        found.append(replace(cluster, status=told.status, status_evidence=words, suspects=suspects))
    return tuple(found)


def _written_since(case: Case, state: _State) -> tuple[str, ...]:
    """Return the files of tests and tracebacks that were written after the run, where it ran here and they lie as they lay."""
    run = case.red.run
    if run.host != host():
        return ()
    if run.context.git.commit and head(case.settings.rootdir) != run.context.git.commit:
        return ()
    names = {test.partition("::")[0] for test in state.failures}
    frames = (frame for failure in state.failures.values() for error in failure.errors for frame in error.frames)
    names |= {frame.file for frame in frames if frame.origin in {"app", "test"}}
    found = []
    for name in sorted(names):
        try:
            if (case.settings.rootdir / name).stat().st_mtime > run.started:
                found.append(name)
        except OSError:
            found.append(name)
    return tuple(found)


def _left_behind(subjects: Sequence[Subject]) -> list[Suspect]:
    """Return the tests after which others fail as suspects."""
    found: dict[str, Suspect] = {}
    for subject in subjects:
        for test in subject.polluters:
            file, _, name = test.partition("[")[0].partition("::")
            words = f"{subject.nodeid} fails after it, {subject.proof.failed} of {subject.proof.ran} times, and passes alone"
            found.setdefault(test, Suspect(file, name.replace("::", "."), 0, 1.0, words))
    return list(found.values())


def _as_before(case: Case, analysis: Analysis) -> tuple[Cluster, ...]:
    """Return the clusters with what an earlier diagnosis of the run found out by running the same tests again."""
    before = {cluster.id: cluster for cluster in (case.red.analysis.clusters if case.red.analysis is not None else ())}
    found = []
    for cluster in analysis.clusters:
        old = before.get(cluster.id)
        if old is not None and old.tests == cluster.tests and cluster.seen != "fixed":
            cluster = replace(cluster, status=old.status, status_evidence=old.status_evidence)  # noqa: PLW2901
        found.append(cluster)
    return tuple(found)


def _together(cluster: Cluster, signatures: frozenset[str], state: _State) -> list[Subject]:
    """Return the tests of a cluster as they were run again with all other failing tests, files as they were collected again."""
    if state.together is None:
        return []
    again = Order((*state.together.executions, *state.uncollected))
    ran = {execution.nodeid for execution in again.executions}
    subjects = (Subject(test, cluster.id, signatures) for test in cluster.tests if test in ran)
    return [with_(subject, context=ended(subject, [again])) for subject in subjects]
