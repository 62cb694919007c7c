"""Remembers bugs that were mended, to know them again."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import weave

from qa_agent.models import EMBED

if TYPE_CHECKING:
    from qa_agent.models import Models
    from qa_agent.project import Bug


class Memory:
    """Errors that were mended, by their embeddings."""

    def __init__(self, models: Models) -> None:
        self._models = models
        self._known: list[tuple[str, list[float]]] = []

    def __repr__(self) -> str:
        return "Memory()"

    @weave.op
    def remember(self, bug: Bug) -> None:
        """Keep a bug."""
        self._known.append((bug["test"], self._vector(bug)))

    @weave.op
    def like(self, bug: Bug) -> str:
        """Return the test of the mended bug that is most like this one, "" where none was mended."""
        vector = self._vector(bug)
        return max(self._known, key=lambda known: _cosine(known[1], vector), default=("", []))[0]

    def _vector(self, bug: Bug) -> list[float]:
        return self._models.client.embeddings.create(model=EMBED, input=bug["error"]).data[0].embedding


def _cosine(one: list[float], other: list[float]) -> float:
    return sum(a * b for a, b in zip(one, other)) / (math.hypot(*one) * math.hypot(*other) or 1.0)
