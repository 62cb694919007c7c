"""What the owners want to see on Monday."""

from collections import Counter

from shop.money import ZERO, display


def revenue(carts):
    """The value of everything in some carts."""
    return sum((line.get("unit_price", ZERO) * line["quantity"] for cart in carts for line in cart.lines), ZERO)


def pieces_sold(carts):
    """Pieces by product."""
    sold = Counter()
    for cart in carts:
        for line in cart.lines:
            sold[line["sku"]] += line["quantity"]
    return sold


def best_sellers(carts, most=3):
    """The products sold most often, with the number of pieces."""
    return sorted(pieces_sold(carts).items(), key=lambda item: (-item[1], item[0]))[:most]


def by_customer(carts):
    """Revenue by customer."""
    return {cart.customer: revenue([cart]) for cart in carts}


def summary(carts):
    """Monday's line."""
    return f"{len(carts)} carts, {sum(len(cart) for cart in carts)} pieces, {display(revenue(carts))}"


def restock(inventory, catalogue, below=10):
    """The names of the products to be ordered."""
    return [catalogue.find(sku).name for sku in inventory.running_low(below)]
