"""`--fail-on`: which reviews fail the job, and why."""

from __future__ import annotations

import msgspec
import pytest

from pytest_tracetriage.commands.publish import reason_to_fail
from pytest_tracetriage.model.analysis import Analysis, Cluster, Muted
from pytest_tracetriage.model.review import Leg, Review
from pytest_tracetriage.model.run import Totals

RED = Cluster("A" * 26, "KeyError", "DATA_SHAPE", "product", (), "known", None, 1, ("t",), (), (), (), None, status="real")


def review(*clusters, finished=True):
    leg = Leg("r", "test", "", "3.12", "linux", Totals(), 1.0, finished)
    return Review(Analysis((), Totals(), (), clusters, ()), legs=(leg,))


def red(**changes):
    return msgspec.structs.replace(RED, **changes)


CASES = {
    # what is there: (new, real, any)
    "known": (red(), (False, True, True)),
    "new": (red(seen="new"), (True, True, True)),
    "no base known": (red(seen="first-run"), (True, True, True)),
    "new but flaky": (red(seen="new", status="flaky"), (False, False, True)),
    "new infrastructure": (red(seen="new", status="infrastructure"), (True, False, True)),
    "muted": (red(seen="new", muted=Muted("ann", "known")), (False, False, True)),
    "fixed": (red(seen="fixed"), (False, False, False)),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("asked", [0, 1, 2])
def test_what_counts(name, asked):
    cluster, expected = CASES[name]
    fails = 0 if name == "fixed" else 1
    assert bool(reason_to_fail(review(cluster), ("new", "real", "any")[asked], fails)) == expected[asked]
    assert reason_to_fail(review(cluster), "never", fails) == ""


@pytest.mark.parametrize("fail_on", ["new", "real", "any"])
def test_what_no_test_explains_fails_always(fail_on):
    assert "exit status 4" in reason_to_fail(review(), fail_on, 4)
    assert "not by a test" in reason_to_fail(review(), fail_on, 1)
    assert "did not finish" in reason_to_fail(review(finished=False), fail_on, None)
    assert reason_to_fail(review(), fail_on, 0) == reason_to_fail(review(), fail_on, None) == ""


def test_the_reason_counts():
    clusters = (red(seen="new"), red(seen="new", id="B" * 26), red(id="C" * 26))
    assert reason_to_fail(review(*clusters), "new", 1) == "2 new root causes"
    assert reason_to_fail(review(*clusters), "real", 1) == "3 real root causes"
