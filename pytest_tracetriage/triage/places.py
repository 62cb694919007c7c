"""Where the red traces of a summary broke, and what that says of their signatures."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

from pytest_tracetriage.model.analysis import FailingTrace
from pytest_tracetriage.triage.agents import broken
from pytest_tracetriage.triage.taxonomy import classify, first_answer

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pytest_tracetriage.config import CustomRule
    from pytest_tracetriage.model.trace import Failure
    from pytest_tracetriage.triage.agents import Broken
    from pytest_tracetriage.triage.facts import Fact
    from pytest_tracetriage.triage.summary import Summary, TraceKey
    from pytest_tracetriage.triage.taxonomy import Answer


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
