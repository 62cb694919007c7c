"""What failures share, work that need not have been done, and hypotheses with the evidence that they cite."""

from typing import Literal

from msgspec import Struct

Trait = Literal["parameter", "fixture", "marker", "worker", "model", "prompt", "sequence"]
Contrast = Literal["tests of one function", "functions of one module", "modules"]


class Association(Struct, frozen=True, omit_defaults=True):
    """What the failing tests of a cluster have in common and passing ones lack."""

    trait: Trait
    name: str
    """Of a parameter, fixture, marker; the component that a prompt or sequence is of."""
    value: str
    """Of the parameter, the marker's arguments, the worker, model, hash of the prompt, or names of the spans."""
    failing: int
    """How many of `of_failing` tests of the cluster have it; the same of passing tests."""
    of_failing: int
    passing: int
    of_passing: int
    p_value: float
    """How likely so strong an association would be by chance, before it was corrected for how many were asked about."""
    contrast: Contrast
    """What was compared: units that differ in it."""
    text: str = ""
    """The trait in words, such as `season='winter'`."""
    alike: tuple[str, ...] = ()
    """Further traits that the same tests have, in words: data cannot tell them from this one."""


class Shared(Struct, frozen=True, omit_defaults=True):
    """What inputs have to do with a cluster. `indifferent` are traits that would have been seen to matter, and do not."""

    cluster: str
    associations: tuple[Association, ...] = ()
    indifferent: tuple[str, ...] = ()


class Waste(Struct, frozen=True, omit_defaults=True):
    """Work of agents that need not have been done, over all traces of a run in which it was seen."""

    kind: Literal["repeated call", "retry", "cache miss", "after the failure"]
    name: str
    """Of the operation, or the model whose cache was missed."""
    component: str
    traces: int
    times: int
    """Calls too many."""
    seconds: float
    tokens: int
    cost: float | None = None
    """US dollars; None where no price is known."""
    example: str = ""
    """A span to look at."""


class Prompt(Struct, frozen=True, omit_defaults=True):
    """The version of a prompt that goes with a cluster, beside the one that goes with passing tests."""

    cluster: str
    component: str
    failing: str
    """Hash of the version with which it fails; `passing` of the commonest one with which tests pass."""
    passing: str = ""
    diff: str = ""
    """From the passing to the failing version, as a unified diff of at most 40 lines."""


EvidenceKind = Literal[
    "commit", "drift", "status", "pattern", "prompt", "shared", "indifferent", "step", "suspect", "change", "failure", "why"
]


class Cited(Struct, frozen=True):
    """A piece of evidence that a hypothesis may rest on. `id` is unique in its cluster: `E1`, `E2` ..."""

    id: str
    kind: EvidenceKind
    text: str


class Hypothesis(Struct, frozen=True, omit_defaults=True):
    """What may be the cause, in words. `cites` are ids of the evidence that it rests on, at least one."""

    cluster: str
    text: str
    cites: tuple[str, ...]
    source: str = ""
    """The model that said it; "" where it was made from the evidence by template."""
