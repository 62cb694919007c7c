"""The places where a review is told: the step's files, its annotations, GitHub's comment and check, the history.

Each is a channel of its own: what goes wrong in one is noted, and the others are told all the same.
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import click
import msgspec

from pytest_tracetriage.commands.kept import remember_maps
from pytest_tracetriage.commands.report import comment_key, placed_annotations, rendered

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    from pytest_tracetriage.commands.grouping import Event
    from pytest_tracetriage.commands.reviewing import Reviewed
    from pytest_tracetriage.config import Settings
    from pytest_tracetriage.govern.forge.checks import CheckAnnotation
    from pytest_tracetriage.govern.forge.github import GitHubForge
    from pytest_tracetriage.model.history import Condensed
    from pytest_tracetriage.model.review import Review
    from pytest_tracetriage.store.history.history import History


CHECK = "TraceTriage"


@dataclass
class Faults:
    """What went wrong while reporting, each said once."""

    said: list[str] = field(default_factory=list)

    def note(self, text: str) -> None:
        """Add a line."""
        line = " ".join(text.encode("utf-8", "backslashreplace").decode().split())  # a file's name may be no text
        if line not in self.said:
            self.said.append(line)

    @contextmanager
    def caught(self, what: str) -> Iterator[None]:
        """Turn what a channel raises into a line."""
        try:
            yield
        except Exception as error:
            text = str(error) or type(error).__name__
            if isinstance(error, OSError) and error.strerror:
                text = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
            elif not type(error).__module__.startswith("pytest_tracetriage"):
                text = repr(error)
            self.note(f"{what}: {text}")


@dataclass(frozen=True)
class Wanted:
    """What is to be told on GitHub."""

    comment: bool
    check: bool


def tell(
    settings: Settings,
    review: Review,
    event: Event | None,
    forge: GitHubForge | None,
    wanted: Wanted,
    failing: str,
    output: Path | None,
    faults: Faults,
) -> None:
    """Tell a review everywhere. `failing` is why the job fails, "" where it does not; `output` gets the comment's text."""
    text = ""
    with faults.caught("the comment could not be made"):
        text = str(rendered(review, "github", settings))
    if text and output is not None:
        with faults.caught("the report could not be written"):
            output.parent.mkdir(parents=True, exist_ok=True)
            output.write_text(text, encoding="utf-8")
    with faults.caught("the job summary could not be written"):
        append("GITHUB_STEP_SUMMARY", str(rendered(review, "github-summary", settings)))
    with faults.caught("the annotations could not be written"):
        click.echo(str(rendered(review, "github-annotations", settings)), nl=False)
    if event is not None and forge is not None:
        _tell_github(settings, review, event, forge, wanted, failing, text, faults)
    with faults.caught("the outputs could not be written"):
        red = [cluster for cluster in review.analysis.clusters if cluster.seen != "fixed"]
        outputs(
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
    faults: Faults,
) -> None:
    key = comment_key(review)
    if wanted.comment and event.pull_request and text:
        from pytest_tracetriage.govern.forge.errors import ForgeError, RefusedError  # noqa: PLC0415
        from pytest_tracetriage.report.github.bodies import marker, read_data  # noqa: PLC0415

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
        from pytest_tracetriage.report.github.bodies import check  # noqa: PLC0415

        with faults.caught("check"):
            made = check(review, bool(failing), settings.folder / "policy" / "templates")
            name = f"{CHECK} ({event.title})" if event.title else CHECK
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


def remember(past: History, reviewed: Reviewed, folders: Iterable[Path], event: Event | None, faults: Faults) -> None:
    """Add the runs to the history. What a fork's artifact says is not remembered: it could call any failure flaky."""
    if event is not None and event.from_fork:
        return
    with faults.caught("the history was not written"):
        condensed = _trusted(reviewed, event)
        past.add(condensed)
        remember_maps(past, folders, condensed)


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


def append(variable: str, text: str) -> None:
    """Append `text` to the file that an environment variable names; nothing where it names none. Raises OSError."""
    path = os.environ.get(variable)
    if path:
        # On Windows, too, a line ends as it was counted: the summary is cut to what GitHub takes.
        with open(path, "a", encoding="utf-8", errors="replace", newline="\n") as file:
            file.write(text if text.endswith("\n") else text + "\n")


def outputs(values: Mapping[str, object]) -> None:
    """Set the step's outputs. A value stands on one line: what would begin another is left out. Raises OSError."""
    lines = [f"{name}={' '.join(str(value).split())}" for name, value in values.items()]
    append("GITHUB_OUTPUT", "\n".join(lines))


def say(level: Literal["notice", "warning"], title: str, text: str) -> None:
    """Print a workflow command under GitHub, a line on standard error elsewhere."""
    if os.environ.get("GITHUB_ACTIONS") != "true":
        click.echo(f"tracetriage: {text}", err=True)
        return
    escaped = text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
    click.echo(f"::{level} title={title}::{escaped}")
