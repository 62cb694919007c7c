import asyncio

from behaviour import patch


def test_two_models_review_a_patch(healer):
    opinions = asyncio.run(healer.verifier.review(patch("shop/money.py", "int(", "round(")))
    assert set(opinions.values()) == {"approve"}


def test_reviewers_may_reject(healer):
    opinions = asyncio.run(healer.verifier.review(patch("shop/money.py", "int(", "try: int(\nexcept Exception: (")))
    assert set(opinions.values()) == {"reject: it hides the error"}


def test_a_corrected_price_is_noticed(healer, project):
    prices = project("prices")
    assert healer.tester.find_bugs(prices)
    prices.write("shop/prices.json", prices.read("shop/prices.json").replace('"450"', "450"))
    healer.verifier.verify(prices)


def test_deploys(healer, project):
    assert healer.verifier.deploy(project("money")) == "money-1"


def test_deploys_what_the_code_reads(healer, project):
    assert healer.verifier.deploy(project("labels")) == "labels-1"
