"""Where agents broke: the failing step of a red trace, its component, the type of its failure; of a signature, what most say.

A component is never guessed: it is what the failing step or the nearest step around it names, else the one configured name
that stands in a span's name, else in the class or module of the failing frame; else "".
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pytest_tracetriage.model.analysis import FailingTrace
from pytest_tracetriage.model.trace import Error, Failure
from pytest_tracetriage.triage.calls import Loop, loops
from pytest_tracetriage.triage.failing_step import Choice, Tree, failing_step, propagates
from pytest_tracetriage.triage.signature import bare, first_line, landmarks, mask
from pytest_tracetriage.triage.step_rules import classify_step, has_words
from pytest_tracetriage.triage.taxonomy import classify, first_answer

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

    from pytest_tracetriage.config import CustomRule
    from pytest_tracetriage.model.trace import Frame
    from pytest_tracetriage.triage.join import Fact
    from pytest_tracetriage.triage.steps import Step
    from pytest_tracetriage.triage.summary import Summary, TraceKey
    from pytest_tracetriage.triage.taxonomy import Answer


TRANSIENT = frozenset(["RATE_LIMIT", "TIMEOUT", "NETWORK", "SERVICE_ERROR"])
"""Categories after which one tries again."""
CUT_SHORT = frozenset(["stuck", "timeout", "crashed"])
"""Outcomes of a trace that something else ended: what loops then would have gone on."""
INTERRUPTS = frozenset(["KeyboardInterrupt", "SystemExit", "Exit", "Failed", "Timeout", "CancelledError"])
"""What is raised in the spans that were running when something else ended the trace."""
LIMITS = frozenset(["TURN_LIMIT", "TIMEOUT"])
MAX_EVIDENCE = 500


@dataclass(frozen=True)
class Broken:
    """Where a red trace broke. `answer` is (category, owner, evidence), None where no rule knows the step.

    `step` is the id of the failing one, "" where no span tells; `mark` is equal for the same failing span in other traces.
    """

    component: str = ""
    step: str = ""
    answer: Answer | None = None
    evidence: str = ""
    mark: str = ""


def broken(
    steps: Collection[Step],
    failure: Failure | None,
    outcome: str,
    components: Sequence[str] = (),
    rules: Iterable[CustomRule] = (),
) -> Broken:
    """Return where a red trace broke. `rules` are those of the project that name a component or a step."""
    tree = Tree(steps)
    choice = failing_step(tree, failure)
    cut = outcome in CUT_SHORT
    found = loops([step for step in tree.steps if not (cut and bare(step.type) in INTERRUPTS)], _transient)
    loop = next((loop for loop in found if loop.open and not loop.retries), None)
    if loop is not None and (choice is None or _explains(loop, choice, tree, outcome)):
        choice = _looping(loop, outcome)
    if choice is None:
        return Broken(
            component=_of_frame(failure, components), evidence=_more("no span failed" if steps else "no spans", found)
        )
    component = component_of(choice.step, tree, components) or _of_frame(failure, components)
    answer = (
        _by_project(choice.step, component, failure, rules)
        or _by_table(tree, choice, component)
        or _by_error(tree, choice.step, failure)
    )
    return Broken(
        component=component,
        step=choice.step.id,
        answer=answer,
        evidence=_more(_words(choice, component), found),
        mark=_mark(choice.step, component),
    )


def component_of(step: Step, tree: Tree, components: Sequence[str]) -> str:
    """Return the component of a step: what it or the nearest ancestor names, else the configured name in a span's name."""
    line = (step, *tree.above(step))
    for one in line:
        if one.component:
            return one.component
    for one in line:
        named = [name for name in components if has_words(one.name, name)]
        if len(named) == 1:
            return named[0]
    return ""


def _of_frame(failure: Failure | None, components: Sequence[str]) -> str:
    """Return the configured component whose name the class or module of the failing frame has."""
    frame = _failing_frame(failure)
    if frame is None:
        return ""
    for text in (frame.qualname.rpartition(".")[0], frame.file.rpartition("/")[2].removesuffix(".py")):
        named = [name for name in components if has_words(text, name)]
        if len(named) == 1:
            return named[0]
    return ""


def _failing_frame(failure: Failure | None) -> Frame | None:
    if failure is None or not failure.errors:
        return None
    return landmarks(failure.errors[0].frames).app


def _transient(step: Step) -> str:
    answer = classify_step(step, "")
    return answer[0] if answer is not None and answer[0] in TRANSIENT else ""


def _explains(loop: Loop, choice: Choice, tree: Tree, outcome: str) -> bool:
    """Return whether a loop that the trace ended in comes before the failure: that is of it, around it, or a limit."""
    if outcome in CUT_SHORT or choice.step.id in {step.id for step in loop.steps}:
        return True
    answer = classify_step(choice.step, "", choice.signal)
    if answer is not None and answer[0] in LIMITS:
        return True
    return any(above.id == choice.step.id for above in tree.above(loop.steps[0])) or choice.step.start >= loop.steps[0].start


def _looping(loop: Loop, outcome: str) -> Choice:
    kind = "stuck in a loop" if outcome in CUT_SHORT else "loop"
    return Choice(loop.steps[0], "the trace ended in a loop of it", kind)


def _by_table(tree: Tree, choice: Choice, component: str) -> Answer | None:
    """Return what the rules say of the failing step, else of the steps around it, in its component, that failed with it."""
    answer = classify_step(choice.step, component, choice.signal)
    for above in tree.above(choice.step):
        if answer is not None or above.calm:
            break
        own = above.component
        if own and own != component:
            break
        answer = classify_step(above, component)
    return answer


def _by_error(tree: Tree, step: Step, failure: Failure | None) -> Answer | None:
    """Return what the general rules say of a step's error, where the test failed with another that came of it."""
    kind = bare(step.type)
    if failure is None or not kind or kind in INTERRUPTS or (failure.errors and bare(failure.errors[0].type) == kind):
        return None
    if tree.catcher(step) is not None and not propagates(step, failure):
        return None
    answer = classify(Failure("call", (Error(step.type, step.message),)))
    return answer if answer[0] != "ERROR" else None


def _by_project(step: Step, component: str, failure: Failure | None, rules: Iterable[CustomRule]) -> Answer | None:
    """Return what the project's own rules for steps say: all patterns of a rule must be found."""
    files = [frame.file for error in (failure.errors if failure is not None else ()) for frame in error.frames]
    for rule in rules:
        wanted = [
            ("component", rule.component, [component]),
            ("step", rule.step, [step.name]),
            ("type", rule.type, [step.type]),
            ("message", rule.message, [step.message, step.stop_reason, step.rationale, step.signal]),
            ("file", rule.file, files),
        ]
        evidence = []
        for part, pattern, texts in wanted:
            hit = next((found for text in texts if text and (found := re.search(pattern, text))), None) if pattern else None
            if pattern and hit is None:
                break
            if hit is not None:
                evidence.append(f"{part} {hit[0]!r}")
        else:
            return rule.category, rule.owner, f"rule of the project: {' and '.join(evidence)}"
    return None


def _words(choice: Choice, component: str) -> str:
    step = choice.step
    where = f"{step.name}{f' of {component}' if component and component != step.name else ''}"
    if step.type:
        what = f" raised {bare(step.type)}" + (f": {first_line(step.message)[:160]}" if step.message else "")
    elif step.declared:
        what = f" ended {step.outcome}" + (f": {step.stop_reason}" if step.stop_reason else "")
    else:
        what = ""
    return f"{where}{what}; {choice.why}"


def _more(text: str, found: Sequence[Loop]) -> str:
    """Return the evidence with what was repeated, bounded."""
    said = [loop.words for loop in found[:3] if loop.words not in text]
    return "; ".join([text, *said])[:MAX_EVIDENCE]


def _mark(step: Step, component: str) -> str:
    """Return what is equal for the same failing span of other traces: "" where only its name would be."""
    what = first_line(step.message) if step.type else step.stop_reason
    if not what:
        return ""
    where = f"{component}: {mask(step.name)}" if component else mask(step.name)
    return f"{where} · {bare(step.type) or step.outcome}: {mask(what)}"


def places_of(
    summary: Summary, failures: Mapping[str, Failure], components: Sequence[str], rules: Sequence[CustomRule]
) -> dict[TraceKey, Broken]:
    """Return where each red trace broke that has spans or a component. `failures` stand for their signatures, by id."""
    found: dict[TraceKey, Broken] = {}
    without: dict[str, Broken] = {}
    for key, red in summary.red.items():
        steps = summary.steps.get(key)
        failure = failures.get(red.signature)
        if steps:
            found[key] = broken(steps, failure, red.outcome, components, rules)
            continue
        if red.signature not in without:
            without[red.signature] = broken((), failure, red.outcome, components, rules)
        if without[red.signature].component:
            found[key] = without[red.signature]
    return found


def with_places(facts: Sequence[Fact], summary: Summary, places: Mapping[TraceKey, Broken]) -> list[Fact]:
    """Return the facts, each with where it broke if more than half of its traces say the same."""
    votes: dict[str, list[Broken]] = {}
    for key, place in sorted(places.items()):
        if place.step:
            votes.setdefault(summary.red[key].signature, []).append(place)
    if not votes:
        return list(facts)
    traces = Counter(red.signature for red in summary.red.values())
    return [replace(fact, broken=_most(votes.get(fact.id, ()), traces[fact.id])) for fact in facts]


def _most(votes: Sequence[Broken], traces: int) -> Broken | None:
    """Return what most of a signature's traces say: of those that agree the first, its mark only where it is all of theirs."""
    agreed: dict[tuple[str, str], list[Broken]] = {}
    for place in votes:
        agreed.setdefault((place.component, place.answer[0] if place.answer else ""), []).append(place)
    most = next((some for some in agreed.values() if 2 * len(some) > traces), None)
    if most is None:
        return None
    return most[0] if len({place.mark for place in most}) == 1 else replace(most[0], mark="")


def answer_of(fact: Fact, classifiers: Sequence[Callable[[Failure], Answer | None]]) -> Answer:
    """Return the category of a signature: by rules of the project, else by its failing step, else by its exception."""
    told = fact.broken.answer if fact.broken is not None else None
    return first_answer(fact.failure, classifiers) or told or classify(fact.failure)


def failing_traces(
    summary: Summary,
    places: Mapping[TraceKey, Broken],
    facts: Sequence[Fact],
    classifiers: Sequence[Callable[[Failure], Answer | None]],
) -> tuple[FailingTrace, ...]:
    """Return the places for the analysis, by test. What a step does not say of its category, the trace's exception does."""
    by_id = {fact.id: fact for fact in facts} if places else {}
    asked: dict[str, tuple[Answer | None, Answer]] = {"": (None, ("ERROR", "product", "no exception was recorded"))}
    found = []
    for (run, trace), place in places.items():
        red = summary.red[run, trace]
        fact = by_id.get(red.signature)
        if fact is not None and red.signature not in asked:
            asked[red.signature] = first_answer(fact.failure, classifiers), classify(fact.failure)
        own, general = asked.get(red.signature, asked[""])
        category, owner, evidence = own or place.answer or general
        words = "; ".join(part for part in (place.evidence, evidence) if part)
        found.append(FailingTrace(trace, red.nodeid, place.component, place.step, category, owner, words, run))
    return tuple(sorted(found, key=lambda one: (one.nodeid, one.run, one.id, one.evidence)))
