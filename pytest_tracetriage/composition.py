"""Where the stages are put together for a pytest that records or selects: the composition root of the plugin."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_tracetriage.config import INI_OPTIONS, ConfigError, load
from pytest_tracetriage.redact import Redactor, environment_secrets, folder_key, redact_by
from pytest_tracetriage.store.runs import StoreError, new_run_id, prepare_folder, read_analysis, read_patterns, run_folders

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from pytest_tracetriage.capture.recorder import Recorder
    from pytest_tracetriage.capture.session import Accounted
    from pytest_tracetriage.capture.spans.watch import LocalWeave
    from pytest_tracetriage.capture.spans.weave_cloud import CloudWeave
    from pytest_tracetriage.config import Settings
    from pytest_tracetriage.model.analysis import Analysis
    from pytest_tracetriage.model.diagnosis import Pattern
    from pytest_tracetriage.model.run import Totals
    from pytest_tracetriage.origin import Project

_PREFIX = "tracetriage_"
_LOCAL_WEAVE: pytest.StashKey[LocalWeave] = pytest.StashKey()


def switch_on(config: pytest.Config, *, recording: bool) -> None:
    """Register what the options ask for. Raises pytest.UsageError for a setting that cannot be used."""
    if config.option.help or config.option.version:
        return
    try:
        settings = _settings(config, config.option)
        redactor = _redactor(config, settings)
        if config.option.tracetriage_select or config.option.tracetriage_rerun:
            _select(config, settings, redactor)
        if recording and not config.option.collectonly:
            _record(config, settings, redactor)
    except ConfigError as error:
        raise pytest.UsageError(f"tracetriage: {error}") from None


def watch_imports(config: pytest.Config, option: argparse.Namespace) -> None:
    """See from here on when the project imports weave or what it patches: its conftest files may be the first to."""
    from pytest_tracetriage.capture.spans.watch import LocalWeave  # noqa: PLC0415

    try:
        settings = _settings(config, option)
    except ConfigError:
        return  # told when the plugin is switched on
    if not settings.weave_project and not option.collectonly:
        config.stash[_LOCAL_WEAVE] = weave = LocalWeave(settings.components)
        config.add_cleanup(weave.stop)
        weave.start()


def _settings(config: pytest.Config, option: argparse.Namespace) -> Settings:
    overrides = {}
    if option.tracetriage_weave_project is not None:
        overrides["weave_project"] = option.tracetriage_weave_project
    if option.tracetriage_no_content:
        overrides["no_content"] = "true"
    if option.tracetriage_coverage:
        overrides["coverage"] = "true"
    for text in option.override_ini or ():
        key, _, value = text.partition("=")
        if key.startswith(_PREFIX):
            overrides[key[len(_PREFIX) :]] = value
    ini = {option.name: config.getini(_PREFIX + option.name) for option in INI_OPTIONS}
    ini = {name: value for name, value in ini.items() if value not in (None, "", [])}
    return load(config.rootpath, overrides=overrides, ini=ini, ini_file=str(config.inipath or "pytest's ini"))


def _redactor(config: pytest.Config, settings: Settings) -> Redactor:
    try:
        prepare_folder(settings.folder)
    except OSError:
        pass  # told once the writer meets it too
    return Redactor(folder_key(settings.folder), environment_secrets(os.environ), redact_by(config.hook))


def _select(config: pytest.Config, settings: Settings, redactor: Redactor) -> None:
    from pytest_tracetriage.capture.items import ItemFacts  # noqa: PLC0415
    from pytest_tracetriage.execute.selection import Selection, read_selection  # noqa: PLC0415

    def name_of(item: pytest.Item) -> str:
        return facts.names(item)[0]

    facts = ItemFacts(redactor)
    option = config.option
    if option.tracetriage_rerun:
        from pytest_tracetriage.commands.project import tests_of  # noqa: PLC0415

        config.pluginmanager.register(
            Selection(tests_of(settings, option.tracetriage_rerun), redactor, f"cluster {option.tracetriage_rerun}", name_of)
        )
    if option.tracetriage_select:
        path = config.invocation_params.dir / option.tracetriage_select
        try:
            wanted = read_selection(path)
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"--tracetriage-select: {path}: {getattr(error, 'strerror', None) or error}") from None
        selection = Selection(wanted, redactor, str(option.tracetriage_select), name_of)
        config.pluginmanager.register(selection, "tracetriage-selection")


def _record(config: pytest.Config, settings: Settings, redactor: Redactor) -> None:
    from pytest_tracetriage.capture.collection import CollectionWatch, WarningWatch  # noqa: PLC0415
    from pytest_tracetriage.capture.exemplars import SIGNATURE_ATTRIBUTE, Exemplars  # noqa: PLC0415
    from pytest_tracetriage.capture.items import FixtureWatch  # noqa: PLC0415
    from pytest_tracetriage.capture.recorder import Recorder  # noqa: PLC0415
    from pytest_tracetriage.capture.session import WORKER_INPUT, RunSession  # noqa: PLC0415
    from pytest_tracetriage.capture.spans.watch import ImportWatch  # noqa: PLC0415
    from pytest_tracetriage.origin import Project  # noqa: PLC0415
    from pytest_tracetriage.report.summary import TerminalSummary  # noqa: PLC0415
    from pytest_tracetriage.store.writer import Writer  # noqa: PLC0415

    worker_input: dict[str, Any] | None = getattr(config, "workerinput", None)
    is_worker = worker_input is not None
    if worker_input is not None:
        handed = worker_input.get(WORKER_INPUT)
        if handed is None:
            return
        run_folder, worker, render_all = Path(handed["run_folder"]), worker_input["workerid"], handed["all"]
    else:
        run_folder, worker, render_all = settings.folder / "runs" / new_run_id(time.time()), "main", False

    project = Project(str(config.rootpath), config.getini("python_files"))
    exemplars = Exemplars(config, settings.traceback, _signature, forced_all=render_all)
    writer = Writer(run_folder / "traces", worker)
    recorder = Recorder(config, writer, redactor, project, exemplars, worker, content=not settings.no_content)
    if settings.coverage:  # before the recorder, so that hooks of it find the recorder's done
        _watch_coverage(config, recorder, redactor, run_folder, worker)
    config.pluginmanager.register(recorder, "tracetriage-recorder")
    for watch in (FixtureWatch(recorder, recorder.name_of), CollectionWatch(recorder), WarningWatch(recorder)):
        config.pluginmanager.register(watch)
    config.add_cleanup(recorder.close)
    cloud = _weave(config, settings, redactor, recorder, run_folder, worker)
    opentelemetry = ImportWatch(frozenset({"opentelemetry.trace"}), _watch_opentelemetry, recorder.note)
    opentelemetry.start()
    config.add_cleanup(opentelemetry.stop)
    if config.pluginmanager.hasplugin("timeout"):
        from pytest_tracetriage.capture.collection import DeadlineWatch  # noqa: PLC0415

        config.pluginmanager.register(DeadlineWatch(recorder), "tracetriage-deadlines")
    if is_worker:
        return

    def analyse(folder: Path) -> tuple[Totals, Analysis | None]:
        if settings.coverage:
            _keep_coverage(folder, project, recorder)
        return _analyse(config, settings, folder, recorder)

    def remember(folder: Path) -> str:
        from pytest_tracetriage.commands.kept import remember_run  # noqa: PLC0415

        return remember_run(settings, folder, config.hook)

    # A few tests run again are no run of the suite: they would stand in the history as its newest.
    whole = not (config.option.tracetriage_rerun or config.option.tracetriage_select)
    remembering = remember if settings.history_after_run and whole else None
    tell = cloud.tell_run if cloud is not None else None
    session = RunSession(config, settings, redactor, run_folder, recorder, analyse, remembering, _account, tell)
    config.pluginmanager.register(session, "tracetriage-session")

    def patterns() -> Sequence[Pattern]:
        kept = read_patterns(settings.folder)
        return kept.patterns if kept is not None else ()

    config.pluginmanager.register(TerminalSummary(session, SIGNATURE_ATTRIBUTE, patterns), "tracetriage-summary")


def _watch_coverage(config: pytest.Config, recorder: Recorder, redactor: Redactor, run_folder: Path, worker: str) -> None:
    from pytest_tracetriage.capture.coverage import FOLDER, CoverageWatch, why_impossible  # noqa: PLC0415

    if reason := why_impossible():
        raise ConfigError(f"--tracetriage-coverage: {reason}")
    config.pluginmanager.register(
        CoverageWatch(config, recorder, run_folder / FOLDER, worker, redactor), "tracetriage-coverage"
    )


def _keep_coverage(folder: Path, project: Project, recorder: Recorder) -> None:
    """Make a map of what the processes of a finished run have recorded."""
    from pytest_tracetriage.collect.coverage import keep_coverage  # noqa: PLC0415

    try:
        problems = keep_coverage(folder, project)
    except Exception as error:
        recorder.note(error)
    else:
        recorder.trouble = recorder.trouble or next(iter(problems), "")


def _watch_opentelemetry(module: Any) -> None:
    from pytest_tracetriage.capture.spans.otel import watch  # noqa: PLC0415 - most projects never come here

    watch(module)


def _account(folder: Path, totals: Totals, analysis: Analysis | None) -> Accounted:
    """Return what a finished run has spent and logged, and the analysis with it. A run without spans imports no later stage."""
    from pytest_tracetriage.capture.session import Accounted  # noqa: PLC0415
    from pytest_tracetriage.collect.totals import holds_spans, pass_rate  # noqa: PLC0415

    if not holds_spans(folder):
        return Accounted(analysis, pass_rate(totals))
    from pytest_tracetriage.commands.accounts import accounts_of  # noqa: PLC0415
    from pytest_tracetriage.triage.spending import with_spending  # noqa: PLC0415

    found = accounts_of([folder])
    analysis = with_spending(analysis, found.spent, found.tests) if analysis is not None else None
    metrics = {**found.metrics, **pass_rate(totals)}
    return Accounted(analysis, dict(sorted(metrics.items())), found.spent, found.note, found.trouble)


def _weave(
    config: pytest.Config, settings: Settings, redactor: Redactor, recorder: Recorder, run_folder: Path, worker: str
) -> CloudWeave | None:
    """Connect weave: with the cloud, which is returned, where a project is set and it answers; else locally."""
    from pytest_tracetriage.capture.spans.watch import LocalWeave  # noqa: PLC0415

    if settings.weave_project:
        from pytest_tracetriage.capture.context import read_ci, read_git  # noqa: PLC0415
        from pytest_tracetriage.capture.items import ItemFacts  # noqa: PLC0415
        from pytest_tracetriage.capture.spans.weave_cloud import CloudWeave  # noqa: PLC0415

        def trouble(text: str) -> None:
            recorder.trouble = recorder.trouble or text

        facts, ci = ItemFacts(redactor), read_ci(os.environ, settings.leg)
        commit = ci.head or read_git(settings.rootdir, os.environ).commit
        attributes = {"run": run_folder.name, "worker": worker, "commit": commit, "pull_request": ci.pull_request}
        cloud = CloudWeave(
            settings.weave_project, settings.components, redactor, lambda item: facts.names(item)[0], run_folder, worker,
            {key: text for key, text in attributes.items() if text}, trouble, content=not settings.no_content,
        )  # fmt: skip
        unreachable = cloud.connect()
        if not unreachable:
            config.pluginmanager.register(cloud, "tracetriage-weave")
            recorder.before_close = cloud.stop
            config.add_cleanup(cloud.close)
            return cloud
        recorder.trouble = f"weave_project = {settings.weave_project}: traces are kept locally only: {unreachable}"
    local = config.stash.get(_LOCAL_WEAVE, None)
    if local is None:
        local = LocalWeave(settings.components)
        local.start()

    def stop() -> None:
        local.stop()
        recorder.trouble = recorder.trouble or local.problem

    recorder.before_close = stop
    return None


def _signature(failure: Any) -> str:
    from pytest_tracetriage.triage.signature import signature_id  # noqa: PLC0415 - a green run never comes here

    return signature_id(failure)


def _analyse(config: pytest.Config, settings: Settings, folder: Path, recorder: Recorder) -> tuple[Totals, Analysis | None]:
    """Return totals and analysis of a finished run. A green run with a clean past imports no later stage."""
    from pytest_tracetriage.collect.totals import count_run, totals_of  # noqa: PLC0415
    from pytest_tracetriage.model.analysis import Analysis, Source  # noqa: PLC0415

    red = recorder.red
    if red or config.pluginmanager.hasplugin("dsession"):
        totals, red = count_run(folder)
    else:
        totals = totals_of({**recorder.outcomes, "passed": recorder.outcomes.get("passed", 0) + recorder.passes})
    if recorder.red and recorder.writer.lost and not red:
        return totals, None  # what failed could not be written: better no word than "no failures"
    if not red and _clean_past(settings.folder, folder.name):
        return totals, Analysis((Source(folder.name, "tracetriage"),), totals, (), (), ())
    from pytest_tracetriage.commands.pipeline import analyse_run  # noqa: PLC0415

    analysis = analyse_run(settings, folder, config.hook)
    return analysis.totals, analysis


def _clean_past(folder: Path, current: str) -> bool:
    """Return whether no earlier run left a cluster open that could be fixed now."""
    for path in reversed(run_folders(folder)):
        if path.name < current:
            try:
                if any(cluster.seen != "fixed" for cluster in read_analysis(path).clusters):
                    return False
            except StoreError:
                continue
    return True
