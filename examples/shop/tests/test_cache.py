import pytest

from shop.cache import decode, encode


def test_a_command_is_a_line():
    assert encode("GET", "cart:ada") == "GET cart:ada\n"


@pytest.mark.parametrize(("line", "value"), [("+PONG\r\n", "PONG"), ("$-1\r\n", None), ("+OK\r\n", "OK")])
def test_decode(line, value):
    assert decode(line) == value


def test_an_error_of_the_server_is_raised():
    with pytest.raises(RuntimeError, match="the cache server says: ERR"):
        decode("-ERR unknown command\r\n")


def test_what_is_set_can_be_read(cache):
    cache.set("colour", "green")
    assert cache.get("colour") == "green"


def test_what_was_never_set_is_none(cache):
    assert cache.get("never-set") is None


@pytest.mark.parametrize("value", ["1", "two", "3.50", "vier"])
def test_values_come_back_as_text(cache, value):
    cache.set("value", value)
    assert cache.get("value") == value


def test_the_last_value_counts(cache):
    cache.set("counter", "1")
    cache.set("counter", "2")
    assert cache.get("counter") == "2"
