"""What triage returns and `analysis.json` holds; and what people decided, as `policy/aliases.json` holds it."""

from typing import Literal

from msgspec import Struct, field

from pytest_tracetriage.model.run import Spent, Totals
from pytest_tracetriage.model.trace import Failure

ANALYSIS_SCHEMA = "tracetriage.analysis/1"
Owner = Literal["product", "test", "agent", "infrastructure"]
Seen = Literal["first-run", "new", "known", "fixed"]
Status = Literal["", "real", "flaky", "infrastructure", "order-dependent", "time-dependent", "environment"]
SuspectKind = Literal["place", "test", "dependency"]
Course = Literal["", "grown", "back", "on and off"]


class Suspect(Struct, frozen=True):
    """A place, test or dependency held responsible. `score` lies in [0, 1]; `evidence` says why in words.

    Of a dependency (Python and the platform are such too) `file` is its name, and `function` how it changed: `2.0 -> 2.1`.
    """

    file: str
    function: str
    line: int
    score: float
    evidence: str
    kind: SuspectKind = "place"


class Signature(Struct, frozen=True):
    """The exact-match key of a failure. `id` is 26 base32 characters of its hash; `count` is tests."""

    id: str
    type: str
    file: str
    function: str
    message: str
    count: int


class Why(Struct, frozen=True, omit_defaults=True):
    """Why two signatures stand in one cluster, or why the cluster is what it is."""

    evidence: str
    """The kind: `same signature`, `same root frame`, `same error`, `same resource` ..."""
    detail: str = ""
    signatures: tuple[str, ...] = ()


class Exemplar(Struct, frozen=True, omit_defaults=True):
    """The failure that stands for its cluster."""

    nodeid: str
    failure: Failure
    reason: str = ""


class Muted(Struct, frozen=True, omit_defaults=True):
    """A person's decision to look away until `until` (ISO date, empty: for good)."""

    owner: str
    reason: str
    until: str = ""


class Frequency(Struct, frozen=True):
    """How often a cluster ended red: in `failed` of the `runs` groups in which one of its tests ran."""

    failed: int
    runs: int


class Cluster(Struct, frozen=True):
    """Failures joined because evidence says that they share one root cause. `id` is stable over runs."""

    id: str
    name: str
    category: str
    owner: Owner
    codeowners: tuple[str, ...]
    seen: Seen
    muted: Muted | None
    count: int
    tests: tuple[str, ...]
    signatures: tuple[Signature, ...]
    why: tuple[Why, ...]
    suspects: tuple[Suspect, ...]
    exemplar: Exemplar | None
    classified: str = ""
    """The evidence that the category rests on."""
    fix: str = ""
    """What this category usually calls for, in words."""
    since: str = ""
    """The first run known to show it: commit or run id."""
    runs: int = 0
    """How many earlier runs showed it."""
    waiting: tuple[str, ...] = ()
    """Its tests of earlier runs that were not run in this one: who runs the cluster again, runs them too."""
    status: Status = ""
    """flaky: passed and failed on one commit; real: neither flaky nor infrastructure; "" where nobody asked. Tests that were
    run again tell the others: order-dependent, time-dependent, and environment, which passes here and failed there."""
    status_evidence: str = ""
    """What the status rests on, in words."""
    frequency: Frequency | None = None
    """How often it failed in the history, where there is one."""
    spent: tuple[Spent, ...] = ()
    """What the calls of its tests took, by model."""
    course: Course = ""
    """How it went on the base branch. grown: known there by few tests, while most of those that fail now pass there; back: it
    was fixed there; on and off: it was fixed there and came back, more than once, and is gone at the moment."""


class FailingTrace(Struct, frozen=True):
    """Where in an agent a red trace broke. `step` is the id of the first decisive span, "" where no span tells."""

    id: str
    nodeid: str
    component: str
    step: str
    category: str
    owner: Owner
    evidence: str
    run: str = ""
    """What the id is unique in: the id of the run, or the path of a file that stands alone."""


class Bucket(Struct, frozen=True):
    """One of at most five headings that a report opens with. `count` is tests."""

    name: str
    count: int
    clusters: tuple[str, ...]


class Source(Struct, frozen=True, omit_defaults=True):
    """One source of an analysis: a run's folder or a file."""

    id: str
    format: str
    path: str = ""
    started: float = 0.0
    commit: str = ""
    group: str = ""


class Problem(Struct, frozen=True, omit_defaults=True):
    """Something in the input that could not be used. `line` counts from 1, 0 where it does not apply."""

    file: str
    line: int
    message: str


class Analysis(Struct, frozen=True):
    """A red run as root causes. `clusters` stand in order of impact; `tail` counts those outside the buckets."""

    runs: tuple[Source, ...]
    totals: Totals
    buckets: tuple[Bucket, ...]
    clusters: tuple[Cluster, ...]
    problems: tuple[Problem, ...]
    traces: tuple[FailingTrace, ...] = ()
    """Of red traces that have spans or a component: where they broke."""
    spent: tuple[Spent, ...] = ()
    """What the calls of all tests took, by model."""
    schema: str = field(default=ANALYSIS_SCHEMA)


ALIASES_SCHEMA = "tracetriage.aliases/1"


class Join(Struct, frozen=True, omit_defaults=True):
    """Clusters (named by their founding signatures) that are one. The first is the id that survives."""

    clusters: tuple[str, ...]
    by: str = ""
    reason: str = ""
    signatures: tuple[str, ...] = ()
    """All signatures that these clusters had when they were joined."""


class Split(Struct, frozen=True, omit_defaults=True):
    """Signatures that must not share a cluster with one another."""

    signatures: tuple[str, ...]
    by: str = ""
    reason: str = ""


class Mute(Struct, frozen=True, omit_defaults=True):
    """A cluster that nobody wants to hear of until `until` (ISO date, empty: for good)."""

    cluster: str
    owner: str
    reason: str
    until: str = ""


class Aliases(Struct, frozen=True, omit_defaults=True):
    """The whole file."""

    schema: str = ALIASES_SCHEMA
    joins: tuple[Join, ...] = ()
    splits: tuple[Split, ...] = ()
    mutes: tuple[Mute, ...] = ()
