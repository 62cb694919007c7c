"""What the models do in these tests: the first rule whose text stands in the last message answers it."""

from model_server import Reply, Rule
from qa_agent.models import CLASSIFY, FIX, FIX_AGAIN, LOCATE, PLAN, REVIEW


def patch(file, old, new):
    return f"{file}\n<<<<<<< SEARCH\n{old}\n=======\n{new}\n>>>>>>> REPLACE"


def reads(file, reasoning=64):
    """A model that is told that the fault is in a file reads it first."""
    calls = (("read_file", {"path": file}),)
    yield Rule(f"be in {file}", Reply(calls=calls), FIX)
    yield Rule(f"be in {file}", Reply(calls=calls, reasoning=reasoning), FIX_AGAIN)


def mends(seen, answer, second="", reasoning=192):
    """When it has `seen` the file it answers with a patch. Most of what it was sent it had been sent before."""
    yield Rule(seen, Reply(answer, cached=192), FIX)
    yield Rule(seen, Reply(second or answer, cached=192, reasoning=reasoning), FIX_AGAIN)


PLANS = [
    Rule("<title>Log in", Reply("fill user ada\nfill code 4711\npress Enter"), PLAN),
    Rule(
        "<title>Checkout",
        Reply(
            "fill name Ada\nfill street Elm Road 1\nfill town Bath\nfill country GB\nfill delivery express\npress Order and pay"
        ),
        PLAN,
    ),
    Rule(
        "<title>Returns",
        Reply(
            "fill order 4711\nfill item MUG-01\nfill quantity 1\nfill reason broken\npress Next\nfill account GB82\n"
            "press Send back"
        ),
        PLAN,
    ),
    Rule("<title>Newsletter", Reply("fill address ada at example.org\npress Subscribe"), PLAN),
]
KINDS = [
    Rule("Shorter, please", Reply('{"kind": "logic", "severity": "low"}'), CLASSIFY),
    Rule("endless", Reply('{"kind": "logic", "severity": "low because the tests of endless', finish="length"), CLASSIFY),
    Rule("connection", Reply('{"kind": "environment", "severity": "low"}'), CLASSIFY),
    Rule("KeyError", Reply('{"kind": "data", "severity": "high"}'), CLASSIFY),
    Rule("TypeError", Reply('{"kind": "data", "severity": "high"}'), CLASSIFY),
    Rule("", Reply('{"kind": "logic", "severity": "high"}'), CLASSIFY),
]
PLACES = [
    Rule("shop/prices.py", Reply("shop/prices.json", reasoning=128), LOCATE),
    Rule("shop/levels.py", Reply("levels.py", reasoning=96), LOCATE),
    *(
        Rule(name, Reply(f"shop/{name}.py", reasoning=64), LOCATE)
        for name in ("money", "cart", "vat", "discount", "rounding", "labels", "access", "report")
    ),
]
FIXES = [
    *reads("shop/money.py"),
    *mends("def to_cents", patch("shop/money.py", "int(amount * 100)", "round(amount * 100)")),
    *reads("shop/cart.py"),
    *mends("sum(price for", patch("shop/cart.py", "sum(price for", "sum(price * quantity for")),
    *mends("def empty", patch("shop/cart.py", "len(items) == 1", "len(items) == 0")),
    *reads("shop/vat.py", reasoning=320),
    *mends(
        "def gross(net",
        patch("shop/vat.py", "RATES[country] // 10", "RATES[country] / 10"),
        second=patch("shop/vat.py", "RATES[country] // 10", "RATES[country] // 100"),
        reasoning=448,
    ),
    *reads("shop/discount.py"),
    *mends("\treturn total *", patch("shop/discount.py", "\treturn total * 90 // 10", "\treturn total * 90 // 100")),
    *mends("def discount", patch("shop/discount.py", "    return total * 90 // 10", "    return total * 90 // 100")),
    *reads("shop/rounding.py"),
    *mends("def net", patch("shop/rounding.py", "    cents = round(amount * 100)", "    cents = round(amount * (100 + rate))")),
    *reads("shop/levels.py"),
    *mends("def missing", patch("shop/levels.py", "stock[name]", "stock.get(name, 0)")),
    *reads("shop/prices.json"),
    *mends('"TEA-02"', patch("shop/prices.json", '"TEA-02": "450"', '"TEA-02": 450')),
    *reads("shop/labels.py"),
    *mends("def label", patch("shop/labels.py", '" ".join', '", ".join')),
    Rule("shop/access.py", Reply(refusal="I can't help with changing who may try a password.")),
    *reads("shop/report.py"),
    *mends("len(HEADINGS)", patch("shop/report.py", "len(HEADINGS)", "len(totals)")),
    Rule("The yearly report", Reply(calls=(("read_file", {"path": "shop/report.py"}),), cached=192)),
]
REVIEWS = [
    *(Rule("except Exception", Reply("reject: it hides the error"), model) for model in REVIEW),
    *(Rule("SEARCH", Reply("approve"), model) for model in REVIEW),
]
RULES = [*PLANS, *KINDS, *PLACES, *FIXES, *REVIEWS]
