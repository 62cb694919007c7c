from shop.labels import label


def test_two_labels():
    found = label("fragile", "express")
    assert found == "Handle with care, By noon", f"the label reads {found!r}"
