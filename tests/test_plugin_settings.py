"""Settings: who wins, and what each error says."""

from __future__ import annotations

import pytest
from capture.suite import Suite

from pytest_tracetriage import config

GREEN = "def test_a(): pass\n"
TOML = '[tool.tracetriage]\ndir = "from-toml"\n'
INI = "[pytest]\ntracetriage_dir = from-ini\n"


@pytest.mark.parametrize(
    ("files", "env", "args", "folder"),
    [
        ({}, {}, [], ".tracetriage"),
        ({"pyproject.toml": TOML}, {}, [], "from-toml"),
        ({"pyproject.toml": TOML, "pytest.ini": INI}, {}, [], "from-ini"),
        ({"pyproject.toml": TOML, "pytest.ini": INI}, {"TRACETRIAGE_DIR": "from-env"}, [], "from-env"),
        ({"pytest.ini": INI}, {"TRACETRIAGE_DIR": "from-env"}, ["-o", "tracetriage_dir=from-args"], "from-args"),
        ({"pyproject.toml": TOML + "[tool.pytest.ini_options]\ntracetriage_dir = 'of-pytest'\n"}, {}, [], "of-pytest"),
        ({"tox.ini": INI}, {}, [], "from-ini"),
    ],
    ids=["default", "pyproject", "ini", "environment", "command line", "pytest's table", "tox.ini"],
)
def test_precedence(tmp_path, files, env, args, folder):
    suite = Suite(tmp_path, files, test_a=GREEN)
    suite.run(*args, env=env)

    found = {path.parent.name for path in tmp_path.glob("*/runs")}
    assert found == {folder}


def test_an_absolute_folder(tmp_path):
    suite = Suite(tmp_path / "project", test_a=GREEN)
    suite.run("-o", f"tracetriage_dir={tmp_path / 'elsewhere'}")

    assert len(list((tmp_path / "elsewhere" / "runs").iterdir())) == 1
    assert not suite.folder.exists()


@pytest.mark.parametrize(
    ("files", "env", "args", "told"),
    [
        (
            {},
            {},
            ["-o", "tracetriage_keep_runs=0"],
            "command line: tracetriage_keep_runs = '0': expected a whole number of 1 or more",
        ),
        ({}, {"TRACETRIAGE_KEEP_RUNS": "many"}, [], "environment: TRACETRIAGE_KEEP_RUNS = 'many': expected a whole number"),
        (
            {"pytest.ini": "[pytest]\ntracetriage_traceback = some\n"},
            {},
            [],
            "pytest.ini: tracetriage_traceback = 'some': expected one of auto, exemplar, all",
        ),
        (
            {"pyproject.toml": "[tool.tracetriage]\nkeep_runs = true\n"},
            {},
            [],
            "pyproject.toml: tool.tracetriage.keep_runs = True: expected a whole number",
        ),
        (
            {"pyproject.toml": "[tool.tracetriage]\ndir = 3\n"},
            {},
            [],
            "pyproject.toml: tool.tracetriage.dir = 3: expected a non-empty text",
        ),
        (
            {"pyproject.toml": "[tool.tracetriage]\nkeep_run = 3\n"},
            {},
            [],
            "pyproject.toml: tool.tracetriage.keep_run: no such setting; there are components, coverage, dir, history,",
        ),
        ({"pyproject.toml": "[tool]\ntracetriage = 1\n"}, {}, [], "pyproject.toml: tool.tracetriage = 1: expected a table"),
        (
            {"pyproject.toml": "[tool.tracetriage]\nplugins = 3\n"},
            {},
            [],
            "pyproject.toml: tool.tracetriage.plugins = 3: expected a list of module names",
        ),
        (
            {"pyproject.toml": "[[tool.tracetriage.rules]]\ncategory = 'X'\nowner = 'nobody'\ntype = 'a'\n"},
            {},
            [],
            "expected tables with category, owner (product, test, agent, infrastructure)",
        ),
        (
            {"pyproject.toml": "[[tool.tracetriage.rules]]\ncategory = 'X'\nowner = 'test'\ntype = '('\n"},
            {},
            [],
            "expected a regular expression as type",
        ),
        ({}, {}, ["-o", "tracetriage_dir= "], "command line: tracetriage_dir = ' ': expected a non-empty text"),
    ],
)
def test_an_error_names_place_key_value_and_what_is_allowed(tmp_path, files, env, args, told):
    Suite(tmp_path, files)
    overrides = dict(arg.removeprefix("tracetriage_").split("=") for arg in args[1:])
    ini, ini_file = config.pytest_ini(tmp_path)

    with pytest.raises(config.ConfigError) as caught:
        config.load(tmp_path, overrides=overrides, ini=ini, ini_file=ini_file, environ=env)
    assert told in str(caught.value)


@pytest.mark.parametrize("source", ["command line", "environment", "pytest.ini", "pyproject.toml"])
def test_a_wrong_setting_is_a_usage_error_of_pytest(tmp_path, source):
    files = {
        "pytest.ini": {"pytest.ini": "[pytest]\ntracetriage_keep_runs = x\n"},
        "pyproject.toml": {"pyproject.toml": "[tool.tracetriage]\nkeep_runs = 'x'\n"},
    }
    suite = Suite(tmp_path, files.get(source), test_a=GREEN)
    args = ["-o", "tracetriage_keep_runs=x"] if source == "command line" else []
    result = suite.run(*args, env={"TRACETRIAGE_KEEP_RUNS": "x"} if source == "environment" else None)

    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert result.err.strip().startswith("ERROR: tracetriage:")
    assert source in result.err
    assert "= 'x': expected a whole number of 1 or more" in result.err
    assert "Traceback" not in result.err


def test_a_wrong_setting_does_not_disturb_an_idle_pytest(tmp_path):
    suite = Suite(tmp_path, {"pyproject.toml": "[tool.tracetriage]\nkeep_run = 3\n"}, test_a=GREEN)

    assert suite.run(on=False).ret == 0


@pytest.mark.parametrize(
    ("files", "env", "on"),
    [
        ({"pytest.ini": "[pytest]\ntracetriage = true\n"}, {}, True),
        ({}, {"TRACETRIAGE": "1"}, True),
        ({"pytest.ini": "[pytest]\ntracetriage = true\n"}, {"TRACETRIAGE": "0"}, False),
        ({}, {"TRACETRIAGE": ""}, False),
        ({}, {}, False),
    ],
)
def test_switching_on(tmp_path, files, env, on):
    suite = Suite(tmp_path, files, test_a=GREEN)
    result = suite.run(on=False, env=env)

    assert suite.folder.exists() is on
    assert ("TraceTriage: 1 test, no failures" in result.out) is on


@pytest.mark.parametrize(("args", "kept"), [([], True), (["--tracetriage-no-content"], False)])
def test_a_flag_is_a_setting_of_the_command_line(tmp_path, args, kept):
    code = "from pytest_tracetriage.capture.spans.sink import connected\ndef test_a(): assert connected().content is {}\n"
    suite = Suite(tmp_path, {"pytest.ini": "[pytest]\ntracetriage_no_content = false\n"}, test_a=code.format(kept))

    assert suite.run(*args).counts == {"passed": 1}


def test_help_and_version_record_nothing(tmp_path):
    suite = Suite(tmp_path, test_a=GREEN)
    told = suite.run("--help").out

    assert "--tracetriage-rerun=CLUSTER" in told
    assert "--tracetriage-weave-project=ENTITY/PROJECT" in told
    assert "--tracetriage-no-content" in told
    for option in config.INI_OPTIONS:
        assert f"tracetriage_{option.name}" in told
    assert suite.run("--version").ret == 0
    assert not suite.folder.exists()
