"""TraceTriage: from a red pytest run to a handful of root causes.

`step`, `span` and `metric` record what an agent did, what it called and what was measured, from inside a test or the code under
test; everything else is used through `pytest --tracetriage` and the `tracetriage` command.
"""

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_tracetriage.capture.spans.manual import metric, span
    from pytest_tracetriage.capture.steps import step

__all__ = ["metric", "span", "step"]
__version__ = "0.1.0"

# pytest marks a plugin's whole distribution for assertion rewriting, which compiles each module anew wherever bytecode
# cannot be cached: most of what an idle plugin would cost. There is nothing to rewrite here, so the mark is taken back.
for _finder in sys.meta_path:
    _marked = getattr(_finder, "_must_rewrite", None)
    if isinstance(_marked, set):
        _marked.discard("pytest_tracetriage")


def __getattr__(name: str) -> object:
    # PEP 562: an idle pytest imports this package on its way to the plugin and must not pay for the rest.
    if name == "step":
        from pytest_tracetriage.capture.steps import step  # noqa: PLC0415

        return step
    if name == "span":
        from pytest_tracetriage.capture.spans.manual import span  # noqa: PLC0415

        return span
    if name == "metric":
        from pytest_tracetriage.capture.spans.manual import metric  # noqa: PLC0415

        return metric
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
