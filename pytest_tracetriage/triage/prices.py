"""What tokens cost: the prices that genai-prices (https://github.com/pydantic/genai-prices) brings along, never fetched."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

if TYPE_CHECKING:
    from decimal import Decimal

    from pytest_tracetriage.model.trace import Usage

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
