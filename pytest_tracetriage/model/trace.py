"""What one attempt at one test left behind: the records of `traces/<worker>.jsonl`.

Each line of such a file is one record; its field `record` says which. Unknown fields are ignored, so that newer files
stay readable, and fields that hold their default are not written.
"""

from typing import Annotated, Literal

from msgspec import Meta, Struct

Origin = Literal["test", "app", "third-party", "stdlib"]
Outcome = Literal["passed", "failed", "error", "skipped", "xfailed", "xpassed", "timeout", "crashed", "stuck"]
FailurePhase = Literal["collect", "setup", "call", "teardown"]
StepOutcome = Literal["success", "failed", "timeout", "stuck"]
EventId = Annotated[str, Meta(min_length=1, max_length=255)]

FAILING: frozenset[str] = frozenset({"failed", "error", "timeout", "crashed", "stuck"})


class Frame(Struct, frozen=True, omit_defaults=True):
    """One frame of a traceback. `file` is relative to the root of the project where it stands below it."""

    file: str
    function: str
    line: int
    origin: Origin
    code: str = ""
    """The source line, stripped."""
    qualname: str = ""
    """`Class.method`, for display and suspects only: Python 3.10 does not know it."""
    source: str = ""
    """Content hash of the function's source, kept once a run as a `Source` record."""
    printed: str = ""
    """What a text format printed of the function, up to `line`."""


class Error(Struct, frozen=True, omit_defaults=True):
    """One exception of a chain. `parent` is the index of the error that it led to or stands in, -1 for the raised one."""

    type: str
    """Qualified name without `builtins.`: `KeyError`, `json.decoder.JSONDecodeError`."""
    message: str = ""
    frames: tuple[Frame, ...] = ()
    link: Literal["raised", "cause", "context", "member"] = "raised"
    parent: int = -1
    notes: tuple[str, ...] = ()
    omitted: int = 0
    """How many frames were left out in the middle."""


class Failure(Struct, frozen=True, omit_defaults=True):
    """Why a trace is red: the exception that was raised first, then what it was caused by."""

    phase: FailurePhase
    errors: tuple[Error, ...]
    text: str = ""
    """What was printed, where no exception chain could be had."""
    fixture: str = ""
    """The fixture whose setup raised, as `name (file:line)`."""
    uncalled: Frame | None = None
    """nose's `setup()` that would have set what is missing, where it is defined: pytest 8 no longer calls it."""


class Marker(Struct, frozen=True, omit_defaults=True):
    """A pytest marker with its arguments as bounded `repr`s."""

    name: str
    args: tuple[str, ...] = ()
    kwargs: dict[str, str] = {}


class Warned(Struct, frozen=True, omit_defaults=True, tag_field="record", tag="warning"):
    """A warning that was raised while the test of `trace` ran. pytest tells of it when the test is over."""

    trace: str
    category: str
    message: str
    file: str = ""
    line: int = 0


class Start(Struct, frozen=True, omit_defaults=True, tag_field="record", tag="start"):
    """The test that a process has begun. Written where the shared slot cannot hold it."""

    id: EventId
    nodeid: str
    start: float
    pid: int = 0
    timeout: float = 0.0
    """Seconds after which the process would be ended by a timeout that cannot be caught, 0 for none."""
    stack: Failure | None = None
    """Where the test stood shortly before such a timeout."""


class Source(Struct, frozen=True, omit_defaults=True, tag_field="record", tag="source"):
    """The source of one function, kept once a run. `line` is the number of its first line."""

    id: str
    file: str
    function: str
    line: int
    text: str


class Usage(Struct, frozen=True, omit_defaults=True):
    """Tokens of calls to one model. `input` includes what was read from or written to a cache, `output` the reasoning."""

    model: str
    provider: str = ""
    input: int = 0
    output: int = 0
    cache_creation: int = 0
    cache_read: int = 0
    reasoning: int = 0
    requests: int = 1
    cache_creation_1h: int = 0
    """Of `cache_creation`, what Anthropic keeps for an hour: it costs more than what is kept for five minutes."""


SpanKind = Literal["step", "span", "op", "llm", "tool", "embedding", "agent"]


class Span(Struct, frozen=True, omit_defaults=True, tag_field="record", tag="span"):
    """One finished operation inside a trace. `start` is seconds since the epoch, `duration` seconds."""

    id: EventId
    trace: str
    name: str
    start: float
    duration: float
    kind: SpanKind = "step"
    parent: str = ""
    component: str = ""
    outcome: StepOutcome = "success"
    stop_reason: str = ""
    rationale: str = ""
    error: str = ""
    """`Type: message` of what was raised."""
    source: Literal["", "weave", "opentelemetry"] = ""
    """Who recorded it; "" for `span` and `step`."""
    usage: Usage | None = None
    further: tuple[Usage, ...] = ()
    """Where one call names several models, the usage of those after the first."""
    inputs: str = ""
    """Bounded, redacted JSON; with `no_content` the shape alone, with no text in it."""
    output: str = ""
    digest: str = ""
    """A hash of name and inputs, whatever was dropped of them: the same call again has the same one."""
    attributes: dict[str, str] = {}

    @property
    def usages(self) -> tuple[Usage, ...]:
        """The usage of each model that the operation names."""
        return (self.usage, *self.further) if self.usage is not None else ()


class Metric(Struct, frozen=True, omit_defaults=True, tag_field="record", tag="metric"):
    """A figure that a test, or the code under test, has logged. `trace` is "" outside a test, `time` seconds since 1970."""

    name: str
    value: float
    unit: str = ""
    trace: str = ""
    time: float = 0.0


class Use(Struct, frozen=True, omit_defaults=True, tag_field="record", tag="use"):
    """Which tests of a red run use a fixture that several share. A trace knows only of the setups that ran for it."""

    fixture: str
    scope: str
    tests: tuple[str, ...]
    """Node ids."""


class Trace(Struct, frozen=True, omit_defaults=True, tag_field="record", tag="trace"):
    """One attempt at one test. `start` is seconds since the epoch, `phases` and `fixtures` are seconds."""

    id: EventId
    nodeid: str
    outcome: Outcome
    start: float = 0.0
    phases: dict[str, float] = {}
    attempt: int = 1
    rerun: bool = False
    """Another attempt followed: this outcome is not the test's last word."""
    subtest: str = ""
    failure: Failure | None = None
    later: tuple[Failure, ...] = ()
    """What failed after `failure` in the same attempt, such as its teardown."""
    reason: str = ""
    """Why it was skipped, expected to fail, or ended."""
    fixtures: dict[str, float] = {}
    """Seconds of each fixture's setup that ran for this test, by name."""
    markers: tuple[Marker, ...] = ()
    params: dict[str, str] = {}
    sections: tuple[tuple[str, str], ...] = ()


Record = Start | Source | Span | Metric | Use | Trace | Warned
