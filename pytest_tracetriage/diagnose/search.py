"""Which commit broke what: a noisy bisection for several clusters at once, which share test processes.

A cluster is broken by the first commit of a line of commits from which on it can fail. Where it can, a process shows it with
an unknown rate (1 for a deterministic fault, less for a flaky one); before, next to never. Everything here is a pure function
of what was observed: the posterior over the commits follows from it by Bayes' rule, and the next commit to run is the one
that is expected to tell most, in bits, summed over the clusters that are still open.

What a commit changed says where to look first. It hardly counts in what is believed in the end: an answer has to hold
without it too, or a few lucky passes and a traceback that points elsewhere would name the wrong commit.

Positions count from 0, the good end, to the last, the bad end. Two answers beside the commits are part of every posterior:
that the cluster is older than the good end, and that it never fails here.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import accumulate
from math import exp, log, log2
from typing import TYPE_CHECKING, Literal

from msgspec import Struct
from msgspec.structs import replace

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from pytest_tracetriage.model.diagnosis import Finding

Seen = Literal["failed", "passed", "blocked"]
"""What one process says of a cluster; blocked: nothing, as where a commit does not build, or its test fails otherwise."""

NOISE = 0.001
"""How often a process fails in the cluster's own way before its culprit."""
STEADY = 1 - NOISE
"""The rate of a deterministic fault."""
_SPREAD = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)


def rates(failed: int = 1, passed: int = 0, flaky: Sequence[float] = _SPREAD) -> tuple[tuple[float, float], ...]:
    """Return the rates that a fault may have, and how likely each is, once it was seen in `failed` of failed + passed runs.

    Seen once, deterministic and flaky are as likely as each other: that it was seen is why anybody asks. Of the rates of
    `flaky` faults, one that shows often is then likelier than one that hardly does.
    """
    weighed = [(STEADY, 0.5), *((min(rate, STEADY), 0.5 * rate / sum(flaky)) for rate in flaky)]
    logs = [log(weight) + (failed - 1) * log(rate) + passed * log(1 - rate) for rate, weight in weighed]
    told = [exp(value - max(logs)) for value in logs]
    return tuple((rate, max(chance / sum(told), 1e-300)) for (rate, _), chance in zip(weighed, told, strict=True))


RATES = rates()
OLDER = 0.02
NEVER = 0.05
TELLING = 0.002
"""Bits below which a process is not worth a test."""
PROOF = 0.05
"""Bits that a process is worth which proves what is believed already."""
GIVEN_UP = 40
"""Processes from its first failure on after which a cluster is given up that failed once at most; in all, twice as many."""
UNPROVEN = 2.0
"""How much likelier than a commit that changed any code a commit is at most, in what is believed in the end."""
NEAR = 0.7
"""How likely the neighbour of a commit that tells nothing tells nothing either."""


class Observation(Struct, frozen=True, array_like=True):
    """What one process at one commit said of one cluster."""

    position: int
    seen: Seen


class Prior(Struct, frozen=True):
    """What is believed before the first process. `weights` are relative, one for each commit after the good end.

    1 stands for a commit that changed code. The cluster is given up that failed once at most in `patience` processes from that
    failure on, or in twice as many of all.
    """

    weights: tuple[float, ...]
    older: float = OLDER
    never: float = NEVER
    rates: tuple[tuple[float, float], ...] = RATES
    patience: int = GIVEN_UP


class Posterior(Struct, frozen=True):
    """What is believed now: the probability of each answer, and how often the fault then shows.

    Index 0 is "older than the good end", the last is "it never fails here", those between are the commits' positions.
    """

    answers: tuple[float, ...]
    rates: tuple[float, ...]


class Line(Struct, frozen=True):
    """One cluster in a search: its prior, and what was observed of it, in the order of time."""

    prior: Prior
    observations: tuple[Observation, ...] = ()


class Step(Struct, frozen=True):
    """The next process: where, and for which clusters it tells something."""

    position: int
    clusters: tuple[str, ...]


class Answer(Struct, frozen=True):
    """What the search found for one cluster.

    `positions` are the commits that it may be, the likeliest first: one where `finding` is "commit". `confidence` is the
    probability that it is among them, or of the other answer. `rate` is how often a process then shows it.
    """

    finding: Finding
    positions: tuple[int, ...]
    confidence: float
    rate: float


@lru_cache(maxsize=1024)
def posterior(line: Line) -> Posterior:
    """Return what the observations make of the prior."""
    last = len(line.prior.weights)
    failed, passed = [0] * (last + 1), [0] * (last + 1)
    for position, seen in ((item.position, item.seen) for item in line.observations):
        if seen == "failed":
            failed[position] += 1
        elif seen == "passed":
            passed[position] += 1
    failed_before = [0, *accumulate(failed)]
    passed_before = [0, *accumulate(passed)]
    all_failed, all_passed = failed_before[-1], passed_before[-1]
    noise, quiet = log(NOISE), log(1 - NOISE)
    logs = [(rate, log(weight), log(rate), log(1 - rate)) for rate, weight in line.prior.rates]
    begun = _begun(line.prior)
    table: list[list[float]] = []
    for index, weight in enumerate(begun):
        red, green = failed_before[index], passed_before[index]
        base = weight + red * noise + green * quiet
        later_red, later_green = all_failed - red, all_passed - green
        table.append([base + first + later_red * hit + later_green * miss for _, first, hit, miss in logs])
    highest = max(map(max, table))
    answers, rates = [], []
    for row in table:
        if max(row) < highest - 50:  # next to nothing, and most are
            answers.append(0.0)
            rates.append(0.0)
            continue
        parts = [exp(value - highest) for value in row]
        mass = sum(parts)
        answers.append(mass)
        rates.append(sum(part * item[0] for part, item in zip(parts, logs, strict=True)) / mass)
    total = sum(answers)
    return Posterior(tuple(mass / total for mass in answers), tuple(rates))


def _begun(prior: Prior) -> list[float]:
    """Return the logarithm of what is believed of each answer at first."""
    share = (1 - prior.older - prior.never) / sum(prior.weights)
    return [log(value) for value in (prior.older, *(weight * share for weight in prior.weights), prior.never)]


def gains(now: Posterior) -> list[float]:
    """Return what a process at each position is expected to tell of the answer, in bits.

    It is the mutual information of the answer and the outcome; what the outcome says of the rate alone is not counted.
    """
    mass = red = doubt = 0.0
    quiet = _entropy(NOISE)
    told = []
    for answer, rate in zip(now.answers[:-1], now.rates[:-1], strict=True):
        mass += answer
        red += answer * rate
        doubt += answer * _entropy(rate)
        rest = max(0.0, 1 - mass)
        told.append(_entropy(red + rest * NOISE) - doubt - rest * quiet)
    return told


def _entropy(share: float) -> float:
    return 0.0 if share <= 0 or share >= 1 else -share * log2(share) - (1 - share) * log2(1 - share)


def next_step(lines: Mapping[str, Line], confidence: float) -> Step | None:
    """Return the process that tells most of the clusters still open, None when none is or none could tell more.

    A cluster has to fail first, and nowhere is that likelier than at the bad end. Clusters that are decided already come along
    where it still tells of them.
    """
    open_ = [name for name in lines if not _decided(lines[name], confidence) and not _hopeless(lines[name])]
    if not open_:
        return None
    last = len(lines[open_[0]].prior.weights)
    silent = Observation(last, "blocked")
    unseen = [name for name in open_ if not lines[name].observations]
    if unseen:
        return Step(last, tuple(lines))
    told = {name: _bits(line, confidence) for name, line in lines.items()}
    shown = [name for name in open_ if any(item.seen == "failed" or item == silent for item in lines[name].observations)]
    bits = [sum(told[name][position] for name in shown) for position in range(last)]
    bits.append(sum(told[name][last] for name in open_))
    best = max(range(last + 1), key=bits.__getitem__)
    if bits[best] <= TELLING:
        return None
    return Step(best, tuple(name for name in told if told[name][best] > TELLING))


def _hopeless(line: Line) -> bool:
    """Return whether a cluster is given up: others may have the time. It hardly fails, or mostly something else does."""
    words = [item.seen for item in line.observations]
    since = min((item.position for item in line.observations if item.seen == "failed"), default=0)
    tried = sum(item.position >= since for item in line.observations)
    rare = (tried >= line.prior.patience or len(words) >= 2 * line.prior.patience) and words.count("failed") < 2
    return rare or words.count("blocked") >= min(line.prior.patience, GIVEN_UP // 2) or len(words) >= 4 * GIVEN_UP


def _bits(line: Line, confidence: float) -> list[float]:
    """Return what each position is expected to tell of one cluster, less where it may well tell nothing.

    Where the changes make one answer certain already, what is asked is whether it holds without them.
    """
    blocked = _blocked(line)
    now = posterior(line)
    if _span(line, now)[2] >= confidence:
        now = posterior(_fair(line))
    told = gains(now)
    if blocked:
        clear = {item.position for item in line.observations} - blocked
        told = [bits * _clear(position, blocked, clear) for position, bits in enumerate(told)]
    for position, bits in _wishes(line, confidence).items():
        told[position] = max(told[position], bits)
    return told


def _clear(position: int, blocked: frozenset[int], clear: Iterable[int]) -> float:
    """Return how likely a position tells something, beside others that told nothing."""
    if position in blocked:
        return 0.0
    away = min(abs(position - other) for other in blocked)
    nearer = any(abs(position - other) < away for other in clear)
    return 1.0 if nearer else 1 - NEAR**away


def _blocked(line: Line) -> frozenset[int]:
    told = {item.position for item in line.observations if item.seen != "blocked"}
    return frozenset(item.position for item in line.observations if item.position not in told)


def _span(line: Line, now: Posterior) -> tuple[int, int, float]:
    """Return the likeliest answer as (first, last, probability): commits that cannot be told apart count as one."""
    blocked = _blocked(line)
    spans: list[tuple[int, int, float]] = []
    first, mass = 0, 0.0
    for position, probability in enumerate(now.answers):
        mass += probability
        if position not in blocked:
            spans.append((first, position, mass))
            first, mass = position + 1, 0.0
    return max(spans, key=lambda span: span[2])


@lru_cache(maxsize=1024)
def _fair(line: Line) -> Line:
    """Return the line with what the commits changed hardly counting: nearly all that speaks for a commit is what was seen."""
    weights = tuple(min(weight, UNPROVEN) for weight in line.prior.weights)
    return Line(replace(line.prior, weights=weights), line.observations)


def _believed(line: Line) -> tuple[int, int, float]:
    """Return the likeliest answer as (first, last, probability), by what was seen alone.

    The probability is the lower one where the changes point elsewhere.
    """
    first, last, probability = _span(line, posterior(_fair(line)))
    return first, last, min(probability, sum(posterior(line).answers[first : last + 1]))


def _decided(line: Line, confidence: float) -> bool:
    first, last, probability = _believed(line)
    if probability < confidence:
        return False
    if last in (0, len(line.prior.weights) + 1):
        return first == last
    return _next_proof(line, first, last) is None


def _next_proof(line: Line, first: int, last: int) -> Seen | None:
    """Return what is still to be seen: a failure at the culprit that stands, in time, between two passes before it.

    Something that comes and goes with the hour, not with the commit, would look like a culprit otherwise. One of the passes has
    to be at the commit before: what is believed of commits beforehand proves nothing.
    """
    proof: list[Seen] = ["passed", "failed", "passed"]
    before = first == 0
    for item in line.observations:
        below = item.seen == "passed" and item.position < first
        before = before or (below and item.position == first - 1)
        if proof and ((proof[0] == "passed" and below) or (proof[0] == item.seen == "failed" and item.position == last)):
            del proof[0]
    return proof[0] if proof else None if before else "passed"


def _wishes(line: Line, confidence: float) -> dict[int, float]:
    """Return the positions that a confident answer still lacks a proof from, and what that is worth in bits.

    Little: processes for other clusters, which are run anyway, may bring it along.
    """
    first, last, probability = _believed(line)
    if probability < confidence or last in (0, len(line.prior.weights) + 1):
        return {}
    proof = _next_proof(line, first, last)
    if proof == "failed":
        return {last: PROOF}
    if proof is None or not first:
        return {}
    return {**dict.fromkeys(range(first - 1), PROOF / 2), first - 1: PROOF}


def rates_now(line: Line) -> tuple[tuple[float, float], ...]:
    """Return the rates that the fault may have, and how likely each is now."""
    now = posterior(line)
    culprit = max(range(len(now.answers) - 1), key=now.answers.__getitem__)
    late = [item.seen for item in line.observations if item.position >= culprit]
    told = [
        (rate, weight * rate ** late.count("failed") * (1 - rate) ** late.count("passed")) for rate, weight in line.prior.rates
    ]
    total = sum(weight for _, weight in told)
    return tuple((rate, max(weight / total, 1e-300)) for rate, weight in told)


def answer(line: Line, confidence: float) -> Answer:
    """Return what the observations of one cluster amount to."""
    now = posterior(_fair(line))
    end = len(now.answers) - 1
    first, last, probability = _believed(line)
    rate = now.rates[last]
    if not _decided(line, confidence):
        if _hopeless(line) and all(item.seen == "passed" for item in line.observations):
            return Answer("not reproduced", (), now.answers[end], 0.0)
        now = posterior(line)
        return Answer("undecided", _likeliest(now, confidence), max(now.answers[1:end], default=0.0), rate)
    if last == 0:
        return Answer("older", (), probability, rate)
    if last == end:
        return Answer("not reproduced", (), probability, 0.0)
    positions = sorted(range(max(first, 1), last + 1), key=lambda position: -now.answers[position])
    return Answer("commit" if len(positions) == 1 else "commits", tuple(positions), probability, rate)


def _likeliest(now: Posterior, confidence: float) -> tuple[int, ...]:
    """Return the fewest commits that hold the wanted share of what is believed of commits."""
    ranked = sorted(range(1, len(now.answers) - 1), key=lambda position: -now.answers[position])
    whole = sum(now.answers[1:-1])
    found, mass = [], 0.0
    for position in ranked:
        found.append(position)
        mass += now.answers[position]
        if mass >= confidence * whole:
            break
    return tuple(found)
