from decimal import Decimal

import pytest

from shop.shipping import cost, zone


@pytest.mark.parametrize(("country", "name"), [("DE", "home"), ("FR", "neighbours"), ("CH", "europe")])
def test_zone(country, name):
    assert zone(country) == name


def test_a_country_that_is_too_far():
    with pytest.raises(ValueError, match="do not ship to AQ"):
        zone("AQ")


def test_a_parcel_that_is_too_heavy():
    with pytest.raises(ValueError, match="more than a parcel may weigh"):
        cost("DE", Decimal(31))


@pytest.mark.parametrize(
    ("country", "weight", "price"),
    [
        ("DE", 1, "4.40"),
        ("DE", 10, "8.90"),
        ("AT", 2, "10.90"),
        ("NL", 5, "14.50"),
        ("CH", 1, "17.30"),
        ("NO", 2, "19.70"),
        ("GB", 5, "26.90"),
    ],
)
def test_cost(country, weight, price):
    assert cost(country, Decimal(weight)) == Decimal(price)


def test_dearer_with_every_kilogram_abroad():
    assert cost("CH", Decimal(2)) > cost("CH", Decimal(1))
