"""Last step: what the job's result is, by the suite's exit status, by fail-on, and by what was found."""

from __future__ import annotations

import os
import sys

import inputs


def main() -> int:
    """Return the exit status of the job."""
    return result(
        fail_on=inputs.text("fail-on"),
        publish=inputs.text("publish") == "true",
        suite=int(os.environ.get("EXIT_STATUS") or 0),
        legs_failed=inputs.text("result") == "failure",
        tests_failed=os.environ.get("TESTS_FAILED") == "true",
        verdict=os.environ.get("VERDICT", ""),
    )


def result(*, fail_on: str, publish: bool, suite: int, tests_failed: bool, verdict: str, legs_failed: bool = False) -> int:
    """Return the exit status of the job. `verdict` is that of the report, "" where there is none.

    A leg that failed before its tests left nothing to report; with the same `fail-on` no leg fails that may be forgiven.

    `new` and `real` forgive failing tests only: a command that failed otherwise (nothing collected, a broken conftest, a
    killed process) fails the job. Where there should be a report and is none, the suite's own status stands.
    """
    if fail_on == "never":
        return 0
    if legs_failed and not suite:
        return 1
    if fail_on == "any":
        return suite or int(verdict or 0)
    if verdict:
        return (suite or 1) if verdict == "1" else 0
    return 0 if tests_failed and not publish else suite


if __name__ == "__main__":
    sys.exit(main())
