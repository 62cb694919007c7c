"""Where the stages are put together for a pytest that records or selects: the composition root of the plugin."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_tracetriage.config import INI_OPTIONS, ConfigError, load
from pytest_tracetriage.redact import Redactor, environment_secrets, folder_key, redact_by
from pytest_tracetriage.store.runs import StoreError, new_run_id, prepare_folder, read_analysis, run_folders

if TYPE_CHECKING:
    from pytest_tracetriage.capture.recorder import Recorder
    from pytest_tracetriage.config import Settings
    from pytest_tracetriage.model.analysis import Analysis
    from pytest_tracetriage.model.run import Totals

_PREFIX = "tracetriage_"


def switch_on(config: pytest.Config, *, recording: bool) -> None:
    """Register what the options ask for. Raises pytest.UsageError for a setting that cannot be used."""
    if config.option.help or config.option.version:
        return
    try:
        settings = _settings(config)
        redactor = _redactor(config, settings)
        if config.option.tracetriage_select or config.option.tracetriage_rerun:
            _select(config, settings, redactor)
        if recording and not config.option.collectonly:
            _record(config, settings, redactor)
    except ConfigError as error:
        raise pytest.UsageError(f"tracetriage: {error}") from None


def _settings(config: pytest.Config) -> Settings:
    overrides = {}
    for text in config.option.override_ini or ():
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
        from pytest_tracetriage.commands.lookup import tests_of  # noqa: PLC0415

        config.pluginmanager.register(
            Selection(tests_of(settings, option.tracetriage_rerun), redactor, f"cluster {option.tracetriage_rerun}", name_of)
        )
    if option.tracetriage_select:
        path = config.invocation_params.dir / option.tracetriage_select
        try:
            wanted = read_selection(path)
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"--tracetriage-select: {path}: {getattr(error, 'strerror', None) or error}") from None
        config.pluginmanager.register(Selection(wanted, redactor, str(option.tracetriage_select), name_of))


def _record(config: pytest.Config, settings: Settings, redactor: Redactor) -> None:
    from pytest_tracetriage.capture.collection import CollectionWatch, WarningWatch  # noqa: PLC0415
    from pytest_tracetriage.capture.exemplars import SIGNATURE_ATTRIBUTE, Exemplars  # noqa: PLC0415
    from pytest_tracetriage.capture.fixtures import FixtureWatch  # noqa: PLC0415
    from pytest_tracetriage.capture.recorder import Recorder  # noqa: PLC0415
    from pytest_tracetriage.capture.session import WORKER_INPUT, RunSession  # noqa: PLC0415
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
    recorder = Recorder(config, writer, redactor, project, exemplars, worker)
    config.pluginmanager.register(recorder, "tracetriage-recorder")
    for watch in (FixtureWatch(recorder), CollectionWatch(recorder), WarningWatch(recorder)):
        config.pluginmanager.register(watch)
    config.add_cleanup(recorder.close)
    if config.pluginmanager.hasplugin("timeout"):
        from pytest_tracetriage.capture.deadlines import DeadlineWatch  # noqa: PLC0415

        config.pluginmanager.register(DeadlineWatch(recorder), "tracetriage-deadlines")
    if is_worker:
        return

    def analyse(folder: Path) -> tuple[Totals, Analysis | None]:
        return _analyse(config, settings, folder, recorder)

    def remember(folder: Path) -> str:
        from pytest_tracetriage.commands.remembering import remember_run  # noqa: PLC0415

        return remember_run(settings, folder, config.hook)

    # A few tests run again are no run of the suite: they would stand in the history as its newest.
    whole = not (config.option.tracetriage_rerun or config.option.tracetriage_select)
    remembering = remember if settings.history_after_run and whole else None
    session = RunSession(config, settings, redactor, run_folder, recorder, analyse, remembering)
    config.pluginmanager.register(session, "tracetriage-session")
    config.pluginmanager.register(TerminalSummary(session, SIGNATURE_ATTRIBUTE), "tracetriage-summary")


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
