from shop.money import to_cents


def test_whole_euros():
    assert to_cents(12.0) == 1200


def test_cents():
    found = to_cents(19.99)
    assert found == 1999, f"19.99 are {found} cents"
