"""`tracetriage publish [SOURCE…]`: a review where people look on GitHub: summary, annotations, comment, check, history.

A fault of reporting never decides a job: it is told in one warning, and the suite's own exit status stands.
"""

from __future__ import annotations

import os
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec

from pytest_tracetriage.collect.artifact import accept
from pytest_tracetriage.commands import github_files
from pytest_tracetriage.commands.event import Event, read_event
from pytest_tracetriage.commands.grouping import group_of
from pytest_tracetriage.commands.past import github_token, open_past
from pytest_tracetriage.commands.project import load_extensions, open_project
from pytest_tracetriage.commands.report import comment_key, placed_annotations, rendered
from pytest_tracetriage.commands.reviewing import review_group
from pytest_tracetriage.commands.verdict import FailOn, reason_to_fail
from pytest_tracetriage.report.text import plural
from pytest_tracetriage.store.runs import run_folders

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pytest_tracetriage.commands.grouping import Group
    from pytest_tracetriage.commands.reviewing import Reviewed
    from pytest_tracetriage.config import Settings
    from pytest_tracetriage.govern.forge.checks import CheckAnnotation
    from pytest_tracetriage.govern.forge.github import GitHubForge
    from pytest_tracetriage.model.history import Condensed
    from pytest_tracetriage.model.review import Review
    from pytest_tracetriage.store.history.history import History

CHECK = "TraceTriage"
BUDGET = 45.0
"""Seconds that each thing told to GitHub may take, waits for a busy GitHub included."""


@dataclass
class _Faults:
    """What went wrong while reporting, each said once."""

    said: list[str] = field(default_factory=list)

    def note(self, text: str) -> None:
        line = " ".join(text.split())
        if line not in self.said:
            self.said.append(line)

    @contextmanager
    def caught(self, what: str) -> Iterator[None]:
        """Turn what a channel raises into a line."""
        try:
            yield
        except Exception as error:
            text = str(error) or type(error).__name__
            self.note(f"{what}: {text}" if type(error).__module__.startswith("pytest_tracetriage") else f"{what}: {error!r}")


class NothingToTell(Exception):  # noqa: N818 - it is what was found
    """There is no run to report; the text says where it was looked for."""


@dataclass(frozen=True)
class Wanted:
    """What the caller asks for."""

    comment: bool
    check: bool
    remember: bool
    fail_on: FailOn
    suite_exit: int | None


@click.command("publish")
@click.argument("sources", nargs=-1, metavar="[SOURCE]…", type=click.Path(path_type=Path))
@click.option("--base", metavar="BRANCH", default="", help="the branch to compare with (default: as the event says)")
@click.option("--history", metavar="LOCATION", help="where earlier runs are remembered (default: the setting `history`)")
@click.option("--remember/--no-remember", default=True, help="add the runs to the history (never those of a fork)")
@click.option("--comment/--no-comment", default=True, help="comment on the pull request")
@click.option("--check/--no-check", default=True, help="set a check run, or a commit status where the token may not")
@click.option(
    "--fail-on",
    type=click.Choice(["new", "real", "any", "never"]),
    default="any",
    show_default=True,
    help="which root causes make the exit status 1",
)
@click.option("--suite-exit", type=int, metavar="N", help="what the suite's own command ended with")
@click.option("--output", type=click.Path(path_type=Path, dir_okay=False), help="also write the comment's text to a file")
def command(
    sources: tuple[Path, ...],
    base: str,
    history: str | None,
    remember: bool,
    comment: bool,
    check: bool,
    fail_on: FailOn,
    suite_exit: int | None,
    output: Path | None,
) -> int:
    """Report a group of runs on GitHub: job summary, annotations, one comment, one check; for a workflow's job.

    SOURCE is a folder with runs, or a zip file as artifacts are; nothing in them is believed. Without SOURCE: the latest run.
    The token is taken from TRACETRIAGE_GITHUB_TOKEN or GITHUB_TOKEN. Outside of GitHub Actions only the text is made.
    """
    faults = _Faults()
    wanted = Wanted(comment, check, remember, fail_on, suite_exit)
    failing = "the suite failed" if suite_exit and fail_on != "never" else ""
    with faults.caught("nothing was reported"), tempfile.TemporaryDirectory(prefix="tracetriage-") as scratch:
        settings = open_project()
        event = read_event(os.environ)
        group = _group(settings, sources, Path(scratch), faults)
        past = None
        with faults.caught("the history could not be read"):
            past = open_past(settings, history)
        forge = _forge(event, wanted, faults)
        event = _with_pull(event, forge, group, faults)
        reviewed = _reviewed(settings, group, past, event, base, faults)
        failing = reason_to_fail(reviewed.review, fail_on, suite_exit)
        if problems := [problem for problem in reviewed.review.analysis.problems if problem not in group.problems]:
            first = problems[0]
            where = f"{first.file}:{first.line}" if first.line else first.file
            faults.note(f"{plural(len(problems), 'part')} of the traces could not be used, first {where}: {first.message}")
        _tell(settings, reviewed.review, event, forge, wanted, failing, output, faults)
        if past is not None and remember:
            _remember(past, reviewed, event, faults)
    if faults.said:
        github_files.say("warning", "TraceTriage", "; ".join(faults.said))
    if failing:
        click.echo(f"tracetriage: {failing} (--fail-on {fail_on})", err=True)
    return 1 if failing else 0


def _group(settings: Settings, sources: Sequence[Path], scratch: Path, faults: _Faults) -> Group:
    folders: list[Path] = []
    for number, source in enumerate(sources):
        unpacked = scratch / str(number)
        unpacked.mkdir()
        accepted = accept(source, unpacked)
        folders += accepted.runs
        for problem in accepted.refused:
            faults.note(f"{problem.file} {problem.message}")
    if not sources:
        folders = run_folders(settings.folder)[-1:]
    group = group_of(folders)
    for problem in group.problems:
        faults.note(f"{problem.file}: {problem.message}")
    if not group.runs:
        raise NothingToTell(f"no run was found in {', '.join(map(str, sources)) or settings.folder}")
    return group


def _forge(event: Event | None, wanted: Wanted, faults: _Faults) -> GitHubForge | None:
    """Return the way to GitHub, None where there is none: outside of it, without a token, or with one that cannot write."""
    token = github_token()
    if event is None or not (wanted.comment or wanted.check) or not event.repository:
        return None
    if event.from_fork and not event.triggered:
        github_files.say(
            "notice",
            "TraceTriage",
            "the token of a fork's pull request cannot comment: a workflow on workflow_run does, see the documentation",
        )
        return None
    if not token:
        faults.note("no token was given: neither comment nor check")
        return None
    from pytest_tracetriage.govern.forge.github import GitHubForge  # noqa: PLC0415

    with faults.caught("GitHub"):
        return GitHubForge(event.repository, token, os.environ.get("GITHUB_API_URL") or "https://api.github.com", BUDGET)
    return None


def _with_pull(event: Event | None, forge: GitHubForge | None, group: Group, faults: _Faults) -> Event | None:
    """Return the event with its pull request: looked for by head repository and commit, never taken from an artifact."""
    if event is None or forge is None or not event.searched:
        return event
    claims = [run.context.ci.pull_request for _, run in group.current]
    hint = next((int(claim) for claim in claims if claim.isascii() and claim.isdigit() and len(claim) < 10), 0)
    with faults.caught("the pull request could not be found"):
        number = forge.find_pull(event.head_repository, event.sha, hint, event.branch)
        return replace(event, pull_request=number, base=forge.base_branch(number)) if number else event
    return event


def _reviewed(
    settings: Settings, group: Group, past: History | None, event: Event | None, base: str, faults: _Faults
) -> Reviewed:
    """Return the review. A history that fails while it is asked costs what it knows, not the review."""
    hooks = load_extensions(settings)
    if past is not None:
        with faults.caught("the history could not be read"):
            return review_group(settings, group, past, event, hooks, base)
    return review_group(settings, group, None, event, hooks, base)


def _tell(
    settings: Settings,
    review: Review,
    event: Event | None,
    forge: GitHubForge | None,
    wanted: Wanted,
    failing: str,
    output: Path | None,
    faults: _Faults,
) -> None:
    text = str(rendered(review, "github", settings))
    if output is not None:
        with faults.caught("the report could not be written"):
            output.parent.mkdir(parents=True, exist_ok=True)
            output.write_text(text, encoding="utf-8")
    with faults.caught("the job summary could not be written"):
        github_files.append("GITHUB_STEP_SUMMARY", str(rendered(review, "github-summary", settings)))
    with faults.caught("the annotations could not be written"):
        click.echo(str(rendered(review, "github-annotations", settings)), nl=False)
    if event is not None and forge is not None:
        _tell_github(settings, review, event, forge, wanted, failing, text, faults)
    with faults.caught("the outputs could not be written"):
        red = [cluster for cluster in review.analysis.clusters if cluster.seen != "fixed"]
        github_files.outputs(
            {
                "run-id": review.legs[0].run if review.legs else "",
                "clusters": len(red),
                "new": sum(cluster.seen == "new" and cluster.status != "flaky" for cluster in red),
                "flaky": sum(cluster.status == "flaky" for cluster in red) + len(review.retried),
                "report": str(output.resolve()) if output is not None else "",
            }
        )


def _tell_github(
    settings: Settings,
    review: Review,
    event: Event,
    forge: GitHubForge,
    wanted: Wanted,
    failing: str,
    text: str,
    faults: _Faults,
) -> None:
    key = comment_key(review)
    if wanted.comment and event.pull_request:
        from pytest_tracetriage.govern.forge.errors import ForgeError, RefusedError  # noqa: PLC0415
        from pytest_tracetriage.report.github.marker import marker, read_data  # noqa: PLC0415

        def order(body: str) -> tuple[int, int] | None:
            data = read_data(body)
            return (data.ci_run, data.attempt) if data is not None else None

        try:
            forge.upsert_comment(event.pull_request, marker(key), text, (event.ci_run, event.attempt), order)
        except ForgeError as error:
            faults.note(f"comment: {error}")
            if not isinstance(error, RefusedError):
                return  # a GitHub that does not answer is not waited for twice
    elif wanted.comment and event.searched:
        faults.note("no open pull request has this commit as its head: no comment")
    if wanted.check and event.sha:
        from pytest_tracetriage.report.github.check import check  # noqa: PLC0415

        with faults.caught("check"):
            made = check(review, bool(failing), settings.folder / "policy" / "templates")
            name = f"{CHECK} ({event.workflow})" if event.workflow else CHECK
            forge.set_check(
                name,
                event.sha,
                title=made.title,
                summary=made.summary,
                conclusion=made.conclusion,
                text=made.text,
                annotations=_check_annotations(review) if event.triggered else (),
                details_url=event.url,
                external_id=f"{event.ci_run}",
            )


def _check_annotations(review: Review) -> list[CheckAnnotation]:
    """Return what a check carries where the job's own annotations would stand at another run and commit."""
    from pytest_tracetriage.govern.forge.checks import CheckAnnotation  # noqa: PLC0415

    return [
        CheckAnnotation(note.path, note.line, note.line, note.level, note.message, note.title)
        for note in placed_annotations(review)
    ]


def _remember(past: History, reviewed: Reviewed, event: Event | None, faults: _Faults) -> None:
    """Add the runs to the history. What a fork's artifact says is not remembered: it could call any failure flaky."""
    if event is not None and event.from_fork:
        return
    with faults.caught("the history was not written"):
        past.add(_trusted(reviewed, event))


def _trusted(reviewed: Reviewed, event: Event | None) -> list[Condensed]:
    """Return the runs with what the event says of branch and group in place of what they say themselves."""
    if event is None or not event.triggered:
        return list(reviewed.condensed)
    return [
        msgspec.structs.replace(
            item,
            run=msgspec.structs.replace(
                item.run,
                group=f"{event.group}{item.run.attempt}",
                branch=event.branch,
                base=event.base,
                event=event.name,
                repository=event.repository,
                workflow=event.workflow,
                ci_run=str(event.ci_run),
                pull_request=str(event.pull_request or ""),
            ),
        )
        for item in reviewed.condensed
    ]
