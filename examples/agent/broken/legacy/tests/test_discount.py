from shop.discount import discount


def test_old_customers_get_ten_percent():
    found = discount(100, "old")
    assert found == 90, f"100 are {found}"
