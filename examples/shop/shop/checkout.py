"""From a cart to an order."""

import itertools
from dataclasses import dataclass
from decimal import Decimal

from shop import shipping
from shop.cache import CacheClient
from shop.money import vat

FREE_SHIPPING_FROM = Decimal("50.00")


class CheckoutError(Exception):
    """An order cannot be placed."""


@dataclass(frozen=True)
class Order:
    """What was bought, and what it costs."""

    number: int
    customer: str
    country: str
    goods: Decimal
    shipping: Decimal

    @property
    def total(self):
        """What the customer pays."""
        return self.goods + self.shipping


class Checkout:
    """Places orders, one number after the other."""

    def __init__(self, cache=None):
        self.cache = cache or CacheClient()
        self._numbers = itertools.count(1001)

    def place(self, cart, country="DE"):
        """Make an order of a cart."""
        if not len(cart):
            raise CheckoutError(f"the cart of {cart.customer} is empty")
        try:
            goods = cart.total()
            postage = Decimal(0) if goods >= FREE_SHIPPING_FROM else shipping.cost(country, cart.weight())
        except (KeyError, ValueError) as error:
            raise CheckoutError(f"the order of {cart.customer} cannot be priced") from error
        return Order(next(self._numbers), cart.customer, country, goods, postage)

    def remember(self, cart):
        """Keep a cart for the customer's next visit."""
        return self.cache.set(f"cart:{cart.customer}", str(len(cart)))

    def recall(self, customer):
        """How many things the customer left in the cart."""
        return int(self.cache.get(f"cart:{customer}") or 0)


def invoice(order):
    """The lines of an invoice."""
    return {
        "number": f"R-{order.number}",
        "customer": order.customer,
        "net": order.total,
        "vat": vat(order.total),
    }
