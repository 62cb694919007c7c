"""What a search for culprits returns: commits, or what drifted where no commit explains a failure."""

from typing import Literal

from msgspec import Struct, field

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
