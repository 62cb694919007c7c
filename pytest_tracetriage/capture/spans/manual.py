"""What is recorded by hand: `span("search")`, an operation that nothing else sees, and `metric("hit_rate", 0.93)`, a figure.

Free of dependencies, and nothing but a clock when no recorder runs.
"""

from __future__ import annotations

import functools
import math
import re
import time
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, get_args

from pytest_tracetriage.capture.spans.content import shape
from pytest_tracetriage.capture.spans.sink import begin, connected
from pytest_tracetriage.model.trace import Metric, Span, SpanKind, Usage

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Generator
    from types import TracebackType

    from pytest_tracetriage.capture.spans.sink import Begun
    from pytest_tracetriage.model.run import Run


P = ParamSpec("P")
R = TypeVar("R")

KINDS: tuple[SpanKind, ...] = tuple(kind for kind in get_args(SpanKind) if kind != "step")
MAX_NAME = 200
MAX_TEXT = 500
MAX_TOKENS = 2**50


class span:  # noqa: N801 - reads as a verb at the call site
    """A span, as context manager or decorator of functions, generators and their asynchronous kin.

    ```python
    with span("search", kind="tool", index="products", inputs={"query": text}) as search:
        found = ask(text)
        search.set("output", found)
    ```

    `kind` is span, op, llm, tool, embedding or agent. The attributes `inputs`, `output` and `component` have places of their
    own. An exception that leaves it makes it failed. Raises ValueError for a name or kind that cannot be.
    """

    def __init__(self, name: str, kind: SpanKind = "span", **attributes: Any) -> None:
        if not isinstance(name, str) or not name.strip():
            raise ValueError("span(name): expected the name of an operation, such as 'search'")
        if kind not in KINDS:
            raise ValueError(f"span({name!r}): kind {kind!r}: expected one of {', '.join(KINDS)}")
        self.name = name[:MAX_NAME]
        self.kind = kind
        self._given = attributes
        self._attributes = dict(attributes)
        self._usage: Usage | None = None
        self._begun: Begun | None = None
        self._start = self._clock = 0.0

    def set(self, key: str, value: Any) -> None:
        """Keep an attribute, as text; `inputs` and `output` are kept as JSON. Raises ValueError for a key that is no name."""
        if not isinstance(key, str) or not key.strip():
            raise ValueError(f"span({self.name!r}).set(key, value): {key!r}: expected the name of an attribute")
        self._attributes[key] = value

    def usage(
        self,
        model: str,
        *,
        input: int = 0,  # noqa: A002 - the word of the field
        output: int = 0,
        cache_creation: int = 0,
        cache_read: int = 0,
        reasoning: int = 0,
        provider: str = "",
    ) -> None:
        """Say how many tokens the call took: `input` with what a cache gave and took, `output` with the reasoning.

        Raises ValueError for counts that cannot be: negative, no whole numbers, parts larger than the whole.
        """
        counts = {"input": input, "output": output, "cache_creation": cache_creation, "cache_read": cache_read}
        counts["reasoning"] = reasoning
        where = f"span({self.name!r}).usage"
        if not isinstance(model, str) or not model.strip():
            raise ValueError(f"{where}(model): expected the name of a model, such as 'gpt-4o'")
        for key, count in counts.items():
            if isinstance(count, bool) or not isinstance(count, int) or not 0 <= count <= MAX_TOKENS:
                raise ValueError(f"{where}({key}={count!r}): expected a whole number of tokens")
        if cache_creation + cache_read > input:
            raise ValueError(f"{where}: input={input} has to include cache_creation and cache_read")
        if reasoning > output:
            raise ValueError(f"{where}: output={output} has to include reasoning={reasoning}")
        self._usage = Usage(model[:MAX_NAME], provider[:MAX_NAME], **counts)

    def __enter__(self) -> span:  # noqa: PYI034 - Self is 3.11
        self._attributes, self._usage = dict(self._given), None
        self._start, self._clock = time.time(), time.perf_counter()
        self._begun = begin()
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        begun, self._begun = self._begun, None
        if begun is None:
            return
        duration = time.perf_counter() - self._clock
        begun.sink.leave(begun.token)
        try:
            self._write(begun, duration, exc)
        except Exception as error:  # text of an exception can be refused
            begun.sink.trouble(error)

    def _write(self, begun: Begun, duration: float, exc: BaseException | None) -> None:
        kept = dict(self._attributes)
        given = {word: kept.pop(key) for key, word in (("inputs", "inputs"), ("output", "output")) if key in kept}
        component = kept.pop("component", "")
        begun.sink.write(
            Span(
                id=begun.id,
                trace=begun.trace,
                name=self.name,
                start=self._start,
                duration=duration,
                kind=self.kind,
                parent=begun.parent,
                component=str(component)[:MAX_NAME],
                outcome="failed" if _is_failure(exc) else "success",
                error=f"{type(exc).__name__}: {exc}"[:2_000] if exc is not None and _is_failure(exc) else "",
                usage=self._usage,
                attributes={str(key): _text(value, content=begun.sink.content) for key, value in kept.items()},
            ),
            **given,
        )

    def __call__(self, function: Callable[P, R]) -> Callable[P, R]:
        """Return `function` with each call made a span of its own; one that yields is over when it is exhausted."""
        import inspect  # noqa: PLC0415

        def again() -> span:
            return span(self.name, self.kind, **self._given)

        wrapped: Any = function
        replacement: Any
        if inspect.iscoroutinefunction(function):

            async def awaiting(*args: P.args, **kwargs: P.kwargs) -> Any:
                with again():
                    return await wrapped(*args, **kwargs)

            replacement = awaiting
        elif inspect.isasyncgenfunction(function):

            async def streaming(*args: P.args, **kwargs: P.kwargs) -> AsyncIterator[Any]:
                with again():
                    async for item in wrapped(*args, **kwargs):
                        yield item

            replacement = streaming
        elif inspect.isgeneratorfunction(function):

            def yielding(*args: P.args, **kwargs: P.kwargs) -> Generator[Any, Any, Any]:
                with again():
                    return (yield from wrapped(*args, **kwargs))

            replacement = yielding
        else:

            def calling(*args: P.args, **kwargs: P.kwargs) -> R:
                with again():
                    return function(*args, **kwargs)

            replacement = calling
        made: Callable[P, R] = functools.wraps(function)(replacement)
        return made


def _is_failure(exc: BaseException | None) -> bool:
    """Whoever closes a generator early has all that they wanted."""
    return exc is not None and not isinstance(exc, GeneratorExit)


def _text(value: Any, *, content: bool) -> str:
    if isinstance(value, str):
        text = value if content else shape(value)
    elif value is None or isinstance(value, (bool, int, float)):
        text = str(value)
    else:
        text = _repr(value) if content else shape(value)
    return text[:MAX_TEXT]


def _repr(value: Any) -> str:
    try:
        return repr(value)
    except Exception as error:
        return f"<{type(value).__name__}, whose repr raised {type(error).__name__}>"


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
