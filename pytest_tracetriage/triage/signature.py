"""The signature of a failure: what must be equal for two failures to be the same.

Exception type (with the type it was explicitly raised from), the deepest in-app frame outside the tests (file and bare
function name, no line), and the masked first line of the message. Where a failure never touched the application, the deepest
frame of the tests stands in: two tests that both fail at `assert 1 == 2` have nothing in common yet.
"""

from __future__ import annotations

import base64
import hashlib
import re
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_tracetriage.model.trace import Error, Failure, Frame

ID_LENGTH = 26
MAX_FIRST_LINE = 400

# What varies from run to run and test to test. In the manner of LUCI Analysis' reason clustering (masks for numbers, hex and
# base64), with paths and quoted stand-ins added; names in quotes are kept, since KeyError 'sku' and KeyError 'price' differ.
_MASK = re.compile(
    r"""
    (?P<redacted>\[redacted\ [0-9a-f]{8}\])
    | (?P<uuid>\b[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}\b)
    | (?P<address>\b0x[0-9a-fA-F]+\b)
    | (?P<tmp>(?:/private)?/(?:tmp|var/folders|var/tmp)/[^\s'":,)\]]*|[A-Za-z]:\\[^\s'":,)\]]*?\\Temp\\[^\s'":,)\]]*|/[^\s'":,)\]]*/pytest-of-[^\s'":,)\]]*)
    | (?P<time>\b\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d(?:[.,]\d+)?)?(?:Z|[+-]\d\d:?\d\d)?)?)
    | (?P<hex>\b(?=[0-9a-f]*\d)(?=\d*[a-f])[0-9a-f]{8,}\b)
    | (?P<number>(?<![A-Za-z_])[-+]?\d+(?:[.,_]\d+)*(?:[eE][-+]?\d+)?|\d+)
    """,
    re.VERBOSE,
)
_STAND_IN = {
    "redacted": "<redacted>", "uuid": "<uuid>", "address": "0x#", "tmp": "<tmp>", "time": "<time>", "hex": "<hex>", "number": "#",
}  # fmt: skip


class Key(NamedTuple):
    """The parts of a signature."""

    type: str
    file: str
    function: str
    message: str


def mask(text: str) -> str:
    """Return `text` with what varies from run to run replaced by a stand-in of its kind."""
    return _MASK.sub(lambda found: _STAND_IN[found.lastgroup or "number"], text)


def first_line(message: str) -> str:
    """Return the first line of a message that says something, bounded."""
    for line in message[:4_000].splitlines():
        if stripped := line.strip():
            return stripped[:MAX_FIRST_LINE]
    return ""


def bare(type_name: str) -> str:
    """Return the last part of a qualified type name: text sources print no more."""
    return type_name.rpartition(".")[2]


def own_frame(errors: Sequence[Error]) -> Frame | None:
    """Return the deepest application frame of the raised error or, failing that, of what it was caused by."""
    for error in errors:
        for frame in reversed(error.frames):
            if frame.origin == "app":
                return frame
    return None


def place(errors: Sequence[Error]) -> Frame | None:
    """Return the frame that a failure is named after: the application's deepest, else the tests' deepest, else the deepest."""
    own = own_frame(errors)
    if own is not None:
        return own
    for error in errors:
        for frame in reversed(error.frames):
            if frame.origin == "test":
                return frame
    return next((error.frames[-1] for error in errors if error.frames), None)


def root_cause(errors: Sequence[Error]) -> Error:
    """Return the error at the end of the chain of explicit causes that starts at the raised one."""
    current, index = errors[0], 0
    for position, error in enumerate(errors):
        if error.link == "cause" and error.parent == index:
            current, index = error, position
    return current


def key(failure: Failure) -> Key:
    """Return the parts of the failure's signature."""
    errors = failure.errors
    if not errors:
        return Key(failure.phase, "", "", mask(first_line(failure.text)))
    raised, root = errors[0], root_cause(errors)
    frame = place(errors)
    kind, message = bare(raised.type), mask(first_line(raised.message))
    if root is not raised:
        kind += f" from {bare(root.type)}"
        message += f" ({mask(first_line(root.message))})"
    return Key(kind, frame.file if frame else "", frame.function if frame else "", message)


def identify(parts: Key) -> str:
    """Return the id of a signature: 26 base32 characters (130 bits) of its SHA-256."""
    digest = hashlib.sha256("\n".join(parts).encode("utf-8", "surrogatepass")).digest()
    return base64.b32encode(digest)[:ID_LENGTH].decode()


def signature_id(failure: Failure) -> str:
    """Return the signature id of a failure."""
    return identify(key(failure))
