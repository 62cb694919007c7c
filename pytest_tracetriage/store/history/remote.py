"""A history anywhere that fsspec reaches: S3, GCS, Azure, SFTP and the like, with a local copy of what was read."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from pytest_tracetriage.store.history import HistoryError, extra, one_line
from pytest_tracetriage.store.history.locations import removal_order
from pytest_tracetriage.store.runs import write_atomically

if TYPE_CHECKING:
    from pathlib import Path

# Where a file that is being written can be seen half: written under a passing name, then renamed. Object stores need it not.
_SEEN_HALF = {"file", "local", "sftp", "ssh", "smb", "ftp"}


class FsspecLocation:
    """Files below one URL. As they never change, each is brought here once."""

    def __init__(self, url: str, cache: Path) -> None:
        """Begin; the place is asked for nothing yet. Raises HistoryError for a URL of no known kind."""
        # A password or a signature has no place in a message, and less in a comment.
        self.name = re.sub(r"(?<=://)[^/?#]*@", "", re.sub(r"[?#].*", "", url, flags=re.DOTALL))
        self._secrets = _secrets(url)
        self.cache = cache
        core = extra("fsspec.core")
        try:
            self._system, root = core.url_to_fs(url)
        except Exception as error:
            raise self._failed("opened", error) from None
        self._root = str(root).rstrip("/")
        protocol = self._system.protocol
        self._seen_half = bool(_SEEN_HALF & ({protocol} if isinstance(protocol, str) else set(protocol)))

    def names(self) -> frozenset[str]:
        """Return the names of all files there now, and forget local copies of those that are gone. Raises HistoryError."""
        try:
            self._system.invalidate_cache()
            found: list[dict[str, Any]] = self._system.ls(self._root or "/", detail=True)
        except FileNotFoundError:
            found = []
        except Exception as error:
            raise self._failed("read", error) from None
        names = frozenset(str(item["name"]).rstrip("/").rpartition("/")[2] for item in found if item["type"] == "file")
        self._forget(names)
        return names

    def fetch(self, names: frozenset[str]) -> dict[str, str]:
        """Return the path of a local copy of each of these files. Raises HistoryError."""
        paths = {name: self.cache / name for name in sorted(names)}
        try:
            for name, path in paths.items():
                if not path.exists():
                    data = self._system.cat_file(f"{self._root}/{name}")
                    path.parent.mkdir(parents=True, exist_ok=True)
                    write_atomically(path, data)
        except Exception as error:
            raise self._failed("read", error) from None
        return {name: str(path) for name, path in paths.items()}

    def put(self, files: dict[str, bytes], remove: frozenset[str] = frozenset(), message: str = "") -> None:
        """Write files in the order given, then remove others. Raises HistoryError."""
        try:
            if self._seen_half:
                self._system.makedirs(self._root, exist_ok=True)
            for name, data in files.items():
                path = f"{self._root}/{name}"
                if self._seen_half:
                    self._system.pipe_file(f"{path}.tmp", data)
                    self._system.mv(f"{path}.tmp", path)
                else:
                    self._system.pipe_file(path, data)
        except Exception as error:
            raise self._failed("written", error) from None
        for name in removal_order(remove):
            try:
                self._system.rm_file(f"{self._root}/{name}")
            except FileNotFoundError:
                continue  # another compaction was faster
            except Exception as error:
                raise self._failed("written", error) from None

    def _forget(self, names: frozenset[str]) -> None:
        try:
            for path in self.cache.iterdir():
                if path.name not in names and path.suffix in {".parquet", ".coverage"}:
                    path.unlink(missing_ok=True)
        except OSError:  # none yet, or in use: it costs space, nothing else
            return

    def _failed(self, what: str, error: Exception) -> HistoryError:
        said = str(error)
        for secret in self._secrets:
            said = said.replace(secret, "***")
        return HistoryError(f"the history at {self.name} cannot be {what}: {one_line(said or type(error).__name__)}")


def _secrets(url: str) -> list[str]:
    """Return what of a URL nobody may read, the longest first: login and query, in parts too, and as libraries decode them."""
    login, query = re.search(r"(?<=://)[^/?#]*(?=@)", url), re.search(r"[?#](.*)", url, re.DOTALL)
    parts = {login[0], login[0].partition(":")[2]} if login else set()
    if query:
        parts |= {query[1], *(part.partition("=")[2] for part in re.split("[&;]", query[1]))}
    return sorted({each for part in parts for each in (part, unquote(part)) if len(each) > 3}, key=len, reverse=True)
