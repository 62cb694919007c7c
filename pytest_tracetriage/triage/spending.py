"""What the calls to models took: tokens and cost by model, of a test, a cluster, a run."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

from msgspec import Struct
from msgspec.structs import replace

from pytest_tracetriage.model.run import Spent
from pytest_tracetriage.model.trace import Usage

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from pytest_tracetriage.model.analysis import Analysis
    from pytest_tracetriage.model.trace import Span

_OTHER = {"weave": "opentelemetry", "opentelemetry": "weave"}
MAX_MODELS = 200
"""Models that are told apart; further ones are summed as `other`."""


class _Sum(Struct):
    """Tokens of one model, and their cost: None once a call has no price. Decimals add up to the same in any order."""

    usage: Usage
    cost: Decimal | None


class Calls:
    """Knows the calls of a run that were counted: Weave and OpenTelemetry may both have seen the same one."""

    def __init__(self) -> None:
        self._seen: dict[str, dict[tuple[str, int, int], int]] = {}

    def new(self, span: Span) -> tuple[Usage, ...]:
        """Return the usage of a span that is of calls which the other recorder has not told of, in the same trace.

        Of calls with the same tokens in and out, as many count as the one who saw more of them has seen.
        """
        if span.source not in _OTHER:
            return span.usages
        return tuple(usage for usage in span.usages if self._is_new(span, usage))

    def _is_new(self, span: Span, usage: Usage) -> bool:
        seen = self._seen.setdefault(span.trace, {})
        own, other = ((source, usage.input, usage.output) for source in (span.source, _OTHER[span.source]))
        seen[own] = seen.get(own, 0) + 1
        return seen[own] > seen.get(other, 0)


class Account:
    """Adds up calls, by provider and model. Adding in another order gives the same."""

    def __init__(self) -> None:
        self._sums: dict[tuple[str, str], _Sum] = {}

    def add(self, usage: Usage, cost: Decimal | None) -> None:
        """Add one call, or several to one model. `cost` is US dollars, None without a price."""
        key = (usage.provider, usage.model)
        held = self._sums.get(key)
        if held is None and len(self._sums) >= MAX_MODELS:
            key = ("", "other")
            held = self._sums.get(key)
        if held is None:
            self._sums[key] = _Sum(replace(usage, provider=key[0], model=key[1]), cost)
            return
        held.usage = added(held.usage, usage)
        held.cost = None if held.cost is None or cost is None else held.cost + cost

    def add_all(self, other: Account) -> None:
        """Add all calls of another account."""
        for held in other._sums.values():
            self.add(held.usage, held.cost)

    def spent(self) -> tuple[Spent, ...]:
        """Return what was spent by model, in the order of their names."""
        return tuple(
            Spent(held.usage, None if held.cost is None else float(held.cost)) for _, held in sorted(self._sums.items())
        )


def added(one: Usage, other: Usage) -> Usage:
    """Return the sum of two usages, under the names of the first."""
    return Usage(
        model=one.model,
        provider=one.provider,
        input=one.input + other.input,
        output=one.output + other.output,
        cache_creation=one.cache_creation + other.cache_creation,
        cache_read=one.cache_read + other.cache_read,
        reasoning=one.reasoning + other.reasoning,
        requests=one.requests + other.requests,
        cache_creation_1h=one.cache_creation_1h + other.cache_creation_1h,
    )


def together(many: Iterable[Spent]) -> tuple[Spent, ...]:
    """Return the sum of what was spent in several places."""
    account = Account()
    for spent in many:
        account.add(spent.usage, None if spent.cost is None else Decimal(repr(spent.cost)))
    return account.spent()


def with_spending(analysis: Analysis, spent: tuple[Spent, ...], tests: Mapping[str, Account]) -> Analysis:
    """Return the analysis with what was `spent` in all, and by the tests of each cluster. `tests` are by node id."""
    if not spent:
        return analysis
    clusters = []
    for cluster in analysis.clusters:
        own = Account()
        for test in cluster.tests:
            if test in tests:
                own.add_all(tests[test])
        clusters.append(replace(cluster, spent=own.spent()))
    return replace(analysis, spent=spent, clusters=tuple(clusters))
