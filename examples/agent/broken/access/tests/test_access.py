from shop.access import may_enter


def test_after_three_attempts_the_door_is_shut():
    assert not may_enter("ada", 3), "ada may try a password four times"
