def test_finds_what_is_red(healer, project):
    bugs = healer.tester.find_bugs(project("cart"))
    assert [bug["test"] for bug in bugs] == ["tests/test_cart.py::test_total", "tests/test_cart.py::test_empty"]


def test_runs_a_version_once(healer, project):
    cart = project("cart")
    assert healer.tester.find_bugs(cart) == healer.tester.find_bugs(cart)
    assert (healer.cache.hits, healer.cache.misses) == (1, 1)


def test_logs_in(healer, project):
    assert healer.tester.walk_through(project("pages"), "login.html") == ["Enter"]


def test_orders_and_pays(healer, project):
    assert healer.tester.walk_through(project("pages"), "checkout.html") == ["Order and pay"]


def test_sends_goods_back(healer, project):
    assert healer.tester.walk_through(project("pages"), "returns.html") == ["Next", "Send back"]


def test_subscribes(healer, project):
    assert healer.tester.walk_through(project("pages"), "newsletter.html") == ["Subscribe"]
