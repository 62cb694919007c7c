import pytest


@pytest.mark.parametrize("name", ["money", "cart", "vat", "legacy", "rounding", "stock", "prices", "labels", "access"])
def test_heals(healer, project, name):
    broken = project(name)
    report = healer.heal(broken)
    assert report["fixed"]
    assert report["left"] == []
    assert report["release"] == f"{name}-1"


def test_heals_two_at_a_time(healer, project):
    reports = healer.heal_all([project("money"), project("cart")])
    assert [len(report["fixed"]) for report in reports] == [1, 2]


def test_remembers_what_it_mended(healer, project):
    healer.heal(project("money"))
    found = healer.memory.like({"test": "", "error": "AssertionError: 4.35 are 434 cents", "frames": []})
    assert found == "tests/test_money.py::test_cents"
