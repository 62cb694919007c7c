"""What is known of a test before it runs: its node id, parameters and markers, bounded and redacted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from pytest_tracetriage.model.trace import Marker

if TYPE_CHECKING:
    from pytest_tracetriage.redact import Redactor

_SIMPLE = (str, int, float, bool, bytes, type(None), complex)
_UNTOLD = frozenset({"parametrize"})  # its arguments are the parameters
MAX_VALUE = 200
_NOTHING: dict[str, str] = {}


class ItemFacts:
    """Facts of items. Markers of classes and modules are remembered, since all their tests share them."""

    def __init__(self, redactor: Redactor) -> None:
        self._redactor = redactor
        self._inherited: dict[Any, tuple[Marker, ...]] = {}

    def nodeid(self, item: pytest.Item) -> str:
        """Return the redacted node id; values of secret parameters are learned first, since they stand in it."""
        # (getattr, since looking into `__dict__` would slow down every later access to the item)
        if type(item) is pytest.Function and getattr(item, "callspec", None) is None:
            # A path and an identifier: they can repeat a known secret, but not hold a token of its own.
            return self._redactor.known(item.nodeid)
        self.params(item)
        return self._redactor(item.nodeid) or "."

    def params(self, item: Any) -> dict[str, str]:
        """Return the parameters by name; what is not a plain value is named by its type: its `repr` may do anything."""
        callspec = getattr(item, "callspec", None)
        if callspec is None:
            return _NOTHING
        return self._redactor.parameters({name: plain(value) for name, value in callspec.params.items()})

    def markers(self, item: pytest.Item) -> tuple[Marker, ...]:
        """Return the markers, the nearest first."""
        parent = item.parent
        inherited = self._inherited.get(parent)
        if inherited is None:
            marks = [mark for node in reversed(parent.listchain()) for mark in node.own_markers] if parent else []
            inherited = self._inherited[parent] = self._describe(marks)
        return (*self._describe(item.own_markers), *inherited) if item.own_markers else inherited

    @staticmethod
    def expects_failure(markers: tuple[Marker, ...]) -> bool:
        """Return whether one of the markers makes pytest expect a failure."""
        return any(marker.name == "xfail" for marker in markers)

    def _describe(self, marks: list[Any]) -> tuple[Marker, ...]:
        return tuple(
            Marker(
                mark.name,
                tuple(self._redactor(plain(value)) for value in mark.args[:20]),
                self._redactor.parameters({str(key): plain(value) for key, value in list(mark.kwargs.items())[:20]}),
            )
            for mark in marks
            if mark.name not in _UNTOLD
        )


def plain(value: object, depth: int = 2) -> str:
    """Return a bounded `repr` of plain values and small containers of them, else `<TypeName>`."""
    if type(value) in _SIMPLE:
        return repr(value if not isinstance(value, str | bytes) else value[: MAX_VALUE + 1])[: MAX_VALUE + 2]
    if depth and type(value) in {tuple, list, set, frozenset} and len(value) <= 20:  # type: ignore[arg-type]
        return f"{type(value).__name__}({', '.join(plain(item, depth - 1) for item in value)})"[:MAX_VALUE]  # type: ignore[attr-defined]
    name = getattr(value, "__qualname__", None)
    if callable(value) and isinstance(name, str):
        return f"<{name}>"[:MAX_VALUE]
    return f"<{type(value).__qualname__}>"[:MAX_VALUE]
