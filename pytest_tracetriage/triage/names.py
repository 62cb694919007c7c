"""Names of clusters: `KeyError in Cart.total: missing 'sku'`, never `Cluster 3`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_tracetriage.triage.evidence import quoted_error
from pytest_tracetriage.triage.signature import Key, first_line, mask, place

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_tracetriage.model.trace import Failure

MAX_NAME = 110


def name(key: Key, failures: Sequence[Failure], *, placed: bool = True, setups: int = 1) -> str:
    """Return the name of a cluster from its leading signature and some of that signature's failures.

    Without `placed` the place is left out: the cluster's tests fail in many. `setups` is how many `setup()` were not called.
    """
    kind, where, what = key.type, _where(key, failures) if placed else "", _message(key, failures)
    told = {quoted_error(failure) for failure in failures}
    if (setup := failures[0].uncalled) is not None:
        whose = setup.qualname.rpartition(".")[0] or setup.file
        where, what = "", f"pytest 8 no longer calls setup() of {f'{setups} classes' if setups > 1 else whose}"
    elif len(told) == 1 and (error := told.pop()) is not None:
        kind, where, what = error.type, error.functions[-1], f"{error.message or 'raised'}, quoted by {key.type}"
    text = kind + (f" in {where}" if where else "") + (f": {what}" if what else "")
    text = "".join(character if character.isprintable() else " " for character in text)
    return text if len(text) <= MAX_NAME else text[: MAX_NAME - 1].rstrip() + "…"


def _where(key: Key, failures: Sequence[Failure]) -> str:
    """Return the function as people call it: qualified where all failures agree on one."""
    names = set()
    for failure in failures:
        frame = place(failure.errors)
        if frame is not None and frame.function == key.function:
            names.add(frame.qualname.replace("<locals>.", "") or frame.function)
    where = names.pop() if len(names) == 1 else key.function
    return where if where not in {"<module>", "<lambda>"} else key.file


def _message(key: Key, failures: Sequence[Failure]) -> str:
    """Return the message as it was raised where it does not vary, else with its varying parts masked."""
    raw = {first_line(failure.errors[0].message if failure.errors else failure.text) for failure in failures}
    text = raw.pop() if len(raw) == 1 else key.message
    if key.type == "KeyError" and text:
        return f"missing {text}"
    if "redacted" in text:
        text = mask(text)
    return text
