"""Which test executes which lines: the value that spectrum-based localisation works on."""

from msgspec import Struct


class Function(Struct, frozen=True, array_like=True):
    """A function of the project. `line` and `end` are its first and last line, decorators included."""

    file: str
    """Relative to the root of the project, with slashes."""
    name: str
    """Qualified name: `Class.method`, `outer.<locals>.inner`."""
    line: int
    end: int
    digest: str
    """Hash of its source without indentation and position: the same after edits elsewhere."""


class Element(Struct, frozen=True, array_like=True):
    """Lines of one function that the same tests run. Lines that run at import are in none."""

    function: int
    """Index in the map's functions."""
    lines: tuple[int, ...]
    tests: bytes
    """Little-endian bit set over the map's tests."""


class CoverageMap(Struct, frozen=True):
    """Per-test line coverage of one run. `tests` are redacted node ids, sorted.

    The map of a green run holds passing tests only. `commit` and `run` say where it was taken, `source` by whom:
    `tracetriage`, `pytest-cov` or `recorded`.
    """

    tests: tuple[str, ...]
    functions: tuple[Function, ...]
    elements: tuple[Element, ...]
    commit: str = ""
    run: str = ""
    source: str = ""
