from shop.vat import gross


def test_gross():
    found = gross(200, "FR")
    assert found == 240, f"200 with 20 % are {found}"
