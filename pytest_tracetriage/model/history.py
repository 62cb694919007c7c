"""What the history of runs remembers: one record a run, one a cluster and run; tests are columns, not records."""

from typing import Literal, Protocol

from msgspec import Struct

from pytest_tracetriage.model.analysis import Cluster
from pytest_tracetriage.model.diagnosis import Patterns
from pytest_tracetriage.model.run import Totals


class TestSpent(Struct, frozen=True):
    """What the calls of one test to models took in one run. `cost` is US dollars, None where a call has no price."""

    __test__ = False

    nodeid: str
    """"" for all tests of the run that are not named."""
    calls: int
    tokens: int
    cost: float | None = None


class RunRecord(Struct, frozen=True):
    """One run, condensed. Times are seconds since the epoch."""

    id: str
    group: str
    """Joins the shards and matrix legs of one workflow run and attempt; a lone run is a group of its own, named by its id."""
    started: float
    finished: float
    totals: Totals
    commit: str = ""
    branch: str = ""
    base: str = ""
    dirty: bool = False
    event: str = ""
    workflow: str = ""
    job: str = ""
    leg: str = ""
    ci_run: str = ""
    attempt: int = 1
    repository: str = ""
    pull_request: str = ""
    python: str = ""
    platform: str = ""
    environment: str = ""
    """A hash of Python, platform, leg and installed packages: what two runs must share before a difference means flaky."""
    exit_status: int = -1
    metrics: dict[str, float] = {}
    spent: tuple[TestSpent, ...] = ()
    """The tests whose calls to models cost most, and the rest as one."""


class TestRecord(Struct, frozen=True):
    """The last word on one test of one run. `duration` is seconds, `retried` counts attempts that failed before it."""

    __test__ = False

    nodeid: str
    outcome: str
    duration: float
    retried: int = 0


class ClusterRecord(Struct, frozen=True):
    """A cluster as one run showed it. `cluster` has no exemplar; its `seen` says whether this run showed it fixed."""

    run: str
    cluster: Cluster
    tests: tuple[str, ...]
    """Tests of this run that ended red by it; for a fixed cluster, those that passed again."""
    retried: tuple[str, ...] = ()
    """Tests of this run that failed by it in one attempt and passed in a later one."""


class Condensed(Struct, frozen=True):
    """All that one run adds to the history."""

    run: RunRecord
    tests: tuple[TestRecord, ...]
    clusters: tuple[ClusterRecord, ...] = ()


class Seen(Struct, frozen=True):
    """A cluster over all runs of the history that were asked about, oldest first. Times are seconds since the epoch."""

    cluster: Cluster
    """As the newest of these runs showed it."""
    signatures: frozenset[str]
    """All signatures it ever had in them."""
    tests: frozenset[str]
    """Tests that ended red by it in the newest run that did not show it fixed."""
    first_run: str
    first_commit: str
    first_time: float
    last_run: str
    last_commit: str
    last_time: float
    runs: int
    """Groups in which it ended red."""
    episodes: int
    """How often it came (back) after being absent or fixed: 1 for a cluster that was never fixed."""
    open: bool
    """Whether the newest word on it is red."""
    branches: frozenset[str] = frozenset()
    """The branches whose runs showed it."""


class Evidence(Struct, frozen=True):
    """That a cluster is flaky: one of its tests both passed and failed by it on one clean commit and environment."""

    cluster: str
    nodeid: str
    commit: str
    failed: int
    passed: int
    """How many attempts ended each way there."""


class Baseline(Struct, frozen=True):
    """The newest whole workflow run (or lone run) of the base branch, to compare with. Tests count once over its legs."""

    branch: str
    commit: str
    groups: int
    """How many such runs of that branch the history holds."""
    tests: int
    passed: int
    duration: float
    """Seconds of the longest leg."""
    started: float
    legs: tuple[tuple[str, str], ...] = ()
    """Job and leg of each of its runs."""


class Rate(Struct, frozen=True):
    """How one group ended: `passed` of `tests`, counted over its legs. `started` is seconds since the epoch."""

    started: float
    group: str
    commit: str
    tests: int
    passed: int


class SlowTest(Struct, frozen=True):
    """What a test took, in seconds, each at most 5 % from the truth, over the `runs` in which it was not skipped."""

    nodeid: str
    median: float
    p95: float
    runs: int


class FlakyTest(Struct, frozen=True):
    """A test that both failed and passed on each of `commits`, in one environment. The attempts there are counted."""

    nodeid: str
    commits: int
    failed: int
    passed: int


Word = Literal["red", "retried", "fixed"]
"""What a run or group says of a cluster: a test ended red by it; it only showed in attempts that were run again; it is gone."""


class ClusterRun(Struct, frozen=True):
    """What one run said of a cluster. `tests` are those that its word is about."""

    run: RunRecord
    word: Word
    tests: int


class ClusterHistory(Struct, frozen=True):
    """One cluster, as the newest run that showed it did, and all runs that said something of it, oldest first."""

    cluster: Cluster
    runs: tuple[ClusterRun, ...]


class Overview(Struct, frozen=True):
    """What the history shows when nothing particular is asked: the last `days` of one branch, or of all."""

    branch: str
    days: int
    runs: tuple[RunRecord, ...]
    clusters: tuple[Seen, ...]
    rates: tuple[Rate, ...]
    slow: tuple[SlowTest, ...]
    flaky: tuple[FlakyTest, ...]
    patterns: Patterns | None = None


class Location(Protocol):
    """Where the files of a history lie. File names are unique and files never change once written."""

    name: str
    """What messages call it."""

    def names(self) -> frozenset[str]:
        """Return the names of all files there now. Raises HistoryError."""
        ...

    def fetch(self, names: frozenset[str]) -> dict[str, str]:
        """Return the local path of each of these files, brought here where need be. Raises HistoryError."""
        ...

    def put(self, files: dict[str, bytes], remove: frozenset[str] = frozenset(), message: str = "") -> None:
        """Write files in the order given, then remove others; where the place can, as one step. Raises HistoryError."""
        ...
