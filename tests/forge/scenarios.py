"""What a publishing job does on GitHub, as functions of a forge; as a script, one of them in a process of its own.

`python scenarios.py API_URL TOKEN SCENARIO SHA [RUN]` prints the outcome.
"""

from __future__ import annotations

import re
import sys

from pytest_tracetriage.govern.forge.github import CheckAnnotation, GitHubForge

FULL_NAME = "acme/shop"
FORK = "mallory/shop"
MARKER = "<!-- tracetriage: unit tests -->"
NAME = "TraceTriage / unit tests"


def text(run: int, attempt: int = 1, words: str = "31 of 812 tests fail") -> str:
    """A comment of ours."""
    return f"{MARKER}\n<!-- run {run}.{attempt} -->\n### {words}"


def read_order(body: str) -> tuple[int, int] | None:
    """The (CI run, attempt) that a comment of ours tells of."""
    match = re.search(r"<!-- run (\d+)\.(\d+) -->", body)
    return (int(match[1]), int(match[2])) if match else None


def annotations(count: int) -> tuple[CheckAnnotation, ...]:
    """Annotations of which some are alike: they must not be taken for each other's doubles."""
    return tuple(
        CheckAnnotation(
            f"shop/cart_{number % 3}.py", number // 2 + 1, number // 2 + 1, "failure", f"KeyError: 'sku' {number // 2}"
        )
        for number in range(count)
    )


def comment(forge: GitHubForge, sha: str, run: int = 7) -> str:
    return forge.upsert_comment(1, MARKER, text(run), (run, 1), read_order)


def check(forge: GitHubForge, sha: str, run: int = 7) -> str:
    return forge.set_check(
        NAME,
        sha,
        title="2 new causes",
        summary="31 of 812 tests fail",
        text="details",
        conclusion="failure",
        annotations=annotations(104),
        details_url="https://example.com/run",
        external_id=f"{run}",
    )


def status(forge: GitHubForge, sha: str, run: int = 7) -> str:
    return forge.set_status(sha, NAME, "failure", "2 new causes", "https://example.com/run")


def no_sleep(seconds: float) -> None:
    """Tests wait for nothing."""


def calls(server) -> list[tuple[str, str]]:
    """The calls of a server so far, as (method, path)."""
    return [(entry["method"], entry["path"]) for entry in server.log]


SCENARIOS = {"comment": comment, "check": check, "status": status}

if __name__ == "__main__":
    api_url, token, scenario, sha, *run = sys.argv[1:]
    forge = GitHubForge(FULL_NAME, token, api_url, sleep=no_sleep)
    print(SCENARIOS[scenario](forge, sha, *map(int, run)))  # noqa: T201
