"""What is known of an attempt at a test while it runs."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest

    from pytest_tracetriage.model.trace import Failure, Marker, Outcome


class Attempt:
    """What is known so far of the attempt that is running. Most tests never need more than the class's defaults."""

    outcome: Outcome = "passed"
    reason = ""
    failures: tuple[Failure, ...] = ()
    fixtures: dict[str, float] | None = None
    sections: tuple[tuple[str, str], ...] = ()
    signatures: tuple[str, ...] = ()
    last_call: Failure | None = None
    subtest = ""
    failed_subtests = 0
    to_rerun = False
    """Whether a plugin has hidden a report of it: another attempt follows."""
    pending: dict[str, tuple[Failure | None, str]] | None = None
    """Failure and signature by phase, of calls whose reports are still to come."""

    number = 1
    markers: tuple[Marker, ...] = ()
    params: dict[str, str] = {}  # noqa: RUF012 - never changed, only replaced

    def __init__(self, item: pytest.Item, trace: str, nodeid: str) -> None:
        self.item = item
        self.trace = trace
        self.nodeid = nodeid
        self.start = time.time()
        self.phases: dict[str, float] = {}
        self.own = len(item.own_markers)
