"""What diagnosis finds out: what `diagnose` adds to an analysis, culprits, patterns over the history, what costs most."""

from typing import Literal

from msgspec import Struct, field

from pytest_tracetriage.model.analysis import Analysis
from pytest_tracetriage.model.hypotheses import Cited, Hypothesis, Prompt, Shared, Waste
from pytest_tracetriage.model.trace import Usage

PatternKind = Literal["FLAKY", "REPEATED_FAILURE", "OSCILLATING_FIX", "SLOW_CONVERGENCE", "REGRESSION"]
IssueKind = Literal["FLAKY_TEST", "COST_SINK", "RETRY_PATTERN", "FAILURE_MODE", "SLOW_TEST"]


class Place(Struct, frozen=True, array_like=True):
    """A commit in one environment, by the first run there. `line` numbers the branch, pull request or leg it is on."""

    line: int
    run: str
    commit: str
    time: float


class Trail(Struct, frozen=True, array_like=True):
    """What became of one test, or cluster, place by place: three columns of equal length, ordered by place.

    Of a cluster, an attempt is a workflow run: it failed where the cluster ended red.
    """

    subject: str
    places: tuple[int, ...]
    passed: tuple[int, ...]
    failed: tuple[int, ...]
    causes: tuple[str, ...] = ()
    """Of a test: the cluster that it failed by at each place, "" where it did not, or that is not known."""
    name: str = ""
    """Of a cluster."""
    tests: frozenset[str] = frozenset()
    """Of a cluster: all that ever failed by it."""


class Trails(Struct, frozen=True):
    """The past as patterns are looked for in it. Places stand line by line, each in order of time."""

    places: tuple[Place, ...]
    tests: tuple[Trail, ...]
    """Those that failed at least once."""
    clusters: tuple[Trail, ...]
    untouched: int = 0
    """How many other tests never failed."""
    traces: int = 0
    """Attempts at the test that ran most often."""


class EvidencePoint(Struct, frozen=True):
    """What happened at one commit in one environment, by its first run."""

    run: str
    commit: str
    time: float
    passed: int
    failed: int


class Share(Struct, frozen=True):
    """How often something happens: `hits` of `trials`, the mean and the central 95 % interval of what that tells."""

    hits: int
    trials: int
    mean: float
    low: float
    high: float


class Pattern(Struct, frozen=True):
    """A statement over time about a test or a cluster, with the points that it rests on."""

    kind: PatternKind
    id: str
    """Kind and rank: `FLAKY-TEST-1`, `REGRESSION-2`."""
    of: Literal["test", "cluster"]
    subject: str
    """Node id, or id of the cluster."""
    name: str
    """The cluster's; the node id of a test."""
    confidence: float
    """The probability that the pattern is there."""
    frequency: Share
    """How often it fails: of a flaky test while it is flaky, of a cluster in all that was looked at."""
    evidence: tuple[EvidencePoint, ...]
    """The newest points that tell, oldest first."""
    points: int
    """How many there are in all."""
    change: EvidencePoint | None
    """Where it began; None where it was so from the beginning of what is known."""
    since: float
    """The time of that change, or of the oldest point looked at."""
    words: str


class Issue(Struct, frozen=True):
    """One of the worst of its kind in the window. `amount` is in `unit` (US dollars, tokens, seconds, attempts, runs)."""

    kind: IssueKind
    id: str
    """Kind and rank: `COST-SINK-1`."""
    subject: str
    amount: float
    unit: str
    share: Share | None
    """How often, where that is what counts."""
    runs: int
    """In how many runs."""
    words: str


class Timed(Struct, frozen=True):
    """What a test took in all, in seconds, over `runs`."""

    nodeid: str
    seconds: float
    runs: int


class Retried(Struct, frozen=True):
    """How many attempts at a test were run `again`, beside its `traces`: the attempts that were its last word, one a run."""

    nodeid: str
    again: int
    traces: int


class Mode(Struct, frozen=True):
    """How failures of one category and owner went: in how many workflow runs, by how many clusters."""

    category: str
    owner: str
    runs: int
    clusters: int


class Costs(Struct, frozen=True):
    """What a window of the history took. Each list is ordered, the worst first, and cut to what was asked for."""

    runs: int
    groups: int
    """Workflow runs, and lone runs."""
    seconds: float
    """Of all tests together."""
    timed: tuple[Timed, ...]
    retried: tuple[Retried, ...]
    modes: tuple[Mode, ...]
    spent: tuple[tuple[str, int, int, int, float | None], ...]
    """Node id, runs, calls, tokens and US dollars of each test that called models, "" for the rest; not cut."""
    slow: tuple[tuple[str, float, float, int], ...]
    """Node id, median and 95th percentile in seconds, runs."""


class Window(Struct, frozen=True):
    """What patterns are looked for in: what happened within `days`, judged by the past of `past` days."""

    days: int
    past: int
    branch: str
    runs: int
    """In the window."""
    min_frequency: float
    top: int


class Patterns(Struct, frozen=True):
    """Patterns and issues, ranked within their kind, and what there was too little data for."""

    window: Window
    patterns: tuple[Pattern, ...]
    issues: tuple[Issue, ...]
    notes: tuple[str, ...] = ()
    """`flaky tests: insufficient traces: 4 of 20`."""
    made: float = 0.0
    """When, in seconds since the epoch."""


class Reruns(Struct, frozen=True, omit_defaults=True):
    """What diagnosis ran: pytest processes, tests in them, seconds, and seconds of processor time."""

    pytest_runs: int = 0
    tests: int = 0
    seconds: float = 0.0
    cpu: float = 0.0
    neutralised: tuple[str, ...] = ()
    """What of the project's options was left out since it would spoil a rerun: `-x/--maxfail`."""


class MapUsed(Struct, frozen=True, omit_defaults=True):
    """The coverage map that the suspects rest on, and how many of the failing tests it knows."""

    source: str
    """`tracetriage`, `pytest-cov`, `recorded`, or `red run`: no green run was to be had."""
    tests: int
    failing: int
    of_failing: int
    commit: str = ""
    run: str = ""


class Diagnosis(Analysis, frozen=True):
    """An analysis with what running tests again, coverage, the history and inputs say of its clusters."""

    coverage: MapUsed | None = None
    shared: tuple[Shared, ...] = ()
    prompts: tuple[Prompt, ...] = ()
    wastes: tuple[Waste, ...] = ()
    patterns: tuple[Pattern, ...] = ()
    evidence: dict[str, tuple[Cited, ...]] = field(default_factory=dict)
    """By cluster: what its hypotheses cite."""
    hypotheses: tuple[Hypothesis, ...] = ()
    asked: Usage | None = None
    """What the model that was asked for hypotheses took."""
    reruns: Reruns = Reruns()


CULPRIT_SCHEMA = "tracetriage.culprit/1"
Finding = Literal["commit", "commits", "older", "not reproduced", "undecided", "nothing committed"]
DriftKind = Literal["package", "python", "platform", "pytest"]


class Drift(Struct, frozen=True):
    """Something outside the commits that differs between the last green and the first red run; "" where it was missing."""

    kind: DriftKind
    name: str
    before: str
    after: str
    score: float
    """In [0, 1]: how far the failure points to it."""
    evidence: str


class Culprit(Struct, frozen=True):
    """What the search found for one cluster.

    `finding` says how to read the rest. commit: `commit` broke it; commits: one of `candidates` did, which cannot be told apart
    since those between cannot be tested; older: it fails at the good end too; not reproduced: it never failed at the bad end;
    undecided: the budget ended first, and `candidates` are the likeliest; nothing committed: the ends are one commit.
    `confidence` is the probability of what is found.
    """

    cluster: str
    name: str
    tests: tuple[str, ...]
    """The tests that stood for the cluster."""
    finding: Finding
    commit: str
    confidence: float
    evidence: tuple[str, ...]
    subject: str = ""
    candidates: tuple[str, ...] = ()
    rate: float = 0.0
    """How often a process shows the failure from its culprit on: 1 for a deterministic one."""
    drift: tuple[Drift, ...] = ()
    """What else differs since it was last green, where no commit explains it, the likeliest first."""


class Executions(Struct, frozen=True):
    """What the search cost. `cached` counts the processes that an earlier search had run."""

    checkouts: int = 0
    pytest_runs: int = 0
    tests: int = 0
    cached: int = 0
    seconds: float = 0.0


class Search(Struct, frozen=True):
    """A search for the commits that broke clusters, between `good` and `bad`, of which `commits` lie after `good`."""

    good: str
    bad: str
    commits: int
    wanted: float
    """The confidence that was asked for."""
    culprits: tuple[Culprit, ...]
    executions: Executions
    problems: tuple[str, ...] = ()
    schema: str = field(default=CULPRIT_SCHEMA)
