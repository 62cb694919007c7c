"""pytest's entry point. An idle pytest pays for this module and for hookspecs only.

What is switched on is put together in `composition`, which is imported only then.
"""

import os

from pytest_tracetriage import hookspecs

SETTINGS = ("dir", "keep_runs", "traceback", "plugins", "history", "history_after_run", "leg",
            "weave_project", "no_content", "components", "coverage")  # fmt: skip


def pytest_addhooks(pluginmanager):  # type: ignore[no-untyped-def]
    """Register the extension points always: a conftest that implements one must not break an idle run."""
    pluginmanager.add_hookspecs(hookspecs)


def pytest_addoption(parser):  # type: ignore[no-untyped-def]
    """Add the flags, and one ini entry per setting."""
    group = parser.getgroup("tracetriage", "root causes of failures (TraceTriage)")
    group.addoption("--tracetriage", action="store_true", help="record traces and print the root causes of failures")
    group.addoption(
        "--tracetriage-rerun",
        metavar="CLUSTER",
        help="run only a cluster's tests of the last runs; implies --tracetriage",
    )
    group.addoption("--tracetriage-select", metavar="FILE", help="run only the tests whose node ids stand in FILE, one a line")
    group.addoption(
        "--tracetriage-weave-project",
        metavar="ENTITY/PROJECT",
        help="send the traces to this project in Weave's cloud too",
    )
    group.addoption("--tracetriage-no-content", action="store_true", help="keep no text of what goes in and out of spans")
    group.addoption(
        "--tracetriage-coverage", action="store_true", help="record which lines each test runs; implies --tracetriage"
    )
    parser.addini("tracetriage", "record every run (the same as --tracetriage)", type="bool", default=False)
    for name in SETTINGS:
        parser.addini(f"tracetriage_{name}", f"TraceTriage's setting {name}", default=None)


def pytest_load_initial_conftests(early_config):  # type: ignore[no-untyped-def]
    """See a conftest import weave, or an SDK that it patches."""
    option = early_config.known_args_namespace
    if _recording(early_config, option) and not (option.help or option.version):
        from pytest_tracetriage.composition import watch_imports  # noqa: PLC0415

        watch_imports(early_config, option)


def pytest_configure(config):  # type: ignore[no-untyped-def]
    """Switch on, where asked to."""
    recording = _recording(config, config.option)
    if recording or config.option.tracetriage_select:
        from pytest_tracetriage.composition import switch_on  # noqa: PLC0415

        switch_on(config, recording=recording)


def _recording(config, option) -> bool:  # type: ignore[no-untyped-def]
    if option.tracetriage or option.tracetriage_rerun or option.tracetriage_coverage:
        return True
    word = os.environ.get("TRACETRIAGE")
    return bool(config.getini("tracetriage")) if word is None else word.lower() in {"1", "true", "yes", "on"}
