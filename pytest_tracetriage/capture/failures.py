"""What pytest hands to `makereport`, as a `Failure`: exceptions of tests, unittest, doctest, fixtures and collection.

Since pytest 8 nose's `setup()` is not called any more: each test of such a class dies of another missing attribute, and
nothing in the errors says that they have one cause. Here, while class and module are at hand, it can be seen.
"""

from __future__ import annotations

import re
from types import CodeType, FunctionType, ModuleType
from typing import TYPE_CHECKING, Any

import msgspec

from pytest_tracetriage.capture.exceptions import ExceptionWalker, bounded, safe_str, type_name
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


SETUP = "setup"
_CALLED_INSTEAD = {"class": ("setup_method",), "module": ("setup_module", "setUpModule")}
_SETS_ANYTHING = {"setattr", "__dict__", "vars", "globals"}
_MAX_HELPERS = 50


def uncalled_setup(node: Any, exc: BaseException) -> FunctionType | None:
    """Return the `setup()` that would have set what `exc` misses on the test's instance or module, None where there is none."""
    if not isinstance(exc, AttributeError | NameError) or not isinstance(exc.name, str):
        return None
    kind: Any = getattr(node, "cls", None)
    module: Any = getattr(node, "module", None)
    if isinstance(exc, AttributeError):
        from unittest import TestCase  # noqa: PLC0415 - not for every run that records

        # The type is looked at, not the object: one under test may answer anything it is asked.
        if type(exc.obj) is kind and not issubclass(kind, TestCase):
            return _left_out(_members(kind), exc.name, _CALLED_INSTEAD["class"], arguments=1)
        of_module = isinstance(module, ModuleType) and exc.obj is module
    else:
        of_module = isinstance(module, ModuleType) and _raised_in(exc, module)
    return _left_out(vars(module), exc.name, _CALLED_INSTEAD["module"], arguments=0) if of_module else None


def _members(kind: type) -> dict[str, Any]:
    """Return what a class and its bases define, by name, without asking a descriptor."""
    return {name: value for base in reversed(kind.__mro__) for name, value in vars(base).items()}


def _raised_in(exc: BaseException, module: ModuleType) -> bool:
    tb = exc.__traceback__
    while tb is not None and tb.tb_next is not None:
        tb = tb.tb_next
    return tb is not None and tb.tb_frame.f_globals is vars(module)


def _left_out(members: dict[str, Any], missing: str, instead: tuple[str, ...], arguments: int) -> FunctionType | None:
    setup = members.get(SETUP)
    # A fixture of that name is called; a function that needs more arguments is somebody's helper.
    if not isinstance(setup, FunctionType) or hasattr(setup, "_pytestfixturefunction"):
        return None
    if setup.__code__.co_argcount - len(setup.__defaults__ or ()) > arguments or any(name in members for name in instead):
        return None
    return setup if _names(setup, members.get, missing) else None


def _names(setup: FunctionType, member: Callable[[str], Any], missing: str) -> bool:
    """Return whether a function, or a helper that it calls, speaks of what is missing."""
    todo: list[FunctionType] = [setup]
    met: set[CodeType] = set()
    while todo and len(met) < _MAX_HELPERS:
        function = todo.pop()
        if function.__code__ in met:
            continue
        met.add(function.__code__)
        names = function.__code__.co_names
        if missing in names or _SETS_ANYTHING.intersection(names):
            return True
        found = [value for name in names for value in (member(name), function.__globals__.get(name))]
        todo += [value for value in found if isinstance(value, FunctionType)]
    return False
