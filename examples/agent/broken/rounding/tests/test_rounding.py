from shop.rounding import gross, net


def test_net():
    assert net(1.999) == 2.0


def test_gross():
    found = gross(10.0, 7)
    assert found == 10.7, f"10.00 with 7 % are {found}"
