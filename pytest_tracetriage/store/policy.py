"""`policy/aliases.json`: what people decided about clusters."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from pytest_tracetriage.model.policy import ALIASES_SCHEMA, Aliases
from pytest_tracetriage.store.runs import StoreError, prepare_folder, write_atomically

if TYPE_CHECKING:
    from pathlib import Path


def read_aliases(folder: Path) -> Aliases:
    """Return what people decided, empty where nobody has. Raises StoreError naming the file."""
    path = folder / "policy" / "aliases.json"
    try:
        aliases = msgspec.json.decode(path.read_bytes(), type=Aliases)
    except FileNotFoundError:
        return Aliases()
    except OSError as error:
        raise StoreError(f"{path}: {error.strerror}") from None
    except (msgspec.MsgspecError, RecursionError) as error:
        raise StoreError(f"{path}: {error}") from None
    if aliases.schema != ALIASES_SCHEMA:
        raise StoreError(f"{path}: schema {aliases.schema!r} is not {ALIASES_SCHEMA!r}, which this version reads")
    return aliases


def write_aliases(folder: Path, aliases: Aliases) -> Path:
    """Write what people decided; return the file. Raises OSError."""
    prepare_folder(folder)
    path = folder / "policy" / "aliases.json"
    path.parent.mkdir(exist_ok=True)
    write_atomically(path, msgspec.json.format(msgspec.json.encode(aliases)) + b"\n")
    return path
