"""Runs written by hand: what a suite would have left, in a moment and with any context."""

from __future__ import annotations

import msgspec

from pytest_tracetriage.model.run import CI, RUN_SCHEMA, Context, Git, Run, Totals
from pytest_tracetriage.model.trace import Error, Failure, Frame, Trace

COMMITS = {name: name[0] * 40 for name in "abcdef"}


def failure(type_, place, message="no"):
    file, function = place.split(":")
    return Failure("call", (Error(type_, message, (Frame(file, function, 7, "app", code="x"),)),))


PRICE = failure("KeyError", "shop/price.py:price", "'sku'")
STOCK = failure("TypeError", "shop/stock.py:count", "None + 1")
PAY = failure("TimeoutError", "shop/pay.py:pay", "no answer after 5 s")


def record(folder, number, outcomes, *, commit="a", branch="main", attempt=1, ci_run="1", status="finished", **ci):
    """Write run `number` (its minute); `outcomes` give by node id a word, a failure, or a list of both: attempts."""
    identity = f"20261120T04{number:02d}00Z-{number:06x}"
    traces = []
    for nodeid, ended in outcomes.items():
        attempts = ended if isinstance(ended, list) else [ended]
        for index, word in enumerate(attempts, 1):
            traces.append(
                Trace(
                    f"main.{len(traces)}",
                    nodeid,
                    "failed" if isinstance(word, Failure) else word,
                    start=1000.0 * number,
                    phases={"call": 0.5},
                    attempt=index,
                    rerun=index < len(attempts),
                    failure=word if isinstance(word, Failure) else None,
                )
            )
    last = [trace for trace in traces if not trace.rerun]
    red = sum(trace.failure is not None for trace in last)
    run = Run(
        schema=RUN_SCHEMA,
        id=identity,
        status=status,
        started=1_795_000_000.0 + 60 * number,
        finished=1_795_000_000.0 + 60 * number + 30,
        group=f"github:shop/shop:{ci_run}:{attempt}",
        exit_status=int(red > 0),
        context=Context(
            git=Git(COMMITS[commit], branch, ci.pop("base", "main")),
            ci=CI(
                provider="github",
                event=ci.pop("event", "push"),
                workflow="CI",
                job=ci.pop("job", "test"),
                run_id=ci_run,
                attempt=str(attempt),
                repository="shop/shop",
                url=f"https://github.com/shop/shop/actions/runs/{ci_run}",
                **ci,
            ),
            python="3.12.1",
        ),
        totals=Totals(
            tests=len(last), passed=sum(t.failure is None for t in last), failed=sum(t.failure is not None for t in last)
        ),
    )
    target = folder / identity
    (target / "traces").mkdir(parents=True)
    (target / "run.json").write_bytes(msgspec.json.encode(run))
    (target / "traces" / "main.jsonl").write_bytes(b"".join(msgspec.json.encode(trace) + b"\n" for trace in traces))
    return target
