"""The project that is healed: a folder with code and with tests in `tests/`."""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING, TypedDict

if TYPE_CHECKING:
    from pathlib import Path


class Bug(TypedDict):
    """A red test: `error` is `Type: message`, `frames` are `file:line function`, the deepest last."""

    test: str
    error: str
    frames: list[str]


class Project:
    """Files of a folder, by their path in it."""

    def __init__(self, root: Path) -> None:
        self.name = root.name
        self.root = root

    def __repr__(self) -> str:
        return f"Project({self.name!r})"

    def files(self) -> list[str]:
        """Return all files, sorted."""
        paths = (path for path in self.root.rglob("*") if path.is_file() and path.suffix != ".pyc")
        return sorted(path.relative_to(self.root).as_posix() for path in paths)

    def read(self, path: str) -> str:
        """Return the text of a file."""
        return (self.root / path).read_text(encoding="utf-8")

    def write(self, path: str, text: str) -> None:
        """Replace a file."""
        (self.root / path).write_text(text, encoding="utf-8")

    def version(self) -> str:
        """Return what changes when the project does."""
        code = [path for path in self.files() if path.endswith(".py")]
        return sha256("\0".join(self.read(path) for path in code).encode()).hexdigest()[:12]
