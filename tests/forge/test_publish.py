"""`tracetriage publish` against a GitHub: what it leaves there and in the job, and that no fault of it decides the job."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile

import msgspec
import pytest
from commands.recorded import PRICE, STOCK, record
from scenarios import FORK, FULL_NAME
from world import INSTALLATION, PERSONAL

from pytest_tracetriage.commands import main
from pytest_tracetriage.report.github.bodies import read_data
from pytest_tracetriage.store.runs import host

A, B = "tests/test_a.py::test_a", "tests/test_b.py::test_b"


@pytest.fixture
def job(server, sha, tmp_path, monkeypatch, capsys):
    """A workflow's job: its environment, and how to publish from it."""
    return Job(server, sha, tmp_path, monkeypatch, capsys)


class Job:
    def __init__(self, server, sha, folder, monkeypatch, capsys):
        self.folder = folder / "project"
        self.folder.mkdir()
        (self.folder / "pyproject.toml").write_text("[project]\nname = 'x'\n", encoding="utf-8")
        monkeypatch.chdir(self.folder)
        self._monkeypatch, self._capsys = monkeypatch, capsys
        self.summary, self.outputs, self._event = folder / "summary.md", folder / "outputs", folder / "event.json"
        self.set(
            GITHUB_ACTIONS="true",
            GITHUB_API_URL=server.api_url,
            GITHUB_SERVER_URL=server.url,
            GITHUB_REPOSITORY=FULL_NAME,
            GITHUB_RUN_ID="50",
            GITHUB_RUN_ATTEMPT="1",
            GITHUB_WORKFLOW="CI",
            GITHUB_SHA=sha,
            GITHUB_STEP_SUMMARY=str(self.summary),
            GITHUB_OUTPUT=str(self.outputs),
            GITHUB_EVENT_PATH=str(self._event),
            TRACETRIAGE_GITHUB_TOKEN=INSTALLATION,
        )
        self.pull_request(1, sha)

    def set(self, **environ):
        for name, value in environ.items():
            self._monkeypatch.setenv(name, value)

    def _payload(self, name, **payload):
        self.set(GITHUB_EVENT_NAME=name)
        self._event.write_text(json.dumps({"repository": {"default_branch": "main"}, **payload}), encoding="utf-8")

    def pull_request(self, number, sha, repository=FULL_NAME):
        self.set(GITHUB_HEAD_REF="feature", GITHUB_BASE_REF="main")
        self._payload("pull_request", pull_request={"number": number, "head": {"sha": sha, "repo": {"full_name": repository}}})

    def push(self):
        self.set(GITHUB_HEAD_REF="", GITHUB_BASE_REF="", GITHUB_REF_NAME="main")
        self._payload("push")

    def workflow_run(self, sha, repository=FORK, **more):
        run = {"id": 49, "run_attempt": 1, "name": "CI", "event": "pull_request", "head_sha": sha, "head_branch": "feature"}
        run |= {"head_repository": {"full_name": repository}, "pull_requests": [], **more}
        self.set(GITHUB_HEAD_REF="", GITHUB_BASE_REF="")
        self._payload("workflow_run", workflow_run=run)

    def publish(self, *args):
        self._monkeypatch.setattr(sys, "argv", ["tracetriage", "publish", *map(str, args)])
        self._capsys.readouterr()
        with pytest.raises(SystemExit) as stop:
            main()
        out, err = self._capsys.readouterr()
        assert "Traceback" not in err
        return stop.value.code, out, err

    def told(self):
        """The step's outputs."""
        return dict(line.partition("=")[::2] for line in self.outputs.read_text(encoding="utf-8").splitlines())


def warnings(out):
    return [line for line in out.splitlines() if line.startswith("::warning title=TraceTriage::")]


def comments(server, number=1):
    return [comment.body for comment in server.world.comments.values() if comment.pull == number]


def red(job, number=1, **more):
    return record(job.folder / "traces", number, {A: PRICE, B: "passed"}, **more)


def test_a_pull_request_gets_all_of_it(job, server, sha):
    code, out, err = job.publish(red(job), "--suite-exit", 1, "--output", job.folder / "out" / "report.md")
    assert (code, warnings(out)) == (1, [])
    (body,) = comments(server)
    assert "1 of 2 tests fails from 1 cause" in body
    data = read_data(body)
    assert (data.commit, data.ci_run, data.failures) == (sha, 50, 1)
    (check,) = server.world.checks.values()
    assert (check.name, check.head_sha, check.conclusion) == ("TraceTriage (CI)", sha, "failure")
    assert "1 of 2 tests fails from 1 cause" in job.summary.read_text(encoding="utf-8")
    assert "::error file=shop/price.py,line=7" in out
    told = job.told()
    assert (told["clusters"], told["new"], told["flaky"]) == ("1", "0", "0")
    assert told["run-id"].startswith("20261120T")
    assert (job.folder / "out" / "report.md").read_text(encoding="utf-8") == body
    assert told["report"] == str(job.folder / "out" / "report.md")
    assert "1 root cause" in err


def test_again_is_an_edit(job, server):
    job.publish(red(job))
    job.set(GITHUB_RUN_ATTEMPT="2")
    job.publish(record(job.folder / "again", 2, {A: "passed", B: "passed"}))
    (body,) = comments(server)
    assert "all 2 tests pass" in body.lower()
    assert len(server.world.checks) == 1


def test_a_late_older_run_does_not_overwrite_a_newer_one(job, server):
    job.publish(record(job.folder / "new", 2, {A: "passed"}))
    job.set(GITHUB_RUN_ID="49")
    job.publish(red(job))
    (body,) = comments(server)
    assert "pass" in body


def test_neither_comment_nor_check_when_not_wanted(job, server):
    job.publish(red(job), "--no-comment", "--no-check")
    assert server.log == []
    assert job.summary.stat().st_size > 0


def test_a_push_has_a_check_and_no_comment(job, server):
    job.push()
    job.publish(red(job))
    assert comments(server) == []
    assert len(server.world.checks) == 1


def test_the_history_grows_and_is_compared_with(job, server, sha):
    job.push()
    location = ["--history", job.folder / "past"]
    assert job.publish(red(job, 1, ci_run="1"), *location)[0] == 1
    job.pull_request(1, sha)
    both = record(job.folder / "both", 2, {A: PRICE, B: STOCK}, commit="b", ci_run="50", event="pull_request", branch="feature")
    job.publish(both, *location, "--fail-on", "new")
    (body,) = comments(server)
    assert "this PR brings 1 of them" in body
    assert job.told()["new"] == "1"
    job.publish(both, *location, "--no-remember")


def test_a_fork_has_no_token_and_says_where_the_comment_comes_from(job, server, sha):
    job.pull_request(1, sha, FORK)
    code, out, _ = job.publish(red(job), "--history", job.folder / "past")
    assert (code, server.log) == (1, [])
    assert "::notice" in out
    assert job.summary.stat().st_size > 0
    assert not (job.folder / "past").exists() or not list((job.folder / "past").iterdir())


def test_after_a_fork_the_pull_request_is_found_whatever_the_artifact_says(job, server, fork):
    job.workflow_run(fork)
    forged = red(job, pull_request="1", commit="f", branch="main")
    code, out, _ = job.publish(forged, "--history", job.folder / "past", "--fail-on", "never")
    assert (code, warnings(out)) == (0, [])
    assert comments(server, 1) == []
    assert len(comments(server, 2)) == 1
    (check,) = server.world.checks.values()
    assert check.head_sha == fork
    assert not (job.folder / "past").exists() or not list((job.folder / "past").iterdir())


def test_after_a_fork_whose_pull_request_is_gone_there_is_a_summary(job, server, fork):
    server.world.pulls[2].state = "closed"
    job.workflow_run(fork)
    _, out, _ = job.publish(red(job))
    assert comments(server, 2) == []
    assert "no open pull request" in warnings(out)[0]
    assert job.summary.stat().st_size > 0


def test_the_base_of_a_forks_pull_request_is_the_one_it_has(job, server, fork):
    location = ["--history", job.folder / "past"]
    job.push()
    job.set(GITHUB_REF_NAME="release")
    job.publish(record(job.folder / "release", 1, {A: PRICE}, branch="release", base="release", ci_run="1"), *location)
    server.world.pulls[2].base = "release"
    job.workflow_run(fork)
    job.publish(red(job, 5), *location)
    assert "none is from this PR" in comments(server, 2)[0] or "not from this PR" in comments(server, 2)[0]


def test_a_zip_is_read_and_a_dangerous_one_refused(job, server):
    folder = red(job)
    with zipfile.ZipFile(job.folder / "good.zip", "w") as archive:
        for name in ("run.json", "traces/main.jsonl"):
            archive.write(folder / name, f"{folder.name}/{name}")
    with zipfile.ZipFile(job.folder / "bad.zip", "w") as archive:
        archive.writestr(f"../../{folder.name}/run.json", "{}")
    _, out, _ = job.publish(job.folder / "good.zip", job.folder / "bad.zip")
    assert "1 of 2 tests fails" in comments(server)[0]
    (warning,) = warnings(out)
    assert "refused" in warning


FAULTS = {
    "no permission": lambda job, server: job.set(TRACETRIAGE_GITHUB_TOKEN="ghs_unknown"),
    "no token": lambda job, server: job.set(TRACETRIAGE_GITHUB_TOKEN="", GITHUB_TOKEN=""),
    "nobody answers": lambda job, server: job.set(GITHUB_API_URL="http://127.0.0.1:9/api/v3"),
    "no such API": lambda job, server: job.set(GITHUB_API_URL="https://"),
    "a summary that cannot be written": lambda job, server: job.set(GITHUB_STEP_SUMMARY="/proc/nowhere/summary"),
    "a history that cannot be read": lambda job, server: job.set(TRACETRIAGE_HISTORY="git:no such branch"),
    "a setting that cannot be used": lambda job, server: job.set(TRACETRIAGE_KEEP_RUNS="many"),
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("suite_exit", [0, 1])
def test_a_fault_of_reporting_is_one_warning_and_decides_nothing(job, server, fault, suite_exit, monkeypatch):
    monkeypatch.setattr("pytest_tracetriage.commands.publish.BUDGET", 0.5)
    FAULTS[fault](job, server)
    folder = record(job.folder / "traces", 1, {A: PRICE if suite_exit else "passed"})
    code, out, _ = job.publish(folder, "--suite-exit", suite_exit)
    assert code == suite_exit
    assert len(warnings(out)) == 1


def test_decisions_that_cannot_be_read_are_named_as_what_they_are(job, server):
    path = job.folder / ".tracetriage" / "policy" / "aliases.json"
    path.parent.mkdir(parents=True)
    path.write_text("{", encoding="utf-8")
    _, out, _ = job.publish(record(job.folder / "traces", 1, {A: "passed"}))
    (warning,) = warnings(out)
    assert warning.startswith(f"::warning title=TraceTriage::{path}: ")


def test_a_report_that_cannot_be_written_names_the_file(job, server):
    way = job.folder / "way"
    way.write_text("in the way", encoding="utf-8")
    _, out, _ = job.publish(record(job.folder / "traces", 1, {A: "passed"}), "--output", way / "report.md")
    assert warnings(out) == [f"::warning title=TraceTriage::the report could not be written: {way}: File exists"]


def test_corrupt_traces_are_one_warning(job, server):
    folder = red(job)
    with (folder / "traces" / "main.jsonl").open("ab") as file:
        file.write(b'{"record":"trace", "nodeid": \xff\n' * 3)
    code, out, _ = job.publish(folder, "--suite-exit", 1)
    assert code == 1
    assert "1 of 2 tests fails" in comments(server)[0]
    assert "3 parts of the traces could not be used, first" in warnings(out)[0]
    assert len(warnings(out)) == 1
    (folder / "run.json").write_bytes(b"{")
    code, out, _ = job.publish(folder, "--suite-exit", 0)
    assert (code, len(warnings(out))) == (0, 1)
    assert "no run was found" in warnings(out)[0]


@pytest.mark.parametrize("where", ["run.json", "traces/main.jsonl", "leg"])
def test_brackets_in_brackets_cost_no_more_than_the_record_they_stand_in(job, server, where):
    deep = b"[" * 100_000 + b"]" * 100_000
    other = record(job.folder / "traces", 2, {A: "passed"}, job="other", leg=deep.decode() if where == "leg" else "")
    if where == "run.json":
        (other / where).write_bytes(b'{"x":' + deep + b"}")
    elif where != "leg":
        with (other / where).open("ab") as file:
            file.write(b'{"record":"trace","x":' + deep + b"}\n")
    red(job)
    code, out, _ = job.publish(job.folder / "traces")
    assert (code, "nothing was reported" in out, len(warnings(out))) == (1, False, int(where != "leg"))
    assert "1 of 2 tests fails" in comments(server)[0]


ODD = {
    "an id that a workflow would run": lambda run: run.update(id="$(curl example.com)"),
    "an id of no day": lambda run: run.update(id="20269999T999999Z-000002"),
    "an end in no time": lambda run: run.update(finished=1e308),
    "all the time there is": lambda run: run.update(started=-1e308, finished=1e308),
    "more tests than numbers": lambda run: run["totals"].update(tests=10**4000, passed=10**4000),
    "fewer tests than none": lambda run: run["totals"].update(failed=-1),
}


@pytest.mark.parametrize("odd", ODD)
def test_a_run_that_no_recorder_wrote_is_told_and_left_out(job, server, odd):
    red(job)
    path = record(job.folder / "traces", 2, {A: "passed"}, job="other") / "run.json"
    run = json.loads(path.read_bytes())
    ODD[odd](run)
    path.write_text(json.dumps(run), encoding="utf-8")
    _, out, _ = job.publish(job.folder / "traces")
    assert "1 of 2 tests fails" in comments(server)[0]
    (warning,) = warnings(out)
    assert "run.json: " in warning
    assert job.told()["run-id"] == "20261120T040100Z-000001"


def test_an_attempt_or_a_process_beyond_all_numbers_is_none(job, server):
    red(job)
    path = record(job.folder / "traces", 2, {A: "passed"}, job="other", status="running") / "run.json"
    run = json.loads(path.read_bytes())
    run |= {"pid": 10**30, "host": host()}
    run["context"]["ci"]["attempt"] = "9" * 5000
    path.write_text(json.dumps(run), encoding="utf-8")
    _, out, _ = job.publish(job.folder / "traces")
    assert "1 of 2 tests fails" in comments(server)[0]
    assert warnings(out) == []


@pytest.mark.parametrize(("fail_on", "code"), [("new", 1), ("real", 1), ("any", 1), ("never", 0)])
def test_where_no_review_could_be_made_the_suites_exit_status_of_the_legs_stands(job, server, monkeypatch, fail_on, code):
    def broken(*_):
        raise MemoryError

    monkeypatch.setattr("pytest_tracetriage.commands.publish.review_group", broken)
    assert job.publish(red(job), "--fail-on", fail_on)[0] == code
    assert job.publish(record(job.folder / "green", 2, {A: "passed"}), "--fail-on", fail_on)[0] == 0


@pytest.mark.parametrize("fail_on", ["new", "real", "any"])
def test_failures_whose_traces_are_lost_are_not_forgiven(job, server, fail_on):
    folder = red(job)
    (folder / "traces" / "main.jsonl").write_bytes(b"")
    code, _, err = job.publish(folder, "--fail-on", fail_on)
    assert (code, "not by a test" in err) == (1, True)
    assert "\n### The suite failed, and not by a test; " in comments(server)[0]
    (check,) = server.world.checks.values()
    assert (check.title[:16], check.conclusion) == ("The suite failed", "failure")


def test_a_broken_template_of_the_project_costs_the_comment_only(job, server):
    templates = job.folder / ".tracetriage" / "policy" / "templates"
    templates.mkdir(parents=True)
    (templates / "comment.md.j2").write_text("{{ broken", encoding="utf-8")
    _, out, _ = job.publish(red(job), "--output", job.folder / "report.md")
    assert comments(server) == []
    assert len(server.world.checks) == 1
    assert "1 of 2 tests fails" in job.summary.read_text(encoding="utf-8")
    (warning,) = warnings(out)
    assert "the comment could not be made: TemplateSyntaxError" in warning


@pytest.mark.parametrize("where", [".", ".tracetriage", ".tracetriage/runs"])
def test_an_artifact_never_passes_for_the_projects_own_templates_and_runs(job, server, sha, where):
    record(job.folder / where, 1, {A: PRICE})
    templates = job.folder / ".tracetriage" / "policy" / "templates"
    templates.mkdir(parents=True)
    (templates / "comment.md.j2").write_text("[all is well](https://example.com) @everybody", encoding="utf-8")
    job.workflow_run(sha, FULL_NAME)
    _, out, _ = job.publish(where)
    assert comments(server) == []
    assert "refused: what it brings would pass for the project's own" in warnings(out)[0]


@pytest.mark.linux
def test_a_file_name_that_is_no_text_is_one_warning(job):
    (job.folder / "traces").mkdir()
    (job.folder / "traces" / os.fsdecode(b"\xff")).symlink_to("/etc/passwd")
    start = "from pytest_tracetriage.commands import main; main()"
    words = [sys.executable, "-c", start, "publish", "--suite-exit", "0", str(job.folder / "traces")]
    done = subprocess.run(words, capture_output=True, encoding="utf-8", check=False, env={**os.environ, "LC_ALL": "C.UTF-8"})
    assert (done.returncode, done.stderr, len(warnings(done.stdout))) == (0, "", 1)
    assert "\\udcff: a symbolic link" in done.stdout


def test_a_suite_that_broke_before_its_tests_is_told(job, server, sha):
    job.publish(record(job.folder / "green", 1, {A: "passed"}), "--suite-exit", 0)
    (job.folder / "nothing").mkdir()
    code, out, _ = job.publish(job.folder / "nothing", "--suite-exit", 4)
    assert (code, warnings(out)) == (1, [])
    (body,) = comments(server)
    assert "### The suite ended with exit status 4; nothing was recorded" in body
    (check,) = server.world.checks.values()
    assert (check.head_sha, check.conclusion) == (sha, "failure")


def test_outside_of_github_the_text_is_made_and_nobody_is_told(job, server, monkeypatch):
    monkeypatch.delenv("GITHUB_ACTIONS")
    code, _, err = job.publish(red(job), "--output", job.folder / "report.md")
    assert (code, server.log) == (1, [])
    assert "1 of 2 tests fails" in (job.folder / "report.md").read_text(encoding="utf-8")
    assert "1 root cause" in err


def test_a_personal_token_sets_a_status(job, server):
    job.set(TRACETRIAGE_GITHUB_TOKEN=PERSONAL)
    job.publish(red(job))
    assert server.world.checks == {}
    assert [status.state for status in server.world.statuses] == ["failure"]


def test_hostile_outputs_stay_on_their_lines(job, server):
    folder = record(job.folder / "x\nnew=99", 1, {"tests/t.py::t[\n::error::boo\nname=evil]": PRICE})
    _, out, _ = job.publish(folder)
    assert job.told().keys() == {"run-id", "clusters", "new", "flaky", "report"}
    assert "\n::error::boo" not in out
    assert msgspec.json.encode(job.told())
