"""Which tests run: exactly those of a list of node ids, whatever the project's own options select.

Node ids are compared redacted on both sides, since a list that TraceTriage wrote holds no secrets.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

SHOWN = 10


class Selection:
    """Deselects every item that is not among `wanted`.

    Those are node ids; a file or class stands for all in it, a test without parameters for all its parametrizations.
    """

    def __init__(
        self,
        wanted: Iterable[str],
        redact: Callable[[str], str],
        origin: str,
        name_of: Callable[[pytest.Item], str],
    ) -> None:
        self._wanted = {redact(nodeid.strip()) for nodeid in wanted if nodeid.strip() and not nodeid.startswith("#")}
        self.missing: list[str] = []
        """What was asked for and not collected."""
        self._redact = redact
        self._name_of = name_of
        self._origin = origin
        self._found: dict[str, list[pytest.Item]] = {}
        self._ambiguous: list[str] = []

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        """Keep the selected items in their order."""
        keep, drop = [], []
        self._found = {}
        for item in items:
            match = self._match(self._name_of(item), _group(item))
            if match is None:
                drop.append(item)
            else:
                keep.append(item)
                self._found.setdefault(match, []).append(item)
        self.missing = sorted(self._wanted - self._found.keys())
        several = {wanted for wanted, found in self._found.items() if len({item.nodeid for item in found}) > 1}
        self._ambiguous = sorted(wanted for wanted in several if "[redacted " in wanted)
        if drop:
            config.hook.pytest_deselected(items=drop)
            items[:] = keep

    def items_of(self, nodeid: str) -> list[pytest.Item]:
        """Return the collected items that a node id of the list stands for."""
        return self._found.get(self._redact(nodeid.strip()), [])

    def in_order(self, nodeids: Iterable[str]) -> list[pytest.Item]:
        """Return the items of a list, one after the other; one that comes again is another item, with its own fixtures."""
        items: list[pytest.Item] = []
        seen: set[pytest.Item] = set()
        for nodeid in nodeids:
            found = self.items_of(nodeid)
            items += [_another(item) if item in seen else item for item in found]
            seen.update(found)
        return items

    def _match(self, redacted: str, group: str) -> str | None:
        plain = redacted.removesuffix(group)
        for name in (redacted, plain, plain + group):
            if name in self._wanted:
                return name
        parts = plain.split("[", maxsplit=1)[0].split("::")
        for length in range(len(parts), 0, -1):
            above = "::".join(parts[:length])
            if above in self._wanted:
                return above
        return None

    def pytest_report_collectionfinish(self) -> list[str]:
        """Say what could not be selected."""
        lines = [f"tracetriage: {len(self._wanted)} selected by {self._origin}"]
        if self.missing:
            names = ", ".join(self.missing[:SHOWN]) + (" ..." if len(self.missing) > SHOWN else "")
            lines.append(f"tracetriage: {len(self.missing)} of them are not in this collection: {names}")
        if self._ambiguous:
            names = ", ".join(self._ambiguous[:SHOWN])
            lines.append(f"tracetriage: ambiguous since redacted, all that match are run: {names}")
        return lines


def _another(item: pytest.Item) -> pytest.Item:
    again = copy.copy(item)
    if hasattr(again, "_initrequest"):
        again._initrequest()  # noqa: SLF001 - as pytest's own runner does for an item that runs again
    return again


def _group(item: pytest.Item) -> str:
    """Return what `--dist=loadgroup` appends to the node id, "" for no group.

    Before pytest 9.2 the ids of such a run have it, those of other runs have not.
    """
    marks = item.iter_markers("xdist_group")
    names = {str(mark.args[0] if mark.args else mark.kwargs.get("name", "default")) for mark in marks}
    return f"@{'_'.join(sorted(names))}" if names else ""


def read_selection(path: Path) -> list[str]:
    """Return the node ids of a file, one a line; `#` begins a comment. Raises OSError, UnicodeDecodeError."""
    with path.open(encoding="utf-8-sig") as file:
        return [line.rstrip("\r\n") for line in file]
