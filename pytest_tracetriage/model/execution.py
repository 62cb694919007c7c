"""What running tests tells: what each did when it was run again, how the process ended, and the map of what each runs."""

from typing import ClassVar

from msgspec import Struct

from pytest_tracetriage.model.trace import Failure, Outcome


class Execution(Struct, frozen=True, omit_defaults=True):
    """One attempt at one test. `nodeid` is redacted, as in every trace; `seconds` are of all its phases."""

    nodeid: str
    outcome: Outcome
    signature: str = ""
    """The signature of `failure`: the same signature is the same failure."""
    seconds: float = 0.0
    failure: Failure | None = None
    reason: str = ""
    """Why it was skipped, expected to fail, or ended."""


class Order(Struct, frozen=True, omit_defaults=True):
    """Tests that ran in one process, from the freshly collected state on, in the order they were given in."""

    executions: tuple[Execution, ...] = ()
    died: str = ""
    """How its process ended, where it did not end by itself: `killed by SIGSEGV`, `timed out after 20 s`, `not started`."""
    seconds: float = 0.0
    cpu: float = 0.0
    """Seconds of processor time."""


class TestRun(Struct, frozen=True, omit_defaults=True):
    """One pytest in a worktree. Its results must not be used where `void` says why."""

    __test__: ClassVar[bool] = False

    executions: tuple[Execution, ...] = ()
    """In the order in which they began; those of all `orders` one after the other."""
    outcomes: dict[str, Outcome] = {}
    """By node id; of several attempts at one test (orders, subtests) the worst."""
    signatures: dict[str, tuple[str, ...]] = {}
    """Which failures each failing test showed: distinct signatures, sorted."""
    uncollected: tuple[Execution, ...] = ()
    """Files that could not be collected, and why; their tests are among the `missing`."""
    orders: tuple[Order, ...] = ()
    seconds: float = 0.0
    cpu: float = 0.0
    """Processor seconds of all its processes; 0 on Windows, where nobody counts them."""
    folder: str = ""
    """The folder of the recorded run, with its traces; it goes with the worktree. "" where nothing was recorded."""
    void: str = ""
    """Why nothing may be concluded: modules of the project came from elsewhere, or pytest did not get to the tests."""
    timed_out: bool = False
    exit_status: int = 0
    missing: tuple[str, ...] = ()
    """Node ids that were asked for and not collected."""
    neutralised: tuple[str, ...] = ()
    """What of the project's options was left out since it would spoil a rerun: `-x/--maxfail`."""
    notes: tuple[str, ...] = ()
    """What else to know: threads that ran when orders were forked."""
    output: str = ""
    """The end of what pytest printed. Hostile."""


class Again(Struct, frozen=True, omit_defaults=True):
    """What the plugin inside a pytest that runs tests again is told, as a JSON file."""

    original: str
    """The root of the user's tree, from which no module may come."""
    tree: str
    """The root of the worktree."""
    roots: tuple[str, ...]
    """Folders of the worktree that modules are imported from."""
    notes: str
    """The folder for what the plugin has to tell."""
    selected: bool = True
    """Whether tests were selected; else `-k` and `-m` stand."""
    workers: int = 0
    orders: tuple[tuple[str, ...], ...] = ()
    """Lists of node ids to run one after the other."""
    fork: bool = False
    """Whether each order is a forked child; else there is one order, and it runs in this process."""
    order_timeout: float = 0.0
    """Seconds that one order may take."""
    processes: int = 1
    """How many orders run at a time."""


class Note(Struct, frozen=True, omit_defaults=True):
    """What one process of such a pytest told."""

    elsewhere: tuple[tuple[str, str], ...] = ()
    """Modules of the project that came from outside of the worktree, and their files."""
    neutralised: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


class OrderEnd(Struct, frozen=True, omit_defaults=True):
    """How the child that ran one order ended; a line of `orders.jsonl`."""

    order: int
    died: str = ""
    seconds: float = 0.0
    cpu: float = 0.0


class Function(Struct, frozen=True, array_like=True):
    """One function of the project, as the recorded run had it."""

    file: str
    """From the root of the project, with `/`."""
    name: str
    """Qualified: `Class.method`, `outer.<locals>.inner`."""
    line: int
    """The first line, decorators included."""
    end: int
    """The last line."""
    digest: str
    """A hash of its source without indentation: the same after edits elsewhere."""


class Element(Struct, frozen=True, array_like=True):
    """Lines of one function that the same tests run. Lines of its body only, never those that run at import."""

    function: int
    """Index in the functions of the map."""
    lines: tuple[int, ...]
    tests: bytes
    """A set of indices in the tests of the map: bit i % 8 of byte i // 8 stands for test i."""


class CoverageMap(Struct, frozen=True):
    """Per-test line coverage. A green map holds the tests that passed, and no others."""

    tests: tuple[str, ...]
    """Node ids, redacted, sorted."""
    functions: tuple[Function, ...]
    elements: tuple[Element, ...]
    commit: str = ""
    run: str = ""
    source: str = ""
    """`tracetriage`, `pytest-cov` or `recorded`."""
