"""What `run.json` holds: the context, the group and the totals of one run."""

from typing import Literal

from msgspec import Struct

from pytest_tracetriage.model.trace import Usage

RUN_SCHEMA = "tracetriage.run/1"
PASS_RATE = "pass_rate"  # noqa: S105
"""The metric that every run has in which tests ran."""
RunStatus = Literal["running", "finished", "interrupted", "died"]


class Git(Struct, frozen=True, omit_defaults=True):
    """The commit that ran. `dirty` says that tracked files differed from it."""

    commit: str = ""
    branch: str = ""
    base: str = ""
    """The branch to compare with, where it is known: what a pull request would merge into, else the default branch."""
    dirty: bool = False


class CI(Struct, frozen=True, omit_defaults=True):
    """The CI job that ran, from its environment."""

    provider: str = ""
    event: str = ""
    workflow: str = ""
    job: str = ""
    leg: str = ""
    """What tells this job from the others of its matrix: the setting `leg`."""
    run_id: str = ""
    attempt: str = ""
    url: str = ""
    repository: str = ""
    pull_request: str = ""
    head: str = ""
    """The newest commit of the pull request: what ran is a merge of it."""


class Context(Struct, frozen=True, omit_defaults=True):
    """Everything outside the tests that a failure may depend on."""

    git: Git = Git()
    ci: CI = CI()
    python: str = ""
    implementation: str = ""
    platform: str = ""
    pytest: str = ""
    packages: dict[str, str] = {}


class Totals(Struct, frozen=True, omit_defaults=False):
    """Counts of final attempts, as pytest counts them; `failures` is what triage clusters."""

    tests: int = 0
    passed: int = 0
    failed: int = 0
    errors: int = 0
    skipped: int = 0
    xfailed: int = 0
    xpassed: int = 0
    timeouts: int = 0
    crashed: int = 0
    stuck: int = 0
    flaky: int = 0
    """Attempts that failed and were run again."""
    failures: int = 0
    """Distinct tests (and subtests) with a failure."""


class Worker(Struct, frozen=True, omit_defaults=True):
    """An xdist worker, and why it died if it did."""

    name: str
    died: str = ""
    nodeid: str = ""
    """The test that it was running when it died."""


class Figure(Struct, frozen=True, omit_defaults=True):
    """A metric over a whole run: the sum of counts, the mean of rates and times. `count` is how often it was logged."""

    value: float
    unit: str = ""
    count: int = 1


class Spent(Struct, frozen=True, omit_defaults=True):
    """What calls to one model took. `cost` is US dollars, None where no price is known. `usage.requests` counts the calls."""

    usage: Usage
    cost: float | None = None


class Run(Struct, frozen=True, omit_defaults=True):
    """One execution of a suite by one pytest. Times are seconds since the epoch."""

    schema: str
    id: str
    status: RunStatus
    started: float
    finished: float = 0.0
    group: str = ""
    """Joins the shards and matrix legs of one CI workflow run and attempt."""
    rootdir: str = ""
    args: tuple[str, ...] = ()
    exit_status: int = -1
    pid: int = 0
    host: str = ""
    context: Context = Context()
    totals: Totals = Totals()
    metrics: dict[str, Figure] = {}
    spent: tuple[Spent, ...] = ()
    workers: tuple[Worker, ...] = ()
    problems: tuple[str, ...] = ()
