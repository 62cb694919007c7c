"""`tracetriage publish [SOURCE…]`: a review where people look on GitHub: summary, annotations, comment, check, history.

A fault of reporting never decides a job: it is told in one warning, and the suite's own exit status stands.
"""

from __future__ import annotations

import os
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click
import msgspec

from pytest_tracetriage.collect.artifact import accept
from pytest_tracetriage.commands.channels import Faults, Wanted, remember, say, tell
from pytest_tracetriage.commands.diagnosed import found_in, with_diagnosis
from pytest_tracetriage.commands.grouping import Event, group_of, read_event, worst_exit
from pytest_tracetriage.commands.kept import github_token, open_past, with_patterns
from pytest_tracetriage.commands.pipeline import BESIDE
from pytest_tracetriage.commands.project import load_extensions, open_project
from pytest_tracetriage.commands.reviewing import review_group
from pytest_tracetriage.report.text import plural
from pytest_tracetriage.store.runs import run_folders

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_tracetriage.commands.grouping import Group
    from pytest_tracetriage.commands.reviewing import Reviewed
    from pytest_tracetriage.config import Settings
    from pytest_tracetriage.govern.forge.github import GitHubForge
    from pytest_tracetriage.model.analysis import Cluster
    from pytest_tracetriage.model.review import Review
    from pytest_tracetriage.store.history.history import History


BUDGET = 45.0
"""Seconds that each thing told to GitHub may take, waits for a busy GitHub included."""
FailOn = Literal["new", "real", "any", "never"]
_EXPLAINED = frozenset({0, 1})
"""Exit statuses of pytest that its tests explain: all passed, some failed."""


class NothingToTell(Exception):  # noqa: N818 - it is what was found
    """There is no run to report; the text says where it was looked for."""


@click.command("publish")
@click.argument("sources", nargs=-1, metavar="[SOURCE]…", type=click.Path(path_type=Path))
@click.option("--base", metavar="BRANCH", default="", help="the branch to compare with (default: as the event says)")
@click.option("--history", metavar="LOCATION", help="where earlier runs are remembered (default: the setting `history`)")
@click.option(
    "--remember/--no-remember", "remembering", default=True, help="add the runs to the history (never those of a fork)"
)
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
@click.option("--legs-failed", is_flag=True, help="a job whose runs these are failed: where no test did, something else has")
@click.option("--output", type=click.Path(path_type=Path, dir_okay=False), help="also write the comment's text to a file")
def command(
    sources: tuple[Path, ...],
    base: str,
    history: str | None,
    remembering: bool,
    comment: bool,
    check: bool,
    fail_on: FailOn,
    suite_exit: int | None,
    legs_failed: bool,
    output: Path | None,
) -> int:
    """Report a group of runs on GitHub: job summary, annotations, one comment, one check; for a workflow's job.

    SOURCE is a folder with runs, or a zip file as artifacts are; nothing in them is believed. Without SOURCE: the latest run.
    The token is taken from TRACETRIAGE_GITHUB_TOKEN or GITHUB_TOKEN. Outside of GitHub Actions only the text is made.
    """
    faults = Faults()
    wanted = Wanted(comment, check)
    failing = "the suite failed" if suite_exit and fail_on != "never" else ""
    with faults.caught("nothing was reported"), tempfile.TemporaryDirectory(prefix="tracetriage-") as scratch:
        settings = open_project()
        event = read_event(os.environ)
        group = _group(settings, sources, event, Path(scratch), faults)
        if not group.runs and not suite_exit:
            raise NothingToTell(f"no run was found in {', '.join(map(str, sources)) or settings.folder}")
        event = _speaking_for(event, group)
        if suite_exit is None:  # the legs forgave their failing tests, as `fail_on` does not: nobody else remembers them
            suite_exit = max(worst_exit(group) or 0, int(legs_failed))
            failing = f"a suite ended with exit status {suite_exit}" if suite_exit and fail_on != "never" else ""
        past = None
        with faults.caught("the history could not be read"):
            past = open_past(settings, history)
        forge = _forge(event, wanted, faults)
        event = _with_pull(event, forge, group, faults)
        reviewed = _reviewed(settings, group, past, event, base, faults)
        failing = reason_to_fail(reviewed.review, fail_on, suite_exit)
        review = msgspec.structs.replace(reviewed.review, failed=unexplained(reviewed.review, suite_exit))
        with faults.caught("patterns could not be looked for"):
            review = with_patterns(review, past, settings)
        with faults.caught("what was diagnosed could not be used"):
            review = _with_diagnosis(review, group, settings, event, faults)
        problems = [problem for problem in review.analysis.problems if problem not in group.problems]
        for problem in problems:
            if problem.file == BESIDE:
                faults.note(problem.message)
        if problems := [problem for problem in problems if problem.file != BESIDE]:
            first = problems[0]
            where = f"{first.file}:{first.line}" if first.line else first.file
            faults.note(f"{plural(len(problems), 'part')} of the traces could not be used, first {where}: {first.message}")
        tell(settings, review, event, forge, wanted, failing, output, faults)
        if past is not None and remembering:
            remember(past, reviewed, [folder for folder, _ in group.runs], event, faults)
    if faults.said:
        say("warning", "TraceTriage", "; ".join(faults.said))
    if failing:
        click.echo(f"tracetriage: {failing} (--fail-on {fail_on})", err=True)
    return 1 if failing else 0


def _group(settings: Settings, sources: Sequence[Path], event: Event | None, scratch: Path, faults: Faults) -> Group:
    folders: list[Path] = []
    for number, source in enumerate(sources):
        if event is not None and event.triggered and _mixed(source.resolve(), settings.folder.resolve()):
            faults.note(f"{source} refused: what it brings would pass for the project's own; download to a folder outside")
            continue
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
    return group


def _mixed(source: Path, folder: Path) -> bool:
    """Return whether an artifact lies in or around the project's own folder: templates, decisions and runs are believed."""
    return source.is_relative_to(folder) or folder.is_relative_to(source)


def _speaking_for(event: Event | None, group: Group) -> Event | None:
    """Return the event with its job only where all the runs are that job's own."""
    if event is None or all(run.context.ci.job == event.job for _, run in group.current):
        return event
    return replace(event, job="")


def _forge(event: Event | None, wanted: Wanted, faults: Faults) -> GitHubForge | None:
    """Return the way to GitHub, None where there is none: outside of it, without a token, or with one that cannot write."""
    token = github_token()
    if event is None or not (wanted.comment or wanted.check) or not event.repository:
        return None
    if event.from_fork and not event.triggered:
        say(
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


def _with_pull(event: Event | None, forge: GitHubForge | None, group: Group, faults: Faults) -> Event | None:
    """Return the event with its pull request: looked for by head repository and commit, never taken from an artifact."""
    if event is None or forge is None or not event.searched:
        return event
    claims = [run.context.ci.pull_request for _, run in group.current]
    hint = next((int(claim) for claim in claims if claim.isascii() and claim.isdigit() and len(claim) < 10), 0)
    with faults.caught("the pull request could not be found"):
        number = forge.find_pull(event.head_repository, event.sha, hint, event.branch)
        return replace(event, pull_request=number, base=forge.base_branch(number)) if number else event
    return event


def _with_diagnosis(review: Review, group: Group, settings: Settings, event: Event | None, faults: Faults) -> Review:
    """Return the review with what was diagnosed where its tests ran: after it is decided whether the job fails.

    For a fork nothing is diagnosed: what its artifact brings, a stranger has written to excuse failures, or to blame others.
    """
    found = found_in(folder for folder, _ in group.current)
    if event is not None and event.from_fork:
        left = ("a diagnosis that came with the traces was left out: none is made for a fork",) if found else ()
        return msgspec.structs.replace(review, notes=(*review.notes, *left))
    for problem in found.problems:
        faults.note(problem)
    return with_diagnosis(review, found, settings.rootdir) if found else review


def _reviewed(
    settings: Settings, group: Group, past: History | None, event: Event | None, base: str, faults: Faults
) -> Reviewed:
    """Return the review. A history that fails while it is asked costs what it knows, not the review."""
    hooks = load_extensions(settings)
    if past is not None:
        with faults.caught("the history could not be read"):
            return review_group(settings, group, past, event, hooks, base)
    return review_group(settings, group, None, event, hooks, base)


def reason_to_fail(review: Review, fail_on: FailOn, suite_exit: int | None) -> str:
    """Return in a line why the job fails, "" where it does not.

    `suite_exit` is what the suite's own command ended with, None where only traces are reported. A suite that did not get as
    far as its tests, or is red without a failure that could be triaged, fails whatever is asked for, but for `never`.
    """
    if fail_on == "never":
        return ""
    red = _red(review)
    died = [leg for leg in review.legs if not leg.finished]
    reason = unexplained(review, suite_exit)
    if died and (suite_exit is None or suite_exit in _EXPLAINED):
        return f"{plural(len(died), 'run')} did not finish"
    if reason:
        return reason
    if fail_on == "any":
        return f"{plural(len(red), 'root cause')} of failures" if red else ""
    counted = [cluster for cluster in red if cluster.muted is None and _counts(cluster, fail_on)]
    word = "new" if fail_on == "new" else "real"
    return f"{plural(len(counted), f'{word} root cause')}" if counted else ""


def unexplained(review: Review, suite_exit: int | None) -> str:
    """Return in a line that the suite failed by something that its tests do not show, "" where it did not."""
    if suite_exit is not None and suite_exit not in _EXPLAINED:
        return f"the suite ended with exit status {suite_exit}"
    return "the suite failed, and not by a test" if suite_exit and not _red(review) else ""


def _red(review: Review) -> list[Cluster]:
    return [cluster for cluster in review.analysis.clusters if cluster.seen != "fixed"]


def _counts(cluster: Cluster, fail_on: FailOn) -> bool:
    """Return whether a red cluster counts. Where nothing is known of the base branch, everything may be new."""
    if fail_on == "new":
        return cluster.seen in {"new", "first-run"} and cluster.status != "flaky"
    return cluster.status not in {"flaky", "infrastructure"}
