"""The map of what each test runs: what spectrum-based localisation works on."""

from msgspec import Struct


class Function(Struct, frozen=True, array_like=True):
    """One function of the project, as the recorded run had it."""

    file: str
    """From the root of the project, with `/`."""
    name: str
    """Qualified: `Class.method`, `outer.<locals>.inner`."""
    line: int
    """The first line, decorators included."""
    end: int
    """The last line."""
    digest: str
    """A hash of its source without indentation: the same after edits elsewhere."""


class Element(Struct, frozen=True, array_like=True):
    """Lines of one function that the same tests run. Lines of its body only, never those that run at import."""

    function: int
    """Index in the functions of the map."""
    lines: tuple[int, ...]
    tests: bytes
    """A set of indices in the tests of the map: bit i % 8 of byte i // 8 stands for test i."""


class CoverageMap(Struct, frozen=True):
    """Per-test line coverage. A green map holds the tests that passed, and no others."""

    tests: tuple[str, ...]
    """Node ids, redacted, sorted."""
    functions: tuple[Function, ...]
    elements: tuple[Element, ...]
    commit: str = ""
    run: str = ""
    source: str = ""
    """`tracetriage`, `pytest-cov` or `recorded`."""
