"""What people decided, as `policy/aliases.json` holds it."""

from msgspec import Struct

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
