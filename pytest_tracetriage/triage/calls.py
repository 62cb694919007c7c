"""Calls to models and tools: whether a span is one, what its answer says of itself to be wrong, and calls that go in circles.

Errors are known by the types, messages and status codes of the SDKs, by the rules of `step_rules`. What raised nothing can
be wrong all the same: a refusal, an answer that was cut off or filtered, a failed response, JSON that is none, a tool's result
that is an error. That is read out of what the span kept of its inputs and output, and of OpenTelemetry's GenAI attributes.

Of loops: calls are the same when their digests (name and inputs) are equal, and so are their results. What is called again
because the last try met a rate limit or a time-out is a retry; what gives another result each time (polling) or gets other
inputs (a batch) is work. Calls that overlap in time (sampling, a pool of threads) are not in a row.
"""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from pytest_tracetriage.triage.signature import bare, first_line

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from pytest_tracetriage.model.trace import Span
    from pytest_tracetriage.triage.steps import Step


SDKS = ("openai.", "anthropic.", "litellm.", "mistralai.", "groq.", "cohere.", "google.genai.")
"""Packages whose errors are those of calls to models, whatever the span is."""
KINDS = frozenset(["llm", "embedding"])
ASSERTIONS = frozenset(["AssertionError", "Failed", "DocTestFailure"])
"""Their messages are about a text; they are not what an API or an agent said."""
_LOOKUPS = frozenset(["KeyError", "IndexError"])
_UNMISTAKABLE = frozenset(
    [
        "APIConnectionError",
        "APIResponseValidationError",
        "APITimeoutError",
        "ContentFilterFinishReasonError",
        "LengthFinishReasonError",
    ]
)
_STATUS = re.compile(r"Error code: \d{3}\b")
_MAX_READ = 20_000

_REASON = re.compile(
    r'"(?:finish_?[rR]eason|stop_?[rR]eason|block_?[rR]eason)"\s*:\s*"(\w+)"|"incomplete_details"\s*:\s*\{[^{}]*"reason"\s*:\s*"(\w+)"'
)
_FILTERED = ["content_filter", "content_filtered", "guardrail_intervened", "prohibited_content", "recitation"]
_FILTERED += ["blocklist", "refusal", "safety", "spii"]
_WRONG_REASONS = frozenset(
    [*_FILTERED, "length", "max_tokens", "max_output_tokens", "model_context_window_exceeded"],
)
_REFUSED = re.compile(r'"refusal"\s*:\s*"((?:[^"\\]|\\.){1,200})')
_ASKED = re.compile(r'"type"\s*:\s*"json_(?:schema|object)"')
_CUT = re.compile(r"… \(\d+ characters\)$")
_SHAPE = re.compile(r"text\(\d+\)")
_TOOL_SAYS = re.compile(
    r"(?:Tool )?Error: |Error (?:executing|calling|running|invoking) (?:the )?tool\b"
    r"|An error occurred while (?:executing|calling|running) "
)
_ASIDE = frozenset(["code", "status", "type", "message", "content"])
"""Fields beside `error` that are no result of a tool."""
_SAID = frozenset(["text", "output_text", "message"])
_INSIDE = frozenset(["choices", "message", "content", "output", "tool_calls", "function"])


def is_call(kind: str, type_name: str, message: str) -> bool:
    """Return whether a span of this kind, or the error that it raised, is of a call to a model."""
    if bare(type_name) in ASSERTIONS or bare(type_name) in _LOOKUPS:
        return False
    if kind in KINDS or type_name.startswith(SDKS):
        return True
    return bare(type_name) in _UNMISTAKABLE or _STATUS.match(message) is not None


def signal(span: Span) -> str:
    """Return what the answer of a model or tool says of itself to be wrong, as `word: detail`; "" where it says nothing.

    The words are refusal, finish_reason, failed, not_json and tool_error.
    """
    output = span.output[:_MAX_READ]
    if span.kind == "tool":
        return f"tool_error: {first_line(output)[:200]}" if _tool_failed(_decoded(output)) else ""
    if span.kind != "llm":
        return ""
    answer = _decoded(span.output)
    if failed := _failed(answer):
        return f"failed: {failed}"
    if found := _REFUSED.search(output):
        return f"refusal: {found[1]}"
    reasons = [one or other for one, other in _REASON.findall(output)]
    for key in ("gen_ai.response.finish_reasons", "gen_ai.response.finish_reason"):
        reasons += re.findall(r"\w+", span.attributes.get(key, ""))
    wrong = next((reason for reason in reasons if reason.lower() in _WRONG_REASONS), "")
    return f"finish_reason: {wrong}" if wrong else _not_json(span, answer)


def _decoded(text: str) -> object:
    try:
        return msgspec.json.decode(text) if text else None
    except (msgspec.DecodeError, RecursionError):
        return None


def _tool_failed(answer: object) -> bool:
    """Return whether a tool's result is an error: by MCP's `isError`, LangChain's `status`, an `error` alone, or its text."""
    if isinstance(answer, str):
        return _TOOL_SAYS.match(answer) is not None
    if isinstance(answer, list):
        return any(_tool_failed(item) for item in answer[:1] if isinstance(item, dict))
    if not isinstance(answer, dict):
        return False
    if answer.get("isError") is True or answer.get("is_error") is True:
        return True
    error, content = answer.get("error"), answer.get("content")
    if isinstance(error, (str, dict)) and error:
        return not any(value for key, value in answer.items() if key != "error" and key not in _ASIDE)
    return answer.get("status") == "error" or (isinstance(content, str) and _tool_failed(content))


def _failed(answer: object) -> str:
    """Return what a response says that came instead of an answer: OpenAI's `failed`, an error under status 200 of a router."""
    error = answer.get("error") if isinstance(answer, dict) else None
    if not isinstance(error, dict):
        return ""
    return first_line(": ".join(str(error[key]) for key in ("code", "type", "message") if error.get(key)))[:200]


def _not_json(span: Span, answer: object) -> str:
    """Return that a model was asked for JSON, or called a tool, and what came does not parse. What was cut proves nothing."""
    asked = _ASKED.search(span.inputs) is not None or span.attributes.get("gen_ai.output.type") == "json"
    for kind, text in _answers(answer, 8):
        if (kind == "content" and not asked) or _CUT.search(text) or _SHAPE.fullmatch(text):
            continue
        try:
            msgspec.json.decode(text.encode("utf-8", "surrogatepass"))
        except (msgspec.DecodeError, RecursionError):
            what = "the arguments of a tool" if kind == "arguments" else "the structured output"
            return f"not_json: {what}: {first_line(text)[:120]}"
    return ""


def _answers(value: object, depth: int) -> Iterator[tuple[str, str]]:
    """Yield ("content" or "arguments", text) of a response: OpenAI's chat and Responses, Anthropic's messages."""
    if isinstance(value, list) and depth:
        for item in value:
            yield from _answers(item, depth - 1)
    elif isinstance(value, dict) and depth:
        for key, item in value.items():
            if not isinstance(item, str):
                if key in _INSIDE:
                    yield from _answers(item, depth - 1)
            elif key == "arguments":
                yield "arguments", item
            elif (
                key in {"content", "text"} and item.strip() and value.get("type", "text") in {"text", "output_text", "message"}
            ):
                yield "content", item


TIMES = 3
LONGEST = 4
SLACK = 0.001
"""Seconds by which what follows may seem to begin too early: starts and durations come from two clocks."""


@dataclass(frozen=True)
class Loop:
    """`steps` are the first round; it was gone round `times` times. `open`: the trace ended in it."""

    steps: tuple[Step, ...]
    times: int
    open: bool
    retries: str = ""
    """The categories of the errors that made these calls retries, not a loop."""

    @property
    def words(self) -> str:
        """Return what was repeated, and how often."""
        names = " -> ".join(step.name for step in self.steps)
        if self.retries:
            return f"{names} was retried {self.times - 1} times after {self.retries}"
        what = "with the same inputs and result" if len(self.steps) == 1 else "with the same inputs and results"
        return f"{names}: {self.times} times {what}"


def loops(steps: Sequence[Step], transient: Callable[[Step], str]) -> list[Loop]:
    """Return the loops and retries of a trace, the open ones first, then those of most rounds.

    `transient(step)` names the category of an error after which one tries again, "" for any other.
    """
    found: dict[frozenset[str], Loop] = {}
    ordered = sorted(steps, key=lambda step: (step.start, step.id))
    parents = {step.parent for step in ordered}
    starts = [step.start for step in ordered if step.id not in parents]
    for row in _rows(ordered, parents):
        calls = row.calls
        for first, length, times in _repeats(row):
            members = calls[first : first + length * times]
            rest = len(calls) - first - length * times
            late = sum(start >= members[-1].end for start in starts) - rest
            kinds = sorted({transient(step) for step in members})
            loop = Loop(
                steps=tuple(members[:length]),
                times=times,
                open=rest < length and late <= row.spare,
                retries=" and ".join(kinds) if "" not in kinds else "",
            )
            found.setdefault(frozenset(step.id for step in members), loop)
    return sorted(found.values(), key=lambda loop: (not loop.open, -loop.times, len(loop.steps), loop.steps[0]))


def overlap(earlier: Step, later: Step) -> bool:
    """Return whether a step began before an earlier one had ended."""
    return later.start < earlier.end - SLACK


@dataclass(frozen=True)
class _Row:
    """Calls in the order of their start. `broken` do not follow on the one before; `spare` other calls may follow the last."""

    calls: list[Step]
    broken: frozenset[str]
    spare: int = 0


def _rows(ordered: Sequence[Step], parents: set[str]) -> Iterator[_Row]:
    """Yield what is looked at: the calls under each parent, all that call nothing else, and all of tools."""
    below: dict[str, list[Step]] = {}
    for step in ordered:
        below.setdefault(step.parent, []).append(step)
    for calls in (*below.values(), [step for step in ordered if step.id not in parents]):
        yield _Row(calls, frozenset(later.id for earlier, later in itertools.pairwise(calls) if overlap(earlier, later)))
    yield _tools(ordered)


def _tools(ordered: Sequence[Step]) -> _Row:
    """Return the calls of tools in a row: between them only the model is asked, perhaps once more after the last.

    What a span around the next call does not count; any other work between two calls may have changed something.
    """
    by_id = {step.id: step for step in ordered}
    calls: list[Step] = []
    broken: set[str] = set()
    work: list[Step] = []
    for step in ordered:
        if step.kind == "tool":
            around: set[str] = set()
            parent = by_id.get(step.parent)
            while parent is not None and parent.id not in around:
                around.add(parent.id)
                parent = by_id.get(parent.parent)
            if any(other.id not in around for other in work) or (calls and overlap(calls[-1], step)):
                broken.add(step.id)
            calls.append(step)
            work = []
        elif step.kind not in {"llm", "embedding"}:
            work.append(step)
    return _Row(calls, frozenset(broken), spare=1)


def _repeats(row: _Row) -> Iterator[tuple[int, int, int]]:
    """Yield (first, length, times) of each cycle that is gone round at least three times."""
    calls = row.calls
    keys = [(step.digest, step.result) if step.digest and step.result else None for step in calls]
    covered = 0
    for first in range(len(calls)):
        if first < covered:
            continue
        for length in range(1, LONGEST + 1):
            end = first + 1
            while (
                end < len(calls)
                and calls[end].id not in row.broken
                and (end < first + length or keys[end] == keys[end - length])
            ):
                end += 1
            times = (end - first) // length
            if times >= TIMES and None not in keys[first : first + length]:
                covered = end
                yield first, length, times
                break
