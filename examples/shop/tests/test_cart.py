from decimal import Decimal

import pytest

from shop.catalogue import UnknownProduct


def test_a_new_cart_is_empty(cart):
    assert len(cart) == 0
    assert cart.total() == 0


def test_adding_twice_adds_up(cart):
    cart.add("MUG-01")
    cart.add("MUG-01", 2)
    assert len(cart) == 3
    assert len(cart.lines) == 1


@pytest.mark.parametrize("quantity", [0, -1])
def test_nothing_cannot_be_added(cart, quantity):
    with pytest.raises(ValueError, match="cannot add"):
        cart.add("MUG-01", quantity)


def test_only_products_can_be_added(cart):
    with pytest.raises(UnknownProduct):
        cart.add("CUP-99")


def test_there_is_a_most_of_one_product(cart):
    cart.add("TEA-07", 120)
    assert len(cart) == 99


def test_remove(cart):
    cart.add("MUG-01")
    cart.remove("MUG-01")
    assert cart.lines == []


def test_what_is_not_there_cannot_be_removed(cart):
    with pytest.raises(KeyError, match="not in the cart of ada"):
        cart.remove("MUG-01")


def test_weight(cart):
    cart.add("MUG-01", 2)
    cart.add("POT-03")
    assert cart.weight() == Decimal("2.3")


@pytest.mark.parametrize(
    ("sku", "quantity", "price"),
    [("MUG-01", 1, "8.00"), ("MUG-01", 5, "40.00"), ("TEA-07", 2, "9.00"), ("POT-03", 3, "90.00")],
)
def test_subtotal(cart, sku, quantity, price):
    cart.add(sku, quantity)
    assert cart.subtotal() == Decimal(price)


@pytest.mark.parametrize(("voucher", "price"), [("WELCOME10", "34.20"), ("SUMMER25", "28.50")])
def test_total_with_a_voucher(cart, voucher, price):
    cart.add("MUG-01")
    cart.add("POT-03")
    cart.redeem(voucher)
    assert cart.total() == Decimal(price)


def test_an_unknown_voucher(cart):
    with pytest.raises(ValueError, match="no voucher 'WINTER50'"):
        cart.redeem("WINTER50")
