"""What the agent keeps instead of asking or running again."""

from __future__ import annotations

import threading
from typing import Any


class Cache:
    """Keys and values in memory, as a Redis would keep them; counts hits and misses."""

    def __init__(self) -> None:
        self.hits = 0
        self.misses = 0
        self._values: dict[str, Any] = {}
        self._lock = threading.Lock()

    def get(self, key: str) -> Any:
        """Return the value of a key, None where there is none."""
        with self._lock:
            found = self._values.get(key)
            if found is None:
                self.misses += 1
            else:
                self.hits += 1
            return found

    def set(self, key: str, value: Any) -> None:
        """Keep a value, which is not None."""
        with self._lock:
            self._values[key] = value

    @property
    def hit_rate(self) -> float:
        """Return the share of questions that had an answer, 0 to 1."""
        asked = self.hits + self.misses
        return self.hits / asked if asked else 0.0
