"""pytest's entry point. An idle pytest pays for this module and for hookspecs only.

What is switched on is put together in `composition`, which is imported only then.
"""

import os

from pytest_tracetriage import hookspecs

SETTINGS = ("dir", "keep_runs", "traceback", "plugins", "history", "history_after_run", "leg")


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
    parser.addini("tracetriage", "record every run (the same as --tracetriage)", type="bool", default=False)
    for name in SETTINGS:
        parser.addini(f"tracetriage_{name}", f"TraceTriage's setting {name}", default=None)


def pytest_configure(config):  # type: ignore[no-untyped-def]
    """Switch on, where asked to."""
    option = config.option
    recording = option.tracetriage or option.tracetriage_rerun
    if not recording:
        word = os.environ.get("TRACETRIAGE")
        recording = config.getini("tracetriage") if word is None else word.lower() in {"1", "true", "yes", "on"}
    if recording or option.tracetriage_select:
        from pytest_tracetriage.composition import switch_on  # noqa: PLC0415

        switch_on(config, recording=bool(recording))
