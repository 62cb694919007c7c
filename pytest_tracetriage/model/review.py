"""What people see where they review: one analysis over all shards and legs, beside the base branch."""

from msgspec import Struct

from pytest_tracetriage.model.analysis import Analysis, Cluster
from pytest_tracetriage.model.diagnosis import Culprit, Pattern
from pytest_tracetriage.model.history import Baseline
from pytest_tracetriage.model.run import Figure, Spent, Totals


class Leg(Struct, frozen=True):
    """One run of the group. `duration` is seconds of wall clock."""

    run: str
    job: str
    leg: str
    """What tells this leg of a matrix from the others, as JSON; "" without a matrix."""
    python: str
    platform: str
    totals: Totals
    duration: float
    finished: bool = True
    """False where its process died, or its artifact is incomplete."""


class Diagnosed(Struct, frozen=True):
    """What is known of a cause beside its traces: tests were run again, commits were searched."""

    rerun: bool = False
    """Whether its status was found out by running tests again."""
    culprits: tuple[Culprit, ...] = ()
    """What a search has found, the surest commit first; several where the search told parts of the cause apart."""
    brought: bool = False
    """Whether the first of them is a commit of the pull request itself."""


class Review(Struct, frozen=True):
    """Everything that a comment, a job summary, a check and annotations are made from."""

    analysis: Analysis
    """Its clusters carry `seen` against the base branch, `status` and `frequency`."""
    retried: tuple[Cluster, ...] = ()
    """Causes that only showed in attempts whose test passed when it was run again."""
    legs: tuple[Leg, ...] = ()
    commit: str = ""
    branch: str = ""
    base: str = ""
    event: str = ""
    pull_request: int = 0
    repository: str = ""
    workflow: str = ""
    ci_run: int = 0
    attempt: int = 1
    url: str = ""
    """The workflow run's page."""
    baseline: Baseline | None = None
    links: dict[str, str] = {}
    """Page of a tracked file at this commit, by its path; `#L12` may be appended."""
    prefix: str = ""
    """The folder of the project inside its repository, with a slash at its end; "" where they are the same."""
    metrics: dict[str, Figure] = {}
    """What the runs have logged, together."""
    spent: tuple[Spent, ...] = ()
    """What their calls to models took."""
    failed: str = ""
    """How the suite failed by something that its tests do not show: `the suite ended with exit status 4`."""
    patterns: tuple[Pattern, ...] = ()
    """What the history says of its causes, and of their tests, over time."""
    diagnosed: dict[str, Diagnosed] = {}
    """By cluster, where a diagnosis came with the runs. Its status and suspects are then the cluster's."""
    notes: tuple[str, ...] = ()
    """What could not be established, a line each: `the history could not be read: ...`."""
