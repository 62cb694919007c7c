"""`step("Fixer")`: what a component of an agent did, and how it ended, for agents that know.

Free of dependencies, and nothing but a clock when no recorder runs.
"""

from __future__ import annotations

import functools
import time
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, get_args

from pytest_tracetriage.capture.spans.sink import begin
from pytest_tracetriage.model.trace import Span, StepOutcome

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from types import TracebackType

    from pytest_tracetriage.capture.spans.sink import Begun

P = ParamSpec("P")
R = TypeVar("R")

OUTCOMES: tuple[StepOutcome, ...] = get_args(StepOutcome)
MAX_STOP_REASON = 256
MAX_RATIONALE = 10 * 1024


class step:  # noqa: N801 - reads as a verb at the call site
    """A step of a component, as context manager or decorator (of functions and coroutine functions).

    ```python
    with step("Fixer") as fixer:
        patch = propose(bug)
        if patch is None:
            fixer.outcome("failed", stop_reason="no patch", rationale="the model returned an empty diff")
    ```

    Its outcome is `success`, or `failed` when an exception leaves it, unless `.outcome(...)` says otherwise.
    """

    def __init__(self, component: str, name: str = "") -> None:
        if not isinstance(component, str) or not component.strip():
            raise ValueError("step(component): expected the name of a component, such as 'Fixer'")
        self.component = component[:200]
        self.name = (name or component)[:200]
        self.stop_reason = ""
        self.rationale = ""
        self._outcome: StepOutcome | None = None
        self._begun: Begun | None = None
        self._start = self._clock = 0.0

    def outcome(self, outcome: StepOutcome, *, stop_reason: str = "", rationale: str = "") -> None:
        """Say how the step ended. Raises ValueError for another outcome, or a reason of more than 256 bytes or 10 KB."""
        if outcome not in OUTCOMES:
            raise ValueError(f"outcome {outcome!r}: expected one of {', '.join(OUTCOMES)}")
        for key, text, limit in (
            ("stop_reason", stop_reason, MAX_STOP_REASON),
            ("rationale", rationale, MAX_RATIONALE),
        ):
            if len(text.encode("utf-8", "surrogatepass")) > limit:
                raise ValueError(f"{key}: {len(text.encode('utf-8', 'surrogatepass'))} bytes, expected at most {limit}")
        self._outcome, self.stop_reason, self.rationale = outcome, stop_reason, rationale

    def __enter__(self) -> step:
        self._start, self._clock = time.time(), time.perf_counter()
        self._begun = begin()
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        begun, self._begun = self._begun, None
        if begun is None:
            return
        begun.sink.leave(begun.token)
        outcome = self._outcome or ("failed" if exc is not None else "success")
        begun.sink.write(
            Span(
                id=begun.id,
                trace=begun.trace,
                name=self.name,
                start=self._start,
                duration=time.perf_counter() - self._clock,
                parent=begun.parent,
                component=self.component,
                outcome=outcome,
                stop_reason=self.stop_reason,
                rationale=self.rationale,
                error=f"{type(exc).__name__}: {exc}"[:2_000] if exc is not None else "",
            )
        )

    def __call__(self, function: Callable[P, R]) -> Callable[P, R]:
        """Return `function` with each call made a step of its own."""
        import inspect  # noqa: PLC0415

        if inspect.iscoroutinefunction(function):

            @functools.wraps(function)
            async def awaiting(*args: P.args, **kwargs: P.kwargs) -> Any:
                with step(self.component, self.name):
                    coroutine: Coroutine[Any, Any, Any] = function(*args, **kwargs)
                    return await coroutine

            return awaiting  # type: ignore[return-value]

        @functools.wraps(function)
        def calling(*args: P.args, **kwargs: P.kwargs) -> R:
            with step(self.component, self.name):
                return function(*args, **kwargs)

        return calling
