"""`metric("redis_hit_rate", 0.93)`: a figure that a test, or the code under test, logs; and the figures of a run for others."""

from __future__ import annotations

import math
import re
import time
from typing import TYPE_CHECKING

from pytest_tracetriage.capture.spans.sink import connected
from pytest_tracetriage.model.trace import Metric

if TYPE_CHECKING:
    from pytest_tracetriage.model.run import Run

NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,99}")
MAX_UNIT = 40


def metric(name: str, value: float, unit: str = "") -> None:
    """Log a figure of the running test, or of the run outside a test. Nothing happens when no recorder runs.

    Raises ValueError for a name other than 1 to 100 letters, digits, `_`, `.` and `-` that begin with a letter, for a value
    that is no finite number, and for a unit of more than 40 characters.
    """
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise ValueError(f"metric({name!r}): expected a name such as 'redis_hit_rate': letters, digits, '_', '.', '-'")
    figure = _number(value)
    if figure is None:
        raise ValueError(f"metric({name!r}, {value!r}): expected a finite number")
    if not isinstance(unit, str) or len(unit) > MAX_UNIT or not (unit == "" or unit.isprintable()):
        raise ValueError(f"metric({name!r}, unit={unit!r}): expected a unit such as 'ms', of at most {MAX_UNIT} characters")
    sink = connected()
    if sink is not None:
        sink.write_metric(Metric(name, figure, unit, sink.trace(), time.time()))


def _number(value: object) -> float | None:
    """Return a number as a float, None for what is none; numpy's numbers are numbers, text and booleans are not."""
    if isinstance(value, (bool, str, bytes, bytearray)):
        return None
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def cloud_metrics(run: Run) -> dict[str, float]:
    """Return a finished run's figures by name, its calls to models among them, for a service that draws them.

    `llm_cost` is US dollars, and is missing where a call has no price.
    """
    figures = {name: figure.value for name, figure in run.metrics.items()}
    if run.spent:
        figures["llm_calls"] = sum(spent.usage.requests for spent in run.spent)
        figures["llm_input_tokens"] = sum(spent.usage.input for spent in run.spent)
        figures["llm_output_tokens"] = sum(spent.usage.output for spent in run.spent)
        costs = [spent.cost for spent in run.spent]
        if None not in costs:
            figures["llm_cost"] = math.fsum(cost for cost in costs if cost is not None)
    return figures
