"""Where the way a test fails changes: sound, flaky at some rate, or broken; a hidden Markov model over commits.

What is counted at a point (a commit in one environment) is Beta-Bernoulli: each attempt fails with a rate that the regime
gives, and the rate of a flaky regime has a Beta prior that is nearly all below 10 %, held as a grid of rates, which makes
the recursion over points exact and linear. The regime changes between points only: never between two attempts at one
commit, so a commit that passes and fails speaks for flakiness, and an unbroken row of failures for a breakage. This, and a
prior with nearly all its weight on tests that never fail, are as in LUCI Analysis
(go.chromium.org/luci/analysis/internal/changepoints/bayesian); the exact recursion is Fearnhead's (Exact and efficient
Bayesian inference for multiple changepoint problems, Statistics and Computing 16, 2006). Unlike either, breaking and
being fixed again is a change of its own: a flaky test that breaks is as flaky as before when it is fixed.

How often things break, and how soon they are fixed, differs from project to project; it decides whether a lone failure is
a flake or a breakage that was fixed at once. `learned` takes it from the history itself, by expectation maximisation.
"""

from __future__ import annotations

import math
from operator import mul
from typing import TYPE_CHECKING, Literal

from msgspec import Struct

if TYPE_CHECKING:
    from collections.abc import Sequence

Kind = Literal["sound", "flaky", "broken"]
GRID = (0.003, 0.007, 0.015, 0.03, 0.06, 0.12, 0.25, 0.45, 0.65)
"""Rates that a flaky regime may have, all as likely; evenly spaced by their logarithm, as Beta(0, 1) cut at its ends."""
_BEGINS, _ENDS = 1e-4, 1e-3
"""How likely a test becomes flaky, or ceases to be, at any one point: the first is LUCI's prior of a change."""
_PASSES = 0.005
"""How likely an attempt at a broken test passes."""
_FAILS_BROKEN, _PASSES_BROKEN = math.log1p(-_PASSES), math.log(_PASSES)
_FLAT = 1.0 / len(GRID)


class Point(Struct, frozen=True, array_like=True):
    """What happened at one commit in one environment: attempts that passed and failed. `first` begins a line of commits."""

    passes: int
    fails: int
    first: bool = False


class Rates(Struct, frozen=True):
    """How likely things are, each at one point of one test. The defaults are the priors that `learned` starts from."""

    flaky: float = 0.03
    """A test is flaky from the beginning."""
    breaks: float = 5e-4
    """One that was not broken before breaks."""
    again: float = 2e-3
    """One that was fixed breaks again: weak spots break sooner."""
    fixed: float = 0.3
    """A broken one is fixed."""
    stray: float = 1e-5
    """An attempt at a sound test fails for no reason that lies in it."""
    broken: float = 0.02
    """It is broken where a line begins, such as a pull request."""


PRIOR = Rates()
_WEIGHT = Rates(flaky=50, breaks=20_000, again=2_000, fixed=20, stray=200_000, broken=50)
"""So many observations a prior counts for."""


class Segment(Struct, frozen=True):
    """Points `start` up to, not including, `end` under one regime. `probability` is that of the surest of them."""

    start: int
    end: int
    kind: Kind
    passes: int
    fails: int
    probability: float


class _Block(Struct, frozen=True):
    """One point with a failure, or `count` points without one: a regime change among those cannot be placed."""

    start: int
    count: int
    passes: int
    fails: int
    first: bool


class _Step(Struct, frozen=True):
    """How the hidden state moves into a block and through it. A value a rate includes how likely the block is."""

    stays: float
    """Never broken, and not now."""
    breaks: float
    remains: float
    """Broken, and still."""
    mends: float
    keeps: float
    """Fixed once, and not broken again."""
    again: float
    likely: list[float]
    """The block, at each rate."""
    hold: list[float]
    """The same rate all through it."""
    begins: list[float]
    """Sound before it, of this rate at its end."""
    ends: list[float]
    """Of this rate before it, sound at its end."""
    broken: float
    """The block, broken all through."""


_State = tuple[list[float], list[float], list[float]]
"""Likelihoods by rate (that of a sound test, then the grid) of: never broken, broken, fixed after it was broken."""


def segments(points: Sequence[Point], rates: Rates = PRIOR) -> tuple[Segment, ...]:
    """Return the most likely regime of each point, joined to segments, oldest first; () without a point."""
    if not points:
        return ()
    blocks = _blocks(points)
    kinds = _marginals(blocks, rates)
    found: list[Segment] = []
    for block, chances in zip(blocks, kinds, strict=True):
        kind: Kind = max(("sound", "flaky", "broken"), key=lambda name: chances[name])
        last = found[-1] if found else None
        if last is not None and last.kind == kind and not (block.first and kind == "broken"):
            found[-1] = Segment(
                last.start, block.start + block.count, kind, last.passes + block.passes, last.fails + block.fails,
                max(last.probability, chances[kind]),
            )  # fmt: skip
        else:
            found.append(Segment(block.start, block.start + block.count, kind, block.passes, block.fails, chances[kind]))
    return tuple(found)


def learned(sequences: Sequence[Sequence[Point]], untouched: int, rounds: int = 4, most: int = 200) -> Rates:
    """Return the rates that a history shows, beginning with the priors, which weigh what they are worth.

    `sequences` are of tests that ever failed, `untouched` is how many others ran as often; at most `most` are looked at.
    """
    step = max(1, math.ceil(len(sequences) / most))
    chosen: dict[tuple[_Block, ...], float] = {}
    for sequence in sequences[::step]:
        blocks = tuple(_blocks(sequence))
        chosen[blocks] = chosen.get(blocks, 0.0) + step
    if untouched and sequences:
        points = sum(map(len, sequences)) // len(sequences)
        passes = sum(point.passes + point.fails for sequence in sequences for point in sequence) // len(sequences)
        blocks = (_Block(0, max(1, points), passes, 0, first=True),)
        chosen[blocks] = chosen.get(blocks, 0.0) + untouched
    rates = PRIOR
    for _ in range(rounds):
        hits = {name: getattr(PRIOR, name) * getattr(_WEIGHT, name) for name in Rates.__struct_fields__}
        trials = {name: getattr(_WEIGHT, name) for name in Rates.__struct_fields__}
        for blocks, weight in chosen.items():
            _count(blocks, rates, weight, hits, trials)
        rates = Rates(**{name: min(0.95 if name == "fixed" else 0.5, hits[name] / trials[name]) for name in hits})
    return rates


def credible(fails: int, passes: int, mass: float = 0.95) -> tuple[float, float, float]:
    """Return the mean and the ends of the central credible interval of a failure rate, under Jeffreys' prior Beta(.5, .5)."""
    alpha, beta = fails + 0.5, passes + 0.5
    tail = (1 - mass) / 2
    low = 0.0 if not fails else _quantile(tail, alpha, beta)
    high = 1.0 if not passes else _quantile(1 - tail, alpha, beta)
    return alpha / (alpha + beta), low, high


def _blocks(points: Sequence[Point]) -> list[_Block]:
    found: list[_Block] = []
    start = count = passes = 0
    first = False
    for number, point in enumerate(points):
        if point.fails:
            if count:
                found.append(_Block(start, count, passes, 0, first))
                count = passes = 0
            found.append(_Block(number, 1, point.passes, point.fails, point.first or not number))
        else:
            if not count:
                start, first = number, point.first or not number
            count += 1
            passes += point.passes
    if count:
        found.append(_Block(start, count, passes, 0, first))
    return found


def _steps(blocks: Sequence[_Block], rates: Rates) -> list[_Step]:
    breaks, again, fixed, new = rates.breaks, rates.again, rates.fixed, rates.broken
    grid = (rates.stray, *GRID)
    steps = []
    for block in blocks:
        count = block.count
        logs = [block.fails * math.log(rate) + block.passes * math.log1p(-rate) for rate in grid]
        down = block.fails * _FAILS_BROKEN + block.passes * _PASSES_BROKEN
        # Only what is how much likelier counts: of many attempts at one commit, each would be too little for a float.
        highest = max(down, *logs) if count == 1 else 0.0
        likely = [math.exp(value - highest) for value in logs]
        if count == 1:
            hold = [likely[0] * (1 - _BEGINS), *[value * (1 - _ENDS) for value in likely[1:]]]
            begins = [0.0, *[value * _BEGINS * _FLAT for value in likely[1:]]]
            ends = [0.0] + [likely[0] * _ENDS] * len(GRID)
        else:  # the sums over all points at which the rate may have changed, each a geometric series
            each = [value ** (1 / count) for value in likely]
            kept = [value * (1 - _ENDS) for value in each]
            hold = [likely[0] * (1 - _BEGINS) ** count, *[value**count for value in kept[1:]]]
            begins = [0.0, *[_BEGINS * _FLAT * value * (1 - value**count) / (1 - value) for value in each[1:]]]
            ends = [0.0, *[_ENDS * likely[0] * (1 - value**count) / (1 - value) for value in kept[1:]]]
        # Into the first of its points; then on to the last without a breakage.
        first = (1 - new, new, new, 1 - new, 1 - new, new) if block.first else (
            1 - breaks, breaks, 1 - fixed, fixed, 1 - again, again)  # fmt: skip
        rest, later = (1 - breaks) ** (count - 1), (1 - again) ** (count - 1)
        steps.append(_Step(
            first[0] * rest, first[1], first[2], first[3] * later, first[4] * later, first[5], likely, hold, begins, ends,
            math.exp(down - highest) if count == 1 else 0.0,
        ))  # fmt: skip
    return steps


def _moved(state: list[float], step: _Step) -> list[float]:
    """Return a state that is not broken after a block, through which its rate may have changed."""
    sound = state[0]
    found = [value * hold + sound * begun for value, hold, begun in zip(state, step.hold, step.begins, strict=True)]
    found[0] += sum(map(mul, state, step.ends))
    return found


def _moved_back(state: list[float], step: _Step) -> list[float]:
    sound = state[0]
    found = [value * hold + sound * ended for value, hold, ended in zip(state, step.hold, step.ends, strict=True)]
    found[0] += sum(map(mul, state, step.begins))
    return found


def _forward(steps: Sequence[_Step], rates: Rates) -> tuple[list[_State], list[float]]:
    """Return the filtered states after each block, each of sum 1, and what they were divided by."""
    never, broken, fixed = _beginning(rates)
    states, scales = [], []
    for step in steps:
        then = [
            (n * step.breaks + b * step.remains + f * step.again) * step.broken
            for n, b, f in zip(never, broken, fixed, strict=True)
        ] if step.broken else [0.0] * len(never)  # fmt: skip
        mended = zip(broken, step.likely, _moved(fixed, step), strict=True)
        fixed = [b * step.mends * chance + f * step.keeps for b, chance, f in mended]
        never = [value * step.stays for value in _moved(never, step)]
        scale = sum(never) + sum(then) + sum(fixed) or 5e-324
        never, broken, fixed = [n / scale for n in never], [b / scale for b in then], [f / scale for f in fixed]
        states.append((never, broken, fixed))
        scales.append(scale)
    return states, scales


def _beginning(rates: Rates) -> _State:
    never = [1 - rates.flaky, *[rates.flaky * _FLAT] * len(GRID)]
    return never, [0.0] * len(never), [0.0] * len(never)


def _backward(steps: Sequence[_Step], scales: Sequence[float]) -> list[_State]:
    """Return for each block how likely what follows is, by its state."""
    width = len(GRID) + 1
    never, broken, fixed = [1.0] * width, [1.0] * width, [1.0] * width
    found = [(never, broken, fixed)]
    for step, scale in zip(reversed(steps[1:]), reversed(scales[1:]), strict=True):
        then = [value * step.broken / scale for value in broken]
        stays, keeps, mends = step.stays / scale, step.keeps / scale, step.mends / scale
        later = zip(then, fixed, step.likely, strict=True)
        never = [n * stays + b * step.breaks for n, b in zip(_moved_back(never, step), then, strict=True)]
        broken = [b * step.remains + f * mends * chance for b, f, chance in later]
        fixed = [f * keeps + b * step.again for f, b in zip(_moved_back(fixed, step), then, strict=True)]
        found.append((never, broken, fixed))
    return found[::-1]


def _marginals(blocks: Sequence[_Block], rates: Rates) -> list[dict[Kind, float]]:
    """Return how likely each regime is in each block, given all. Passes are flaky where the rate held all through them."""
    steps = _steps(blocks, rates)
    states, scales = _forward(steps, rates)
    found: list[dict[Kind, float]] = []
    before = _beginning(rates)
    for block, step, scale, state, ahead in zip(blocks, steps, scales, states, _backward(steps, scales), strict=True):
        broken = sum(map(mul, state[1], ahead[1]))
        if block.count == 1:
            flaky = sum(map(mul, state[0][1:], ahead[0][1:])) + sum(map(mul, state[2][1:], ahead[2][1:]))
        else:
            held = zip(*before, step.likely, step.hold, ahead[0], ahead[2], strict=True)
            flaky = sum(
                never * step.stays * hold * first + (fixed * step.keeps * hold + was * step.mends * likely) * later
                for never, was, fixed, likely, hold, first, later in list(held)[1:]
            ) / scale  # fmt: skip
        found.append({"sound": max(0.0, 1 - flaky - broken), "flaky": flaky, "broken": broken})
        before = state
    return found


def _count(blocks: Sequence[_Block], rates: Rates, weight: float, hits: dict[str, float], trials: dict[str, float]) -> None:
    """Add what one sequence is expected to have seen of each rate."""
    steps = _steps(blocks, rates)
    states, scales = _forward(steps, rates)
    before = _beginning(rates)
    for number, (block, step, state, ahead) in enumerate(zip(blocks, steps, states, _backward(steps, scales), strict=True)):
        never, broken, fixed = (
            [weight * a * b for a, b in zip(one, other, strict=True)] for one, other in zip(state, ahead, strict=True)
        )
        if not number:
            trials["flaky"] += weight
            hits["flaky"] += sum(never[1:]) + sum(broken[1:]) + sum(fixed[1:])
        unbroken, was, mended = before
        into = [value * step.broken * weight / scales[number] for value in ahead[1]]
        new = sum(n * value for n, value in zip(unbroken, into, strict=True)) * step.breaks
        back = sum(f * value for f, value in zip(mended, into, strict=True)) * step.again
        still = sum(b * value for b, value in zip(was, into, strict=True)) * step.remains
        if block.first:
            trials["broken"] += weight
            hits["broken"] += new + back + still
            trials["breaks"] += sum(never) * (block.count - 1)
            trials["again"] += sum(fixed) * (block.count - 1)
        else:
            hits["breaks"] += new
            hits["again"] += back
            trials["breaks"] += sum(never) * block.count + new
            trials["again"] += sum(fixed) * block.count + back
            left = sum(b * chance * value for b, chance, value in zip(was, step.likely, ahead[2], strict=True))
            left *= step.mends * weight / scales[number]
            hits["fixed"] += left
            trials["fixed"] += left + still
        sound = never[0] + fixed[0]
        hits["stray"] += sound * block.fails
        trials["stray"] += sound * (block.fails + block.passes)
        before = state


def _quantile(share: float, alpha: float, beta: float) -> float:
    low, high = 0.0, 1.0
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if _below(middle, alpha, beta) < share else (low, middle)
    return (low + high) / 2


def _below(rate: float, alpha: float, beta: float) -> float:
    """Return the regularised incomplete beta function, by its continued fraction (Abramowitz and Stegun 26.5.8)."""
    if rate > (alpha + 1) / (alpha + beta + 2):
        return 1 - _below(1 - rate, beta, alpha)
    if rate <= 0:
        return 0.0
    front = math.exp(
        math.lgamma(alpha + beta) - math.lgamma(alpha) - math.lgamma(beta)
        + alpha * math.log(rate) + beta * math.log1p(-rate)
    ) / alpha  # fmt: skip
    fraction, above, under = 1.0, 1.0, 0.0
    for index in range(300):
        half = index // 2
        if not index:
            term = 1.0
        elif index % 2:
            term = -(alpha + half) * (alpha + beta + half) * rate / ((alpha + index - 1) * (alpha + index))
        else:
            term = half * (beta - half) * rate / ((alpha + index - 1) * (alpha + index))
        under = 1 / (1 + term * under or 1e-30)
        above = 1 + term / above or 1e-30
        fraction *= above * under
        if index and abs(above * under - 1) < 1e-10:
            break
    return front * (fraction - 1)
