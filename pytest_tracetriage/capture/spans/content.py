"""What went into a call and came out of it, as JSON that is bounded and holds no secret.

A value is written whole where it is small and clean. Otherwise it is cut where it is long, wide or deep, ever more, until
it fits; what comes out is valid JSON in any case. Of an OpenTelemetry span its attributes and events tell: names of the
semantic conventions for generative AI, of those that they replaced, of OpenLLMetry and of OpenInference.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import msgspec

from pytest_tracetriage.redact import looks_secret

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from pytest_tracetriage.redact import Redactor

    Events = Sequence[tuple[str, Mapping[str, Any]]]


LIMIT = 4096
"""Bytes of JSON that are kept of one value."""
_CUTS = ((2_000, 64, 12), (400, 24, 8), (80, 12, 6), (24, 6, 4))
"""Characters of a string, items of a list or mapping, and depth that are left, from the mildest cut to the last."""
_OVERLAP = 8_192
"""Characters behind a cut that are looked at before it is made: half a secret would not be known as one."""
_ADDRESS = re.compile(rb" at 0x[0-9a-fA-F]+")
_SECRET_KEY = re.compile(r'(?i)(?:key|secret|token|pass|pwd|credential|auth|bearer|session|dsn|connection|pat)[^"\n]{0,40}":')


def _known(value: Any) -> Any:
    """Return what derives from a type of JSON as that, a pydantic model as a mapping, everything else as its `repr`."""
    kinds: tuple[Any, ...] = (str, int, float, dict, list, tuple)
    for kind in kinds:
        if isinstance(value, kind):
            return kind(value)
    dump = getattr(value, "model_dump", None)
    return dump(mode="json") if dump is not None else _text(value)


_encode = msgspec.json.Encoder(enc_hook=_known, order="deterministic").encode
_secret = lru_cache(maxsize=1024)(looks_secret)


def encoded(value: Any) -> bytes:
    """Return `value` as JSON with its keys in order; what JSON does not know stands there as its `repr`."""
    try:
        return _encode(value)
    except Exception:
        return _encode(_plain(value, 0))


def digest(redactor: Redactor, name: str, data: bytes) -> str:
    """Return the hash of a call: its name and its inputs, in which addresses in memory do not count."""
    return redactor.digest(name.encode("utf-8", "replace") + b"\0" + _ADDRESS.sub(b"", data))


def kept(redactor: Redactor, value: Any, data: bytes) -> str:
    """Return of `value`, whose JSON is `data`, what may be written: at most LIMIT bytes of JSON, redacted."""
    if len(data) <= LIMIT:
        text = data.decode()
        if redactor.is_clean(text) and _SECRET_KEY.search(text) is None:
            return text
    return _fitted(lambda longest, widest, deepest: _cut(redactor, value, longest, widest, deepest))


def shape(value: Any) -> str:
    """Return what `value` looks like with no text of its own in it: types and sizes, under the names of its fields."""
    return _fitted(lambda _longest, widest, deepest: _shape(value, widest, deepest))


def _fitted(cut: Callable[[int, int, int], Any]) -> str:
    data = b""
    for longest, widest, deepest in _CUTS:
        data = encoded(cut(longest, widest, deepest))
        if len(data) <= LIMIT:
            return data.decode()
    return encoded(f"{len(data)} bytes").decode()


def _cut(redactor: Redactor, value: Any, longest: int, widest: int, depth: int) -> Any:
    if isinstance(value, str):
        clean = redactor(value[: longest + _OVERLAP])
        return clean if len(clean) <= longest else f"{clean[:longest]}… ({len(value)} characters)"
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, dict):
        if not depth:
            return f"{{{len(value)}}}"
        found: dict[str, Any] = {}
        for key, item in list(value.items())[:widest]:
            name = redactor(str(key)[: longest + _OVERLAP])[:longest]
            if isinstance(key, str) and isinstance(item, str) and _secret(key):
                found[name] = redactor.stand_in(item)
            else:
                found[name] = _cut(redactor, item, longest, widest, depth - 1)
        if len(value) > widest:
            found["…"] = f"{len(value) - widest} more"
        return found
    if isinstance(value, list | tuple | set | frozenset):
        if not depth:
            return f"[{len(value)}]"
        items = [_cut(redactor, item, longest, widest, depth - 1) for item in list(value)[:widest]]
        return [*items, f"… {len(value) - widest} more"] if len(value) > widest else items
    return _cut(redactor, _text(value), longest, widest, depth)


def _shape(value: Any, widest: int, depth: int) -> Any:
    if isinstance(value, str):
        return f"text({len(value)})"
    if isinstance(value, dict):
        if not depth:
            return f"{{{len(value)}}}"
        names = list(value.items())[:widest]
        found = {_field(key, number): _shape(item, widest, depth - 1) for number, (key, item) in enumerate(names)}
        return {**found, "…": len(value) - widest} if len(value) > widest else found
    if isinstance(value, list | tuple | set | frozenset):
        return [_shape(item, widest, depth - 1) for item in list(value)[:widest]] if depth else f"[{len(value)}]"
    if value is None or isinstance(value, bool):
        return value
    return type(value).__name__


def _field(key: object, number: int) -> str:
    """Return a key that is a field's name; a key that is content (a question, an address) is not kept."""
    return key if isinstance(key, str) and key.isidentifier() and len(key) <= 64 else f"key{number}"


def _plain(value: Any, depth: int) -> Any:
    """Return `value` as JSON can hold it: no keys but text, no surrogates, nothing that stands inside itself."""
    if depth > 32:
        return "…"
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    if value is None or isinstance(value, bool | int | float):
        return value if not isinstance(value, int) or abs(value) < 2**63 else str(value)
    if isinstance(value, dict):
        return {_plain(str(key), depth): _plain(item, depth + 1) for key, item in list(value.items())}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(item, depth + 1) for item in list(value)]
    return _plain(_text(value), depth)


def _text(value: Any) -> str:
    try:
        return repr(value)
    except Exception as error:
        return f"<{type(value).__name__}, whose repr raised {type(error).__name__}>"


MAX_TEXT = 500
MAX_PARTS = 1_000
_INPUTS = (
    "gen_ai.input.messages",
    "gen_ai.tool.call.arguments",
    "gen_ai.prompt",
    "input.value",
    "traceloop.entity.input",
)
_OUTPUTS = (
    "gen_ai.output.messages",
    "gen_ai.tool.call.result",
    "gen_ai.completion",
    "output.value",
    "traceloop.entity.output",
)
_SYSTEM = "gen_ai.system_instructions"
_INPUT_PARTS = ("gen_ai.prompt.", "llm.input_messages.")
_OUTPUT_PARTS = ("gen_ai.completion.", "llm.output_messages.")
_INPUT_EVENTS = frozenset({"gen_ai.system.message", "gen_ai.user.message", "gen_ai.assistant.message", "gen_ai.tool.message"})
_OUTPUT_EVENTS = frozenset({"gen_ai.choice"})
_COUNTS = ("gen_ai.usage.", "llm.token_count.", "llm.usage.")
# Words of a vocabulary, not of people: they stay where texts are dropped.
_WORDS = frozenset(
    {
        "error.type",
        "gen_ai.agent.name",
        "gen_ai.operation.name",
        "gen_ai.provider.name",
        "gen_ai.request.model",
        "gen_ai.response.finish_reasons",
        "gen_ai.response.model",
        "gen_ai.system",
        "gen_ai.tool.name",
        "http.request.method",
        "llm.model_name",
        "llm.provider",
        "llm.request.type",
        "openinference.span.kind",
        "traceloop.span.kind",
    }
)


def inputs(attributes: Mapping[str, Any], events: Events) -> Any:
    """Return what went in, parsed where it is JSON; None where a span does not say."""
    given = _first(attributes, events, _INPUTS, _INPUT_PARTS, _INPUT_EVENTS)
    system = attributes.get(_SYSTEM)
    if system is None:
        return given
    return {"system": _parsed(system), "messages": given}


def output(attributes: Mapping[str, Any], events: Events) -> Any:
    """Return what came out, parsed where it is JSON; None where a span does not say."""
    return _first(attributes, events, _OUTPUTS, _OUTPUT_PARTS, _OUTPUT_EVENTS)


def rest(attributes: Mapping[str, Any], *, content: bool) -> dict[str, str]:
    """Return the attributes that are neither inputs, output nor usage, as text; without `content` texts are shapes."""
    skipped = (*_COUNTS, *_INPUT_PARTS, *_OUTPUT_PARTS)
    found = {}
    for key, value in attributes.items():
        if key == _SYSTEM or key in _INPUTS or key in _OUTPUTS or key.startswith(skipped):
            continue
        if not content and key not in _WORDS and not isinstance(value, (bool, int, float)):
            text = shape(value)
        else:
            text = value if isinstance(value, str) else str(list(value) if isinstance(value, tuple) else value)
        found[key] = text[:MAX_TEXT]
    return found


def _first(
    attributes: Mapping[str, Any], events: Events, names: Iterable[str], parts: Iterable[str], wanted: frozenset[str]
) -> Any:
    """Return the first that there is: an attribute, numbered attributes, an event's attribute, events that are messages."""
    for given in (attributes, *(event for _, event in events)):
        for name in names:
            if (value := given.get(name)) is not None:
                return _parsed(value)
        for prefix in parts:
            if found := _numbered(given, prefix):
                return found
    return [{"role": name.split(".")[1], **event} for name, event in events if name in wanted][:MAX_PARTS] or None


def _numbered(attributes: Mapping[str, Any], prefix: str) -> list[dict[str, Any]]:
    """Return `[{"role": "user", "content": "Hi"}]` for `gen_ai.prompt.0.role` and `gen_ai.prompt.0.content`."""
    found: dict[int, dict[str, Any]] = {}
    for key, value in attributes.items():
        number, _, field = key[len(prefix) :].partition(".") if key.startswith(prefix) else ("", "", "")
        if field and number.isascii() and number.isdigit() and len(number) < 7 and len(found) < MAX_PARTS:
            found.setdefault(int(number), {})[field.removeprefix("message.")] = value
    return [found[number] for number in sorted(found)]


def _parsed(value: Any) -> Any:
    if isinstance(value, str) and value[:1] in {"{", "["}:
        try:
            return msgspec.json.decode(value)
        except (msgspec.DecodeError, UnicodeEncodeError, RecursionError):
            return value
    return value
