"""`tracetriage report [SOURCE…]`: what GitHub would show of a group of runs, without GitHub."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec

from pytest_tracetriage.commands.diagnosed import found_in, with_diagnosis
from pytest_tracetriage.commands.grouping import group_of, run_folders_in
from pytest_tracetriage.commands.kept import open_past, with_patterns
from pytest_tracetriage.commands.output import emit, terminal_text
from pytest_tracetriage.commands.pipeline import BESIDE
from pytest_tracetriage.commands.project import load_extensions, open_project
from pytest_tracetriage.commands.reviewing import review_group
from pytest_tracetriage.store.runs import encode_analysis, run_folders

if TYPE_CHECKING:
    from pytest_tracetriage.config import Settings
    from pytest_tracetriage.model.review import Review
    from pytest_tracetriage.report.github.annotations import Annotation

FORMATS = ("github", "github-summary", "github-annotations", "terminal", "markdown", "json")


@click.command("report")
@click.argument("sources", nargs=-1, metavar="[SOURCE]…", type=click.Path(path_type=Path, exists=True))
@click.option("--format", "style", type=click.Choice(FORMATS), default="github", show_default=True)
@click.option("--base", metavar="BRANCH", default="", help="the branch to compare with (default: the one the runs name)")
@click.option("--history", metavar="LOCATION", help="where earlier runs are remembered (default: the setting `history`)")
@click.option("--output", type=click.Path(path_type=Path, dir_okay=False), help="write to a file instead of the terminal")
def command(sources: tuple[Path, ...], style: str, base: str, history: str | None, output: Path | None) -> int:
    """Report one group of runs: the shards and legs of a workflow run as one, beside the base branch.

    SOURCE is a run's folder or a folder of such folders. Without SOURCE: the latest run of this project. The formats are the
    pull request comment (github), the job summary, the annotations as workflow commands, and those of `tracetriage analyze`.
    """
    settings = open_project()
    hooks = load_extensions(settings)
    folders = run_folders_in(sources) if sources else run_folders(settings.folder)[-1:]
    if not folders:
        where = f"in {', '.join(map(str, sources))}" if sources else f"in {settings.folder}: run `pytest --tracetriage` first"
        raise click.UsageError(f"no run {where}")
    past = open_past(settings, history)
    group = group_of(folders)
    review = with_patterns(review_group(settings, group, past, None, hooks, base).review, past, settings)
    if found := found_in(folder for folder, _ in group.current):
        review = with_diagnosis(review, found, settings.rootdir)
    emit(rendered(review, style, settings, output), output)
    for problem in [problem for problem in review.analysis.problems if problem.file != BESIDE][:20]:
        click.echo(f"tracetriage: {problem.file}: {problem.message}", err=True)
    for note in (*found.problems, *review.notes):
        click.echo(f"tracetriage: {note}", err=True)
    return 1 if review.analysis.totals.failures or review.analysis.totals.stuck else 0


def rendered(review: Review, style: str, settings: Settings, output: Path | None = None) -> str | bytes:
    """Return a review in one of the formats."""
    overrides = settings.folder / "policy" / "templates"
    if style == "github":
        from pytest_tracetriage.report.github.bodies import comment  # noqa: PLC0415

        return comment(review, comment_key(review), overrides)
    if style == "github-summary":
        from pytest_tracetriage.report.github.bodies import summary  # noqa: PLC0415

        return summary(review, overrides)
    if style == "github-annotations":
        from pytest_tracetriage.report.github.annotations import workflow_commands  # noqa: PLC0415

        return workflow_commands(placed_annotations(review))
    if style == "markdown":
        from pytest_tracetriage.report.markdown import analysis_markdown  # noqa: PLC0415

        return analysis_markdown(review.analysis, overrides)
    if style == "json":
        return encode_analysis(review.analysis)
    return terminal_text(review.analysis, 0, output)


def placed_annotations(review: Review) -> list[Annotation]:
    """Return the annotations of a review with paths from the root of the repository, as GitHub wants them."""
    from pytest_tracetriage.report.github.annotations import annotations  # noqa: PLC0415

    return [msgspec.structs.replace(note, path=review.prefix + note.path) for note in annotations(review)]


def comment_key(review: Review) -> str:
    """Return what tells the comments of two workflows on one pull request apart."""
    return review.workflow or "local"
