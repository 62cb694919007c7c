"""`tracetriage schema`: the JSON Schema of every record."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import msgspec

from pytest_tracetriage.commands.output import emit
from pytest_tracetriage.model.analysis import ALIASES_SCHEMA, ANALYSIS_SCHEMA, Aliases, Analysis
from pytest_tracetriage.model.diagnosis import CULPRIT_SCHEMA, Diagnosis, Search
from pytest_tracetriage.model.run import RUN_SCHEMA, Run
from pytest_tracetriage.model.trace import Record

RECORD_SCHEMA = "tracetriage.record/1"
KINDS: dict[str, tuple[str, Any]] = {
    "record": (RECORD_SCHEMA, Record),
    "run": (RUN_SCHEMA, Run),
    "analysis": (ANALYSIS_SCHEMA, Analysis),
    "diagnosis": (ANALYSIS_SCHEMA, Diagnosis),
    "aliases": (ALIASES_SCHEMA, Aliases),
    "culprit": (CULPRIT_SCHEMA, Search),
}


@click.command("schema")
@click.argument("kind", required=False, metavar="[KIND]", type=click.Choice(list(KINDS)))
@click.option("--output", type=click.Path(path_type=Path, dir_okay=False), help="write to a file instead of the terminal")
def command(kind: str | None, output: Path | None) -> int:
    """Print the JSON Schema (2020-12) of a kind of record: a line of traces, run.json, analysis.json, aliases.json.

    `culprit` is what that command prints. Without KIND: all of them, as one object by kind.
    """
    schemas = {name: schema_of(name) for name in KINDS}
    text = msgspec.json.format(msgspec.json.encode(schemas[kind] if kind else schemas)).decode()
    emit(text, output)
    return 0


def schema_of(kind: str) -> dict[str, Any]:
    """Return the JSON Schema of one kind of record."""
    identity, struct = KINDS[kind]
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "$id": identity, **msgspec.json.schema(struct)}
