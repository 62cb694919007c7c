"""Patterns over time: what is flaky, fails again and again, comes back, is fixed to and fro, or takes long to be fixed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from pytest_tracetriage.diagnose.changepoints import Point, Segment, credible, learned, segments
from pytest_tracetriage.model.diagnosis import EvidencePoint, Pattern, Share

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pytest_tracetriage.model.diagnosis import PatternKind, Trail, Trails

TRACES = 20
"""Attempts below which nothing is said of how often a test fails."""
SURE = 0.9
"""What is less likely than this is not told."""
REPEATED = 3
ITERATIONS = 5
_RETURNS: tuple[tuple[PatternKind, int], ...] = (("OSCILLATING_FIX", 2), ("REGRESSION", 1))
"""How often a cluster came back after it was fixed."""
OTHER = 0.25
"""Each further cluster that a test failed by makes it so much less likely flaky: breakages rarely look alike."""
SHOWN = 10
"""Points of evidence that are kept of a pattern, the newest."""
_IDS = {kind: kind.replace("_", "-") for kind in ("REPEATED_FAILURE", "OSCILLATING_FIX", "SLOW_CONVERGENCE", "REGRESSION")}
_ORDER: tuple[PatternKind, ...] = ("REGRESSION", "OSCILLATING_FIX", "SLOW_CONVERGENCE", "REPEATED_FAILURE", "FLAKY")


def patterns(past: Trails, since: float, min_frequency: float, top: int) -> tuple[Pattern, ...]:
    """Return the patterns that something since a time (seconds since the epoch) bears witness to, the surest first.

    Of each kind at most `top`, and none that fails less often than `min_frequency` (a share of attempts).
    """
    model = _Model(past)
    flaky = [found for trail in past.tests for found in _flaky(model, trail, since)]
    known = {pattern.subject for pattern in flaky}
    found = flaky
    for trail in past.clusters:
        found = found + [
            pattern for pattern in _of_cluster(model, trail, since) if pattern.kind != "FLAKY" or not known & trail.tests
        ]
    return _ranked((pattern for pattern in found if pattern.frequency.mean >= min_frequency), top)


class _Model:
    """The rates of this history, and the segments of each course of events, worked out once.

    Clusters have rates of their own: what breaks many tests at once is left out of the courses of those.
    """

    def __init__(self, past: Trails) -> None:
        self.past = past
        self._known: dict[tuple[bool, tuple[Point, ...]], tuple[Segment, ...]] = {}
        self._rates = (
            learned([self.points(trail) for trail in past.tests], past.untouched),
            learned([self.points(trail) for trail in past.clusters], past.untouched + len(past.tests)),
        )

    def points(self, trail: Trail) -> tuple[Point, ...]:
        """Return a trail as points; `first` where its line is another than that of the point before."""
        places = self.past.places
        line, found = -1, []
        for place, passed, failed in zip(trail.places, trail.passed, trail.failed, strict=True):
            found.append(Point(passed, failed, places[place].line != line))
            line = places[place].line
        return tuple(found)

    def segments(self, trail: Trail, points: tuple[Point, ...]) -> tuple[Segment, ...]:
        """Return the segments of these points of a trail. Tests that fail together have the same."""
        cluster = bool(trail.name)
        known = self._known.get((cluster, points))
        if known is None:
            known = self._known[cluster, points] = segments(points, self._rates[cluster])
        return known


def _flaky(model: _Model, trail: Trail, since: float) -> list[Pattern]:
    """Return that a test, or cluster, is flaky, of its newest flaky segment."""
    if sum(trail.passed) + sum(trail.failed) < TRACES:
        return []
    points = model.points(trail)
    parts = model.segments(trail, points)
    found = [segment for segment in parts if segment.kind == "flaky" and segment.fails]
    if not found:
        return []
    last = found[-1]
    telling = _telling(model, trail, last.start, last.end)
    sure = _weighed(last.probability, [cause for cause in trail.causes[last.start : last.end] if cause])
    if sure < SURE or telling[-1].time < since:
        return []
    # Of what only just began, or was seen once, its own few attempts say nothing of how often.
    counted = (last,) if last.fails + last.passes >= TRACES else tuple(part for part in parts if part.kind != "broken")
    frequency = _share(sum(part.fails for part in counted), sum(part.passes for part in counted))
    both = sum(point.passed > 0 for point in telling)
    where = "there" if len(telling) == 1 else "on each" if both == len(telling) else f"on {both} of them"
    at = f"; it passed {where} too" if both else ""
    words = f"fails {percent(frequency)} of attempts: {last.fails} at {_count(len(telling), 'commit')}{at}"
    return [_pattern(model, "FLAKY", trail, (last.start, last.end), sure, frequency, words)]


def _weighed(chance: float, causes: Sequence[str]) -> float:
    """Return how likely a test is flaky, once it is seen which clusters it failed by."""
    odds = chance / max(1e-12, 1 - chance) * OTHER ** max(0, len(set(causes)) - 1)
    return odds / (1 + odds)


def _of_cluster(model: _Model, trail: Trail, since: float) -> list[Pattern]:
    """Return the patterns of a cluster. Its breakages are segments in which it is broken and not merely flaky."""
    points, places = model.points(trail), model.past.places
    found = _flaky(model, trail, since)
    lines: dict[int, list[Segment]] = {}
    for segment in model.segments(trail, points):
        if segment.kind == "broken":
            lines.setdefault(places[trail.places[segment.start]].line, []).append(segment)
    whole = _share(sum(trail.failed), sum(trail.passed))
    for broken in lines.values():
        fresh = [segment for segment in broken if places[trail.places[segment.end - 1]].time >= since]
        if not fresh:
            continue
        often = _at_least([segment.probability for segment in broken])
        for kind, times in _RETURNS:
            if len(often) > times and often[times] >= SURE:
                back = "once" if len(broken) == 2 else f"{len(broken) - 1} times"
                words = f"was fixed and came back {back}; {_so_far(points, broken[-1])}"
                span = (broken[0].start, broken[-1].end)
                found.append(_pattern(model, kind, trail, span, often[times], whole, words))
                break
        sure = [segment for segment in fresh if segment.probability >= SURE]
        longest = max(sure, key=lambda segment: (segment.fails, segment.end), default=None)
        if longest is not None and longest.fails >= REPEATED:
            words = f"failed {longest.fails} times in a row, on {_so_far(points, longest, short=True)}"
            found.append(_pattern(model, "REPEATED_FAILURE", trail, _span(longest), longest.probability, whole, words))
        slowest = max(sure, key=lambda segment: (segment.end - segment.start, segment.end), default=None)
        if slowest is not None and slowest.end - slowest.start > ITERATIONS:
            words = _so_far(points, slowest, word="iteration")
            found.append(_pattern(model, "SLOW_CONVERGENCE", trail, _span(slowest), slowest.probability, whole, words))
    return found


def _at_least(chances: Sequence[float]) -> list[float]:
    """Return how likely more than 0, 1, 2 ... of these are so, each by itself."""
    exactly = [1.0]
    for chance in chances:
        exactly = [
            (exactly[number] if number < len(exactly) else 0.0) * (1 - chance)
            + (exactly[number - 1] * chance if number else 0.0)
            for number in range(len(exactly) + 1)
        ]
    return [sum(exactly[number + 1 :]) for number in range(len(chances))]


def _so_far(points: Sequence[Point], segment: Segment, word: str = "commit", *, short: bool = False) -> str:
    """Return `was fixed after 3 commits`, `still fails after 3 commits`."""
    fixed = segment.end < len(points) and not points[segment.end].first
    count = _count(segment.end - segment.start, word)
    if short:
        return f"{count}, and was fixed" if fixed else f"{count}, and still fails"
    return f"was fixed after {count}" if fixed else f"still fails after {count}"


def _span(segment: Segment) -> tuple[int, int]:
    return segment.start, segment.end


def _pattern(
    model: _Model, kind: PatternKind, trail: Trail, span: tuple[int, int], sure: float, frequency: Share, words: str
) -> Pattern:
    start, end = span
    telling = _telling(model, trail, start, end)
    place = model.past.places[trail.places[start]]
    fresh = start > 0 and model.past.places[trail.places[start - 1]].line == place.line
    began = EvidencePoint(place.run, place.commit, place.time, trail.passed[start], trail.failed[start])
    return Pattern(
        kind=kind,
        id="",
        of="cluster" if trail.name else "test",
        subject=trail.subject,
        name=trail.name or trail.subject,
        confidence=min(sure, 0.999),
        frequency=frequency,
        evidence=tuple(telling[-SHOWN:]),
        points=len(telling),
        change=began if fresh else None,
        since=place.time,
        words=words,
    )


def _telling(model: _Model, trail: Trail, start: int, end: int) -> list[EvidencePoint]:
    """Return the points with a failure among these."""
    found = []
    for number in range(start, end):
        if trail.failed[number]:
            place = model.past.places[trail.places[number]]
            found.append(EvidencePoint(place.run, place.commit, place.time, trail.passed[number], trail.failed[number]))
    return sorted(found, key=lambda point: (point.time, point.run))


def _ranked(found: Iterable[Pattern], top: int) -> tuple[Pattern, ...]:
    by_kind: dict[PatternKind, list[Pattern]] = {}
    for pattern in found:
        by_kind.setdefault(pattern.kind, []).append(pattern)
    ranked: list[Pattern] = []
    for kind in _ORDER:
        these = sorted(by_kind.get(kind, ()), key=_rank)[:top]
        ranked += [replace(pattern, id=f"{_prefix(pattern)}-{number}") for number, pattern in enumerate(these, 1)]
    return tuple(ranked)


def _rank(pattern: Pattern) -> tuple[float, float, int, str]:
    """Order by how many failures are to be expected, then by how sure they are."""
    return (-pattern.confidence * pattern.frequency.mean, -pattern.confidence, -pattern.points, pattern.subject)


def _prefix(pattern: Pattern) -> str:
    if pattern.kind == "FLAKY":
        return "FLAKY-TEST" if pattern.of == "test" else "FLAKY-CLUSTER"
    return _IDS[pattern.kind]


def _share(hits: int, misses: int) -> Share:
    return Share(hits, hits + misses, *credible(hits, misses))


def percent(share: Share) -> str:
    """Return `14 % [6, 27]`, with a digit more below 10 %."""
    return f"{figure(share.mean)} % [{figure(share.low)}, {figure(share.high)}]"


def figure(share: float) -> str:
    """Return a share in percent: `14`, `1.5`, `0.33`."""
    value = 100 * share
    return f"{value:.0f}" if value >= 9.95 or not value else f"{value:.2g}"


def _count(count: int, word: str) -> str:
    return f"{count:,} {word}{'' if count == 1 else 's'}"
