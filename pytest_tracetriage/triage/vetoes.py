"""What must not share a cluster: what people split, and what words alone may not join."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_tracetriage.triage.evidence import is_module, resources

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pytest_tracetriage.triage.join import Fact


class Vetoes:
    """What speaks against joining two clusters, each given as the indices of its facts."""

    def __init__(self, facts: Sequence[Fact], cannot: Sequence[Mapping[str, str]]) -> None:
        self._apart = [{n: parts[fact.id] for n, fact in enumerate(facts) if fact.id in parts} for parts in cannot]
        self._resources = [resources(fact) for fact in facts]
        self._uncalled = frozenset(number for number, fact in enumerate(facts) if fact.failure.uncalled is not None)
        self._kinds = {number: kind for number, fact in enumerate(facts) if (kind := _kind(fact))}

    def split(self, left: Sequence[int], right: Sequence[int]) -> bool:
        """Return whether people split what stands on the two sides."""
        for parts in self._apart:
            here = {parts[member] for member in left if member in parts}
            there = {parts[member] for member in right if member in parts}
            if len(here | there) > 1 and here and there:
                return True
        return False

    def oppose(self, left: Sequence[int], right: Sequence[int]) -> bool:
        """Return whether anything speaks against joining by soft evidence."""
        return (
            self.split(left, right)
            or self._different_resources(left, right)
            or self._one_uncalled(left, right)
            or self._different_kinds(left, right)
        )

    def _different_resources(self, left: Sequence[int], right: Sequence[int]) -> bool:
        ours: frozenset[str] = frozenset().union(*(self._resources[member] for member in left))
        theirs: frozenset[str] = frozenset().union(*(self._resources[member] for member in right))
        if ours & theirs:
            return False
        # A missing module explains its failures whole: what names none has another cause, however like the tests are.
        return bool(ours and theirs) or any(is_module(resource) for resource in ours | theirs)

    def _one_uncalled(self, left: Sequence[int], right: Sequence[int]) -> bool:
        """Return whether only one side is of a `setup()` that was not called: the words differ by an attribute only."""
        return self._uncalled.isdisjoint(left) != self._uncalled.isdisjoint(right)

    def _different_kinds(self, left: Sequence[int], right: Sequence[int]) -> bool:
        """Return whether steps failed on both sides, in ways that have nothing in common."""
        ours = {self._kinds[member] for member in left if member in self._kinds}
        theirs = {self._kinds[member] for member in right if member in self._kinds}
        return bool(ours and theirs) and ours.isdisjoint(theirs)


def _kind(fact: Fact) -> str:
    """Return the type of the failing step, "" where none is known."""
    return fact.broken.answer[0] if fact.broken is not None and fact.broken.answer is not None else ""
