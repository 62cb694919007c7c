import csv
from decimal import Decimal
from pathlib import Path

import pytest

from shop.cache import CacheClient
from shop.cart import Cart
from shop.catalogue import Catalogue, Product
from shop.inventory import Inventory

STOCK = Path(__file__).parent / "data" / "stock.csv"


@pytest.fixture
def catalogue():
    return Catalogue(
        [
            Product("MUG-01", "Mug", Decimal("8.00"), Decimal("0.4"), ("kitchen", "gift")),
            Product("TEA-07", "Green tea", Decimal("4.50"), Decimal("0.1"), ("food",)),
            Product("POT-03", "Tea pot", Decimal("30.00"), Decimal("1.5"), ("kitchen",)),
        ]
    )


@pytest.fixture
def cart(catalogue):
    return Cart(catalogue, "ada")


@pytest.fixture
def carts(catalogue):
    ada, grace = Cart(catalogue, "ada"), Cart(catalogue, "grace")
    ada.add("MUG-01", 2)
    ada.add("TEA-07", 4)
    grace.add("POT-03")
    return [ada, grace]


@pytest.fixture(scope="session")
def cache():
    client = CacheClient()
    assert client.ping()
    yield client
    client.close()


@pytest.fixture
def inventory():
    stock = Inventory()
    with STOCK.open(encoding="utf-8", newline="") as lines:
        for row in csv.DictReader(lines):
            if row["sku"]:
                stock.receive(row["sku"], row["warehouse"], int(row["pieces"]))
    return stock
