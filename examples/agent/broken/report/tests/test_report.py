from shop.report import average


def test_average():
    found = average([40, 60])
    assert found == 50, f"40 and 60 are {found} on average"
