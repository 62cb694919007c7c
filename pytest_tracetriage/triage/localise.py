"""Suspects from the spectrum: spectrum-based fault localisation with what tracebacks and changes add.

    suspicion(element | cluster of n tests) = 3 ln Ochiai + 5 k/n - 0.7 ln(1 + p) + 0.6 ln(lines)
        + 1.8 share with its function as last frame + 2.4 share missing an attribute that it should have set
        + 4 [changed since the green run] - 2 [no longer there] + 3 share astray in its function / sqrt(functions astray)

k tests of the cluster and p passing tests run the element; Ochiai = k / sqrt(n (k + p)) (Abreu, Zoeteweij and van Gemund,
"On the accuracy of spectrum-based fault localization", TAIC PART 2007). k/n counts for itself, since each test that fails of a
fault has run it. A test is astray in a function of which it takes other lines than when it was green, known from a map of the
failing run: mostly the fault's own, its callers or what it calls, so it says the less the more there are, the mean of the
cluster's tests. A function ranks by its best element. The weights are round numbers on a plateau: fits that leave out
one of eight packages agree (docs/explanation/how-clustering-works.md), so do not tune them to a project.
"""

from __future__ import annotations

import heapq
import math
import re
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_tracetriage.model.analysis import Suspect
from pytest_tracetriage.triage.spectrum import ones

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from pytest_tracetriage.model.execution import Function
    from pytest_tracetriage.model.trace import Failure, Frame
    from pytest_tracetriage.triage.join import Fact
    from pytest_tracetriage.triage.spectrum import Executed, Spectrum

OCHIAI, SHARE, PASSING, LINES, LAST, MAKER, CHANGED, GONE, ASTRAY = 3.0, 5.0, 0.7, 0.6, 1.8, 2.4, 4.0, -2.0, 3.0
MAX_SUSPECTS = 10
LOOKED_AT = 200
"""Elements of which the suspects of a cluster are made: ten functions have seldom more that count."""

_LACKS = re.compile(r"^'(\w+)' object has no attribute '")


@dataclass(frozen=True)
class Crowd:
    """The failing tests of a cluster, as localisation sees them."""

    tests: int
    """Those that stand in the map, as a bit set."""
    elements: int
    """What any of them runs, as a bit set."""
    count: int
    """All of them, in the map or not."""
    last: Counter[Function]
    """How many have this function as the last frame of the application that the map knows."""
    lacking: Counter[str]
    """How many fail since an object of this class has no such attribute."""
    astray: Counter[Function]
    """How many take other lines of this function than when they were green."""
    watched: int
    """Of how many that is known."""

    def __add__(self, other: Crowd) -> Crowd:
        """Return the crowd of two clusters."""
        return Crowd(
            self.tests | other.tests,
            self.elements | other.elements,
            self.count + other.count,
            self.last + other.last,
            self.lacking + other.lacking,
            self.astray + other.astray,
            self.watched + other.watched,
        )


@dataclass(frozen=True)
class Localiser:
    """Ranks the elements of one analysis. `of` are the elements of each function, as a bit set."""

    executed: Executed
    spectrum: Spectrum
    of: Mapping[Function, int]
    longest: int
    """Lines of the longest element."""

    def crowd(self, fact: Fact) -> Crowd:
        """Return the tests of one fact as a crowd."""
        names = sorted({member.partition("\0")[0] for member in fact.members})
        elements = 0
        for name in names:
            elements |= self.executed.by_test.get(name, 0)
        size = len(names)
        last = next((function for frame in _application(fact.failures[0]) if (function := self.function(frame))), None)
        lacks = _LACKS.match(fact.failures[0].errors[0].message) if fact.failures[0].errors else None
        tests = self.executed.tests(names)
        astray = {function: (some & tests).bit_count() for function, some in self.executed.astray.items() if some & tests}
        return Crowd(
            tests,
            elements,
            size,
            Counter({last: size}) if last is not None else Counter(),
            Counter({lacks[1]: size}) if lacks else Counter(),
            Counter(astray),
            (self.executed.watched & tests).bit_count(),
        )

    def function(self, frame: Frame) -> Function | None:
        """Return the function of the map that a frame stands in: the one of its qualified name, else the nearest."""
        named = self.executed.named.get((frame.file, frame.function), ())
        exact = [function for function in named if function.name == frame.qualname]
        return min(exact or named, key=lambda one: (_distance(one, frame.line), one.line, one.name), default=None)

    def suspicion(self, number: int, crowd: Crowd) -> float:
        """Return how suspicious an element is that some of the crowd run: a log-odds but for a constant."""
        ran = self.executed.elements[number]
        size = crowd.tests.bit_count()
        hits = (ran.failing & crowd.tests).bit_count()
        odds = (
            OCHIAI * math.log(hits / math.sqrt(size * (hits + ran.passing)))
            + SHARE * hits / size
            - PASSING * math.log1p(ran.passing)
            + LINES * math.log(len(ran.lines))
        )
        return odds + self._told(ran.function, crowd)

    def _told(self, function: Function, crowd: Crowd) -> float:
        """Return what is known of a function beside who runs it."""
        odds = LAST * crowd.last[function] / crowd.count
        if crowd.lacking and function.name.endswith(".__init__"):
            odds += MAKER * crowd.lacking[function.name.split(".")[-2]] / crowd.count
        if astray := crowd.astray[function]:
            odds += ASTRAY * astray / max(crowd.watched, math.sqrt(crowd.watched * crowd.astray.total()))
        place = (function.file, function.name)
        return odds + CHANGED * (place in self.spectrum.changes) + GONE * (place in self.spectrum.gone)

    def ranked(self, crowd: Crowd, many: int) -> list[tuple[float, int]]:
        """Return the `many` most suspicious elements of a crowd with their suspicion, highest first."""
        if not crowd.tests:
            return []
        special = 0
        for function in self._special(crowd):
            special |= self.of.get(function, 0)
        found = [(self._rounded(number, crowd), -number) for number in ones(special & crowd.elements)]
        found = heapq.nlargest(many, found)
        heapq.heapify(found)
        size = crowd.tests.bit_count()
        longest = LINES * math.log(self.longest)
        for number in ones(crowd.elements & ~special):
            passing = self.executed.elements[number].passing
            if len(found) == many:
                # Elements come by rising `passing`: none that follows can reach what is found, if this one could not at best.
                best = OCHIAI / 2 * math.log(size / (size + passing)) + SHARE - PASSING * math.log1p(passing) + longest
                if best < found[0][0]:
                    break
            if crowd.tests & self.executed.elements[number].failing:
                odds = (self._rounded(number, crowd), -number)
                if len(found) < many:
                    heapq.heappush(found, odds)
                elif odds > found[0]:
                    heapq.heapreplace(found, odds)
        return [(odds, -number) for odds, number in sorted(found, reverse=True)]

    def _rounded(self, number: int, crowd: Crowd) -> float:
        return round(self.suspicion(number, crowd), 9) if crowd.tests & self.executed.elements[number].failing else -math.inf

    def _special(self, crowd: Crowd) -> Iterator[Function]:
        """Yield the functions of which more is known than who runs them."""
        yield from crowd.last
        yield from crowd.astray
        if crowd.lacking or self.spectrum.changes:
            for function in self.of:
                owner, _, name = function.name.rpartition(".")
                if (function.file, function.name) in self.spectrum.changes or (
                    name == "__init__" and owner.rpartition(".")[2] in crowd.lacking
                ):
                    yield function


def localiser(executed: Executed, spectrum: Spectrum) -> Localiser:
    """Return what ranks the elements that failing tests run."""
    of: dict[Function, int] = {}
    for number, ran in enumerate(executed.elements):
        of[ran.function] = of.get(ran.function, 0) | 1 << number
    return Localiser(executed, spectrum, of, max(len(ran.lines) for ran in executed.elements))


def localise(facts: Sequence[Fact], where: Localiser) -> tuple[Suspect, ...]:
    """Return at most ten suspects of a cluster, the most suspicious first; none where no map knows its tests.

    `score` is the share of belief among them. A function that a traceback names and the map does not know is new since the
    green run: it is judged by the tests that name it, as if no passing test ran it.
    """
    crowd = _crowd(facts, where)
    if not crowd.tests:
        return ()
    lines = _lines(facts, where)
    best: dict[tuple[str, str], tuple[float, Suspect]] = {}
    for odds, number in where.ranked(crowd, LOOKED_AT):
        ran = where.executed.elements[number]
        place = (ran.function.file, ran.function.name)
        if odds > -math.inf and place not in best:
            line = _commonest(lines.get(ran.function)) or min(ran.lines)
            words = _words(ran.function, (ran.failing & crowd.tests).bit_count(), ran.passing, crowd, where)
            best[place] = odds, Suspect(*place, line, 0.0, words)
    for place, found in _unknown(facts, where, crowd).items():
        best.setdefault(place, found)
    ranked = sorted(best.values(), key=lambda pair: (-pair[0], pair[1].file, pair[1].function))[:MAX_SUSPECTS]
    if not ranked:
        return ()
    beliefs = [math.exp(odds - ranked[0][0]) for odds, _ in ranked]
    total = math.fsum(beliefs)
    return tuple(
        Suspect(one.file, one.function, one.line, round(belief / total, 4), one.evidence)
        for (_, one), belief in zip(ranked, beliefs, strict=True)
    )


def _crowd(facts: Sequence[Fact], where: Localiser) -> Crowd:
    crowd = where.crowd(facts[0])
    for fact in facts[1:]:
        crowd = crowd + where.crowd(fact)
    return crowd


def _words(function: Function, hits: int, passing: int, crowd: Crowd, where: Localiser) -> str:
    said = [f"{hits} of {crowd.tests.bit_count()} failing tests run it, {passing} of {where.executed.passing} passing"]
    if last := crowd.last[function]:
        said.append(f"last frame of {last} tracebacks" if last > 1 else "last frame of 1 traceback")
    if astray := crowd.astray[function]:
        said.append(f"{astray} of {crowd.watched} take other lines of it than when green")
    if function.name.endswith(".__init__") and (lacking := crowd.lacking[function.name.split(".")[-2]]):
        said.append(f"{lacking} miss an attribute of its class" if lacking > 1 else "1 misses an attribute of its class")
    return "; ".join([*said, *_changed((function.file, function.name), where)])


def _changed(place: tuple[str, str], where: Localiser) -> list[str]:
    said = []
    if by := where.spectrum.changes.get(place):
        said.append("changed in " + ", ".join(by[:3]) + (f" and {len(by) - 3} more" if len(by) > 3 else ""))
    if place in where.spectrum.gone:
        said.append("no longer there")
    return said


def _unknown(facts: Sequence[Fact], where: Localiser, crowd: Crowd) -> dict[tuple[str, str], tuple[float, Suspect]]:
    """Return the application's functions of the tracebacks that the map does not know, with their suspicion."""
    tests: Counter[tuple[str, str]] = Counter()
    last: Counter[tuple[str, str]] = Counter()
    lines: dict[tuple[str, str], Counter[int]] = {}
    for fact in facts:
        met: dict[tuple[str, str], int] = {}
        frames = _application(fact.failures[0])
        for frame in frames:
            if (frame.file, frame.function) not in where.executed.named and not frame.function.startswith("<"):
                met.setdefault((frame.file, frame.qualname or frame.function), frame.line)
        tests.update(dict.fromkeys(met, len(fact.members)))
        if frames and (first := (frames[0].file, frames[0].qualname or frames[0].function)) in met:
            last[first] += len(fact.members)
        for place, line in met.items():
            lines.setdefault(place, Counter())[line] += len(fact.members)
    found = {}
    for place, number in tests.items():
        share = min(1.0, number / crowd.count)
        odds = OCHIAI * math.log(share) / 2 + SHARE * share + LAST * last[place] / crowd.count
        odds += CHANGED * (place in where.spectrum.changes)
        said = f"in the traceback of {number} of {crowd.count} failing tests, not in the coverage of the green run"
        words = "; ".join([said, *_changed(place, where)])
        found[place] = round(odds, 9), Suspect(*place, _commonest(lines[place]), 0.0, words)
    return found


def _lines(facts: Sequence[Fact], where: Localiser) -> dict[Function, Counter[int]]:
    """Return the lines on which tracebacks stood, by function of the map."""
    found: dict[Function, Counter[int]] = {}
    for fact in facts:
        for frame in _application(fact.failures[0]):
            if (function := where.function(frame)) is not None:
                found.setdefault(function, Counter())[frame.line] += len(fact.members)
    return found


def _commonest(lines: Counter[int] | None) -> int:
    return min(lines, key=lambda line: (-lines[line], line)) if lines else 0


def _application(failure: Failure) -> list[Frame]:
    """Return the application's frames, innermost first, those of the raised error before those of what it came from."""
    return [frame for error in failure.errors for frame in reversed(error.frames) if frame.origin == "app"]


def _distance(function: Function, line: int) -> int:
    return max(function.line - line, line - function.end, 0)
