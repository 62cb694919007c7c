"""Tests run again in a worktree: by pytest in a subprocess, with the project's own configuration; and what they did."""

from __future__ import annotations

import os
import secrets
import shlex
import shutil
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import msgspec

from pytest_tracetriage.execute.environment import source_roots, subprocess_environment
from pytest_tracetriage.execute.process import command_in, printable, run_command
from pytest_tracetriage.model.execution import Again, Execution, Note, Order, OrderEnd, TestRun
from pytest_tracetriage.model.trace import FAILING, Error, Failure, Start, Trace
from pytest_tracetriage.store.writer import SLOT_SUFFIX, read_slot, tail, was_finished

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from pytest_tracetriage.execute.process import Ended
    from pytest_tracetriage.execute.worktree import Worktree
    from pytest_tracetriage.model.trace import Outcome

DEFAULT_COMMAND = (sys.executable, "-m", "pytest")
FORKS = hasattr(os, "fork")
T = TypeVar("T")
_DIED = "the process died"
_NEVER_RAN = 3
"""From this exit status on (internal error, usage error, no tests) pytest may not have got to the tests."""
_WEIGHT = {name: number for number, name in enumerate(
    ("skipped", "passed", "xfailed", "xpassed", "stuck", "timeout", "failed", "error", "crashed"))}  # fmt: skip


def run_tests(
    worktree: Worktree,
    nodeids: Sequence[str] | None,
    *,
    sign: Callable[[Failure], str],
    timeout: float,
    command: Sequence[str] = DEFAULT_COMMAND,
    workers: int = 0,
    in_order: bool = False,
    arguments: Sequence[str] = (),
) -> TestRun:
    """Run the tests of these (redacted) node ids, None for the whole suite, in one pytest; return what they did.

    They run as collected, or `in_order` as given. `sign` gives the signature of a failure, `timeout` is seconds for all,
    `workers` how many processes xdist may have, where it is installed; `arguments` go to pytest. Raises ExecuteError where the
    command cannot be started.
    """
    orders = (tuple(nodeids),) if in_order and nodeids is not None else ()
    again = _again(worktree, orders, selected=nodeids is not None, workers=0 if orders else workers)
    return _run(worktree, again, nodeids, command, arguments, timeout, sign, None)


def run_orders(
    worktree: Worktree,
    orders: Sequence[Sequence[str]],
    *,
    sign: Callable[[Failure], str],
    timeout: float,
    order_timeout: float = 0.0,
    command: Sequence[str] = DEFAULT_COMMAND,
    processes: int = 1,
    arguments: Sequence[str] = (),
    progress: Callable[[int], None] | None = None,
    fork: bool = FORKS,
) -> TestRun:
    """Run each list of node ids on its own, in its order, in a process where nothing ran before; `orders` of the result match.

    One pytest collects, then forks a child an order, `processes` at a time; without `fork` each is a pytest of its own. One
    may take `order_timeout` seconds (0: as long as all), all together `timeout`. `progress` is told how many have ended. A test
    that ends the process ends its order only. Raises ExecuteError.
    """
    given = tuple(tuple(order) for order in orders)
    if not given:
        return TestRun()
    if not fork:
        return _one_by_one(worktree, given, sign, timeout, order_timeout, command, arguments, progress)
    again = _again(worktree, given, fork=True, order_timeout=order_timeout, processes=max(1, processes))
    wanted = list(dict.fromkeys(nodeid for order in given for nodeid in order))
    return _run(worktree, again, wanted, command, arguments, timeout, sign, progress)


def _again(worktree: Worktree, orders: tuple[tuple[str, ...], ...], **more: object) -> Again:
    scratch = worktree.folder / "runs" / secrets.token_hex(3)
    scratch.mkdir(parents=True)
    again = Again(
        original=str(worktree.original),
        tree=str(worktree.root),
        roots=tuple(source_roots(worktree)),
        notes=str(scratch),
        orders=orders,
    )
    return msgspec.structs.replace(again, **more)


def _one_by_one(
    worktree: Worktree,
    orders: tuple[tuple[str, ...], ...],
    sign: Callable[[Failure], str],
    timeout: float,
    order_timeout: float,
    command: Sequence[str],
    arguments: Sequence[str],
    progress: Callable[[int], None] | None,
) -> TestRun:
    deadline = time.monotonic() + timeout
    runs: list[TestRun] = []
    ended: list[Order] = []
    for number, order in enumerate(orders):
        left = deadline - time.monotonic()
        if left <= 0 or (runs and runs[-1].void):
            ended.append(Order(died="not started"))
            continue
        limit = min(left, order_timeout or left)
        run = run_tests(worktree, order, sign=sign, timeout=limit, command=command, arguments=arguments, in_order=True)
        died = f"timed out after {limit:g} s" if run.timed_out else _died(run.exit_status)
        runs.append(run)
        ended.append(Order(run.executions, died, run.seconds, run.cpu))
        if progress is not None:
            progress(number + 1)
    return TestRun(
        executions=(executions := tuple(execution for run in runs for execution in run.executions)),
        outcomes=_outcomes(executions),
        signatures=_signatures(executions),
        uncollected=runs[-1].uncollected if runs else (),
        orders=tuple(ended),
        seconds=sum(run.seconds for run in runs),
        cpu=sum(run.cpu for run in runs),
        folder=runs[-1].folder if runs else "",
        void=next((run.void for run in runs if run.void), ""),
        timed_out=time.monotonic() > deadline,
        exit_status=runs[-1].exit_status if runs else 0,
        missing=tuple(sorted({nodeid for run in runs for nodeid in run.missing})),
        neutralised=tuple(dict.fromkeys(name for run in runs for name in run.neutralised)),
        output=runs[-1].output if runs else "",
    )


def _died(status: int) -> str:
    # Under 6 it is pytest that says how the tests went, not the process that died.
    return f"killed by signal {-status}" if status < 0 else f"ended with exit status {status}" if status > 5 else ""


def _run(
    worktree: Worktree,
    again: Again,
    nodeids: Sequence[str] | None,
    command: Sequence[str],
    arguments: Sequence[str],
    timeout: float,
    sign: Callable[[Failure], str],
    progress: Callable[[int], None] | None,
) -> TestRun:
    scratch = Path(again.notes)
    recorded = scratch / "tracetriage"
    recorded.mkdir()
    if worktree.key_file is not None:
        shutil.copyfile(worktree.key_file, recorded / "redaction.key")
    again_file = scratch / "again.json"
    again_file.write_bytes(msgspec.json.encode(again))
    words = [*command_in(worktree, command), *_options(recorded), *arguments]
    if nodeids is not None:
        selected = scratch / "selected.txt"
        selected.write_text("".join(f"{nodeid}\n" for nodeid in nodeids), encoding="utf-8", errors="surrogateescape")
        words.append(f"--tracetriage-select={selected}")
    environment = subprocess_environment(worktree, scratch) | {"TRACETRIAGE_AGAIN": str(again_file)}
    ends = scratch / "orders.jsonl"

    def tick() -> None:
        if progress is not None:
            progress(ends.read_bytes().count(b"\n") if ends.exists() else 0)

    ended = run_command(
        words, folder=worktree.project, environment=environment, timeout=timeout, tick=tick if progress is not None else None
    )
    return _result(again, recorded, ended, words, sign)


def _options(recorded: Path) -> list[str]:
    return [
        "-ptracetriage",
        "-ppytest_tracetriage.execute.inside",
        "--tracetriage",
        f"-otracetriage_dir={recorded}",
        f"-otracetriage_history={recorded / 'history'}",
        "-otracetriage_history_after_run=false",
        "-otracetriage_traceback=exemplar",
        "-otracetriage_weave_project=",
        "--continue-on-collection-errors",
        "--tb=no",
        "--show-capture=no",
        "--no-summary",
        "--color=no",
    ]


# -- what it left ---------------------------------------------------------------------------------------------------------


def _result(again: Again, recorded: Path, ended: Ended, words: list[str], sign: Callable[[Failure], str]) -> TestRun:
    scratch = Path(again.notes)
    notes = list(_records([path.read_bytes() for path in sorted(scratch.glob("*.json")) if path.name != "again.json"], Note))
    run = next(iter((recorded / "runs").glob("*")), None)
    by_process = _executions(run, lambda failure: sign(_as_there(failure, again))) if run is not None else {}
    uncollected = [execution for found in by_process.values() for execution in found if _of_collection(execution)]
    by_process = {name: [one for one in found if not _of_collection(one)] for name, found in by_process.items()}
    if again.fork:
        orders = _orders(again, by_process, scratch / "orders.jsonl")
        executions = tuple(execution for order in orders for execution in order.executions)
    else:
        orders = ()
        executions = tuple(execution for found in by_process.values() for execution in found)
        executions = _ended_by_us(executions, "the time for the run was over") if ended.timed_out else executions
    return TestRun(
        executions=executions,
        outcomes=_outcomes(executions),
        signatures=_signatures(executions),
        uncollected=tuple({execution.nodeid: execution for execution in uncollected}.values()),
        orders=orders,
        seconds=ended.seconds,
        cpu=ended.cpu,
        folder=str(run) if run is not None else "",
        void=_void(again, notes, ended, executions, words),
        timed_out=ended.timed_out,
        exit_status=ended.status,
        missing=tuple(sorted({nodeid for note in notes for nodeid in note.missing})),
        neutralised=tuple(dict.fromkeys(name for note in notes for name in note.neutralised)),
        notes=tuple(dict.fromkeys(text for note in notes for text in note.notes)),
        output=ended.output,
    )


def _void(again: Again, notes: list[Note], ended: Ended, executions: tuple[Execution, ...], words: list[str]) -> str:
    elsewhere = sorted({found for note in notes for found in note.elsewhere})
    if elsewhere:
        more = f", and {len(elsewhere) - 1} more" if len(elsewhere) > 1 else ""
        name, file = elsewhere[0]
        return printable(
            f"module {name} was loaded from {file}{more}, not from the worktree: let the command import from the current folder"
        )
    if ended.timed_out:
        return "" if notes else "pytest was ended by its time limit before it had collected the tests"
    if not notes or (ended.status >= _NEVER_RAN and not executions and not again.orders):
        lines = [line for line in ended.output.splitlines() if line.strip() and "usage:" not in line]
        telling = [line for line in lines if "error:" in line.lower()] or lines[-1:] or ["it said nothing"]
        command = shlex.join(words[: words.index("-ptracetriage")])
        return f"{command} did not come to the tests (exit status {ended.status}): {printable(telling[-1])}"
    return ""


def _executions(run: Path, sign: Callable[[Failure], str]) -> dict[str, list[Execution]]:
    """Return what each process recorded, by its name; a test that a process died in comes last."""
    found: dict[str, list[tuple[float, Execution]]] = {}
    for path in sorted((run / "traces").glob("*.jsonl")):
        own = found.setdefault(path.stem, [])
        with path.open("rb") as file:
            traces = _records(file, Trace, b'{"record":"trace"')
            own += [(trace.start, _execution(trace, sign)) for trace in traces if not trace.rerun]
        slot = path.with_name(path.stem + SLOT_SUFFIX)
        begun = read_slot(slot) if slot.exists() else None
        if begun is not None and not was_finished(path, begun.id):
            own.append((begun.start, _execution(_ended_in(begun, path), sign)))
    return {name: [execution for _, execution in sorted(own, key=lambda pair: pair[0])] for name, own in found.items()}


def _of_collection(execution: Execution) -> bool:
    return execution.failure is not None and execution.failure.phase == "collect"


def _execution(trace: Trace, sign: Callable[[Failure], str]) -> Execution:
    signature = sign(trace.failure) if trace.failure is not None else ""
    return Execution(trace.nodeid, trace.outcome, signature, sum(trace.phases.values()), trace.failure, trace.reason)


def _as_there(failure: Failure, again: Again) -> Failure:
    """Return a failure that names the user's tree where it named the worktree: its text is part of what it is known by."""
    if not any(again.tree in text for text in (failure.text, *(error.message for error in failure.errors))):
        return failure
    errors = tuple(
        msgspec.structs.replace(error, message=error.message.replace(again.tree, again.original)) for error in failure.errors
    )
    return msgspec.structs.replace(failure, errors=errors, text=failure.text.replace(again.tree, again.original))


def _ended_in(begun: Start, records: Path) -> Trace:
    late = [start.stack for start in _records(tail(records), Start, b'{"record":"start"') if start.id == begun.id]
    stack = late[-1] if late else None
    if stack is not None:
        return Trace(begun.id, begun.nodeid, "timeout", begun.start, failure=stack, reason="ended by its timeout")
    failure = Failure(phase="call", errors=(Error(type="ProcessCrash", message="the process died while this test ran"),))
    return Trace(begun.id, begun.nodeid, "crashed", begun.start, failure=failure, reason=_DIED)


def _orders(again: Again, by_process: dict[str, list[Execution]], path: Path) -> tuple[Order, ...]:
    lines = path.read_bytes().splitlines() if path.exists() else []
    ends = {end.order: end for end in _records(lines, OrderEnd)}
    found = []
    for number in range(len(again.orders)):
        executions = tuple(by_process.get(f"o{number}", ()))
        begun = f"o{number}" in by_process
        end = ends.get(number) or OrderEnd(number, "ended with the whole run" if begun else "not started")
        if end.died.startswith(("timed out", "ended with the whole")):
            executions = _ended_by_us(executions, end.died)
        found.append(Order(executions, end.died, end.seconds, end.cpu))
    return tuple(found)


def _ended_by_us(executions: tuple[Execution, ...], reason: str) -> tuple[Execution, ...]:
    """Return executions of which the last seems to have crashed, but was ended by a time limit of ours: not its failure."""
    return tuple(
        Execution(execution.nodeid, "timeout", reason=reason) if execution.reason == _DIED else execution
        for execution in executions
    )


def _outcomes(executions: Iterable[Execution]) -> dict[str, Outcome]:
    outcomes: dict[str, Outcome] = {}
    for execution in executions:
        before = outcomes.get(execution.nodeid)
        if before is None or _WEIGHT[execution.outcome] > _WEIGHT[before]:
            outcomes[execution.nodeid] = execution.outcome
    return outcomes


def _signatures(executions: Iterable[Execution]) -> dict[str, tuple[str, ...]]:
    found: dict[str, set[str]] = {}
    for execution in executions:
        if execution.outcome in FAILING and execution.signature:
            found.setdefault(execution.nodeid, set()).add(execution.signature)
    return {nodeid: tuple(sorted(signatures)) for nodeid, signatures in sorted(found.items())}


def _records(lines: Iterable[bytes], kind: type[T], begin: bytes = b"{") -> Iterator[T]:
    """Yield the records that begin so; one that a death cut off is as if it were not there."""
    for line in lines:
        if line.startswith(begin):
            with suppress(msgspec.MsgspecError):
                yield msgspec.json.decode(line, type=kind)
