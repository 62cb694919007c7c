from decimal import Decimal

import pytest

from shop.checkout import Checkout, CheckoutError, Order, invoice


@pytest.fixture
def checkout():
    return Checkout()


def test_an_empty_cart_cannot_be_bought(checkout, cart):
    with pytest.raises(CheckoutError, match="the cart of ada is empty"):
        checkout.place(cart)


def test_orders_are_numbered(checkout, carts):
    assert [checkout.place(cart).number for cart in carts] == [1001, 1002]


@pytest.mark.parametrize(("country", "postage"), [("DE", "4.10"), ("FR", "8.98")])
def test_small_orders_pay_postage(checkout, cart, country, postage):
    cart.add("MUG-01")
    assert checkout.place(cart, country).shipping == Decimal(postage)


def test_large_orders_are_sent_free(checkout, cart):
    cart.add("POT-03", 2)
    assert checkout.place(cart).shipping == 0


def test_the_total_is_goods_and_postage(checkout, cart):
    cart.add("POT-03")
    assert checkout.place(cart).total == Decimal("34.65")


def test_an_invoice_states_the_tax():
    order = Order(1001, "ada", "DE", Decimal("96.00"), Decimal("4.00"))
    assert invoice(order) == {"number": "R-1001", "customer": "ada", "net": Decimal("100.00"), "vat": Decimal("19.00")}


def test_a_cart_is_remembered(checkout, cart):
    cart.add("TEA-07", 2)
    assert checkout.remember(cart)
    assert checkout.recall("ada") == 2


def test_a_new_customer_has_left_nothing(checkout):
    assert checkout.recall("nobody") == 0
