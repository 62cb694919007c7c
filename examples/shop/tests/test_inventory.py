import pytest

from shop.inventory import Inventory, read_stock


@pytest.mark.parametrize(("sku", "pieces"), [("MUG-01", 52), ("TEA-07", 5), ("POT-03", 9), ("CUP-99", 0)])
def test_available(inventory, sku, pieces):
    assert inventory.available(sku) == pieces


def test_warehouses(inventory):
    assert inventory.warehouses() == ["Graz", "Kiel"]


def test_the_fullest_warehouse_is_emptied_first(inventory):
    assert inventory.take("POT-03", 8) == {"Graz": 7, "Kiel": 1}


def test_more_than_there_is_cannot_be_taken(inventory):
    with pytest.raises(ValueError, match="only 5 pieces of TEA-07 are left, not 6"):
        inventory.take("TEA-07", 6)


def test_running_low(inventory):
    assert inventory.running_low() == ["POT-03", "TEA-07"]


def test_receiving_adds_up():
    stock = Inventory()
    stock.receive("MUG-01", "Kiel", 3)
    stock.receive("MUG-01", "Kiel", 4)
    assert stock.available("MUG-01") == 7


def test_fewer_than_none_cannot_be_received():
    with pytest.raises(ValueError, match="cannot receive -1"):
        Inventory().receive("MUG-01", "Kiel", -1)


def test_rows_without_a_product_are_left_out():
    rows = list(read_stock(["sku,location,pieces", "MUG-01,Kiel,4", ",,"]))
    assert rows == [{"sku": "MUG-01", "location": "Kiel", "pieces": 4}]


def test_a_wrong_number_is_reported_with_its_line():
    with pytest.raises(ValueError, match="line 3: 'many' is not a number"):
        list(read_stock(["sku,location,pieces", "MUG-01,Kiel,4", "TEA-07,Kiel,many"]))
