"""`tracetriage diagnose [RUN]`: is it real, where is it, what do its failures share."""

from __future__ import annotations

import os
import time
from pathlib import Path

import click
from msgspec.structs import replace

from pytest_tracetriage.commands import pipeline
from pytest_tracetriage.commands.kept import kept_runs, latest_red
from pytest_tracetriage.commands.output import emit, styled, wants_colour, width
from pytest_tracetriage.commands.project import given, load_extensions, open_project, read_history
from pytest_tracetriage.commands.rerunning import progress_bar, pytest_words
from pytest_tracetriage.redact import Redactor, environment_secrets, folder_key, redact_by
from pytest_tracetriage.store.runs import encode_analysis, write_analysis


@click.command("diagnose")
@click.argument("run", required=False, metavar="[RUN]")
@click.option("--budget", metavar="MINUTES", type=click.FloatRange(min=0.0), default=10.0, show_default=True)
@click.option("--pytest", "pytest", metavar="COMMAND", help="how the project runs its tests (default: the setting `pytest`)")
@click.option("--no-changes", is_flag=True, help="leave out of the evidence what changed since the green run")
@click.option("--no-rerun", is_flag=True, help="run no tests: use what is recorded")
@click.option("--format", "style", type=click.Choice(["terminal", "json", "markdown"]), default="terminal", show_default=True)
@click.option("--output", type=click.Path(path_type=Path, dir_okay=False), help="write to a file instead of the terminal")
def command(
    run: str | None,
    budget: float,
    pytest: str | None,
    no_changes: bool,
    no_rerun: bool,
    style: str,
    output: Path | None,
) -> int:
    """Tell real failures from flaky and order-dependent ones, and where each cause lies.

    RUN is the beginning of a run's id; without it, the latest red run of this project. Tests are run again in a worktree
    outside of the project: your files, index and branches stay as they are. The result replaces the run's analysis.
    """
    deadline = time.monotonic() + 60 * budget
    settings = open_project()
    words = pytest_words(pytest, settings)
    kept = kept_runs(settings.folder)
    red = latest_red(kept, run)
    if red is None:
        none = f"no run in {settings.folder}: run `pytest --tracetriage` first" if not kept else "no kept run is red"
        raise click.UsageError(none)
    from pytest_tracetriage.commands.diagnosing import Case, diagnose  # noqa: PLC0415 - after the mistakes of a call

    hooks = load_extensions(settings)
    redact = Redactor(folder_key(settings.folder), environment_secrets(os.environ), redact_by(hooks))
    notes: list[str] = []
    history = read_history(settings.folder, before=red.folder.name)
    told = given(settings, history.known(), hooks, notes)
    summary = pipeline.read(pipeline.plan([red.folder], pipeline.BUILT_IN), pipeline.BUILT_IN, history.watch())
    with progress_bar(f"budget {budget:g} min ·", deadline) as progress:
        case = Case(settings, kept, red, summary, told, redact, words, deadline, progress)
        found = diagnose(case, changes=not no_changes, rerun=not no_rerun)
    found = replace(found, problems=(*found.problems, *pipeline.with_notes(found, notes).problems[len(found.problems) :]))
    found = redact.struct(found, type(found))  # what pytest and git said was not, so far
    write_analysis(red.folder, found)
    if trouble := pipeline.notify(hooks, found):
        click.echo(f"tracetriage: warning: {trouble}", err=True)
    if style == "json":
        emit(encode_analysis(found), output)
    elif style == "markdown":
        from pytest_tracetriage.report.markdown import diagnosis_markdown  # noqa: PLC0415

        emit(diagnosis_markdown(found, settings.folder / "policy" / "templates"), output)
    else:
        from pytest_tracetriage.report.diagnosis import diagnosis_lines  # noqa: PLC0415

        emit(styled(diagnosis_lines(found, width()), colour=output is None and wants_colour()), output)
    if style != "terminal":
        for problem in found.problems[:20]:
            where = f"{problem.file}:{problem.line}" if problem.line else problem.file
            click.echo(f"tracetriage: {where}: {problem.message}", err=True)
    return 1 if found.totals.failures or found.totals.stuck else 0
