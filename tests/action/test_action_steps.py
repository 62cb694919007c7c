"""The action's scripts, one step at a time: what they refuse, run, find and decide."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

ACTION = Path(__file__).resolve().parents[2] / "action"


@pytest.fixture
def step(tmp_path):
    """Return a function that runs one step in a workspace and returns its exit status, outputs and log."""
    workspace = tmp_path / "workspace"
    workspace.mkdir()

    def run(name, event=None, **given):
        output, payload = tmp_path / "output", tmp_path / "event.json"
        output.write_bytes(b"")
        payload.write_text(json.dumps(event or {}), encoding="utf-8")
        environment = {
            **os.environ,
            "GITHUB_OUTPUT": str(output),
            "GITHUB_EVENT_PATH": str(payload),
            "GITHUB_REPOSITORY": "acme/shop",
            "RUNNER_TEMP": str(tmp_path / "temp"),
            "INPUT_FAIL_ON": "any",
            "INPUT_PUBLISH": "true",
            "INPUT_COMMENT": "true",
            "INPUT_HISTORY_WRITE": "true",
            **given,
        }
        done = subprocess.run(
            [sys.executable, ACTION / f"{name}.py"],
            cwd=workspace,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            check=False,
        )
        return done.returncode, outputs(output.read_text(encoding="utf-8")), done.stdout

    run.workspace = workspace
    return run


def outputs(text: str) -> dict[str, str]:
    """Read a GITHUB_OUTPUT file as the runner does."""
    found, lines = {}, iter(text.splitlines())
    for line in lines:
        name, _, end = line.partition("<<")
        value = []
        for inner in lines:
            if inner == end:
                break
            value.append(inner)
        found[name] = "\n".join(value)
    return found


def pull(head: object, **more: object) -> dict[str, object]:
    return {"pull_request": {"number": 3, "head": {"repo": head}}, **more}


@pytest.mark.parametrize(
    ("given", "wrong"),
    [
        ({}, "give a command to run, or traces"),
        ({"INPUT_COMMAND": "pytest 'unclosed"}, "command: "),
        ({"INPUT_FAIL_ON": "sometimes"}, "fail-on: 'sometimes' is none of new, real, any, never"),
        ({"INPUT_RESULT": "red"}, "result: 'red' is none of success, failure, cancelled, skipped"),
        ({"INPUT_PUBLISH": "yes"}, "publish: 'yes' is none of true, false"),
        ({"INPUT_SETTINGS": "keep_runs = 5\nPATH = /tmp"}, "settings: 'PATH = /tmp'"),
        ({"INPUT_SETTINGS": "x$(id) = 5"}, "settings: 'x$(id) = 5'"),
        ({"INPUT_SETTINGS": "github_token = mine"}, "settings: 'github_token = mine'"),
        ({"INPUT_DIAGNOSE": "soon"}, "diagnose: 'soon' is not a number of minutes from 0 to 360"),
        ({"INPUT_CULPRIT": "-5"}, "culprit: '-5' is not a number of minutes from 0 to 360"),
        ({"INPUT_CULPRIT": "361"}, "culprit: '361' is not a number of minutes from 0 to 360"),
        ({"INPUT_EXTRAS": "zstd],evil @ https://example.com"}, "extras: 'zstd]'"),
    ],
)
def test_an_input_that_cannot_be_used_ends_the_job_in_one_line(step, given, wrong):
    status, _, log = step("start", **({"INPUT_COMMAND": "pytest"} if given else {}) | given)
    assert status == 1
    assert log.count("\n") == 1
    assert log.startswith("::error title=TraceTriage::")
    assert wrong in log


@pytest.mark.parametrize(
    ("event", "payload", "actor", "read_only"),
    [
        ("pull_request", pull({"full_name": "stranger/shop"}), "stranger", "true"),
        ("pull_request", pull(None), "stranger", "true"),
        ("pull_request", pull({"full_name": "Acme/Shop"}), "friend", "false"),
        ("pull_request", pull({"full_name": "acme/shop"}), "dependabot[bot]", "false"),
        ("push", {}, "dependabot[bot]", "false"),
        ("workflow_run", {"workflow_run": {"head_repository": {"full_name": "stranger/shop"}}}, "stranger", "false"),
    ],
)
def test_whose_token_may_only_read(step, event, payload, actor, read_only):
    status, found, _ = step("start", payload, INPUT_COMMAND="pytest", GITHUB_EVENT_NAME=event, GITHUB_ACTOR=actor)
    assert status == 0
    assert found["read-only"] == read_only


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"LEGS": "4"}, True),
        ({"LEGS": "4", "INPUT_PUBLISH": "false"}, False),
        ({"LEGS": "4", "INPUT_COMMENT": "false"}, False),
        ({"LEGS": "1"}, False),
        ({"LEGS": ""}, False),
    ],
)
def test_legs_that_would_write_over_each_other_are_told(step, given, told):
    status, _, log = step("start", INPUT_COMMAND="pytest", **given)
    assert status == 0
    assert ("each leg of this matrix writes its report over" in log) == told


@pytest.mark.parametrize("folder", [".", "..", "../workspace"])
def test_an_artifact_is_never_taken_from_the_workspace_itself(step, folder):
    (step.workspace / "sub").mkdir()
    status, _, log = step("start", INPUT_TRACES=folder, GITHUB_EVENT_NAME="workflow_run")
    assert status == 1
    assert "download to a folder of its own" in log
    assert step("start", INPUT_TRACES="sub", GITHUB_EVENT_NAME="workflow_run")[0] == 0


@pytest.mark.parametrize(
    ("given", "asked"),
    [
        ({}, ("false", "false")),
        ({"INPUT_DIAGNOSE": "0", "INPUT_CULPRIT": "0"}, ("false", "false")),
        ({"INPUT_DIAGNOSE": "2.5"}, ("true", "false")),
        ({"INPUT_CULPRIT": "10"}, ("true", "true")),
    ],
)
def test_what_is_asked_for_when_the_command_is_red(step, given, asked):
    _, found, _ = step("start", INPUT_COMMAND="pytest", **given)
    assert (found["diagnose"], found["culprit"]) == asked


def test_no_step_that_runs_tests_is_given_the_token():
    steps = (ACTION / "action.yml").read_text(encoding="utf-8").split("- name: ")[1:]
    with_token = [text.partition("\n")[0] for text in steps if "inputs.token" in text]
    assert with_token == ["Look for a good commit", "Report"]
    assert [text.partition("\n")[0] for text in steps if "suite.py" in text or "diagnose.py" in text] == [
        "Run the suite",
        "Diagnose",
    ]


def test_packages_are_kept_apart_by_what_they_are_for(step):
    both = step("start", INPUT_COMMAND="pytest")[1]["key"]
    leg = step("start", INPUT_COMMAND="pytest", INPUT_PUBLISH="false")[1]["key"]
    extra = step("start", INPUT_COMMAND="pytest", INPUT_EXTRAS="zstd")[1]["key"]
    assert len({both, leg, extra}) == 3
    assert all(part in both for part in platform.libc_ver())  # what is built for one libc does not run on another
    assert both == step("start", INPUT_COMMAND="pytest")[1]["key"]


HOSTILE = "$(touch pwned); touch pwned & `touch pwned` | tee pwned > pwned\n\nand ::error::this"


def test_the_command_never_meets_a_shell(step):
    program = step.workspace / "show.py"
    program.write_text("import sys\nprint(ascii(sys.argv[1:]))\n", encoding="utf-8")
    words = ["$(touch pwned);", "touch", "pwned", "&&", "`touch pwned`", ">", "pwned", "*", "~"]
    quoted = " ".join(f"'{word}'" if " " in word else word for word in words)
    status, found, log = step("suite", INPUT_COMMAND=f"'{sys.executable}' show.py {quoted}")
    assert (status, found) == (0, {"exit-status": "0"})
    assert ascii(words) in log
    assert not (step.workspace / "pwned").exists()


@pytest.mark.parametrize("command", ["no-such-program-here;touch pwned", "'' pwned", "./"])
def test_a_command_that_does_not_exist_is_a_red_suite(step, command):
    status, found, log = step("suite", INPUT_COMMAND=command)
    assert status == 0
    assert found["exit-status"] in {"126", "127"}
    assert log.startswith("::error title=TraceTriage::command: ")
    assert not (step.workspace / "pwned").exists()


def test_what_the_command_sees(step):
    program = step.workspace / "show.py"
    program.write_text("import json, os\nprint(json.dumps(dict(os.environ)))\n", encoding="utf-8")
    _, _, log = step(
        "suite",
        INPUT_COMMAND="python show.py",
        INPUT_LEG=json.dumps({"python": "3.13", "name": HOSTILE}, indent=2),
        INPUT_SETTINGS="keep_runs = 5\n\n  traceback=all  \n",
        INPUT_WEAVE_API_KEY="weave",
        INPUT_OPENAI_API_KEY="",
        OPENAI_API_KEY="mine",
        PYTEST_ADDOPTS="-q",
        RECORD="true",
    )
    seen = json.loads(log.splitlines()[0])
    assert json.loads(seen["TRACETRIAGE_LEG"]) == {"python": "3.13", "name": HOSTILE}
    assert seen["TRACETRIAGE_LEG"].startswith('{"name":')
    assert (seen["TRACETRIAGE_KEEP_RUNS"], seen["TRACETRIAGE_TRACEBACK"]) == ("5", "all")
    assert (seen["WANDB_API_KEY"], seen["OPENAI_API_KEY"]) == ("weave", "mine")
    assert seen["PYTEST_ADDOPTS"] == "-q --tracetriage"
    assert not any(name.startswith("INPUT_") for name in seen)


@pytest.mark.parametrize(("leg", "told"), [("null", ""), ("", ""), ("{}", ""), ("shard 1", '"shard 1"'), ("3", "3")])
def test_a_leg_is_json_or_nothing(step, leg, told):
    program = step.workspace / "show.py"
    program.write_text("import os\nprint(repr(os.environ['TRACETRIAGE_LEG']))\n", encoding="utf-8")
    _, _, log = step("suite", INPUT_COMMAND="python show.py", INPUT_LEG=leg, RECORD="true")
    assert log.splitlines()[0] == repr(told)


def test_without_the_plugin_the_suite_runs_as_it_is(step):
    program = step.workspace / "show.py"
    program.write_text("import os, sys\nprint([n for n in os.environ if 'TRACETRIAGE' in n])\nsys.exit(3)\n", encoding="utf-8")
    status, found, log = step("suite", INPUT_COMMAND="python show.py", INPUT_SETTINGS="keep_runs = 1", RECORD="")
    assert (status, found, log) == (0, {"exit-status": "3"}, "[]\n")


def test_only_the_runs_of_this_command_are_gathered(step):
    old = step.workspace / ".tracetriage" / "runs" / "20200101T000000Z-aaaaaa"
    old.mkdir(parents=True)
    (old / "run.json").write_text('{"started": 1577836800.0, "exit_status": 1}', encoding="utf-8")
    for name in (".tracetriage", "part/.tracetriage", ".venv/.tracetriage"):
        (step.workspace / name).mkdir(parents=True, exist_ok=True)
    (step.workspace / ".venv" / "pyvenv.cfg").touch()
    program = step.workspace / "record.py"
    program.write_text(
        "import json, pathlib, time\n"
        "for place in ('.', 'part', '.venv'):\n"
        "    run = pathlib.Path(place, '.tracetriage/runs', '20261120T043000Z-' + place.strip('.').ljust(6, 'b'))\n"
        "    (run / 'traces').mkdir(parents=True)\n"
        "    (run / 'traces/main.jsonl').write_text('{}')\n"
        "    (run / 'secret').symlink_to('/etc/passwd')\n"
        "    (run / 'run.json').write_text(json.dumps({'started': time.time(), 'exit_status': int(place == 'part')}))\n"
        "raise SystemExit(2)\n",
        encoding="utf-8",
    )
    _, found, log = step("suite", INPUT_COMMAND="python record.py", RECORD="true")
    gathered = Path(found["traces"])
    assert log == ""
    assert sorted(path.name for path in gathered.iterdir()) == ["20261120T043000Z-bbbbbb", "20261120T043000Z-partbb"]
    assert not any(part.startswith(".") for part in gathered.relative_to(gathered.parents[1]).parts)  # uploads leave those out
    assert (gathered / "20261120T043000Z-partbb" / "traces" / "main.jsonl").read_text(encoding="utf-8") == "{}"
    assert not list(gathered.rglob("secret"))
    assert (found["exit-status"], found["tests-failed"]) == ("2", "true")


def test_a_suite_that_records_nothing_is_one_warning(step):
    nothing = "::warning title=TraceTriage::no run of pytest was recorded"
    for status in ("0", "1"):
        _, found, log = step("suite", INPUT_COMMAND=f"python -c 'raise SystemExit({status})'", RECORD="true")
        assert found == {"exit-status": status}
        assert log == f"{nothing}, so there is no report, and an older comment stays as it is\n"
    _, found, log = step("suite", INPUT_COMMAND="python -c 'raise SystemExit(4)'", RECORD="true")
    assert found == {"exit-status": "4", "unrecorded": "true"}
    assert log == f"{nothing}: the command ended with exit status 4, before its tests began\n"


@pytest.mark.linux
@pytest.mark.parametrize(("fail_on", "result"), [("any", 1), ("never", 0)])
def test_where_outputs_cannot_be_written_the_suite_decides_at_once(step, fail_on, result):
    command = "python -c 'import sys; sys.exit(1)'"
    status, _, log = step("suite", INPUT_COMMAND=command, INPUT_FAIL_ON=fail_on, GITHUB_OUTPUT="/dev/full", RECORD="true")
    assert status == result
    assert log == "::warning title=TraceTriage::there is no report: No space left on device\n"


@pytest.mark.parametrize(
    ("fail_on", "publish", "suite", "tests_failed", "verdict", "result"),
    [
        ("any", "true", "0", "", "0", 0),
        ("any", "true", "1", "true", "1", 1),
        ("any", "true", "3", "", "", 3),
        ("any", "false", "1", "true", "", 1),
        ("any", "true", "", "", "1", 1),
        ("new", "true", "1", "true", "0", 0),
        ("new", "true", "2", "true", "1", 2),
        ("new", "true", "1", "true", "", 1),
        ("real", "true", "4", "", "1", 4),
        ("real", "true", "", "", "1", 1),
        ("new", "false", "1", "true", "", 0),
        ("new", "false", "4", "false", "", 4),
        ("real", "false", "137", "", "", 137),
        ("never", "true", "1", "true", "1", 0),
        ("never", "false", "3", "", "", 0),
    ],
)
def test_the_result_of_the_job(step, fail_on, publish, suite, tests_failed, verdict, result):
    given = {"INPUT_FAIL_ON": fail_on, "INPUT_PUBLISH": publish, "EXIT_STATUS": suite}
    assert step("result", **given, TESTS_FAILED=tests_failed, VERDICT=verdict) == (result, {}, "")


@pytest.mark.parametrize(
    ("fail_on", "legs", "verdict", "result"),
    [
        ("any", "failure", "", 1),
        ("any", "failure", "0", 1),
        ("new", "failure", "0", 1),
        ("never", "failure", "0", 0),
        ("new", "success", "0", 0),
        ("any", "skipped", "", 0),
    ],
)
def test_a_leg_that_failed_is_not_forgiven_for_what_the_others_report(step, fail_on, legs, verdict, result):
    assert step("result", INPUT_FAIL_ON=fail_on, INPUT_RESULT=legs, VERDICT=verdict) == (result, {}, "")


def test_an_installation_that_fails_costs_the_report_only(step, tmp_path):
    status, found, log = step(
        "install",
        INPUT_PUBLISH="true",
        PACKAGES=str(tmp_path / "packages"),
        PIP_INDEX_URL="http://127.0.0.1:9/simple",
        UV_DEFAULT_INDEX="http://127.0.0.1:9/simple",
        PIP_RETRIES="0",
        PIP_CONFIG_FILE=os.devnull,
    )
    assert status == 0
    assert found == {"suite": "", "report": "", "installed": "false"}
    assert log.startswith("::warning title=TraceTriage::not installed, so there is no report; the tests run all the same: ")
    assert log.count("\n") == 1


@pytest.mark.linux
@pytest.mark.parametrize(("name", "told"), [("start", 0), ("install", 1)])
def test_where_outputs_cannot_be_written_the_suite_still_has_its_turn(step, name, told):
    full = {"GITHUB_OUTPUT": "/dev/full", "INPUT_PUBLISH": "false", "PACKAGES": ""}
    status, _, log = step(name, **full, **({"INPUT_COMMAND": "true"} if name == "start" else {}))
    assert (status, log.count("::warning"), log.count("\n")) == (0, told, told)


def test_a_command_that_breaks_is_one_warning(step, tmp_path):
    tool = tmp_path / "tool"
    tool.write_text("#!/bin/sh\necho first >&2\necho 'ImportError: no module' >&2\nexit 2\n", encoding="utf-8")
    tool.chmod(0o755)
    status, found, log = step("report", TOOL=str(tool), RECORDED=str(tmp_path))
    assert (status, found) == (0, {})
    assert log == "::warning title=TraceTriage::publish ended with status 2: ImportError: no module\n"


def test_a_report_that_cannot_start_is_no_verdict(step, tmp_path):
    """Such as one whose kept packages lack what this version needs: Python ends with 1, as for root causes."""
    tool = tmp_path / "tool"
    tool.write_text(f'#!/bin/sh\nexec "{sys.executable}" -S "$@"\n', encoding="utf-8")
    tool.chmod(0o755)
    status, found, log = step("report", TOOL=str(tool), RECORDED=str(tmp_path))
    assert (status, found) == (0, {})
    assert log.startswith("::warning title=TraceTriage::publish ended with status 3: ModuleNotFoundError: ")
    assert log.count("\n") == 1


def test_the_token_is_told_to_the_report_only(step, tmp_path):
    tool = tmp_path / "tool"
    tool.write_text('#!/bin/sh\nenv\nprintf "%s\\n" "$@"\n', encoding="utf-8")
    tool.chmod(0o755)
    hostile = "--history=$(id)"
    _, found, log = step(
        "report",
        TOOL=str(tool),
        INPUT_TOKEN="ghs_secret",
        INPUT_TRACES=f"--fail-on=never\n{tmp_path}",
        INPUT_BASE=hostile,
        INPUT_FAIL_ON="new",
        EXIT_STATUS="2",
        TESTS_FAILED="true",
        READ_ONLY="true",
    )
    lines = log.splitlines()
    assert "TRACETRIAGE_GITHUB_TOKEN=ghs_secret" in lines
    assert not any(line.startswith("INPUT_") for line in lines)
    words = lines[lines.index("publish") :]
    assert words[words.index("--") + 1 :] == ["--fail-on=never", str(tmp_path)]
    assert {"--fail-on=new", "--suite-exit=1", f"--base={hostile}", "--no-comment", "--no-check", "--no-remember"} <= set(words)
    assert found == {"verdict": "0"}
    assert lines[0].startswith("::notice title=TraceTriage::This pull request's token may only read")
