"""What the spans of a trace say: its models, prompts and sequences of steps; and work that need not have been done."""

from __future__ import annotations

import difflib
from collections import defaultdict
from dataclasses import dataclass
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

import msgspec

from pytest_tracetriage.model.hypotheses import Prompt, Waste

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from pytest_tracetriage.diagnose.correlation import Key, Observed
    from pytest_tracetriage.model.hypotheses import Shared
    from pytest_tracetriage.model.trace import Span

LONGEST = 3
MAX_SPANS = 500
"""Spans of a trace that are looked at."""
MAX_DIFF = 40
CACHEABLE = 1_024
"""Tokens from which the providers' caches keep the beginning of a prompt (OpenAI, Anthropic)."""
MAX_WASTES = 20


def traits(spans: Sequence[Span], prompts: dict[str, str]) -> frozenset[Key]:
    """Return the models, prompts and sequences of a trace. `prompts` gets the text of each prompt, by its hash."""
    ordered = sorted(spans, key=lambda span: (span.start, span.id))[:MAX_SPANS]
    found: set[Key] = set()
    for span in ordered:
        for model in models(span):
            found.add(("model", span.component, model))
        text = system_prompt(span)
        if text:
            version = digest(text)
            prompts.setdefault(version, text)
            found.add(("prompt", span.component or span.name, version))
    for component, names in _rows(ordered):
        for length in range(1, LONGEST + 1):
            for first in range(len(names) - length + 1):
                found.add(("sequence", component, " > ".join(names[first : first + length])))
    return frozenset(found)


def models(span: Span) -> list[str]:
    """Return the models that a span asked."""
    return [span.usage.model] if span.usage is not None and span.usage.model else []


def system_prompt(span: Span) -> str:
    """Return the instructions that a call to a model was given, "" for none: the part that is the same from call to call."""
    if span.kind != "llm" or not span.inputs:
        return ""
    try:
        given = msgspec.json.decode(span.inputs)
    except (msgspec.DecodeError, RecursionError):
        return ""
    if isinstance(given, list):
        given = {"messages": given}
    if not isinstance(given, dict):
        return ""
    parts = [given.get("instructions"), given.get("system")]
    for messages in (given.get("messages"), given.get("input")):
        if isinstance(messages, list):
            parts += [one.get("content") for one in messages if isinstance(one, dict) and one.get("role") in _INSTRUCTING]
    return "\n".join(text for part in parts for text in _texts(part))


_INSTRUCTING = frozenset({"system", "developer"})


def _texts(part: Any) -> Iterator[str]:
    if isinstance(part, str):
        yield part
    elif isinstance(part, list):
        yield from (one["text"] for one in part if isinstance(one, dict) and isinstance(one.get("text"), str))


def digest(text: str) -> str:
    """Return the name of a version of a prompt: 8 hexadecimal digits of its hash."""
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=4).hexdigest()


def _rows(ordered: Sequence[Span]) -> Iterator[tuple[str, list[str]]]:
    """Yield (component, names) of the steps under each parent, in the order of their start."""
    rows: dict[str, list[Span]] = defaultdict(list)
    for span in ordered:
        rows[span.parent].append(span)
    for row in rows.values():
        yield row[0].component, [span.name for span in row]


def prompts_of(shared: Iterable[Shared], tests: Sequence[Observed], texts: Mapping[str, str]) -> tuple[Prompt, ...]:
    """Return the versions of prompts that go with clusters, each with its difference from the one that passes."""
    found = []
    for one in shared:
        for told in one.associations:
            if told.trait != "prompt":
                continue
            passing: dict[str, int] = defaultdict(int)
            for test in tests:
                for trait, name, value in test.traits:
                    if not test.cluster and (trait, name) == ("prompt", told.name) and value != told.value:
                        passing[value] += 1
            other = max(sorted(passing), key=lambda version: passing[version], default="")
            lines = difflib.unified_diff(
                texts.get(other, "").splitlines(), texts.get(told.value, "").splitlines(), other, told.value, lineterm="", n=1
            )
            text = "\n".join(list(lines)[:MAX_DIFF]) if other else ""
            found.append(Prompt(one.cluster, told.name, told.value, other, text))
    return tuple(found)


# -- work that need not have been done ---------------------------------------------------------------------------------


@dataclass
class _Sum:
    """Calls too many of one operation."""

    traces: set[str]
    times: int = 0
    seconds: float = 0.0
    tokens: int = 0
    cost: float | None = 0.0
    example: str = ""

    def add(self, span: Span, cost: float | None) -> None:
        self.traces.add(span.trace)
        self.times += 1
        self.seconds += span.duration
        if span.usage is not None:
            self.tokens += span.usage.input + span.usage.output
            self.cost = None if self.cost is None or cost is None else self.cost + cost
        self.example = self.example or span.id


def wastes(
    traces: Mapping[str, Sequence[Span]], broke_at: Mapping[str, str], cost: Callable[[Span], float | None]
) -> tuple[Waste, ...]:
    """Return the work that need not have been done, the dearest first. `broke_at` names the failing span of red traces.

    repeated call: the same operation with the same inputs had succeeded in the trace before, with the same result.
    retry: it had failed before. cache miss: a model was given the same long instructions again, and read nothing of them from
    its cache. after the failure: calls to models that began when the span that decided the test's failure had ended.
    """
    sums: dict[tuple[str, str, str], _Sum] = defaultdict(lambda: _Sum(set()))
    for trace in sorted(traces):
        spans = sorted(traces[trace], key=lambda span: (span.start, span.id))
        parents = {span.parent for span in spans}
        before: dict[str, Span] = {}
        asked: set[tuple[str, str]] = set()
        end = next((span.start + span.duration for span in spans if span.id == broke_at.get(trace)), None)
        for span in spans:
            kind = ""
            if span.id not in parents or span.usage is not None:
                earlier = before.get(span.digest) if span.digest else None
                if earlier is not None and earlier.start + earlier.duration <= span.start:
                    kind = _again(earlier, span)
                if span.digest:
                    before[span.digest] = span
            if not kind and span.usage is not None and end is not None and span.start >= end:
                kind = "after the failure"
            if kind:
                sums[kind, span.name, span.component].add(span, cost(span))
                continue
            prompt = system_prompt(span)
            if span.usage is not None and prompt:
                key = span.usage.model, digest(prompt)
                if key in asked and span.usage.input >= CACHEABLE and not span.usage.cache_read:
                    sums["cache miss", span.usage.model, span.component].add(span, cost(span))
                asked.add(key)
    found = [
        Waste(kind, name, component, len(one.traces), one.times, one.seconds, one.tokens, one.cost, one.example)  # type: ignore[arg-type]
        for (kind, name, component), one in sums.items()
    ]
    return tuple(
        sorted(found, key=lambda waste: (-(waste.cost or 0.0), -waste.tokens, -waste.seconds, waste.kind, waste.name))
    )[:MAX_WASTES]


def _again(earlier: Span, span: Span) -> str:
    """Return what the same call again is: a retry, a repeated call, or "" where it may have been needed."""
    if earlier.outcome != "success" or earlier.error:
        return "retry"
    return "repeated call" if span.output and earlier.output == span.output and span.outcome == "success" else ""
