"""What pytest hands to `makereport`, as a `Failure`: exceptions of tests, unittest, doctest, fixtures and collection."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import msgspec

from pytest_tracetriage.capture.exceptions import ExceptionWalker, bounded, safe_str, type_name
from pytest_tracetriage.capture.setups import uncalled_setup
from pytest_tracetriage.model.trace import Error, Failure, Frame

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest

    from pytest_tracetriage.model.trace import FailurePhase, Origin, Outcome
    from pytest_tracetriage.redact import Redactor

FIXTURE_MARK = "__tracetriage_fixture__"
SIMPLE_PHASES: dict[str, Outcome] = {"setup": "error", "call": "failed", "teardown": "error"}
"""The phases of a test, and its outcome when one raises."""
TIMEOUT_MESSAGE = re.compile(r"Timeout \(?>\s?[\d.]+s\)?")


def excinfo_of(item: Any, call: pytest.CallInfo[Any]) -> pytest.ExceptionInfo[BaseException] | None:
    """Return what the call raised. unittest's exceptions stand on the item until pytest's own hook moves them."""
    waiting = getattr(item, "_excinfo", None)
    if waiting and call.when == "call":
        return waiting[0]  # type: ignore[no-any-return]
    return call.excinfo


def describe(
    walker: ExceptionWalker,
    redactor: Redactor,
    locate: Callable[[str], tuple[str, Origin]],
    node: Any,
    excinfo: pytest.ExceptionInfo[BaseException],
    phase: FailurePhase,
) -> Failure:
    """Return the failure of `node` in `phase`, redacted."""
    exc = excinfo.value
    name = type(exc).__name__
    if name in {"MultipleDoctestFailures", "DocTestFailure", "UnexpectedException"}:
        return redactor.struct(_doctest(walker, locate, node, exc, phase), Failure)
    if name == "FixtureLookupError":
        return redactor.struct(Failure(phase=phase, errors=(_fixture_lookup(locate, exc),)), Failure)
    if name == "CollectError" and exc.__cause__ is not None:
        # pytest wraps what broke an import in a text of its own; the cause is the failure.
        exc = exc.__cause__
        return walker.failure(exc, phase)
    if name == "ConftestImportFailure" and isinstance(getattr(exc, "cause", None), BaseException):
        return walker.failure(exc.cause, phase)  # type: ignore[attr-defined]
    failure = walker.failure(exc, phase, excinfo.tb)
    if fixture := getattr(exc, FIXTURE_MARK, ""):
        failure = msgspec.structs.replace(failure, fixture=fixture)
    setup = uncalled_setup(node, exc)
    return msgspec.structs.replace(failure, uncalled=walker.definition(setup)) if setup is not None else failure


def is_timeout(failure: Failure) -> bool:
    """Return whether pytest-timeout ended the test."""
    error = failure.errors[0]
    return error.type.rpartition(".")[2] in {"Failed", "Timeout"} and bool(TIMEOUT_MESSAGE.search(error.message[:200]))


def _fixture_lookup(locate: Callable[[str], tuple[str, Origin]], exc: Any) -> Error:
    message = safe_str(exc.msg) if getattr(exc, "msg", None) else f"fixture '{getattr(exc, 'argname', '?')}' not found"
    frames = []
    asked = getattr(getattr(exc, "request", None), "_pyfuncitem", None)
    for function in (getattr(asked, "obj", None), *getattr(exc, "fixturestack", ())[:5]):
        code = getattr(function, "__code__", None)
        if code is not None:
            file, origin = locate(code.co_filename)
            frames.append(Frame(file=file, function=code.co_name, line=code.co_firstlineno, origin=origin))
    return Error(type="FixtureLookupError", message=bounded(message), frames=tuple(frames))


def _doctest(
    walker: ExceptionWalker, locate: Callable[[str], tuple[str, Origin]], node: Any, exc: Any, phase: FailurePhase
) -> Failure:
    errors: list[Error] = []
    for failure in getattr(exc, "failures", None) or [exc]:
        test, example = failure.test, failure.example
        file, origin = locate(str(test.filename or node.path))
        line = (test.lineno or 0) + example.lineno + 1
        frame = Frame(file=file, function=test.name, line=line, origin=origin, code=example.source.strip()[:500])
        raised = getattr(failure, "exc_info", None)
        if raised is not None:
            inner = walker.failure(raised[1], phase, raised[2])
            offset = len(errors)
            for index, error in enumerate(inner.errors):
                head = index == 0
                frames = (frame, *error.frames) if head else error.frames
                parent = error.parent + offset if not head else (0 if offset else -1)
                link = error.link if not (head and offset) else "member"
                errors.append(msgspec.structs.replace(error, frames=frames, parent=parent, link=link))
            continue
        message = f"expected {example.want.strip()!r}, got {failure.got.strip()!r}"
        errors.append(
            Error(
                type=type_name(type(failure)),
                message=bounded(message),
                frames=(frame,),
                link="member" if errors else "raised",
                parent=0 if errors else -1,
            )
        )
    return Failure(phase=phase, errors=tuple(errors))


def crash(message: str) -> Failure:
    """Return the failure of a test whose process died."""
    return Failure(phase="call", errors=(Error(type="ProcessCrash", message=message),))
