"""What joining works on: signatures with their tests and exemplars, and the groups that they end up in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Set as AbstractSet

    from pytest_tracetriage.model.analysis import Why
    from pytest_tracetriage.model.trace import Failure
    from pytest_tracetriage.triage.agents import Broken
    from pytest_tracetriage.triage.signature import Key
    from pytest_tracetriage.triage.summary import Sample


@dataclass(frozen=True)
class Fact:
    """One signature of this analysis. `failures` are those of the first `samples`, in their order; there is at least one."""

    id: str
    key: Key
    members: AbstractSet[str]
    failures: tuple[Failure, ...]
    samples: tuple[Sample, ...]
    broken: Broken | None = None
    """Where in their spans most of its traces broke, None where they do not tell the same."""

    @property
    def failure(self) -> Failure:
        """Return the failure that stands for all: the first, unless another tells of a `setup()` that was not called.

        A text source of the same test cannot know that.
        """
        return next((failure for failure in self.failures if failure.uncalled is not None), self.failures[0])


@dataclass(frozen=True)
class Group:
    """Signatures that share one root cause, with the evidence of each join."""

    facts: tuple[Fact, ...]
    why: tuple[Why, ...]
