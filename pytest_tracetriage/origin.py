"""Where a source file belongs: to the tests, the application, a third party or the standard library."""

from __future__ import annotations

import os
import re
import sysconfig
from fnmatch import fnmatch
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pytest_tracetriage.model.trace import Origin

TEST_FILES = ("test_*.py", "*_test.py", "conftest.py")
TEST_FOLDERS = frozenset({"test", "tests"})

_INSTALLED = re.compile(r"(?:^|/)(?:site|dist)-packages/(.*)")
_STDLIB = re.compile(r"(?:^|/)(?:lib(?:64)?/python3[.\d]*t?|Lib)/|(?:^|/)python3\d+\.zip/")


class Project:
    """Tells files of one project apart. Answers are remembered by file name: frames repeat.

    `root` is the absolute folder that files are named relative to ("" when only relative names are known), `patterns`
    the file name patterns of test modules (pytest's `python_files`).
    """

    def __init__(self, root: str = "", patterns: Iterable[str] = TEST_FILES, *, local: bool = True) -> None:
        self.root = root.replace("\\", "/").rstrip("/")
        self._prefix = self.root + "/" if self.root else ""
        self._patterns = tuple(dict.fromkeys((*patterns, *TEST_FILES)))
        self._stdlib = _stdlib_folders() if local else ()
        self._local = local
        self._known: dict[str, tuple[str, Origin]] = {}
        self._modules: set[str] = set()

    def locate(self, file: str) -> tuple[str, Origin]:
        """Return the name to write for `file` (relative to the root, with `/`, where it lies below it) and its origin."""
        found = self._known.get(file)
        if found is None:
            found = self._known[file] = self._locate(file.replace("\\", "/"))
        return found

    def collected(self, file: str) -> None:
        """Learn that a file was collected as a test module, whatever its name."""
        name = file.replace("\\", "/")
        if name not in self._modules:
            self._modules.add(name)
            self._known.pop(file, None)

    def _locate(self, file: str) -> tuple[str, Origin]:
        if file.startswith("<"):
            return file, "test" if file.startswith("<doctest") else "stdlib" if "frozen" in file else "third-party"
        inside = bool(self._prefix) and file.startswith(self._prefix)
        relative = file[len(self._prefix) :] if inside else file
        if file in self._modules:
            return relative, "test"
        if installed := _INSTALLED.search(relative):
            return self._installed(relative, installed[1])
        if any(file.startswith(folder) for folder in self._stdlib) or (not inside and _STDLIB.search(file)):
            return relative, "stdlib"
        relative = relative.removeprefix("./")
        return relative, "test" if self.is_test_file(relative) else "app"

    def _installed(self, file: str, inner: str) -> tuple[str, Origin]:
        # tox and nox install the project itself into site-packages: such a file is the application's own.
        if self._local and self._prefix:
            for folder in ("", "src/"):
                if os.path.isfile(f"{self._prefix}{folder}{inner}") and "/" in inner:
                    return folder + inner, "test" if self.is_test_file(inner) else "app"
        return file, "third-party"

    def is_test_file(self, relative: str) -> bool:
        """Return whether a file (relative name) holds tests, fixtures or what only they use."""
        path = PurePosixPath(relative)
        return any(fnmatch(path.name, pattern) or fnmatch(relative, pattern) for pattern in self._patterns) or any(
            part in TEST_FOLDERS for part in path.parts[:-1]
        )


def _stdlib_folders() -> tuple[str, ...]:
    paths = sysconfig.get_paths()
    return tuple(sorted({paths[key].replace("\\", "/").rstrip("/") + "/" for key in ("stdlib", "platstdlib")}))
