"""What a format is: how it is recognised, and how it is read as a stream."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

from pytest_tracetriage.model.analysis import Problem
from pytest_tracetriage.model.trace import Trace

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

HEAD = 65_536
"""How many bytes of a file `sniff` is shown."""

Item = Trace | Problem


@dataclass(frozen=True)
class Format:
    """One format of recorded tests.

    `sniff(head)` says from the first bytes (decompressed) whether a file is of this format. `read(file, name)` yields
    its traces and what could not be read, in the order of the file, holding no more than one record at a time; it may
    raise `EOFError` or `OSError` where the stream itself breaks, which the caller reports. `name` is for problems.
    """

    name: str
    sniff: Callable[[bytes], bool]
    read: Callable[[BinaryIO, str], Iterator[Item]]
