from collections import Counter
from decimal import Decimal

from shop.reports import best_sellers, by_customer, pieces_sold, restock, revenue, summary


def test_revenue_of_nothing_is_nothing():
    assert revenue([]) == 0


def test_revenue(carts):
    assert revenue(carts) == Decimal("64.00")


def test_revenue_by_customer(carts):
    assert by_customer(carts) == {"ada": Decimal("34.00"), "grace": Decimal("30.00")}


def test_pieces_sold(carts):
    assert pieces_sold(carts) == Counter({"TEA-07": 4, "MUG-01": 2, "POT-03": 1})


def test_best_sellers(carts):
    assert best_sellers(carts, most=2) == [("TEA-07", 4), ("MUG-01", 2)]


def test_summary(carts):
    assert summary(carts) == "2 carts, 7 pieces, 64.00 EUR"


def test_restock(inventory, catalogue):
    assert restock(inventory, catalogue) == ["Tea pot", "Green tea"]
