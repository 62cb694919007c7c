"""What was spent and logged: tokens and cost by model, of a test, a cluster, a run; and one figure of each metric's name.

Prices are those that genai-prices (https://github.com/pydantic/genai-prices) brings along, never fetched. Which figures are
added and which averaged is told by their names and units alone, so that every run says it alike.
"""

from __future__ import annotations

import math
from datetime import datetime, timezone
from decimal import Decimal
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from msgspec import Struct
from msgspec.structs import replace

from pytest_tracetriage.model.run import PASS_RATE, Figure, Spent
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


INSTALL = 'cost: pip install "pytest-tracetriage[openai]"'


class Prices:
    """Prices of calls in US dollars. `missing` says that genai-prices is not installed: then nothing has a price."""

    def __init__(self) -> None:
        self._unknown: set[tuple[str, str]] = set()
        self._library: Any = None
        try:
            import genai_prices  # noqa: PLC0415 - its table of prices takes a moment to load
        except ImportError:
            pass
        else:
            self._library = genai_prices
        self.missing = self._library is None

    def cost(self, usage: Usage, when: float) -> Decimal | None:
        """Return what calls cost at `when` (seconds since the epoch), None where no price is known.

        Ask for one call at a time: some prices rise with the length of its input.
        """
        key = (usage.provider, usage.model)
        if self.missing or not usage.model or key in self._unknown:
            return None
        try:
            return self._calculate(usage, usage.provider or None, when)
        except LookupError as error:
            if usage.provider and "provider_id" in str(error):  # a provider that is called otherwise hides no price
                return self.cost(replace(usage, provider=""), when)
            self._unknown.add(key)
        except TypeError:
            if usage.cache_creation_1h:  # a version that does not know of it prices it as any other cache
                return self.cost(replace(usage, cache_creation_1h=0), when)
        except Exception:  # noqa: S110 - its data does not fit these counts: no price is better than a wrong one
            pass
        return None

    def _calculate(self, usage: Usage, provider: str | None, when: float) -> Decimal:
        hour = {"cache_write_1h_tokens": usage.cache_creation_1h} if usage.cache_creation_1h else {}
        counts = self._library.Usage(
            input_tokens=usage.input,
            cache_write_tokens=usage.cache_creation or None,
            cache_read_tokens=usage.cache_read or None,
            output_tokens=usage.output,
            **hour,
        )
        asked = datetime.fromtimestamp(when, timezone.utc)
        found = self._library.calc_price(counts, usage.model, provider_id=provider, genai_request_timestamp=asked)
        price: Decimal = found.total_price
        return price


MAX_NAMES = 500
"""Names that a run keeps figures of."""
_COUNTS = frozenset({"bugs_found", "bugs_fixed", "patches_generated"})
_ENDINGS = ("_total", "_count")


def is_count(name: str, unit: str = "") -> bool:
    """Return whether the figures of this name add up; all others (rates, times, sizes) are averaged."""
    return unit == "count" or name in _COUNTS or name.endswith(_ENDINGS)


class Figures:
    """Gathers metrics by name. Exact in any order; the first unit of a name, in alphabetical order, is kept."""

    def __init__(self) -> None:
        self._held: dict[str, tuple[Fraction, int, str]] = {}
        self.left_out = 0
        """How many were of too many names, or no number."""

    def add(self, name: str, value: float, unit: str = "", count: int = 1) -> None:
        """Add what was logged `count` times: its sum, or its mean."""
        if not math.isfinite(value) or count < 1 or (name not in self._held and len(self._held) >= MAX_NAMES):
            self.left_out += 1
            return
        total, times, known = self._held.get(name, (Fraction(0), 0, unit))
        weight = 1 if is_count(name, unit) else count
        self._held[name] = (
            total + Fraction(repr(float(value))) * weight,
            times + count,
            min(known, unit) if known and unit else known or unit,
        )

    def figures(self) -> dict[str, Figure]:
        """Return the figures by name, in the order of names."""
        found = {}
        for name, (total, times, unit) in sorted(self._held.items()):
            try:
                found[name] = Figure(float(total if is_count(name, unit) else total / times), unit, times)
            except OverflowError:
                self.left_out += 1
        return found


def figures_together(runs: Iterable[Mapping[str, Figure]]) -> dict[str, Figure]:
    """Return the figures of several runs as those of one. `pass_rate` is left out: a test of several legs counts once."""
    figures = Figures()
    for run in runs:
        for name, figure in run.items():
            if name != PASS_RATE:
                figures.add(name, figure.value, figure.unit, figure.count)
    return figures.figures()
