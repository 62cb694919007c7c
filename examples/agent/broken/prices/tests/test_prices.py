from shop.prices import total


def test_total():
    found = total("MUG-01", "TEA-02")
    assert found == 1250, f"a mug and tea are {found}"
