from decimal import Decimal

import pytest

from shop.catalogue import Product, UnknownProduct


def test_find(catalogue):
    assert catalogue.find("MUG-01").name == "Mug"


def test_an_unknown_product_is_named(catalogue):
    with pytest.raises(UnknownProduct, match="no product 'CUP-99' among 3"):
        catalogue.find("CUP-99")


def test_a_product_is_added_once(catalogue):
    catalogue.add(Product("CUP-02", "Cup", Decimal("6.00")))
    with pytest.raises(ValueError, match="on sale already"):
        catalogue.add(Product("CUP-02", "Cup", Decimal("7.00")))
    assert "CUP-02" in catalogue


@pytest.mark.parametrize(("tag", "names"), [("kitchen", ["Mug", "Tea pot"]), ("food", ["Green tea"]), ("garden", [])])
def test_tagged(catalogue, tag, names):
    assert [product.name for product in catalogue.tagged(tag)] == names


@pytest.mark.parametrize(("text", "found"), [("tea", 2), ("MUG", 1), ("spoon", 0)])
def test_search(catalogue, text, found):
    assert len(catalogue.search(text)) == found


def test_a_quote_has_the_quantity(catalogue):
    assert catalogue.quote("TEA-07", 3)["quantity"] == 3


def test_a_quote_has_the_unit_price(catalogue):
    assert catalogue.quote("TEA-07", 3)["unit_price"] == Decimal("4.50")
