import pytest
from qa_agent.models import FIX
from qa_agent.tools import PatchError, apply_patch


def bug(test, error):
    return {"test": test, "error": error, "frames": []}


CENTS = bug("tests/test_money.py::test_cents", "AssertionError: 19.99 are 1998 cents")


def test_mends_a_bug(healer, project):
    money = project("money")
    healer.fixer.mend(money, CENTS, "shop/money.py")
    assert "round(amount * 100)" in money.read("shop/money.py")


def test_shortens_what_is_too_long(healer, project, server):
    long = bug(CENTS["test"], "The fault seems to be in shop/money.py\n" + "a line of a log\n" * 300)
    healer.fixer.fix(project("money"), long, "shop/money.py", FIX)
    assert [entry["status"] for entry in server.log] == [400, 200, 200]


def test_mends_a_file_with_tabs(healer, project):
    old = bug("tests/test_discount.py::test_old_customers_get_ten_percent", "AssertionError: 100 are 900")
    assert healer.fixer.fix(project("legacy"), old, "shop/discount.py", FIX)


def test_mends_the_end_of_a_long_file(healer, project):
    average = bug("tests/test_report.py::test_average", "AssertionError: 40 and 60 are 2.5 on average")
    assert healer.fixer.fix(project("report"), average, "shop/report.py", FIX)


@pytest.mark.parametrize("text", ["", "I would use round().", "shop/none.py\n<<<<<<< SEARCH\na\n=======\nb\n>>>>>>> REPLACE"])
def test_what_is_no_patch_changes_nothing(project, text):
    money = project("money")
    before = money.version()
    with pytest.raises(PatchError):
        apply_patch(money, text)
    assert money.version() == before
