import openai
import pytest
from qa_agent.cache import Cache
from qa_agent.models import Models
from qa_agent.triage import Triage


def bug(error, frame="shop/cart.py:2 total"):
    return {"test": "tests/test_shop.py::test_it", "error": error, "frames": ["tests/test_shop.py:9 test_it", frame]}


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        pytest.param("AssertionError: 19.99 are 1998 cents", "logic", id="wrong-sum"),
        pytest.param("KeyError: 'MUG-01'", "data", id="missing-key"),
        pytest.param("ConnectionError: connection refused", "environment", id="no-server"),
        pytest.param("AssertionError: endless", "logic", id="cut-answer"),
        pytest.param("AssertionError: 5 is not 6\nprices came over a slow connection", "logic", id="with-a-hint"),
        pytest.param("AssertionError: the cart is full\nlogged in over a proxied connection", "logic", id="with-a-log"),
    ],
)
def test_kind(healer, error, kind):
    assert healer.triage.classify(bug(error))["kind"] == kind


def test_the_same_error_is_not_asked_again(healer, server):
    kinds = [healer.triage.classify(bug("KeyError: 'MUG-01'"))["kind"] for _ in range(3)]
    assert kinds == ["data"] * 3
    assert len(server.log) == 1


def test_sorts_a_few_at_a_time(healer):
    assert healer.triage.classify_all([bug("KeyError: 'MUG-01'"), bug("AssertionError: 1 is not 2")]) == ["data", "logic"]


def test_sorts_a_red_night(healer):
    assert healer.triage.classify_all([bug(f"AssertionError: {n} is not {n + 1}") for n in range(6)]) == ["logic"] * 6


def test_sorts_one_after_the_other(healer):
    kinds = [healer.triage.classify(bug(f"AssertionError: {n} is not {n + 1}"))["kind"] for n in range(6)]
    assert kinds == ["logic"] * 6


def test_locates_a_file(healer, project):
    assert healer.triage.locate(project("cart"), bug("AssertionError: 5 is not 6")) == "shop/cart.py"


def test_locates_a_file_by_its_name(healer, project):
    assert healer.triage.locate(project("stock"), bug("KeyError: 'MUG-01'", "shop/levels.py:2 missing")) == "shop/levels.py"


def test_another_key_is_not_let_in(server):
    models = Models(server.url, "another-key")
    with pytest.raises(openai.AuthenticationError):
        Triage(models, Cache()).classify(bug("KeyError: 'MUG-01'"))
    models.close()
