"""nose's `setup()`, which pytest called up to version 7: what it would have set is missing in every test of its class.

Each such test dies of another missing attribute, so nothing in the errors says that they have one cause. Here, while class
and module are at hand, it can be seen.
"""

from __future__ import annotations

from types import CodeType, FunctionType, ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

SETUP = "setup"
_CALLED_INSTEAD = {"class": ("setup_method",), "module": ("setup_module", "setUpModule")}
_SETS_ANYTHING = {"setattr", "__dict__", "vars", "globals"}
_MAX_HELPERS = 50


def uncalled_setup(node: Any, exc: BaseException) -> FunctionType | None:
    """Return the `setup()` that would have set what `exc` misses on the test's instance or module, None where there is none."""
    if not isinstance(exc, AttributeError | NameError) or not isinstance(exc.name, str):
        return None
    kind: Any = getattr(node, "cls", None)
    module: Any = getattr(node, "module", None)
    if isinstance(exc, AttributeError):
        from unittest import TestCase  # noqa: PLC0415 - not for every run that records

        # The type is looked at, not the object: one under test may answer anything it is asked.
        if type(exc.obj) is kind and not issubclass(kind, TestCase):
            return _left_out(_members(kind), exc.name, _CALLED_INSTEAD["class"], arguments=1)
        of_module = isinstance(module, ModuleType) and exc.obj is module
    else:
        of_module = isinstance(module, ModuleType) and _raised_in(exc, module)
    return _left_out(vars(module), exc.name, _CALLED_INSTEAD["module"], arguments=0) if of_module else None


def _members(kind: type) -> dict[str, Any]:
    """Return what a class and its bases define, by name, without asking a descriptor."""
    return {name: value for base in reversed(kind.__mro__) for name, value in vars(base).items()}


def _raised_in(exc: BaseException, module: ModuleType) -> bool:
    tb = exc.__traceback__
    while tb is not None and tb.tb_next is not None:
        tb = tb.tb_next
    return tb is not None and tb.tb_frame.f_globals is vars(module)


def _left_out(members: dict[str, Any], missing: str, instead: tuple[str, ...], arguments: int) -> FunctionType | None:
    setup = members.get(SETUP)
    # A fixture of that name is called; a function that needs more arguments is somebody's helper.
    if not isinstance(setup, FunctionType) or hasattr(setup, "_pytestfixturefunction"):
        return None
    if setup.__code__.co_argcount - len(setup.__defaults__ or ()) > arguments or any(name in members for name in instead):
        return None
    return setup if _names(setup, members.get, missing) else None


def _names(setup: FunctionType, member: Callable[[str], Any], missing: str) -> bool:
    """Return whether a function, or a helper that it calls, speaks of what is missing."""
    todo: list[FunctionType] = [setup]
    met: set[CodeType] = set()
    while todo and len(met) < _MAX_HELPERS:
        function = todo.pop()
        if function.__code__ in met:
            continue
        met.add(function.__code__)
        names = function.__code__.co_names
        if missing in names or _SETS_ANYTHING.intersection(names):
            return True
        found = [value for name in names for value in (member(name), function.__globals__.get(name))]
        todo += [value for value in found if isinstance(value, FunctionType)]
    return False
