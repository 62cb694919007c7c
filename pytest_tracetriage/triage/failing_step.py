"""The failing step: of the spans of a red trace, the one whose failure decided it; the first, not the last symptom.

A span that raised what a span below it had raised only passed it on. A span whose like succeeded later, under the same
parent, was retried with success. What is left is ranked:

1. what the test's own exception, or its chain, shows
2. a result that the test's assertion compares, and finds wrong
3. what was raised, and caught by nobody who then succeeded
4. what ended failed, timeout or stuck by its own word: the first of the unbroken row of such steps at the end
5. an answer of a model or tool that says of itself that it is none
6. what was raised and caught
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_tracetriage.triage.calls import SLACK, overlap
from pytest_tracetriage.triage.signature import bare, first_line, mask

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from pytest_tracetriage.model.trace import Failure
    from pytest_tracetriage.triage.steps import Step

UNREAD = frozenset(["JSONDecodeError", "ValidationError"])
"""What is raised by who reads an answer that does not have the form that was agreed on."""
_TELLING = 12
"""Characters from which a message is long enough to be known again inside another text."""
_COMPARED = re.compile(
    r"^(?:E\s+)?(?:AssertionError: )?assert (?:'([^'\n]{3,80})'|.{1,200}?) == (?:'([^'\n]{3,80})'|.{1,200})$", re.MULTILINE
)


@dataclass(frozen=True)
class Choice:
    """A failing step, in words why it is, and a signal of it for the rules."""

    step: Step
    why: str
    signal: str = ""


class Tree:
    """The steps of a trace by id and parent, in the order of their start. Parents that are missing end a line of ancestors."""

    def __init__(self, steps: Iterable[Step]) -> None:
        self.steps = sorted(steps, key=lambda step: (step.start, step.id))
        self.by_id = {step.id: step for step in self.steps}
        self._below: dict[str, list[Step]] = {}
        for step in self.steps:
            self._below.setdefault(step.parent, []).append(step)

    def above(self, step: Step) -> Iterator[Step]:
        """Yield the ancestors, the nearest first."""
        seen = {step.id}
        parent = self.by_id.get(step.parent)
        while parent is not None and parent.id not in seen:
            yield parent
            seen.add(parent.id)
            parent = self.by_id.get(parent.parent)

    def children(self, step: Step) -> list[Step]:
        """Return what stands directly below a step, in the order of its start."""
        return self._below.get(step.id, [])

    def siblings(self, step: Step) -> list[Step]:
        """Return what stands under the same parent, the step itself included."""
        return self._below.get(step.parent, [])

    def retried(self, step: Step) -> bool:
        """Return whether a later step of its name under its parent, or of an ancestor that failed with it, succeeded."""
        for failed in (step, *self.above(step)):
            if failed.calm:
                return False
            like = mask(failed.name)
            if any(later.calm and _after(failed, later) and mask(later.name) == like for later in self.siblings(failed)):
                return True
        return False

    def catcher(self, step: Step) -> Step | None:
        """Return the ancestor that succeeded although the step failed."""
        return next((above for above in self.above(step) if above.calm), None)


def failing_step(tree: Tree, failure: Failure | None) -> Choice | None:
    """Return the failing step of a red trace, None where no span tells."""
    origins = _origins(tree)
    open_errors = [step for step in origins if not tree.retried(step)]
    shown = [step for step in open_errors if failure is not None and propagates(step, failure)]
    if shown:
        return _asked_before(tree, Choice(_first(tree, shown), "the test failed with its error"))
    again = [step for step in origins if failure is not None and propagates(step, failure)]
    if again:
        return Choice(max(again, key=lambda step: (step.end, step.id)), "the test failed with its error")
    if failure is not None and (compared := _contradicted(tree, failure)) is not None:
        return compared
    uncaught = [step for step in open_errors if tree.catcher(step) is None]
    if uncaught:
        return _asked_before(tree, Choice(_first(tree, uncaught), "the first error"))
    if (declared := _declared(tree)) is not None:
        return _asked_before(tree, Choice(declared, f"it ended {declared.outcome} by its own word"))
    signalled = [step for step in tree.steps if step.signal and not tree.retried(step)]
    if signalled:
        last = max(signalled, key=lambda step: (step.end, step.id))
        return Choice(last, "its answer is none")
    if open_errors:
        first = _first(tree, open_errors)
        catcher = tree.catcher(first)
        return Choice(first, f"the first error, although {catcher.name if catcher else 'its caller'} went on")
    return None


def _origins(tree: Tree) -> list[Step]:
    """Return the steps that raised, without those that only passed on what a step below had raised."""
    return [
        step
        for step in tree.steps
        if step.type and not any(_same_error(step, below) for below in tree.children(step) if below.type)
    ]


def _after(earlier: Step, later: Step) -> bool:
    return later.start > earlier.start and not overlap(earlier, later)


def _same_error(step: Step, other: Step) -> bool:
    return bare(step.type) == bare(other.type) and first_line(step.message) == first_line(other.message)


def propagates(step: Step, failure: Failure) -> bool:
    """Return whether the exception of a test, or one of its chain, is what the step raised, or quotes it."""
    kind, message = bare(step.type), first_line(step.message)
    masked = mask(message)
    for error in failure.errors:
        if bare(error.type) == kind and mask(first_line(error.message)) == masked:
            return True
    if len(message) < _TELLING:
        return False
    return any(message in text for text in (*(error.message for error in failure.errors), failure.text))


def _first(tree: Tree, some: Sequence[Step]) -> Step:
    """Return the earliest of some failures; what stands below another failed before it, whatever the clock says."""
    ids = {step.id for step in some}
    chosen = min(some, key=lambda step: (step.end, step.start, step.id))
    while True:
        left = ids - {above.id for above in tree.above(chosen)}  # of parents in a circle each stands below all others
        below = [step for step in tree.steps if step.id in left and any(above.id == chosen.id for above in tree.above(step))]
        if not below:
            return chosen
        chosen = min(below, key=lambda step: (step.end, step.start, step.id))


def _contradicted(tree: Tree, failure: Failure) -> Choice | None:
    """Return the step from which the value came that an assertion compared in vain, where it came from one side only."""
    sides: list[tuple[str, Step]] = []
    for error in failure.errors:
        for found in _COMPARED.finditer(error.message[:4_000]):
            for value in {found[1], found[2]} - {None}:
                makers = [step for step in tree.steps if value in step.values]
                if makers:
                    sides.append((value, min(makers, key=lambda step: (step.end, step.id))))
    if len({value for value, _ in sides}) != 1:
        return None
    value, step = sides[0]
    return Choice(step, f"it gave {value!r}, which the test found wrong", f"contradicted: {value}")


def _declared(tree: Tree) -> Step | None:
    """Return the first of the unbroken row of steps at the end that failed by their own word."""
    failed = {step.id for step in tree.steps if step.declared}
    if not failed:
        return None
    carriers = {above.id for step in tree.steps if step.id in failed for above in tree.above(step)}
    inside = {step.id for step in tree.steps if any(above.id in failed for above in tree.above(step))}
    leaves = [step for step in tree.steps if step.id in failed and step.id not in carriers]
    units = [
        step
        for step in tree.steps
        if step.id not in carriers and ((step.component and step.id not in inside) or step.id in failed)
    ]
    last = max(leaves, key=lambda step: (step.end, step.id))
    row = last
    for step in sorted(units, key=lambda step: (step.end, step.id), reverse=True):
        if (step.end, step.id) >= (last.end, last.id):
            continue
        if step.id not in failed:
            break
        row = step
    return row


def _asked_before(tree: Tree, choice: Choice) -> Choice:
    """Return the call to a model, in its place, whose useless answer a step went on with: the last call before it failed.

    The call stands below the step, or beside it; or the step took up, within one component, what a span beside it had just
    asked for. That of a step which could not read what it got stands below.
    """
    step = choice.step
    below: list[Step] = []
    calls: list[Step | None] = [_just_before(tree, step)]
    if step.kind not in {"llm", "tool", "embedding"}:
        some = [call for call in tree.steps if call.kind in {"llm", "tool"}]
        below = [call for call in some if any(above.id == step.id for above in tree.above(call))]
        own = [call for call in (*below, *tree.siblings(step)) if call.kind == "llm" and call.end <= step.end + SLACK]
        calls.insert(0, max(own, key=_ended, default=None))
    useless = next((call for call in calls if call is not None and call.signal), None)
    if useless is not None:
        return Choice(useless, f"{step.name} failed on its answer")
    asked = max(below, key=_ended, default=None)
    if asked is not None and asked.kind == "llm" and bare(step.type) in UNREAD:
        unread = f"unread: {bare(step.type)}: {first_line(step.message)[:120]}"
        return Choice(asked, f"{step.name} failed on its answer", unread)
    return choice


def _just_before(tree: Tree, step: Step) -> Step | None:
    """Return the call to a model that ended a span beside a step, in the same component, with nothing done in between."""
    parent = tree.by_id.get(step.parent)
    if parent is None or not parent.component or step.kind in {"llm", "embedding"}:
        return None
    last = max((other for other in tree.children(parent) if _after(other, step)), key=_ended, default=None)
    seen: set[str] = set()
    while last is not None and last.id not in seen and last.component in {"", parent.component}:
        seen.add(last.id)  # parents may stand in a circle
        inner = tree.children(last)
        if not inner:
            break
        last = max(inner, key=_ended)
    return last if last is not None and last.kind == "llm" else None


def _ended(step: Step) -> tuple[float, str]:
    return step.end, step.id
