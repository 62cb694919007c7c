"""The history of runs: Parquet files that no one has to host, and the questions that DuckDB answers from them."""

from __future__ import annotations

import importlib
from typing import Any


class HistoryError(Exception):
    """A history that cannot be read or written; the text is one line: what was wrong, where, what to do."""


def extra(module: str) -> Any:
    """Import a module of the `history` extra. Raises HistoryError that says how to install it."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        top = module.partition(".")[0]
        raise HistoryError(
            f"the history needs {top}, which cannot be imported ({one_line(error)}): pip install 'pytest-tracetriage[history]'"
        ) from None


def one_line(error: object, limit: int = 200) -> str:
    """Return the first line of an error's text, printable and at most `limit` characters."""
    text = next(iter(str(error).strip().splitlines()), "") or type(error).__name__
    text = "".join(character if character.isprintable() else " " for character in text)
    return text if len(text) <= limit else text[: limit - 1] + "…"
