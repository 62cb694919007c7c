"""Where to look: places in the repository that GitHub can show, and the pages of their files."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from msgspec import Struct

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pytest_tracetriage.model.analysis import Cluster

_URL = re.compile(r"https?://[A-Za-z0-9.\-]+(?::\d+)?(?:/[A-Za-z0-9._~/?#@!$&'+,;=%:\-]*)?")
_LINE = 2**31


class Place(Struct, frozen=True):
    """A line of a file; `line` 0 where only the file is known."""

    file: str
    line: int

    def __str__(self) -> str:
        """Return `shop/cart.py:88`."""
        return f"{self.file}:{self.line}" if self.line else self.file


def in_repository(path: str, links: Mapping[str, str]) -> bool:
    """Return whether `path` may be one of a file of the repository; where the tracked files are known, whether it is one."""
    if links:
        return path in links and _plain(path)
    return _plain(path)


def _plain(path: str) -> bool:
    if not path or len(path) > 1000 or not path.isprintable() or path[0] in "/~<-" or "\\" in path or ":" in path:
        return False
    return all(part not in {"", ".", ".."} for part in path.split("/"))


def link(place: Place, links: Mapping[str, str]) -> str:
    """Return the page of a place, "" where there is none."""
    page = safe_url(links.get(place.file, "")) if _plain(place.file) else ""
    return f"{page}#L{place.line}" if page and place.line else page


def safe_url(url: str) -> str:
    """Return `url` if it is one that can stand between the parentheses of a Markdown link, else nothing."""
    return url if len(url) <= 2000 and _URL.fullmatch(url) else ""


def look_at(cluster: Cluster, links: Mapping[str, str]) -> Place | None:
    """Return the first place of a cluster that lies in the repository, else the first place at all."""
    places = list(_places(cluster))
    return next((place for place in places if in_repository(place.file, links)), places[0] if places else None)


def annotated(cluster: Cluster, links: Mapping[str, str]) -> Place | None:
    """Return the first suspect, or where the exemplar was raised: a line of the repository, else nothing."""
    return next((place for place in _places(cluster) if _exact(place, links)), None)


def own_line(cluster: Cluster, links: Mapping[str, str]) -> Place | None:
    """Return the line of the exemplar's test that failed, where the traceback went through it."""
    if cluster.exemplar is None or not cluster.exemplar.failure.errors:
        return None
    file = cluster.exemplar.nodeid.partition("::")[0]
    frames = cluster.exemplar.failure.errors[0].frames
    places = [Place(frame.file, frame.line) for frame in frames if frame.file == file]
    return next((place for place in places if _exact(place, links)), None)


def _exact(place: Place, links: Mapping[str, str]) -> bool:
    return 0 < place.line < _LINE and in_repository(place.file, links)


def _places(cluster: Cluster) -> Iterator[Place]:
    for suspect in cluster.suspects:
        if suspect.file:
            yield Place(suspect.file, suspect.line)
    if cluster.exemplar is not None and cluster.exemplar.failure.errors:
        for frame in reversed(cluster.exemplar.failure.errors[0].frames):
            if frame.origin in {"app", "test"}:
                yield Place(frame.file, frame.line)
