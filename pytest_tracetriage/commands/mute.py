"""`tracetriage mute A`: look away from a cluster, with owner, reason and expiry."""

from __future__ import annotations

from datetime import date

import click
import msgspec

from pytest_tracetriage.commands.join import person
from pytest_tracetriage.commands.lookup import cluster_of
from pytest_tracetriage.commands.project import open_project
from pytest_tracetriage.model.policy import Mute
from pytest_tracetriage.store.policy import read_aliases, write_aliases


@click.command("mute")
@click.argument("cluster")
@click.option("--owner", help="who answers for it (default: you)")
@click.option("--reason", help="why it may be looked away from")
@click.option("--until", metavar="YYYY-MM-DD", help="the last day (default: for good)")
@click.option("--off", is_flag=True, help="hear of it again")
def command(cluster: str, owner: str | None, reason: str | None, until: str | None, off: bool) -> int:
    """Mute a cluster: it is still counted and shown, but last, and opens no report."""
    settings = open_project()
    found = cluster_of(settings, cluster)
    aliases = read_aliases(settings.folder)
    mutes = tuple(mute for mute in aliases.mutes if mute.cluster != found.id)
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
    mute = Mute(cluster=found.id, owner=owner or person() or "unknown", reason=reason, until=until or "")
    path = write_aliases(settings.folder, msgspec.structs.replace(aliases, mutes=(*mutes, mute)))
    click.echo(f"muted {found.id}; written to {path}: commit it to share it")
    return 0
