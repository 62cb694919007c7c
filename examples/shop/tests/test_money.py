from decimal import Decimal

import pytest

from shop.money import amount, discount, display, gross, round_cents, vat


@pytest.mark.parametrize(
    ("value", "cents"),
    [
        ("2.344", "2.34"),
        ("2.345", "2.35"),
        ("0.125", "0.13"),
        ("0.135", "0.14"),
        ("1.005", "1.01"),
        ("9.999", "10.00"),
        ("17.785", "17.79"),
        ("100.365", "100.37"),
    ],
)
def test_half_a_cent_is_rounded_up(value, cents):
    assert round_cents(Decimal(value)) == Decimal(cents)


@pytest.mark.parametrize(
    ("net", "rate", "tax"),
    [
        ("100.00", "standard", "19.00"),
        ("10.00", "reduced", "0.70"),
        ("25.00", "none", "0.00"),
        ("5.50", "standard", "1.05"),
        ("1.50", "reduced", "0.11"),
        ("7.50", "reduced", "0.53"),
        ("23.50", "standard", "4.47"),
    ],
)
def test_vat(net, rate, tax):
    assert vat(Decimal(net), rate) == Decimal(tax)


def test_gross_is_net_and_tax():
    assert gross(Decimal("100.00")) == Decimal("119.00")


def test_there_is_no_such_rate():
    with pytest.raises(KeyError):
        vat(Decimal(1), "luxury")


@pytest.mark.parametrize(("percent", "left"), [(0, "80.00"), (10, "72.00"), (25, "60.00"), (100, "0.00")])
def test_discount(percent, left):
    assert discount(Decimal("80.00"), percent) == Decimal(left)


@pytest.mark.parametrize("percent", [-1, 101])
def test_a_discount_has_limits(percent):
    with pytest.raises(ValueError, match="between 0 and 100"):
        discount(Decimal(1), percent)


def test_an_amount_is_made_from_text():
    assert amount("12.30") == Decimal("12.30")


def test_an_amount_is_not_made_from_a_float():
    with pytest.raises(TypeError, match="float"):
        amount(12.3)


@pytest.mark.parametrize(("value", "text"), [("0", "0.00 EUR"), ("12.5", "12.50 EUR"), ("1234.5", "1,234.50 EUR")])
def test_display(value, text):
    assert display(Decimal(value)) == text
