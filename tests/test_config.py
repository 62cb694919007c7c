"""Settings: where they come from, which wins, and what an error says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from pytest_tracetriage.config import OPTIONS, ConfigError, CustomRule, find_rootdir, load, pytest_ini, tool_table


@pytest.fixture
def project(tmp_path):
    """Return a function that writes `[tool.tracetriage]` and loads the settings."""

    def of(table="", **more):
        if table:
            (tmp_path / "pyproject.toml").write_text(f"[tool.tracetriage]\n{table}\n", encoding="utf-8")
        return load(tmp_path, environ=more.pop("environ", {}), **more)

    return of


def test_defaults(project, tmp_path):
    settings = project()
    assert settings.folder == tmp_path / ".tracetriage"
    assert (settings.keep_runs, settings.traceback, settings.plugins, settings.rules) == (20, "auto", (), ())
    assert (settings.weave_project, settings.no_content) == ("", False)
    assert settings.components == ("Tester", "Triage", "Fixer", "Verifier")


def test_each_place_wins_over_the_next(project):
    environ = {"TRACETRIAGE_KEEP_RUNS": "4"}
    assert project("keep_runs = 2").keep_runs == 2
    assert project(ini={"keep_runs": "3"}).keep_runs == 3
    assert project(ini={"keep_runs": "3"}, environ=environ).keep_runs == 4
    assert project(ini={"keep_runs": "3"}, environ=environ, overrides={"keep_runs": "5"}).keep_runs == 5


def test_an_empty_variable_is_no_setting(project):
    assert project(environ={"TRACETRIAGE_KEEP_RUNS": ""}).keep_runs == 20


def test_the_environment_is_read_by_default(tmp_path, monkeypatch):
    monkeypatch.setenv("TRACETRIAGE_DIR", "elsewhere")
    assert load(tmp_path).folder == tmp_path / "elsewhere"


def test_the_folder_may_be_absolute_or_at_home(project, tmp_path, monkeypatch):
    assert project(overrides={"dir": str(tmp_path / "x")}).folder == tmp_path / "x"
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("USERPROFILE", str(tmp_path / "home"))
    assert project(overrides={"dir": "~/y"}).folder == tmp_path / "home" / "y"


def test_plugins_are_a_list_or_words(project):
    assert project('plugins = ["a.b", "c"]').plugins == ("a.b", "c")
    assert project(overrides={"plugins": "a.b, c"}).plugins == ("a.b", "c")


def test_components_are_a_list_or_words(project):
    assert project('components = ["Planner", "Coder"]').components == ("Planner", "Coder")
    assert project(overrides={"components": "Planner, Coder"}).components == ("Planner", "Coder")


def test_a_project_of_weave(project):
    assert project('weave_project = " team/project "').weave_project == "team/project"
    assert project("no_content = true").no_content is True


def test_rules(project):
    table = """
    [[tool.tracetriage.rules]]
    category = "SEARCH"
    owner = "infrastructure"
    message = ":9200"
    [[tool.tracetriage.rules]]
    category = "MONEY"
    owner = "product"
    type = "Decimal"
    file = "price"
    """
    assert project(table).rules == (
        CustomRule("SEARCH", "infrastructure", message=":9200"),
        CustomRule("MONEY", "product", type="Decimal", file="price"),
    )


WRONG = [
    ("dir", '""', "a non-empty text"),
    ("dir", "3", "a non-empty text"),
    ("keep_runs", "0", "a whole number of 1 or more"),
    ("keep_runs", "-1", "a whole number of 1 or more"),
    ("keep_runs", "true", "a whole number of 1 or more"),
    ("keep_runs", "1.5", "a whole number of 1 or more"),
    ("keep_runs", '"many"', "a whole number of 1 or more"),
    ("traceback", '"long"', "one of auto, exemplar, all"),
    ("traceback", "[]", "one of auto, exemplar, all"),
    ("plugins", "3", "a list of module names"),
    ("plugins", '["a", 3]', "a list of module names"),
    ("plugins", '[""]', "a list of module names"),
    ("weave_project", '"project"', "ENTITY/PROJECT"),
    ("weave_project", '"a/b/c"', "ENTITY/PROJECT"),
    ("weave_project", "3", "ENTITY/PROJECT"),
    ("no_content", '"perhaps"', "true or false"),
    ("components", "3", "a list of names"),
    ("pytest", '"python -m \'pytest"', "a command, its words quoted as for a shell"),
    ("pytest", '["python"]', "a command"),
    ("prepare", '" "', "a command"),
    ("rules", "3", "tables with category, owner (product, test, agent, infrastructure)"),
    ("rules", "[3]", "tables with category, owner"),
    ("rules", '[{category = "X", owner = "nobody", type = "a"}]', "tables with category, owner"),
    (
        "rules",
        '[{category = "X", owner = "test"}]',
        "tables with category, owner (product, test, agent, infrastructure) and at least one pattern of type, message, file,",
    ),
    ("rules", '[{category = "X", owner = "test", type = "a", colour = "b"}]', "tables with category, owner"),
    ("rules", '[{category = "X", owner = "test", message = 3}]', "tables with category, owner"),
    ("rules", '[{category = "X", owner = "test", message = "("}]', "a regular expression as message"),
]


@pytest.mark.parametrize(("key", "value", "allowed"), WRONG)
def test_an_error_names_file_key_value_and_what_is_allowed(project, tmp_path, key, value, allowed):
    with pytest.raises(ConfigError) as error:
        project(f"{key} = {value}")
    text = str(error.value)
    assert text.startswith(f"{tmp_path / 'pyproject.toml'}: tool.tracetriage.{key} = ")
    assert f"expected {allowed}" in text
    assert "\n" not in text


@pytest.mark.parametrize(
    ("more", "start"),
    [
        ({"overrides": {"keep_runs": "x"}}, "command line: tracetriage_keep_runs = 'x'"),
        ({"environ": {"TRACETRIAGE_KEEP_RUNS": "x"}}, "environment: TRACETRIAGE_KEEP_RUNS = 'x'"),
        ({"ini": {"keep_runs": "x"}, "ini_file": "tox.ini"}, "tox.ini: tracetriage_keep_runs = 'x'"),
    ],
    ids=["command line", "environment", "ini"],
)
def test_an_error_says_where_the_value_stands(project, more, start):
    with pytest.raises(ConfigError, match="^" + re.escape(f"{start}: expected a whole number of 1 or more")):
        project(**more)


def test_a_setting_that_does_not_exist(project):
    with pytest.raises(ConfigError, match=r"tool\.tracetriage\.keep_run: no such setting; there are components, coverage,"):
        project("keep_run = 3")


def test_the_documentation_has_every_setting_and_what_a_wrong_one_is_told(project):
    page = (Path(__file__).parents[1] / "docs" / "reference" / "settings.md").read_text(encoding="utf-8")
    for option in OPTIONS:
        assert f"\n## {option.name}\n" in page
        assert f"| [{option.name}](#{option.name}) |" in page
    with pytest.raises(ConfigError) as error:
        project("keep_run = 3")
    assert str(error.value).partition("keep_run: ")[2] in page


def test_a_table_that_is_none(tmp_path):
    (tmp_path / "pyproject.toml").write_text("[tool]\ntracetriage = 3\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"tool\.tracetriage = 3: expected a table"):
        tool_table(tmp_path)


@pytest.mark.parametrize(
    "text",
    [b"[tool.tracetriage\n", b"[tool.tracetriage]\nx = \xff\n", b"[tool.tracetriage]\na=1\na=2\n"],
    ids=["syntax", "encoding", "twice"],
)
def test_toml_that_cannot_be_read(tmp_path, text):
    (tmp_path / "pyproject.toml").write_bytes(text)
    with pytest.raises(ConfigError, match=r"pyproject\.toml: not valid TOML: "):
        load(tmp_path, environ={})


def test_a_broken_pyproject_that_says_nothing_of_tracetriage_is_left_alone(tmp_path):
    (tmp_path / "pyproject.toml").write_bytes(b"[tool.x\n")
    assert load(tmp_path, environ={}).keep_runs == 20


def test_toml_with_a_byte_order_mark(tmp_path):
    (tmp_path / "pyproject.toml").write_bytes(b"\xef\xbb\xbf[tool.tracetriage]\nkeep_runs = 7\n")
    assert load(tmp_path, environ={}).keep_runs == 7


# pytest's own ini files

INI = [
    ("pytest.ini", "[pytest]\ntracetriage_keep_runs = 3\n"),
    (".pytest.ini", "[pytest]\ntracetriage_keep_runs = 3\n"),
    ("tox.ini", "[tox]\nenvlist = py\n[pytest]\ntracetriage_keep_runs = 3\n"),
    ("setup.cfg", "[metadata]\nname = x\n[tool:pytest]\ntracetriage_keep_runs = 3\n"),
    ("pyproject.toml", "[tool.pytest.ini_options]\ntracetriage_keep_runs = '3'\n"),
]


@pytest.mark.parametrize(("name", "text"), INI, ids=[name for name, _ in INI])
def test_pytest_ini_files(tmp_path, name, text):
    (tmp_path / name).write_text(text, encoding="utf-8")
    found, file = pytest_ini(tmp_path)
    assert found == {"keep_runs": "3"}
    assert file == str(tmp_path / name)
    assert load(tmp_path, ini=found, environ={}).keep_runs == 3


def test_only_our_own_entries_are_returned(tmp_path):
    (tmp_path / "pytest.ini").write_text("[pytest]\naddopts = -q\ntracetriage = true\ntracetriage_dir = x\n", encoding="utf-8")
    assert pytest_ini(tmp_path)[0] == {"dir": "x"}


def test_the_first_file_that_pytest_would_take_counts(tmp_path):
    (tmp_path / "pytest.ini").write_text("[pytest]\naddopts = -q\n", encoding="utf-8")
    (tmp_path / "tox.ini").write_text("[pytest]\ntracetriage_dir = x\n", encoding="utf-8")
    assert pytest_ini(tmp_path)[0] == {}


def test_a_file_without_a_section_of_pytest_does_not_count(tmp_path):
    (tmp_path / "pyproject.toml").write_text("[project]\nname = 'x'\n", encoding="utf-8")
    (tmp_path / "tox.ini").write_text("[tox]\n", encoding="utf-8")
    (tmp_path / "setup.cfg").write_text("[tool:pytest]\ntracetriage_dir = x\n", encoding="utf-8")
    assert pytest_ini(tmp_path)[0] == {"dir": "x"}


def test_no_file_at_all(tmp_path):
    assert pytest_ini(tmp_path) == ({}, "")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("pytest.ini", b"tracetriage_dir = x\n"),
        ("pytest.ini", b"[pytest]\ntracetriage_dir = \xff\n"),
        ("pyproject.toml", b"[tool\n"),
    ],
    ids=["no section", "encoding", "TOML"],
)
def test_an_ini_file_that_cannot_be_read_is_named(tmp_path, name, text):
    (tmp_path / name).write_bytes(text)
    with pytest.raises(ConfigError, match=re.escape(str(tmp_path / name))):
        pytest_ini(tmp_path)


# the root


@pytest.mark.parametrize("sign", ["pyproject.toml", "pytest.ini", "tox.ini", "setup.cfg", "setup.py"])
def test_the_root_is_the_nearest_folder_that_carries_a_sign(tmp_path, sign):
    deep = tmp_path / "a" / "b"
    deep.mkdir(parents=True)
    (tmp_path / "a" / sign).touch()
    (tmp_path / "pyproject.toml").touch()
    assert find_rootdir(deep) == tmp_path / "a"


@pytest.mark.parametrize("sign", [".git", ".tracetriage"])
def test_folders_can_be_signs(tmp_path, sign):
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / sign).mkdir()
    assert find_rootdir(tmp_path / "a" / "b") == tmp_path / "a"
