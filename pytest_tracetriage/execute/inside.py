"""The plugin inside a pytest that runs tests again (`-p pytest_tracetriage.execute.inside`).

It leaves out what would spoil a rerun, makes modules come from the worktree and tells which did not, and sees to the order.
What it has to do stands in the file that the environment variable `TRACETRIAGE_AGAIN` names.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from pytest_tracetriage.execute.environment import lead_into, modules_from_elsewhere
from pytest_tracetriage.model.execution import Again, Note

if TYPE_CHECKING:
    import argparse
    from collections.abc import Generator

AGAIN = "TRACETRIAGE_AGAIN"

_SPOILERS: tuple[tuple[str, Any, str], ...] = (
    ("maxfail", 0, "-x/--maxfail"),
    ("lf", False, "--lf"),
    ("failedfirst", False, "--ff"),
    ("newfirst", False, "--nf"),
    ("stepwise", False, "--sw"),
    ("stepwise_skip", False, "--sw-skip"),
    ("usepdb", False, "--pdb"),
    ("trace", False, "--trace"),
    ("basetemp", None, "--basetemp"),
    ("cov_fail_under", None, "--cov-fail-under"),
    ("cov_report", {}, "--cov-report"),
    ("xmlpath", None, "--junitxml"),
    ("report_log", None, "--report-log"),
    ("htmlpath", None, "--html"),
    ("json_report", False, "--json-report"),
    ("allure_report_dir", None, "--alluredir"),
    ("ctrf", None, "--ctrf"),
    ("looponfail", False, "--looponfail"),
)
"""Where an option lies in pytest's options, what it is when it is off, and what people call it."""
_MEASURING: tuple[tuple[str, Any, str], ...] = (("cov_source", [], "--cov"),)
"""Where coverage is recorded: pytest-cov would lose what forked children run, and measures a part of the project only."""
_CHOOSING = (("keyword", "", "-k"), ("markexpr", "", "-m"))
_RERUNNING = ("rerunfailures", "pytest_rerunfailures", "flaky", "flaky.flaky_pytest_plugin", "pytest-retry", "pytest_retry")
_SHUFFLING = ("randomly", "pytest_randomly", "random_order", "random_order.plugin", "pytest_reverse")


def pytest_addoption(pluginmanager: pytest.PytestPluginManager) -> None:
    """Read what is to be done, before anything of the project is imported."""
    again = msgspec.json.decode(Path(os.environ[AGAIN]).read_bytes(), type=Again)
    lead_into(Path(again.tree), Path(again.original))
    pluginmanager.register(Inside(again), "tracetriage-inside")


class Inside:
    """The hooks."""

    def __init__(self, again: Again) -> None:
        self.again = again
        self._neutralised: dict[str, None] = {}
        self._rerunning = False
        self._told = Note()
        self._seen: set[str] = set()

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_load_initial_conftests(self, early_config: pytest.Config) -> Generator[None]:
        """Leave out what spoils a rerun before pytest-cov looks at it: a wrapper comes first."""
        self._neutralise(early_config.known_args_namespace)
        self._processes(early_config.known_args_namespace)
        return (yield)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_cmdline_main(self, config: pytest.Config) -> Generator[None, Any, Any]:
        """Leave it out again, since the command line was read once more, and pytest-cov took a limit from its own file."""
        self._neutralise(config.known_args_namespace)
        self._neutralise(config.option)
        if not hasattr(config, "workerinput"):
            self._processes(config.option)
        manager = config.pluginmanager
        for name in _RERUNNING:
            if manager.hasplugin(name):
                manager.unregister(name=name)
                config.addinivalue_line("markers", "flaky: run again where it fails; not now")
                self._rerunning = True
        if self.again.fork:
            from pytest_tracetriage.execute.selection import Orders  # noqa: PLC0415

            manager.register(Orders(self.again, self.tell), "tracetriage-orders")
        return (yield)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> Generator[None]:
        """Undo what shuffles, and put the tests in the order that was asked for."""
        collected = {item: number for number, item in enumerate(items)}
        yield
        if any(config.pluginmanager.hasplugin(name) for name in _SHUFFLING):
            items.sort(key=lambda item: collected.get(item, len(collected)))
            self._neutralised["random order"] = None
        if self._rerunning and (_global_reruns(config) or any(item.get_closest_marker("flaky") for item in items)):
            self._neutralised["reruns of what fails"] = None
        if self.again.orders and not self.again.fork:
            selection: Any = config.pluginmanager.get_plugin("tracetriage-selection")
            items[:] = selection.in_order(self.again.orders[0])

    @pytest.hookimpl(trylast=True)
    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Tell now what is known: the process may not come to its end."""
        self.tell(_name(session.config), session.config)

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Tell what was imported since."""
        self.tell(_name(session.config), session.config)

    def tell(self, process: str, config: pytest.Config, notes: tuple[str, ...] = ()) -> None:
        """Write what there is to tell of this process, where it is news."""
        again = self.again
        fresh = {name: module for name, module in list(sys.modules.items()) if name not in self._seen}
        self._seen.update(fresh)
        files = {name: file for name, module in fresh.items() if isinstance(file := getattr(module, "__file__", None), str)}
        found = self._told.elsewhere
        if files:
            place = {"tree": Path(again.tree), "original": Path(again.original)}
            found = (*found, *modules_from_elsewhere(files, roots=again.roots, **place))
        selection = config.pluginmanager.get_plugin("tracetriage-selection")
        missing = tuple(selection.missing) if selection is not None else ()
        told = Note(found[:50], tuple(self._neutralised), missing, (*self._told.notes, *notes))
        path = Path(again.notes) / f"{process}.json"
        if told != self._told or process == "main":
            self._told = told
            path.write_bytes(msgspec.json.encode(told))

    def _neutralise(self, options: argparse.Namespace) -> None:
        again = self.again
        more = (
            *(_CHOOSING if again.selected else ()),
            *(_MEASURING if getattr(options, "tracetriage_coverage", False) else ()),
        )
        for name, off, called in (*_SPOILERS, *more):
            if hasattr(options, name) and getattr(options, name) != off:
                if getattr(options, name):
                    self._neutralised[called] = None
                setattr(options, name, off)
        if again.orders and getattr(options, "forked", False):
            options.forked = False

    def _processes(self, options: argparse.Namespace) -> None:
        """Let xdist have as many workers as were asked for."""
        again = self.again
        if getattr(options, "numprocesses", None) not in (None, again.workers):
            self._neutralised["-n"] = None
        if hasattr(options, "numprocesses"):
            options.numprocesses = again.workers
            if not again.workers:
                options.dist, options.tx, options.distload = "no", [], False


def _global_reruns(config: pytest.Config) -> bool:
    options = [getattr(config.option, name, None) for name in ("reruns", "force_reruns", "force_flaky", "retries")]
    try:
        options.append(config.getini("reruns"))
    except (KeyError, ValueError):
        pass
    return any(options)


def _name(config: pytest.Config) -> str:
    worker: dict[str, Any] = getattr(config, "workerinput", {})
    return str(worker.get("workerid", "main"))
