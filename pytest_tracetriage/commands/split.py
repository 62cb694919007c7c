"""`tracetriage split A`: the signatures of this cluster have different root causes."""

from __future__ import annotations

import click
import msgspec

from pytest_tracetriage.commands.join import person
from pytest_tracetriage.commands.lookup import cluster_of
from pytest_tracetriage.commands.project import open_project
from pytest_tracetriage.model.policy import Split
from pytest_tracetriage.store.policy import read_aliases, write_aliases


@click.command("split")
@click.argument("cluster")
@click.option("--reason", default="", help="why, for whoever reads policy/aliases.json")
def command(cluster: str, reason: str) -> int:
    """Remember that the signatures of a cluster have different root causes, each its own."""
    settings = open_project()
    found = cluster_of(settings, cluster)
    signatures = tuple(sorted(signature.id for signature in found.signatures))
    if len(signatures) < 2:
        raise click.UsageError(f"{cluster}: all its failures are of one signature; there is nothing to split")
    aliases = read_aliases(settings.folder)
    joins = tuple(decision for decision in aliases.joins if found.id not in decision.clusters)
    decision = Split(signatures=signatures, by=person(), reason=reason)
    changed = msgspec.structs.replace(aliases, joins=joins, splits=(*aliases.splits, decision))
    path = write_aliases(settings.folder, changed)
    click.echo(f"split into {len(signatures)}; written to {path}: commit it to share it")
    return 0
