"""`tracetriage join A B…`: these clusters have one root cause."""

from __future__ import annotations

import getpass

import click
import msgspec

from pytest_tracetriage.commands.lookup import cluster_of
from pytest_tracetriage.commands.project import open_project
from pytest_tracetriage.model.policy import Join
from pytest_tracetriage.store.policy import read_aliases, write_aliases


@click.command("join")
@click.argument("clusters", nargs=-1, required=True, metavar="CLUSTER…")
@click.option("--reason", default="", help="why, for whoever reads policy/aliases.json")
def command(clusters: tuple[str, ...], reason: str) -> int:
    """Remember that clusters have one root cause. The id of the first survives."""
    settings = open_project()
    found = {cluster.id: cluster for cluster in (cluster_of(settings, prefix) for prefix in clusters)}
    ids = tuple(found)
    if len(ids) < 2:
        raise click.UsageError("join needs at least two different clusters")
    aliases = read_aliases(settings.folder)
    signatures = tuple(sorted({signature.id for cluster in found.values() for signature in cluster.signatures}))
    decision = Join(clusters=ids, signatures=signatures, by=person(), reason=reason)
    # Who joins takes back what was split: of two decisions the later one holds.
    splits = tuple(split for split in aliases.splits if len(set(split.signatures) & set(signatures)) < 2)
    changed = msgspec.structs.replace(aliases, joins=(*aliases.joins, decision), splits=splits)
    path = write_aliases(settings.folder, changed)
    click.echo(f"joined into {ids[0]}; written to {path}: commit it to share it")
    return 0


def person() -> str:
    """Return the name of whoever decides, "" where the system does not know."""
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):
        return ""
