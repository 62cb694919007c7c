"""Annotations on exact lines, and the workflow commands that make them."""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Literal

from msgspec import Struct

# No `from __future__ import annotations` here: type checkers would take the function of that name for it.
from pytest_tracetriage.model.review import Review
from pytest_tracetriage.report.github import words
from pytest_tracetriage.report.github.bounds import NODEID, bounded, traceback
from pytest_tracetriage.report.github.headline import Cause, Standing, stand
from pytest_tracetriage.report.github.rows import Place, annotated, first_command, own_line
from pytest_tracetriage.report.text import plural, printable, printable_lines, shorten, unit

STEP = 10
"""So many annotations of each level GitHub takes from one step: all steps of a composite action are one."""
REQUEST = 50
"""So many it takes in one request to a check run."""
TITLE = 255
MESSAGE = 65_536
SAID = 4096
"""So many characters of a message the runner passes on; it cuts the end off, where a traceback has its error."""
Level = Literal["failure", "warning", "notice"]
_LEVELS: dict[Standing, Level] = {"new": "failure", "failing": "failure", "known": "warning", "flaky": "notice"}
_COMMANDS: dict[Level, str] = {"failure": "error", "warning": "warning", "notice": "notice"}


class Annotation(Struct, frozen=True):
    """A remark on one line of a file of the repository. `title` and `message` are plain text, not Markdown."""

    path: str
    line: int
    level: Level
    title: str
    message: str


def annotations(review: Review) -> list[Annotation]:
    """Return one annotation a cause, then one at the failing line of each exemplar's test: new, known, flaky.

    Muted causes have none, nor has what cannot be told to a line of the repository.
    """
    causes = [cause for cause in stand(review) if cause.standing != "muted"]
    places = [(cause, annotated(cause.cluster, review.links)) for cause in causes]
    first = [_of_cause(cause, place, review) for cause, place in places if place is not None]
    tests = [
        _of_test(cause, place)
        for cause, taken in places
        if (place := own_line(cause.cluster, review.links)) is not None and place != taken
    ]
    return first + tests


def workflow_commands(found: Sequence[Annotation], limit: int = STEP) -> str:
    """Return the lines to print in a job, at most `limit` of each level, and of warnings one less.

    One is left to what the action has to say of itself.

    A value cannot end its line, nor begin another command: the runner reads one command a line, and `%0A` as a line break.
    """
    lines, counts = [], Counter[Level]()
    for each in found:
        counts[each.level] += 1
        if counts[each.level] <= (limit - 1 if each.level == "warning" else limit):
            properties = f"file={_property(each.path)},line={each.line},title={_property(each.title)}"
            lines.append(f"::{_COMMANDS[each.level]} {properties}::{_data(_said(each.message))}\n")
    return "".join(lines)


def batches(found: Sequence[Annotation], size: int = REQUEST) -> Iterator[Sequence[Annotation]]:
    """Yield the annotations in the portions that requests to a check run take."""
    for start in range(0, len(found), size):
        yield found[start : start + size]


def _of_cause(cause: Cause, place: Place, review: Review) -> Annotation:
    cluster = bounded(cause.cluster)
    history = words.history(cause, review, str)
    tests = plural(cluster.count, unit(cluster.tests))
    lines = [
        f"{tests} fail{'s' if cluster.count == 1 else ''} from this cause ({cause.short}){': ' if history else ''}{history}"
    ]
    lines += _diagnosis(cause, place, review)
    lines += [f"owner: {' '.join(cluster.codeowners)}"] if cluster.codeowners else []
    lines += [shorten(test, NODEID) for test in cluster.tests[:5]]
    lines += [f"and {plural(cluster.count - 5, 'more test')}"] if len(cluster.tests) > 5 else []
    lines += [f"again: {command}"] if (command := first_command(cluster)) else []
    return _annotation(place, cause, f"{cause.standing}: {cluster.name}", lines)


def _diagnosis(cause: Cause, place: Place, review: Review) -> list[str]:
    """Return what running tests again and searching the commits says: why this status, why this line, which commit."""
    cluster, told = bounded(cause.cluster), review.diagnosed.get(cause.cluster.id)
    if told is None:
        return []
    lines = [f"{cluster.status}: {cluster.status_evidence}"] if told.rerun and cluster.status_evidence else []
    lines += [
        f"suspect: {suspect.function or suspect.file}: {suspect.evidence}"
        for suspect in cluster.suspects[:1]
        if Place(suspect.file, suspect.line) == place
    ]
    first = told.culprits[0] if told.culprits else None
    if first is not None and first.finding == "commit" and first.subject:
        lines.append(f"commit {words.short_commit(first.commit)}: {shorten(first.subject, 100)}")
    return lines


def _of_test(cause: Cause, place: Place) -> Annotation:
    cluster = bounded(cause.cluster)
    nodeid = shorten(cluster.exemplar.nodeid, NODEID) if cluster.exemplar else ""
    title = f"{nodeid.rpartition('::')[2]} fails: {cluster.name}"
    return _annotation(place, cause, title, [nodeid, *traceback(cluster).split("\n")])


def _annotation(place: Place, cause: Cause, title: str, lines: Sequence[str]) -> Annotation:
    message = "\n".join(part for line in lines for part in printable_lines(line))
    message = message.encode("utf-8", "replace")[:MESSAGE].decode("utf-8", "ignore")
    return Annotation(place.file, place.line, _LEVELS[cause.standing], shorten(printable(title), TITLE), message)


def _said(message: str) -> str:
    """Return a message that the runner passes on whole: what is too much goes from its middle."""
    return message if len(message) <= SAID else f"{message[:1000]}\n...\n{message[1005 - SAID :]}"


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
