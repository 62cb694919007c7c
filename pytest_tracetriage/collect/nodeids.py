"""Node ids from what a JUnit file keeps of them: `tests.test_cart.TestCart` and `test_total[3]`."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

_MAX_PARTS = 100


def nodeid_of(classname: str, name: str, file: str, places: Iterable[str] = ()) -> str:
    """Return the node id of a test case.

    `file` is its attribute of that name, "" without. `places` are files of its traceback: where they name the module,
    they decide where its dotted name ends; else what begins with a capital letter is taken for a class.
    """
    file = file.replace("\\", "/")
    if not classname:
        return _module(name) if not file else file if _dotted(file) == name else f"{file}::{name}"
    if _is_text_file(classname, name):
        return f"{classname[: -len(name)].replace('.', '/')}{name}::{name}"
    parts = classname.split(".", _MAX_PARTS)
    for known in (file, *(place.replace("\\", "/") for place in places)):
        if length := _module_length(parts, known):
            return "::".join((_path(parts[:length], known), *parts[length:], name))
    length = len(parts)
    while length and parts[length - 1][:1].isupper():
        length -= 1
    if not length:
        return "::".join((file, *parts, name)) if file else f"{classname}::{name}"
    return "::".join(("/".join(parts[:length]) + ".py", *parts[length:], name))


def _is_text_file(classname: str, name: str) -> bool:
    """Return whether a test case is a doctest of a text file, whose id names the file twice."""
    suffix = name.rpartition(".")[2]
    return name.endswith((".rst", ".txt", ".md")) and bool(suffix) and f".{classname}".endswith(f".{name}")


def _dotted(file: str) -> str:
    return file.removesuffix(".py").replace("/", ".")


def _module_length(parts: list[str], file: str) -> int:
    """Return how many of `parts` name the module that `file` is, 0 when they name another."""
    dotted = _dotted(file)
    if not file.endswith(".py"):
        return 0
    for length in range(len(parts), 0, -1):
        module = ".".join(parts[:length])
        if dotted == module or dotted.endswith("." + module):
            return length
    return 0


def _path(parts: list[str], file: str) -> str:
    """Return the module's file as the node id names it: the end of `file` that `parts` spell."""
    return file[-len(".".join(parts)) - len(".py") :]


def _module(name: str) -> str:
    """Return the node id of a module that could not be collected."""
    if "." not in name or name.endswith((".rst", ".txt", ".md")):
        return f"{name}.py" if name.isidentifier() and name.startswith("test") else name
    return name.replace(".", "/") + ".py"
