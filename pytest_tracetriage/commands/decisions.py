"""What people decide about clusters, remembered in `policy/aliases.json`: `tracetriage join`, `split` and `mute`."""

from __future__ import annotations

import getpass
from datetime import date

import click
import msgspec

from pytest_tracetriage.commands.project import cluster_of, open_project
from pytest_tracetriage.model.analysis import Join, Mute, Split
from pytest_tracetriage.store.runs import read_aliases, write_aliases


@click.command("join")
@click.argument("clusters", nargs=-1, required=True, metavar="CLUSTER…")
@click.option("--reason", default="", help="why, for whoever reads policy/aliases.json")
def join(clusters: tuple[str, ...], reason: str) -> int:
    """Remember that clusters have one root cause. The id of the first survives."""
    settings = open_project()
    found = {cluster.id: cluster for cluster in (cluster_of(settings, prefix) for prefix in clusters)}
    ids = tuple(found)
    if len(ids) < 2:
        raise click.UsageError("join needs at least two different clusters")
    aliases = read_aliases(settings.folder)
    signatures = tuple(sorted({signature.id for cluster in found.values() for signature in cluster.signatures}))
    decision = Join(clusters=ids, signatures=signatures, by=_person(), reason=reason)
    # Who joins takes back what was split: of two decisions the later one holds.
    splits = tuple(split for split in aliases.splits if len(set(split.signatures) & set(signatures)) < 2)
    changed = msgspec.structs.replace(aliases, joins=(*aliases.joins, decision), splits=splits)
    path = write_aliases(settings.folder, changed)
    click.echo(f"joined into {ids[0]}; written to {path}: commit it to share it")
    return 0


@click.command("split")
@click.argument("cluster")
@click.option("--reason", default="", help="why, for whoever reads policy/aliases.json")
def split(cluster: str, reason: str) -> int:
    """Remember that the signatures of a cluster have different root causes, each its own."""
    settings = open_project()
    found = cluster_of(settings, cluster)
    signatures = tuple(sorted(signature.id for signature in found.signatures))
    if len(signatures) < 2:
        raise click.UsageError(f"{cluster}: all its failures are of one signature; there is nothing to split")
    aliases = read_aliases(settings.folder)
    joins = tuple(decision for decision in aliases.joins if found.id not in decision.clusters)
    decision = Split(signatures=signatures, by=_person(), reason=reason)
    changed = msgspec.structs.replace(aliases, joins=joins, splits=(*aliases.splits, decision))
    path = write_aliases(settings.folder, changed)
    click.echo(f"split into {len(signatures)}; written to {path}: commit it to share it")
    return 0


@click.command("mute")
@click.argument("cluster")
@click.option("--owner", help="who answers for it (default: you)")
@click.option("--reason", help="why it may be looked away from")
@click.option("--until", metavar="YYYY-MM-DD", help="the last day (default: for good)")
@click.option("--off", is_flag=True, help="hear of it again")
def mute(cluster: str, owner: str | None, reason: str | None, until: str | None, off: bool) -> int:
    """Mute a cluster: it is still counted and shown, but last, and opens no report."""
    settings = open_project()
    found = cluster_of(settings, cluster)
    aliases = read_aliases(settings.folder)
    mutes = tuple(earlier for earlier in aliases.mutes if earlier.cluster != found.id)
    if off:
        if len(mutes) == len(aliases.mutes):
            raise click.UsageError(f"{cluster} is not muted")
        write_aliases(settings.folder, msgspec.structs.replace(aliases, mutes=mutes))
        click.echo(f"{found.id} is heard of again")
        return 0
    if not reason:
        raise click.UsageError("a mute needs --reason")
    if until:
        try:
            if date.fromisoformat(until).isoformat() != until:
                raise ValueError
        except ValueError:
            raise click.BadParameter(f"{until!r}: expected a day as YYYY-MM-DD", param_hint="--until") from None
    decision = Mute(cluster=found.id, owner=owner or _person() or "unknown", reason=reason, until=until or "")
    path = write_aliases(settings.folder, msgspec.structs.replace(aliases, mutes=(*mutes, decision)))
    click.echo(f"muted {found.id}; written to {path}: commit it to share it")
    return 0


def _person() -> str:
    """Return the name of whoever decides, "" where the system does not know."""
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):
        return ""
