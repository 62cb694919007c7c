"""What a customer is about to buy."""

from decimal import Decimal

from shop.money import ZERO, discount

VOUCHERS = {"WELCOME10": 10, "SUMMER25": 25}
MOST_OF_ONE = 99


class Cart:
    """The lines of one customer, in the order in which they were added."""

    def __init__(self, catalogue, customer="guest"):
        self.catalogue = catalogue
        self.customer = customer
        self.voucher = None
        self._lines = {}

    def __len__(self):
        return sum(line["quantity"] for line in self._lines.values())

    @property
    def lines(self):
        """Copies of the lines."""
        return [dict(line) for line in self._lines.values()]

    def add(self, sku, quantity=1):
        """Add some of a product."""
        if quantity < 1:
            raise ValueError(f"cannot add {quantity} of {sku}")
        line = self._lines.get(sku) or self.catalogue.quote(sku, 0)
        line["quantity"] = min(line["quantity"] + quantity, MOST_OF_ONE)
        self._lines[sku] = line

    def remove(self, sku):
        """Take a product out altogether."""
        if sku not in self._lines:
            raise KeyError(f"{sku} is not in the cart of {self.customer}")
        del self._lines[sku]

    def redeem(self, code):
        """Use a voucher. Each cart takes one."""
        if code not in VOUCHERS:
            raise ValueError(f"there is no voucher {code!r}")
        self.voucher = code

    def weight(self):
        """Kilograms to be shipped."""
        return sum((line["weight"] * line["quantity"] for line in self._lines.values()), Decimal(0))

    def subtotal(self):
        """The price of all lines before the voucher."""
        return sum((line["unit_price"] * line["quantity"] for line in self._lines.values()), ZERO)

    def total(self):
        """The price of all lines after the voucher."""
        subtotal = self.subtotal()
        return discount(subtotal, VOUCHERS[self.voucher]) if self.voucher else subtotal
