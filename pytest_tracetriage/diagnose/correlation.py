"""Which parameter values, fixtures, markers, workers, models and prompts the failures of a cluster share, and passes do not.

Tests are not independent: all tests of a broken function fail, whatever their parameters, and all functions of a module that
tests something broken use that module's fixtures. So like is compared with like: tests of one function with each other,
else functions of one module, else modules, each in strata, by the exact conditional test (Fisher 1935; over strata: Birch 1964,
Mantel and Haenszel 1959). Where there is nothing to find, chance finds something in at most 5 % of the runs, over all clusters
and traits: Bonferroni, over those hypotheses that could be found at all (Tarone, Biometrics 1990).
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pytest_tracetriage.model.hypotheses import Association, Shared

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from pytest_tracetriage.model.hypotheses import Contrast, Trait

    Key = tuple[Trait, str, str]

ALPHA = 0.05
SHARE = 0.8
"""The share of a cluster's failing tests that must have a trait: what only some have does not explain the others."""
MAX_SHOWN = 5
_CONTRASTS: tuple[Contrast, ...] = ("tests of one function", "functions of one module", "modules")
_ORDER: tuple[Trait, ...] = ("parameter", "prompt", "model", "sequence", "fixture", "marker", "worker")
"""Which of several traits that the same tests have is named first."""


@dataclass(frozen=True)
class Observed:
    """One test that ran: the cluster that it failed by, "" where it passed, and its traits."""

    nodeid: str
    cluster: str
    traits: frozenset[Key]

    @property
    def function(self) -> str:
        """Return the test function's node id."""
        return self.nodeid.partition("[")[0]

    @property
    def module(self) -> str:
        """Return the file."""
        return self.nodeid.partition("::")[0]


@dataclass(frozen=True)
class Stratum:
    """Units to compare with each other: `failing` of `units` fail, `having` have the trait, `both` do both."""

    units: int
    failing: int
    having: int
    both: int


@dataclass(frozen=True)
class Asked:
    """A hypothesis: that a trait goes with a cluster. `least` is the smallest p-value that its margins allow."""

    cluster: str
    key: Key
    contrast: Contrast
    p: float
    least: float


def shared(tests: Sequence[Observed], alpha: float = ALPHA) -> tuple[Shared, ...]:
    """Return what inputs have to do with each cluster, by cluster id. A test that failed by another cluster is no evidence."""
    clusters = sorted({test.cluster for test in tests} - {""})
    compared = {cluster: Compared.of(tests, cluster) for cluster in clusters}
    asked = {cluster: _asked(cluster, compared[cluster]) for cluster in clusters}
    level = tarone([one.least for those in asked.values() for one in those], alpha)
    return tuple(
        Shared(
            cluster,
            _associations([one for one in asked[cluster] if one.p <= level], compared[cluster], alpha),
            _indifferent(asked[cluster], compared[cluster], level),
        )
        for cluster in clusters
    )


def tarone(least: Iterable[float], alpha: float) -> float:
    """Return the level at which each hypothesis is tested: alpha over the number of those that could reach it."""
    ordered = sorted(least)
    for k in range(1, len(ordered) + 1):
        if bisect_right(ordered, alpha / k) <= k:
            return alpha / k
    return alpha


def exact(strata: Iterable[Stratum]) -> tuple[float, float]:
    """Return the one-sided p-value of "units that have it fail more", given all margins, and the least that they allow."""
    weights = [1.0]
    seen = lowest = 0
    for stratum in strata:
        low = max(0, stratum.failing + stratum.having - stratum.units)
        high = min(stratum.failing, stratum.having)
        if low == high:
            continue
        whole = _log_choose(stratum.units, stratum.failing)
        own = [
            math.exp(_log_choose(stratum.having, k) + _log_choose(stratum.units - stratum.having, stratum.failing - k) - whole)
            for k in range(low, high + 1)
        ]
        weights = _convolved(weights, own)
        seen += stratum.both - low
        lowest += low
    if len(weights) == 1:
        return 1.0, 1.0
    return min(1.0, math.fsum(weights[seen:])), weights[-1]


def _log_choose(n: int, k: int) -> float:
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)


def _convolved(first: Sequence[float], second: Sequence[float]) -> list[float]:
    result = [0.0] * (len(first) + len(second) - 1)
    for i, a in enumerate(first):
        for j, b in enumerate(second):
            result[i + j] += a * b
    return result


# -- hypotheses --------------------------------------------------------------------------------------------------------


@dataclass
class Unit:
    """Tests counted together: how many, and how many of them have each trait."""

    tests: int = 0
    having: Counter[Key] = field(default_factory=Counter)

    def add(self, test: Observed) -> None:
        """Count a test."""
        self.tests += 1
        self.having.update(test.traits)


_NONE = Unit()


@dataclass(frozen=True)
class Compared:
    """The tests that failed by one cluster and those that passed, each by function and by module."""

    failing: tuple[Observed, ...]
    passing: tuple[Observed, ...]
    failed: Mapping[str, Unit]
    passed: Mapping[str, Unit]

    @classmethod
    def of(cls, tests: Iterable[Observed], cluster: str) -> Compared:
        """Return what is compared for a cluster."""
        failing = tuple(test for test in tests if test.cluster == cluster)
        passing = tuple(test for test in tests if not test.cluster)
        return cls(failing, passing, _units(failing), _units(passing))

    def strata(self, key: Key, contrast: Contrast) -> list[Stratum]:
        """Return the strata in which tests, functions or modules are compared, those alone in which something failed."""
        if contrast == "tests of one function":
            result = []
            for name, bad in sorted(self.failed.items()):
                good = self.passed.get(name, _NONE)
                if "::" in name:
                    both = bad.having[key]
                    result.append(Stratum(bad.tests + good.tests, bad.tests, both + good.having[key], both))
            return result
        rows: dict[str, list[int]] = {}
        for name in self.failed.keys() | self.passed.keys():
            module, _, function = name.partition("::")
            if bool(function) == (contrast == "functions of one module") and (not function or module in self.failed):
                # A unit fails where a test of it does. It has what most of its failing tests have, or most of its passing.
                fails = name in self.failed
                unit = self.failed[name] if fails else self.passed[name]
                has = 2 * unit.having[key] > unit.tests
                row = rows.setdefault(module if function else "", [0, 0, 0, 0])
                for index, counts in enumerate((True, fails, has, fails and has)):
                    row[index] += counts
        return [Stratum(*rows[where]) for where in sorted(rows)]


def _units(tests: Iterable[Observed]) -> dict[str, Unit]:
    units: dict[str, Unit] = defaultdict(Unit)
    for test in tests:
        units[test.function].add(test)
        units[test.module].add(test)
    return dict(units)


def _asked(cluster: str, compared: Compared) -> list[Asked]:
    """Return the hypotheses about a cluster: of each trait that enough tests have, at each contrast where it differs.

    Which tests have a trait decides whether it is asked about, never which of them failed: else their number would be no guard.
    """
    counts = Counter(key for test in (*compared.failing, *compared.passing) for key in test.traits)
    result = []
    for key in sorted(key for key, count in counts.items() if count >= max(2.0, SHARE * len(compared.failing))):
        for contrast in _CONTRASTS:
            p, least = exact(compared.strata(key, contrast))
            if least < 1.0:
                result.append(Asked(cluster, key, contrast, p, least))
    return result


# -- what is told ------------------------------------------------------------------------------------------------------


def _associations(found: Sequence[Asked], compared: Compared, alpha: float) -> tuple[Association, ...]:
    """Return the traits that go with a cluster, the strongest first, each only where those before it do not explain it."""
    counts = Counter(key for test in compared.failing for key in test.traits)
    found = [one for one in found if counts[one.key] >= SHARE * len(compared.failing)]
    best: dict[Key, Asked] = {}
    for one in sorted(found, key=lambda one: (one.p, _ORDER.index(one.key[0]), one.key)):
        best.setdefault(one.key, one)
    told: list[Asked] = []
    alike: dict[Key, list[str]] = defaultdict(list)
    tests = (*compared.failing, *compared.passing)
    having = {key: frozenset(test.nodeid for test in tests if key in test.traits) for key in best}
    for key, one in best.items():
        same = next((other.key for other in told if having[other.key] == having[key]), None)
        if same is not None:
            alike[same].append(words(key))
        elif len(told) < MAX_SHOWN and not _explained(key, told, compared, alpha):
            told.append(one)
    return tuple(
        Association(
            *one.key,
            failing=sum(one.key in test.traits for test in compared.failing),
            of_failing=len(compared.failing),
            passing=sum(one.key in test.traits for test in compared.passing),
            of_passing=len(compared.passing),
            p_value=one.p,
            contrast=one.contrast,
            text=words(one.key),
            alike=tuple(alike[one.key]),
        )
        for one in told
    )


def _explained(key: Key, told: Sequence[Asked], compared: Compared, alpha: float) -> bool:
    """Return whether the trait says nothing more among the tests that have all that was told already."""
    if not told:
        return False
    rest = [test for test in (*compared.failing, *compared.passing) if all(other.key in test.traits for other in told)]
    among = Compared.of(rest, compared.failing[0].cluster)
    return all(exact(among.strata(key, contrast))[0] > alpha for contrast in _CONTRASTS)


def _indifferent(asked: Sequence[Asked], compared: Compared, level: float) -> tuple[str, ...]:
    """Return the parameters, and `worker` and `model`, that would have been seen to matter, and do not."""
    values: dict[tuple[Trait, str], Counter[str]] = defaultdict(Counter)
    for test in compared.failing:
        for trait, name, value in test.traits:
            if trait in {"parameter", "worker", "model"}:
                values[trait, name][value] += 1
    found = {one.key[:2] for one in asked if one.p <= level}
    return tuple(
        name or trait
        for (trait, name), counts in sorted(values.items())
        if len(counts) > 1
        and counts.total() == len(compared.failing)
        and (trait, name) not in found
        and _could_tell(trait, name, compared, level)
    )


def _could_tell(trait: Trait, name: str, compared: Compared, level: float) -> bool:
    """Return whether failing by one value of the trait alone would have been seen, had it been so."""
    values: dict[str, list[str]] = defaultdict(list)
    for test in (*compared.failing, *compared.passing):
        values[test.function] += [value for kind, called, value in test.traits if (kind, called) == (trait, name)]
    counts = Counter(value for row in values.values() for value in row)
    commonest = max(sorted(counts), key=lambda value: counts[value])
    # The clearest case: all tests with the commonest value fail, and no others.
    clear = [
        Stratum(len(row), row.count(commonest), row.count(commonest), row.count(commonest)) for _, row in sorted(values.items())
    ]
    return exact(clear)[0] <= level


def words(key: Key) -> str:
    """Return a trait in words, such as `season='winter'`."""
    trait, name, value = key
    if trait == "parameter":
        return f"{name}={value}"
    if trait in {"fixture", "marker"}:
        return f"{trait} {name}{f'({value})' if value else ''}"
    return f"{trait} {value}{f' of {name}' if name else ''}"
