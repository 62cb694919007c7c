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
        self._parent: object = None
        self._inherited: tuple[Marker, ...] = ()

    def names(self, item: pytest.Item) -> tuple[str, dict[str, str]]:
        """Return the redacted node id and the parameters; secret ones are learned first, since they stand in the id."""
        # (getattr, since looking into `__dict__` would slow down every later access to the item)
        callspec = getattr(item, "callspec", None)
        if callspec is None and type(item) is pytest.Function:
            # A path and an identifier: they can repeat a known secret, but not hold a token of its own.
            return self._redactor.known(item.nodeid), _NOTHING
        params = self._params(callspec)
        return self._redactor(item.nodeid) or ".", params

    def _params(self, callspec: Any) -> dict[str, str]:
        """Return the parameters by name; what is not a plain value is named by its type: its `repr` may do anything."""
        if callspec is None:
            return _NOTHING
        return self._redactor.parameters({name: plain(value) for name, value in callspec.params.items()})

    def markers(self, item: pytest.Item) -> tuple[Marker, ...]:
        """Return the markers, the nearest first."""
        parent = item.parent
        own = item.own_markers
        if not own and parent is self._parent:
            return self._inherited
        if parent is not self._parent:  # tests of one parent follow one another
            self._parent = parent
            chain = reversed(parent.listchain()) if parent is not None else ()
            self._inherited = self._describe([mark for node in chain for mark in node.own_markers])
        return (*self._describe(own), *self._inherited) if own else self._inherited

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
