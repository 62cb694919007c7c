"""Signatures as vectors whose dot product is the evidence that two of them share a cause.

    log-odds(a, b) = BASE + MESSAGE cos(messages) + ERROR cos(errors quoted) + TEST cos(test source) - APART [root frames differ]

Every term is bilinear, so the average linkage of two clusters (the weighted mean over all pairs of their members) is one dot
product of their mean vectors: exact, without a matrix of pairs. Cosines are TF-IDF over this run alone (Salton and Buckley,
"Term-weighting approaches in automatic text retrieval", 1988), with sublinear term frequency.

The five constants are the only ones. They were fitted on labelled failures of eight packages, each package judged by constants
fitted on the seven others; they lie on a plateau (docs/reference/benchmarks.md), so do not tune them to a project.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_tracetriage.triage.signature import own_frame

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pytest_tracetriage.model.trace import Failure
    from pytest_tracetriage.triage.join import Fact

BASE, MESSAGE, ERROR, TEST, APART = -3.75, 5.5, 6.0, 6.5, 2.0
BASE_WITHOUT_SOURCE = -2.0
"""Where most signatures come without the source of a test, its term cannot speak for any pair."""

ENOUGH_WORDS = 6
"""Two tests of a line each are alike in their punctuation: a source of fewer different words speaks more softly."""

MAX_MESSAGE = 4_000
MAX_SOURCE = 6_000

_TOKEN = re.compile(r"[A-Za-z_]\w*|\d+|[^\sA-Za-z0-9_]")
_SOURCE_TOKEN = re.compile(r"[A-Za-z_]\w*|[^\sA-Za-z0-9_]")
_DEFINITION = re.compile(r"^\s*(?:async\s+)?def\s", re.MULTILINE)
_TEST_NAME = re.compile(r"^\s*(?:async\s+)?def\s+test\w*", re.MULTILINE)
_OWN_NUMBER = re.compile(r"\b(?:0x[0-9a-fA-F]+|\d+(?:\.\d+)?)\b")  # the 3 of 'sku3' belongs to a name
_NAMED_ERROR = re.compile(
    r"\b((?:[A-Za-z_]\w*\.)*[A-Za-z_]\w*(?:Error|Exception|Warning|Interrupt|Exit|Timeout|NotFound|Undefined))\b"
    r"(?:\(([^()\n]{0,80})\)|:? ?([^\n]{0,80}))"
)


@dataclass(frozen=True)
class Vector:
    """Weights by feature (`m` message token, `e` error, `s` source token, `r` root frame), and the share with a root frame."""

    terms: dict[str, float]
    rooted: float


def log_odds(left: Vector, right: Vector, base: float) -> float:
    """Return the mean log-odds that a member of `left` and a member of `right` share their cause."""
    return base + dot(left.terms, right.terms) - APART * left.rooted * right.rooted


def dot(left: Mapping[str, float], right: Mapping[str, float]) -> float:
    """Return the dot product. Vectors are built in a fixed order, so that the float is the same in every process."""
    if len(right) < len(left):
        left, right = right, left
    get = right.get
    return sum([value * get(term, 0.0) for term, value in left.items()])


def mean(left: Vector, left_weight: float, right: Vector, right_weight: float) -> Vector:
    """Return the weighted mean of two vectors."""
    total = left_weight + right_weight
    of_left, of_right = left_weight / total, right_weight / total
    terms = {term: value * of_left for term, value in left.terms.items()}
    for term, value in right.terms.items():
        terms[term] = terms.get(term, 0.0) + value * of_right
    return Vector(terms, left.rooted * of_left + right.rooted * of_right)


def vectors(facts: Sequence[Fact], sources: Mapping[str, tuple[int, str]]) -> tuple[list[Vector], float]:
    """Return one vector per fact, and the base of their log-odds. `sources` is (first line, text) by content hash."""
    messages, errors, tests, roots = [], [], [], []
    counted: dict[str, Counter[str]] = {}
    for fact in facts:
        texts = list(dict.fromkeys(_messages(failure) for failure in fact.failures))
        messages.append(_sum(Counter(_TOKEN.findall(text)) for text in texts))
        named: set[str] = set()
        for text in texts:
            named |= errors_named(text)
        errors.append(Counter(sorted(named)))
        tests.append(
            _sum(_source_tokens(text, counted) for failure in fact.failures for text in _test_sources(failure, sources))
        )
        frame = own_frame(fact.failures[0].errors)
        roots.append(f"r{frame.function} in {frame.file}" if frame else "")
    built = []
    weighted = zip(_tfidf(messages), _tfidf(errors), _tfidf(tests, ENOUGH_WORDS), roots, strict=True)
    for message, error, test, root in weighted:
        terms: dict[str, float] = {}
        for kind, weight, part in (("m", MESSAGE, message), ("e", ERROR, error), ("s", TEST, test)):
            scale = math.sqrt(weight)
            terms.update({kind + token: value * scale for token, value in part.items()})
        if root:
            terms[root] = math.sqrt(APART)
        built.append(Vector(terms, 1.0 if root else 0.0))
    bare = sum(1 for test in tests if not test)
    return built, BASE_WITHOUT_SOURCE if 2 * bare > len(tests) else BASE


def errors_named(text: str) -> set[str]:
    """Return the errors that a text names together with what they say (`KeyError: 'sku'`), numbers masked."""
    found = set()
    for match in _NAMED_ERROR.finditer(text):
        said = _OWN_NUMBER.sub("#", (match[2] or match[3] or "").strip())[:60]
        if said:
            found.add(f"{match[1].rpartition('.')[2]}: {said}")
    return found


def explain(left: Vector, right: Vector) -> list[tuple[str, str]]:
    """Return what two clusters have in common as (kind, detail), strongest first, in words that a reader can check."""
    small, big = (left.terms, right.terms) if len(left.terms) <= len(right.terms) else (right.terms, left.terms)
    shared: dict[str, float] = {}
    tokens: dict[str, list[tuple[float, str]]] = {}
    for term, value in small.items():
        if term in big:
            product = value * big[term]
            shared[term[0]] = shared.get(term[0], 0.0) + product
            tokens.setdefault(term[0], []).append((-round(product, 9), term[1:]))
    said = []
    for kind in sorted(shared, key=lambda kind: (-round(shared[kind], 9), kind)):
        names = [name for _, name in sorted(tokens[kind])]
        if kind == "r":
            said.append(("same root frame", names[0]))
        elif kind == "e" and shared[kind] / ERROR >= 0.1:
            said.append(("same error", f"both messages name {names[0]}"))
        elif kind == "m" and shared[kind] / MESSAGE >= 0.15:
            said.append(("message template", f"messages {shared[kind] / MESSAGE:.0%} alike"))
        elif kind == "s" and shared[kind] / TEST >= 0.15:
            words = ", ".join([name for name in names if len(name) > 2][:3])
            said.append(("test code", f"{shared[kind] / TEST:.0%} alike" + (f": {words}" if words else "")))
    return said


def _messages(failure: Failure) -> str:
    return "\n".join(error.message for error in reversed(failure.errors))[:MAX_MESSAGE] or failure.text[:MAX_MESSAGE]


def _test_sources(failure: Failure, sources: Mapping[str, tuple[int, str]]) -> list[str]:
    """Return the source of each test frame up to the line that failed, the line alone where no more is known."""
    found = []
    for error in failure.errors:
        for frame in error.frames:
            if frame.origin == "test":
                first, text = sources.get(frame.source, (0, ""))
                upto = "\n".join(text.split("\n")[: max(1, frame.line - first + 1)]) if text else frame.printed or frame.code
                found.append(upto[-MAX_SOURCE:])
    return found


def _source_tokens(text: str, counted: dict[str, Counter[str]]) -> Counter[str]:
    found = counted.get(text)
    if found is None:
        body = _DEFINITION.search(text)  # decorators list parameters: they say little of what the test does
        words = _SOURCE_TOKEN.findall(_TEST_NAME.sub("", text[body.start() :] if body else text))
        found = counted[text] = Counter(words)
    return found


def _sum(counters: object) -> Counter[str]:
    total: Counter[str] = Counter()
    for counter in counters:  # type: ignore[attr-defined]
        total.update(counter)
    return total


def _tfidf(documents: Sequence[Mapping[str, int]], enough: int = 0) -> list[dict[str, float]]:
    """Return a vector per document, of length 1; shorter where a document has fewer than `enough` different words."""
    size = len(documents)
    frequency = Counter(token for document in documents for token in document)
    inverse = {token: 1 + math.log((size + 1) / (number + 1)) for token, number in frequency.items()}
    found = []
    for document in documents:
        weights = {token: (1 + math.log(number)) * inverse[token] for token, number in document.items()}
        norm = math.sqrt(math.fsum(value * value for value in weights.values()))
        words = sum(token[0].isalnum() or token[0] == "_" for token in weights)
        length = math.sqrt(min(1.0, words / enough)) if enough else 1.0
        found.append({token: value * length / norm for token, value in weights.items()} if norm else {})
    return found
