from shop.levels import missing


def test_what_was_never_sold_is_missing():
    assert missing({}, ["MUG-01"]) == ["MUG-01"]
