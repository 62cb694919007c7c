from shop.cart import empty, total


def test_total():
    found = total([(5, 2), (1, 1)])
    assert found == 11, f"two for 5 and one for 1 are {found}"


def test_empty():
    assert empty([]), "a cart without items is not empty"
