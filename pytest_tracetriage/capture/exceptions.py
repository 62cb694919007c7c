"""A live exception as a `Failure`: chain, groups, notes and frames, cycle-safe and bounded.

The walk follows what `traceback.TracebackException` follows. Nothing is rendered and no variable is looked at, so it costs
some tens of microseconds where pytest's own rendering costs milliseconds.
"""

from __future__ import annotations

import hashlib
import linecache
import re
from typing import TYPE_CHECKING, Any

import msgspec

from pytest_tracetriage.model.trace import Error, Failure, Frame, Source

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import CodeType, FunctionType, TracebackType

    from pytest_tracetriage.model.trace import FailurePhase, Origin
    from pytest_tracetriage.redact import Redactor

MAX_ERRORS = 20
MAX_FRAMES = 50
MAX_MESSAGE = 20_000
MAX_MEMBERS = 10
MAX_SOURCE_LINES = 400

_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_HIDE = "__tracebackhide__"
_RUNNER_PARTS = (
    "/_pytest/",
    "/pluggy/",
    "/unittest/case.py",
    "/unittest/mock.py",
    "/pytest_asyncio/",
    "/xdist/",
    "/asyncio/",
    "/pytest/__main__.py",
)


def bounded(text: str, limit: int = MAX_MESSAGE) -> str:
    """Return `text` cut in its middle to about `limit` characters, saying how much is missing."""
    if len(text) <= limit:
        return text
    tail = limit // 4
    return f"{text[: limit - tail]}\n… [{len(text) - limit} characters left out] …\n{text[-tail:]}"


class ExceptionWalker:
    """Turns exceptions into failures, redacted. Remembers code objects, since the same functions fail again and again.

    `locate` names a file and tells its origin; `keep_source` is given each function's source once.
    """

    def __init__(
        self,
        locate: Callable[[str], tuple[str, Origin]],
        keep_source: Callable[[Source], None],
        redactor: Redactor,
    ) -> None:
        self._locate = locate
        self._redact = redactor
        self._learned = redactor.learned
        self._keep_source = keep_source
        self._code: dict[CodeType, tuple[str, Origin, str, str, bool]] = {}
        self._lines: dict[tuple[CodeType, int], Frame] = {}

    def failure(self, exc: BaseException, phase: FailurePhase, tb: TracebackType | None = None) -> Failure:
        """Return the failure that `exc` stands for; `tb` replaces its own traceback where pytest knows better."""
        if self._learned != self._redact.learned:  # a secret learned since may stand in a line that is remembered
            self._learned = self._redact.learned
            self._code.clear()
            self._lines.clear()
        errors: list[Error] = []
        seen: set[int] = set()
        # (exception, link, parent); a stack, so that each error is followed by what it was caused by
        todo: list[tuple[BaseException, Any, int]] = [(exc, "raised", -1)]
        while todo and len(errors) < MAX_ERRORS:
            error, link, parent = todo.pop()
            if id(error) in seen:
                continue
            seen.add(id(error))
            index = len(errors)
            traceback = tb if index == 0 and tb is not None else error.__traceback__
            frames, omitted = self._frames(traceback)
            errors.append(
                Error(
                    type=self._redact(type_name(type(error))),
                    message=self._redact(bounded(safe_str(error))),
                    frames=frames,
                    link=link,
                    parent=parent,
                    notes=tuple(map(self._redact, _notes(error))),
                    omitted=omitted,
                )
            )
            members = _members(error)
            if members:
                todo += [(m, "member", index) for m in reversed(members[:MAX_MEMBERS]) if isinstance(m, BaseException)]
            if error.__cause__ is not None:
                todo.append((error.__cause__, "cause", index))
            elif error.__context__ is not None and not error.__suppress_context__:
                todo.append((error.__context__, "context", index))
        return Failure(phase=phase, errors=tuple(errors))

    def stack(self, frame: Any, phase: FailurePhase, kind: str, message: str) -> Failure:
        """Return a failure that stands where a running thread stands: `frame` is its innermost frame object."""
        places: list[tuple[CodeType, int]] = []
        while frame is not None and len(places) < 10 * MAX_FRAMES:
            places.append((frame.f_code, frame.f_lineno))
            frame = frame.f_back
        frames, omitted = self._describe(places[::-1])
        return Failure(phase=phase, errors=(Error(type=kind, message=message, frames=frames, omitted=omitted),))

    def definition(self, function: FunctionType) -> Frame:
        """Return where a function is defined, as a frame at its first line."""
        frame = self._frame(function.__code__, function.__code__.co_firstlineno)
        return msgspec.structs.replace(frame, qualname=self._redact(function.__qualname__))

    def _frames(self, tb: TracebackType | None) -> tuple[tuple[Frame, ...], int]:
        places: list[tuple[CodeType, int]] = []
        steps = 0
        while tb is not None and steps < 100_000:
            code = tb.tb_frame.f_code
            if not (_HIDE in code.co_varnames or _HIDE in tb.tb_frame.f_globals) or not _hidden(tb):
                places.append((code, tb.tb_lineno if tb.tb_lineno is not None else code.co_firstlineno))
            tb = tb.tb_next
            steps += 1
        return self._describe(places)

    def _describe(self, places: list[tuple[CodeType, int]]) -> tuple[tuple[Frame, ...], int]:
        places = places[self._below_runner(places) :]
        omitted = max(0, len(places) - MAX_FRAMES)
        if omitted:
            head = MAX_FRAMES // 2
            places = places[:head] + places[head + omitted :]
        return tuple(self._frame(code, line) for code, line in places), omitted

    def _below_runner(self, places: list[tuple[CodeType, int]]) -> int:
        """Return where the test begins: the frames of its runner above it are the same in every failure."""
        runner = -1
        for index, (code, _) in enumerate(places[:-1]):
            known = self._known(code)
            if known[4]:
                runner = index
            elif known[1] == "test" or (known[1] == "app" and runner >= 0):
                break
        return runner + 1

    def _frame(self, code: CodeType, line: int) -> Frame:
        frame = self._lines.get((code, line))
        if frame is None:
            file, origin, qualname, source, _ = self._known(code)
            frame = Frame(
                file=self._redact(file),
                function=code.co_name,
                line=line,
                origin=origin,
                code=self._redact(linecache.getline(code.co_filename, line).strip()[:500]),
                qualname=qualname if qualname != code.co_name else "",
                source=source,
            )
            if len(self._lines) >= 20_000:  # code made by exec in every test must not fill the memory
                self._lines.clear()
            self._lines[code, line] = frame
        return frame

    def _known(self, code: CodeType) -> tuple[str, Origin, str, str, bool]:
        known = self._code.get(code)
        if known is None:
            file, origin = self._locate(code.co_filename)
            name = code.co_filename.replace("\\", "/")
            runner = origin not in {"test", "app"} and any(part in name for part in _RUNNER_PARTS)
            source = "" if runner else self._source(code, file)
            known = (file, origin, getattr(code, "co_qualname", ""), source, runner)
            if len(self._code) >= 20_000:
                self._code.clear()
            self._code[code] = known
        return known

    def _source(self, code: CodeType, file: str) -> str:
        text = function_source(code)
        if not text:
            return ""
        key = hashlib.sha256(
            f"{file}:{code.co_firstlineno}:{code.co_name}\n{text}".encode("utf-8", "surrogatepass")
        ).hexdigest()[:16]
        self._keep_source(Source(id=key, file=file, function=code.co_name, line=code.co_firstlineno, text=text))
        return key


def function_source(code: CodeType) -> str:
    """Return the source lines of a function, "" where the file cannot be read.

    Taken from the line table instead of the tokenizer (`inspect.getblock`), which would cost milliseconds a function.
    """
    first, last = code.co_firstlineno, _last_line(code)
    lines = linecache.getlines(code.co_filename)
    if code.co_name == "<module>" or not lines or first < 1:
        return ""
    return "".join(lines[first - 1 : min(last, first + MAX_SOURCE_LINES)])


def _last_line(code: CodeType) -> int:
    positions = getattr(code, "co_positions", None)
    if positions is not None:
        last = max((end or 0 for _, end, _, _ in positions()), default=0)
    else:
        last = max((line or 0 for _, _, line in code.co_lines()), default=0)
    nested = [_last_line(const) for const in code.co_consts if hasattr(const, "co_firstlineno")]
    return max(last, code.co_firstlineno, *nested)


def _hidden(tb: TracebackType) -> bool:
    frame = tb.tb_frame
    mark = frame.f_locals.get(_HIDE, frame.f_globals.get(_HIDE, False))
    # pytest calls a callable mark with its ExceptionInfo; to us it marks a helper either way
    return bool(mark)


def type_name(kind: type[BaseException]) -> str:
    """Return the qualified name of an exception type, without `builtins.`."""
    module, name = kind.__module__, kind.__qualname__
    return name if module in {"builtins", "__main__"} or not isinstance(module, str) else f"{module}.{name}"


def safe_str(value: object) -> str:
    """Return `str(value)` without colours, or what can be said when that raises."""
    try:
        text = str(value)
        return _COLOUR.sub("", text) if "\x1b" in text else text  # pytest colours the differences that it explains
    except BaseException as error:
        return f"<str() of {type(value).__name__} raised {type(error).__name__}>"


def safe_repr(value: object, limit: int = 240) -> str:
    """Return a bounded `repr(value)`; containers are cut before they are rendered."""
    import reprlib  # noqa: PLC0415

    shortener = reprlib.Repr()
    shortener.maxstring = shortener.maxother = limit
    shortener.maxlist = shortener.maxdict = shortener.maxtuple = shortener.maxset = 8
    try:
        return shortener.repr(value)[: 2 * limit]
    except BaseException as error:
        return f"<repr() of {type(value).__name__} raised {type(error).__name__}>"


def _notes(exc: BaseException) -> tuple[str, ...]:
    try:
        notes = getattr(exc, "__notes__", None)
    except Exception:
        return ()
    if not isinstance(notes, list | tuple):
        return ()
    return tuple(bounded(safe_str(note), 2_000) for note in notes[:10])


def _members(exc: BaseException) -> tuple[Any, ...]:
    if not _is_group(exc):
        return ()
    members = getattr(exc, "exceptions", ())
    return members if isinstance(members, tuple) else ()


def _is_group(exc: BaseException) -> bool:
    return any(kind.__name__ == "BaseExceptionGroup" for kind in type(exc).__mro__)
