"""Amounts of money as decimals, and what is done with them."""

from decimal import ROUND_HALF_EVEN, Decimal

ZERO = Decimal("0.00")
CENT = Decimal("0.01")
VAT_RATES = {"standard": Decimal("0.19"), "reduced": Decimal("0.07"), "none": Decimal(0)}


def amount(value):
    """Turn a string or an integer into an amount. Floats are refused: they cannot hold cents."""
    if isinstance(value, float):
        raise TypeError(f"an amount cannot be made from the float {value!r}")
    return Decimal(value)


def round_cents(value):
    """Round to whole cents, half a cent upwards, as invoices must."""
    return value.quantize(CENT, rounding=ROUND_HALF_EVEN)


def vat(net, rate="standard"):
    """The value added tax on a net amount."""
    return round_cents(net * VAT_RATES[rate])


def gross(net, rate="standard"):
    """The net amount and its tax."""
    return net + vat(net, rate)


def discount(value, percent):
    """An amount less some per cent of it."""
    if not 0 <= percent <= 100:
        raise ValueError(f"a discount lies between 0 and 100 per cent, not {percent}")
    return round_cents(value * (100 - percent) / 100)


def display(value, currency="EUR"):
    """The amount as customers read it: `1,234.50 EUR`."""
    return f"{value:,.2f} {currency}"
