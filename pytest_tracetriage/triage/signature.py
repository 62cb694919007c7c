"""The signature of a failure: what must be equal for two failures to be the same.

Exception type (with the type it was explicitly raised from), the deepest in-app frame outside the tests (file and bare
function name, no line), and the masked first line of the message. Where a failure never touched the application, the deepest
frame of the tests stands in: two tests that both fail at `assert 1 == 2` have nothing in common yet.
"""

from __future__ import annotations

import base64
import hashlib
import re
from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_tracetriage.model.trace import Error, Failure, Frame

ID_LENGTH = 26
MAX_FIRST_LINE = 400

# What varies from run to run and test to test. In the manner of LUCI Analysis' reason clustering (masks for numbers, hex and
# base64), with paths and quoted stand-ins added; names in quotes are kept, since KeyError 'sku' and KeyError 'price' differ.
_MASK = re.compile(
    r"""
    (?P<uuid>\b[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}\b)
    | (?P<address>\b0x[0-9a-fA-F]+\b)
    | (?P<tmp>(?:/private)?/(?:tmp|var/folders|var/tmp)/[^\s'":,)\]]*|[A-Za-z]:\\[^\s'":,)\]]*?\\Temp\\[^\s'":,)\]]*|/[^\s'":,)\]]*/pytest-of-[^\s'":,)\]]*)
    | (?P<time>\b\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d(?:[.,]\d+)?)?(?:Z|[+-]\d\d:?\d\d)?)?)
    | (?P<hex>\b(?=[0-9a-f]*\d)(?=\d*[a-f])[0-9a-f]{8,}\b)
    | (?P<number>(?<![A-Za-z_])[-+]?\d+(?:[.,_]\d+)*(?:[eE][-+]?\d+)?|\d+)
    """,
    re.VERBOSE,
)
_STAND_INS = {"uuid": "<uuid>", "address": "0x#", "tmp": "<tmp>", "time": "<time>", "hex": "<hex>", "number": "#"}
_LONG_HEX = re.compile(r"(?=[a-f]*[0-9])[0-9a-f]{8,}$")
_ADDRESS = re.compile(
    r"\b((?:\d{1,3}\.){3}\d{1,3}|\[[0-9a-fA-F:]+\]|[a-zA-Z](?:[\w-]*\w)?(?:\.[\w-]+)*)(?:'?,\s*(?:port=)?|:)(\d{2,5})\b"
)
FIRST_EPHEMERAL_PORT = 32_768
_REDACTED = re.compile(r"\[redacted [0-9a-f]{8}\]")


class Key(NamedTuple):
    """The parts of a signature."""

    type: str
    file: str
    function: str
    message: str


_masked_words: dict[str, str] = {}
_masked_shapes: dict[str, str] = {}
_MAX_MASKED = 50_000
_ID = re.compile(rb"(?<!\\)\b(?:0x[0-9a-fA-F]+|(?=[0-9]*[a-f])(?=[a-f]*[0-9])[0-9a-f]{8,})\b")
_DIGITS = bytes.maketrans(b"23456789", b"11111111")
_ALL_DIGITS = bytes.maketrans(b"023456789", b"111111111")
_BACKSLASH = ord("\\")
_SHAPE = str.maketrans("23456789", "11111111")  # 0 stays: it begins an address


def mask(text: str) -> str:
    """Return `text` with what varies from run to run replaced by a stand-in of its kind.

    Messages of one template differ mostly in their digits, and no mask looks at which digit it sees: texts are looked up by
    their shape, then word by word, before anything is searched.
    """
    form = text.translate(_SHAPE)
    known = _masked_shapes.get(form)
    if known is None:
        if len(_masked_shapes) > _MAX_MASKED:
            _masked_shapes.clear()
        known = _masked_shapes[form] = _mask_words(text)
    return known


def shape(message: bytes) -> bytes:
    """Return what two messages, as JSON strings, have in common if they are certain to be masked alike.

    That is their first lines but for which digits and which long hexadecimal ids stand in them.
    """
    end = message.find(b"\\n")
    # Only a line that begins with something to see is certain to be the first that says something: not "", not an escaped tab.
    if end > 1 and message[end - 1] != _BACKSLASH and 32 < message[1] < 127 and message[1] != _BACKSLASH:
        message = message[:end]
    if b"\\u00" in message:  # digits that stand for a control character
        return message
    message = _ID.sub(_length, message)
    return message.translate(_DIGITS if b"0x" in message else _ALL_DIGITS)


def _length(found: re.Match[bytes]) -> bytes:
    return b"\0%d\0" % (found.end() - found.start())


def _mask_words(text: str) -> str:
    if "[redacted " in text:
        text = _REDACTED.sub("<redacted>", text)
    if len(_masked_words) > _MAX_MASKED:
        _masked_words.clear()
    found = []
    for word in text.split(" "):
        masked = _masked_words.get(word)
        if masked is None:
            if _LONG_HEX.match(word) and not word.isdigit():  # ids, of which each is new
                masked = "<hex>"
            else:
                masked = _masked_words[word] = _MASK.sub(_stand_in, word)
        found.append(masked)
    return " ".join(found)


def _stand_in(found: re.Match[str]) -> str:
    return _STAND_INS[found.lastgroup or "number"]


def first_line(message: str) -> str:
    """Return the first line of a message that says something, bounded."""
    head = message[:MAX_FIRST_LINE]
    if "\n" not in head and "\r" not in head:
        return head.strip()  # the way of nearly every message
    for line in message[:4_000].splitlines():
        if stripped := line.strip():
            return stripped[:MAX_FIRST_LINE]
    return ""


def bare(type_name: str) -> str:
    """Return the last part of a qualified type name: text sources print no more."""
    return type_name.rpartition(".")[2]


class Landmarks(NamedTuple):
    """The frames of one error that a signature may name: the deepest of the application, of the tests, and of all."""

    app: Frame | None
    test: Frame | None
    last: Frame | None


def landmarks(frames: Sequence[Frame]) -> Landmarks:
    """Return the landmarks among the frames of one error."""
    app = next((frame for frame in reversed(frames) if frame.origin == "app"), None)
    test = next((frame for frame in reversed(frames) if frame.origin == "test"), None)
    return Landmarks(app, test, frames[-1] if frames else None)


def named_frame(marks: Sequence[Landmarks]) -> Frame | None:
    """Return the frame that a failure is named after, from the landmarks of its errors, the raised one first.

    The application's deepest frame of the first error that has one, else the tests', else the deepest of all.
    """
    for kind in range(3):
        for error in marks:
            found: Frame | None = error[kind]
            if found is not None:
                return found
    return None


def own_frame(errors: Sequence[Error]) -> Frame | None:
    """Return the deepest application frame of the raised error or, failing that, of what it was caused by."""
    return next((mark.app for mark in (landmarks(error.frames) for error in errors) if mark.app is not None), None)


def place(errors: Sequence[Error]) -> Frame | None:
    """Return the frame that a failure is named after."""
    return named_frame([landmarks(error.frames) for error in errors])


class Raised(Protocol):
    """What a signature reads of an error beside its frames."""

    @property
    def type(self) -> str: ...
    @property
    def message(self) -> str: ...
    @property
    def link(self) -> str: ...
    @property
    def parent(self) -> int: ...


R = TypeVar("R", bound=Raised)


def server_named(message: str) -> str:
    """Return the `host:port` that a message names, "" where it names none or only a port that changes from run to run."""
    found = _ADDRESS.search(message[:MAX_FIRST_LINE])
    return f"{found[1]}:{found[2]}" if found and int(found[2]) < FIRST_EPHEMERAL_PORT else ""


def root_cause(errors: Sequence[R]) -> R:
    """Return the error at the end of the chain of explicit causes that starts at the raised one."""
    current, index = errors[0], 0
    for position, error in enumerate(errors):
        if error.link == "cause" and error.parent == index:
            current, index = error, position
    return current


def key(failure: Failure) -> Key:
    """Return the parts of the failure's signature."""
    return key_of(failure.phase, failure.errors, [landmarks(error.frames) for error in failure.errors], failure.text)


def key_of(phase: str, errors: Sequence[Raised], marks: Sequence[Landmarks], text: str) -> Key:
    """Return the parts of a signature from errors and their landmarks."""
    if not errors:
        return Key(phase, "", "", mask(first_line(text)))
    raised, root = errors[0], root_cause(errors)
    frame = named_frame(marks)
    kind, message = bare(raised.type), mask(first_line(raised.message))
    if "onnect" in message and (server := server_named(raised.message)):
        message += f" [{server}]"
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
