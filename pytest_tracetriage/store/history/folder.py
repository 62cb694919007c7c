"""A history in a folder of this machine."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_tracetriage.store.history.errors import HistoryError
from pytest_tracetriage.store.runs import write_atomically

if TYPE_CHECKING:
    from pathlib import Path

RUN_FILE = ".run.parquet"
_LISTINGS = 20  # one listing may miss a new pack and what it replaced: two that agree do not


class FolderLocation:
    """Files side by side in one folder, each written under a passing name and then renamed."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.name = str(path)

    def names(self) -> frozenset[str]:
        """Return the names of all files there now; none where there is no folder yet. Raises HistoryError."""
        listed = self._list()
        for _ in range(_LISTINGS):
            before, listed = listed, self._list()
            if listed == before:
                break
        return listed

    def _list(self) -> frozenset[str]:
        try:
            return frozenset(path.name for path in self.path.iterdir() if path.is_file())
        except FileNotFoundError:
            return frozenset()
        except OSError as error:
            raise HistoryError(f"the history at {self.name} cannot be read: {error.strerror}") from None

    def fetch(self, names: frozenset[str]) -> dict[str, str]:
        """Return the path of each of these files. Raises HistoryError where one is missing."""
        paths = {name: self.path / name for name in sorted(names)}
        for path in paths.values():
            if not path.is_file():
                raise HistoryError(f"{path}: no such file in the history")
        return {name: str(path) for name, path in paths.items()}

    def put(self, files: dict[str, bytes], remove: frozenset[str] = frozenset(), message: str = "") -> None:
        """Write files in the order given, then remove others. Raises HistoryError."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            for name, data in files.items():
                write_atomically(self.path / name, data)
        except OSError as error:
            raise HistoryError(f"the history at {self.name} cannot be written: {error.strerror}") from None
        for name in removal_order(remove):
            try:
                (self.path / name).unlink(missing_ok=True)
            except OSError:  # Windows, while someone reads it: what replaced it is chosen, and the next one removes it
                continue


def removal_order(names: frozenset[str]) -> list[str]:
    """Return names so that what makes a piece visible goes first: whoever is killed in between leaves no half piece."""
    return sorted(names, key=lambda name: (not name.endswith(RUN_FILE), name))
