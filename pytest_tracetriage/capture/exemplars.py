"""Which tracebacks pytest renders: the first failure of each signature, or all.

Rendering is most of the time of a failing run, and the hundredth copy of a traceback tells nothing. Where nobody else reads
the text, a repeated failure gets one line that points to the first; its record holds all that is needed to render it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest

    from pytest_tracetriage.model.trace import Failure

HARMLESS = (
    "_pytest", "anyio", "hypothesis", "_hypothesis_pytestplugin", "pytest_asyncio", "pytest_benchmark", "pytest_cov", "pytest_forked",
    "pytest_mock", "pytest_randomly", "pytest_rerunfailures", "pytest_socket", "pytest_subtests", "pytest_timeout",
    "pytest_tracetriage", "pytest_xdist", "xdist",
)  # fmt: skip
"""Plugins whose report hooks are known not to read the traceback's text."""

SIGNATURE_ATTRIBUTE = "tracetriage_signature"
"""Where a report carries the signature of its failure."""

_REPORT_HOOKS = ("pytest_runtest_makereport", "pytest_runtest_logreport", "pytest_exception_interact")
_SHADOWED = ("repr_failure", "_repr_failure_py")


class Exemplars:
    """Decides for each failure whether pytest renders it, and keeps it from doing so."""

    def __init__(
        self, config: pytest.Config, mode: str, signature: Callable[[Failure], str], *, forced_all: bool = False
    ) -> None:
        self.signature = signature
        self._config = config
        self._mode = "all" if forced_all else mode
        self._saving: bool | None = None
        self._first: dict[str, str] = {}
        self._shadowing = False

    def saving(self) -> bool:
        """Return whether repeated tracebacks are left out. Asked late: conftest files are loaded during collection."""
        if self._saving is None:
            self._saving = self._mode == "exemplar" or (self._mode == "auto" and not reader_of_tracebacks(self._config))
        return self._saving

    def shadow(self, item: Any, failure: Failure, excinfo: pytest.ExceptionInfo[BaseException]) -> str:
        """Return the failure's signature; if it was rendered before, keep pytest from rendering it again."""
        signature = self.signature(failure)
        first = self._first.get(signature)
        if first is None or not self.saving() or not _renders_as_usual(item) or item.get_closest_marker("xfail"):
            return signature
        pointer = _pointer(excinfo, failure, first)
        for name in _SHADOWED:
            item.__dict__[name] = lambda *_args, **_kwargs: pointer
        self._shadowing = True
        return signature

    def unshadow(self, item: Any) -> None:
        """Undo `shadow`."""
        if self._shadowing:
            for name in _SHADOWED:
                item.__dict__.pop(name, None)
            self._shadowing = False

    def rendered(self, signature: str, nodeid: str) -> None:
        """Remember that the failure of `nodeid` was rendered for its signature."""
        self._first.setdefault(signature, nodeid)

    def forget(self, signature: str, nodeid: str) -> None:
        """Forget that: the rendering will not be shown."""
        if self._first.get(signature) == nodeid:
            del self._first[signature]


def reader_of_tracebacks(config: pytest.Config) -> str:
    """Return who wants every traceback (an option or a plugin), "" when nobody does."""
    option = config.option
    if getattr(option, "tbstyle", "auto") != "auto" or any(
        str(arg).startswith("--tb") for arg in config.invocation_params.args
    ):
        return "--tb"
    for name, label in (
        ("showlocals", "--showlocals"),
        ("fulltrace", "--full-trace"),
        ("usepdb", "--pdb"),
        ("trace", "--trace"),
        ("xmlpath", "--junitxml"),
        ("pastebin", "--pastebin"),
    ):
        if getattr(option, name, None):
            return label
    for hook in _REPORT_HOOKS:
        for implementation in getattr(config.hook, hook).get_hookimpls():
            module = getattr(implementation.function, "__module__", "") or ""
            if module.partition(".")[0] not in HARMLESS:
                return module or str(implementation.plugin_name)
    return ""


def _renders_as_usual(item: Any) -> bool:
    # An item with a rendering of its own (YAML tests and the like) knows better than we do, and is cheap.
    return all(getattr(type(item), name).__module__.startswith("_pytest.") for name in _SHADOWED)


def _pointer(excinfo: pytest.ExceptionInfo[BaseException], failure: Failure, first: str) -> Any:
    from _pytest._code.code import ExceptionChainRepr, ReprEntryNative, ReprFileLocation, ReprTraceback  # noqa: PLC0415 - the only types that cross xdist as tracebacks

    frames = failure.errors[0].frames if failure.errors else ()
    place = frames[-1] if frames else None
    crash = ReprFileLocation(place.file if place else "", place.line if place else 0, excinfo.exconly(tryshort=True))
    line = f"same failure as {first}; see it with: tracetriage show '<node id>'\n"
    return ExceptionChainRepr([(ReprTraceback([ReprEntryNative([line])], None, "native"), crash, None)])
