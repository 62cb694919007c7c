"""Every call of every job, every fault, before and after it took effect: the end is the same, and nothing is there twice."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path

import pytest
from faults import Meeting
from scenarios import FULL_NAME, MARKER, NAME, SCENARIOS, calls, no_sleep, text
from world import ACTIONS, ACTIONS_APP, INSTALLATION, PERSONAL, Check, Status

from pytest_tracetriage.govern.forge.errors import ForgeError
from pytest_tracetriage.govern.forge.github import GitHubForge

BEFORE = (
    "timeout",
    "reset",
    "502",
    "503",
    "429",
    "429-retry-after",
    "secondary",
    "secondary-retry-after",
    "primary",
    "garbage",
)
AFTER = ("timeout", "reset", "502", "503", "garbage")
SCRIPT = Path(__file__).with_name("scenarios.py")


def nothing(world, sha):
    """A pull request that nobody has commented on."""


def older(world, sha):
    """A comment and a check run of an earlier attempt, and what others have said."""
    world.say(1, "stranger", f"look: {MARKER}")
    world.say(1, ACTIONS, text(6), ACTIONS_APP)
    world.checks[900] = Check(900, ACTIONS_APP, NAME, sha, "7", None, "completed", "success", "green", "all well", "")
    world.checks[901] = Check(901, ACTIONS_APP, NAME, sha, "other", None, "completed", "success", "green", "another run", "")
    world.statuses.append(Status(902, sha, "maintainer", "success", NAME, "green"))


def doubled(world, sha):
    """Two comments of ours, in the younger one a text newer than what is to be said: what killed jobs may leave."""
    world.say(1, ACTIONS, text(5), ACTIONS_APP)
    world.say(1, ACTIONS, text(9), ACTIONS_APP)


JOBS = [
    ("comment", nothing, INSTALLATION),
    ("comment", nothing, PERSONAL),
    ("comment", older, INSTALLATION),
    ("comment", doubled, INSTALLATION),
    ("check", nothing, INSTALLATION),
    ("check", older, INSTALLATION),
    ("check", nothing, PERSONAL),
    ("status", older, PERSONAL),
]


def end(server):
    """What people see at the end, without ids and numbers of edits; and how often something was created on the way."""
    world = server.world
    return (
        sorted((item.login, item.body) for item in world.comments.values()),
        sorted(str({**asdict(item), "id": 0}) for item in world.checks.values()),
        [(item.context, item.state, item.description, item.target_url) for item in world.statuses],
        # A second comment that is deleted again was a second comment: people had a mail of it.
        Counter(entry["path"] for entry in server.log if entry["method"] == "POST" and str(entry["status"]).startswith("201")),
    )


def run(server, job, sha, faults=()):
    """Run a job against a server with faults; return what people see then, and the violations."""
    scenario, before, token = job
    before(server.world, sha)
    for fault in faults:
        server.fault(**fault)
    with server:
        outcome = SCENARIOS[scenario](GitHubForge(FULL_NAME, token, server.api_url, timeout=1, sleep=no_sleep), sha)
        assert faults or outcome in {"created", "updated", "stale", "status"}
    assert server.violations == []
    return end(server)


@pytest.mark.parametrize("job", JOBS, ids=lambda job: f"{job[0]}-{job[1].__name__}-{job[2][:3]}")
def test_every_fault_at_every_call_has_the_same_end(job, new_server, sha):
    clean = new_server()
    expected = run(clean, job, sha)
    steps = calls(clean)
    assert len(steps) >= 2
    plans = []
    for place, (method, path) in enumerate(steps):
        nth = 1 + steps[:place].count((method, path))
        at = {"method": method, "path": re.escape(path), "nth": nth}
        plans += [{**at, "kind": kind} for kind in BEFORE] + [{**at, "kind": kind, "after": True} for kind in AFTER]

    def attempt(item):
        server, plan = item
        try:
            found = run(server, job, sha, [plan])
        except ForgeError as error:
            return f"{plan}: {error}"
        struck = server.plan.faults[0].reached.is_set()
        return "" if found == expected and struck else f"{plan}: {found}"

    with ThreadPoolExecutor(8) as pool:
        complaints = [complaint for complaint in pool.map(attempt, [(new_server(), plan) for plan in plans]) if complaint]
    assert complaints == []


@pytest.mark.linux
@pytest.mark.parametrize(
    "job", [JOBS[0], JOBS[3], JOBS[4], JOBS[6]], ids=lambda job: f"{job[0]}-{job[1].__name__}-{job[2][:3]}"
)
def test_a_process_killed_at_any_call_is_taken_up_by_the_next(job, new_server, sha):
    clean = new_server()
    expected = run(clean, job, sha)
    steps = calls(clean)
    scenario, before, token = job

    def attempt(item):
        server, place, after = item
        method, path = steps[place]
        before(server.world, sha)
        fault = server.fault("pause", method, re.escape(path), nth=1 + steps[:place].count((method, path)), after=after)
        with server:
            command = [sys.executable, SCRIPT, server.api_url, token, scenario, sha]
            with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
                assert fault.reached.wait(30)
                process.send_signal(signal.SIGKILL)
                process.wait(30)
            assert process.returncode == -signal.SIGKILL
            SCENARIOS[scenario](GitHubForge(FULL_NAME, token, server.api_url, sleep=no_sleep), sha)
        return "" if end(server) == expected and not server.violations else f"{method} {path} {after}: {end(server)}"

    places = [
        (new_server(), place, after)
        for place, (method, _) in enumerate(steps)
        for after in ((False, True) if method != "GET" else (True,))
    ]
    with ThreadPoolExecutor(3) as pool:
        assert [complaint for complaint in pool.map(attempt, places) if complaint] == []


@pytest.mark.parametrize("held", ["look", "look and post"])
@pytest.mark.parametrize("runs", [(7, 7), (7, 8), (8, 7)])
def test_two_processes_at_once_leave_one_comment(held, runs, server, sha):
    comments = f"/repos/{FULL_NAME}/issues/1/comments"
    server.plan.meetings.append(Meeting("GET", comments))
    if held == "look and post":
        server.plan.meetings.append(Meeting("POST", comments))
    commands = [[sys.executable, SCRIPT, server.api_url, INSTALLATION, "comment", sha, str(number)] for number in runs]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for command in commands]
    told = [process.communicate(timeout=60) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], told
    assert [(item.id, item.body) for item in server.world.comments.values()] == [(1001, text(max(runs)))]
    assert calls(server).count(("POST", comments)) == 2


@pytest.mark.parametrize("kind", ["502", "timeout", "garbage", "secondary", "primary", "429-retry-after"])
def test_a_fault_that_stays_ends_within_the_budget_in_one_line(kind, server, forge_of, sha):
    for nth in range(1, 40):
        server.fault(kind, nth=nth, wait=30)
    waits = []
    with pytest.raises(ForgeError) as error:
        SCENARIOS["comment"](forge_of(budget=100 if kind != "timeout" else 7, timeout=1, sleep=waits.append), sha)
    assert "\n" not in str(error.value)
    assert "comments on #1" in str(error.value)
    assert "try later" in str(error.value)
    assert sum(waits) <= 100
    assert {
        "502": "502",
        "timeout": "no whole answer",
        "garbage": "not GitHub's",
        "secondary": "wants 60 s of rest",
        "primary": "API rate limit exceeded",
        "429-retry-after": "wants 30 s of rest",
    }[kind] in str(error.value)


def test_what_github_asks_for_is_waited_for(server, forge_of, sha):
    waits = []
    server.fault("429-retry-after", nth=1, wait=11)
    server.fault("secondary-retry-after", nth=2, wait=12)
    server.fault("primary", nth=3, wait=13)
    server.fault("502", nth=4)
    server.fault("503", nth=5)
    SCENARIOS["comment"](forge_of(sleep=waits.append), sha)
    assert waits[:2] == [11, 12]
    assert 12 <= waits[2] <= 15
    assert 4 <= waits[3] <= 8
    assert 8 <= waits[4] <= 16
    assert len(waits) == 5


def test_a_secondary_limit_without_a_word_is_given_a_minute(server, forge_of, sha):
    waits = []
    server.fault("secondary")
    SCENARIOS["comment"](forge_of(sleep=waits.append), sha)
    assert waits == [60]


def test_nobody_listening_is_said_in_one_line(new_server, sha):
    with new_server() as gone:
        pass
    with pytest.raises(ForgeError, match=r"could not be brought to .* within 5 s: no whole answer"):
        SCENARIOS["comment"](GitHubForge(FULL_NAME, INSTALLATION, gone.api_url, budget=5, sleep=no_sleep), sha)
