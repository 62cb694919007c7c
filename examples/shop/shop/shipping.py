"""What it costs to send a parcel."""

from decimal import Decimal

ZONES = {
    "DE": "home",
    "AT": "neighbours",
    "FR": "neighbours",
    "NL": "neighbours",
    "CH": "europe",
    "NO": "europe",
    "GB": "europe",
}
BASE_RATES = {"home": Decimal("3.90"), "neighbours": Decimal("8.50")}
RATES_PER_KILOGRAM = {"home": Decimal("0.50"), "neighbours": Decimal("1.20"), "europe": Decimal("2.40")}
HEAVIEST = Decimal(30)


def zone(country):
    """The zone of a country, by its two letters."""
    if country not in ZONES:
        raise ValueError(f"we do not ship to {country}")
    return ZONES[country]


def cost(country, weight):
    """The price of a parcel of some kilograms."""
    if weight > HEAVIEST:
        raise ValueError(f"{weight} kg is more than a parcel may weigh")
    where = zone(country)
    return BASE_RATES.get(where) + RATES_PER_KILOGRAM[where] * weight
