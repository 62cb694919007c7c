"""`--save`: what other tools recorded, kept as a run of this project."""

from __future__ import annotations

import os
import shutil
import time
from typing import TYPE_CHECKING, Any

import msgspec

from pytest_tracetriage.collect.opening import open_source
from pytest_tracetriage.collect.runs import FORMAT, is_run_folder, open_run, read_function_sources, unfinished
from pytest_tracetriage.collect.totals import pass_rate
from pytest_tracetriage.commands import pipeline
from pytest_tracetriage.model.analysis import Analysis
from pytest_tracetriage.model.run import RUN_SCHEMA, Run
from pytest_tracetriage.model.trace import Source, Trace
from pytest_tracetriage.redact import Redactor, environment_secrets, folder_key, redact_by
from pytest_tracetriage.store import runs
from pytest_tracetriage.store.writer import Writer

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from pytest_tracetriage.collect.formats import Format, Item
    from pytest_tracetriage.config import Settings


def save_sources(
    settings: Settings, sources: Sequence[Path], formats: Sequence[Format], forced: str, analysis: Analysis, hooks: Any
) -> str:
    """Write the traces of all sources, redacted, as one run with its analysis; return the run's id. Raises OSError."""
    runs.prepare_folder(settings.folder)
    redactor = Redactor(folder_key(settings.folder), environment_secrets(os.environ), redact_by(hooks))
    identity = runs.new_run_id(time.time())
    folder = settings.folder / "runs" / identity
    writer = Writer(folder / "traces", "main")
    readers = {item.name: item for item in (*formats, FORMAT)}
    first = last = 0.0
    seen: set[str] = set()
    readers_of: dict[str, str] = {}
    for part in pipeline.plan(sources, formats, forced).parts:
        if part.path in seen:  # parts of one file
            continue
        seen.add(part.path)
        readers_of[part.path] = part.format
        for number, trace in enumerate(_traces(part, readers[part.format])):
            first = min(first or trace.start, trace.start)
            last = max(last, trace.start)
            unique = msgspec.structs.replace(trace, id=f"{len(seen)}.{number}")
            writer.write(redactor.struct(unique, Trace))
    for path in sorted(path for path in seen if readers_of[path] == "tracetriage"):
        for function in read_function_sources(path):
            writer.write(redactor.struct(function, Source))
    for source in sources:
        if source.is_dir() and is_run_folder(source):
            for trace in unfinished(open_run(source)):
                writer.write(redactor.struct(msgspec.structs.replace(trace, id=f"unfinished.{trace.id}"), Trace))
    writer.close()
    if writer.lost:  # half a run would pass for the whole
        shutil.rmtree(folder, ignore_errors=True)
        raise OSError(writer.broken)
    run = Run(
        schema=RUN_SCHEMA,
        id=identity,
        status="finished",
        started=first,
        finished=last,
        rootdir=str(settings.rootdir),
        totals=analysis.totals,
        metrics=pass_rate(analysis.totals),
    )
    runs.write_run(folder, run)
    kept = msgspec.structs.replace(analysis, problems=())
    runs.write_analysis(folder, redactor.struct(kept, Analysis))
    runs.forget_runs(settings.folder, settings.keep_runs, identity)
    return identity


def _traces(part: pipeline.Part, reader: Format) -> Iterator[Trace]:
    try:
        with open_source(part.path) as file:
            items: Iterator[Item] = reader.read(file, part.path)
            for item in items:
                if isinstance(item, Trace):
                    yield item
    except (OSError, EOFError):
        return  # the analysis has told it
