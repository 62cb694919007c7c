"""Settings: every option, its default, and its error.

Precedence: command line (`-o tracetriage_x=`, or a flag of `tracetriage`), `TRACETRIAGE_X` in the environment, pytest's
ini file, `[tool.tracetriage]` in pyproject.toml, default.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pytest_tracetriage.model.analysis import Owner

OWNERS: tuple[Owner, ...] = ("product", "test", "agent", "infrastructure")
COMPONENTS = ("Tester", "Triage", "Fixer", "Verifier")
"""What components of an agent are called, unless the project says otherwise."""

PATTERNS = ("type", "message", "file", "component", "step")
"""What a rule of the project may look at."""


class ConfigError(Exception):
    """A setting that cannot be used. The text names file, key, value and what is allowed."""


@dataclass(frozen=True)
class Option:
    """One setting. `parse` turns text (or what TOML holds) into its value or raises ValueError saying what is allowed."""

    name: str
    default: Any
    parse: Callable[[Any], Any]
    help: str
    ini: bool = True
    """Whether pytest's ini file may hold it: each such entry costs every start of pytest."""


@dataclass(frozen=True)
class CustomRule:
    """A category rule of the project: every pattern given must be found (`re.search`) for it to match.

    One with `component` or `step` (a span's name) is of failing steps: there, `type` and `message` are of what the step says.
    """

    category: str
    owner: Owner
    type: str = ""
    message: str = ""
    file: str = ""
    component: str = ""
    step: str = ""


@dataclass(frozen=True)
class Settings:
    """What the project and the caller set. `folder` is absolute."""

    rootdir: Path
    folder: Path
    keep_runs: int = 20
    traceback: str = "auto"
    plugins: tuple[str, ...] = ()
    rules: tuple[CustomRule, ...] = ()
    history: str = ""
    history_after_run: bool = False
    leg: str = ""
    weave_project: str = ""
    no_content: bool = False
    components: tuple[str, ...] = COMPONENTS
    pytest: tuple[str, ...] = ()
    prepare: tuple[str, ...] = ()
    coverage: bool = False
    pattern_window: int = 7
    pattern_min_frequency: float = 0.005
    pattern_top: int = 10
    model: str = ""
    model_tokens: int = 50_000


def _text(value: object) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError("a non-empty text")
    return value.strip()


def _count(value: object) -> int:
    try:
        number = int(str(value))
    except ValueError:
        number = 0
    if number < 1 or isinstance(value, bool):
        raise ValueError("a whole number of 1 or more")
    return number


def _share(value: object) -> float:
    try:
        share = float(str(value))
    except ValueError:
        share = -1.0
    if not 0 <= share < 1 or isinstance(value, bool):
        raise ValueError("a number from 0 up to, not including, 1")
    return share


def _switch(value: object) -> bool:
    words = {"true": True, "1": True, "yes": True, "on": True, "false": False, "0": False, "no": False, "off": False}
    try:
        return words[str(value).strip().lower()]
    except KeyError:
        raise ValueError("true or false") from None


def _choice(*allowed: str) -> Callable[[object], str]:
    def parse(value: object) -> str:
        if value not in allowed:
            raise ValueError("one of " + ", ".join(allowed))
        return str(value)

    return parse


def _names(kind: str) -> Callable[[object], tuple[str, ...]]:
    def parse(value: object) -> tuple[str, ...]:
        items = value.replace(",", " ").split() if isinstance(value, str) else value
        if not isinstance(items, list | tuple) or not all(isinstance(item, str) and item for item in items):
            raise ValueError(f"a list of {kind}")
        return tuple(items)

    return parse


def _command(value: object) -> tuple[str, ...]:
    import shlex  # noqa: PLC0415 - only projects with a command of their own need it

    try:
        words = tuple(shlex.split(value)) if isinstance(value, str) else ()
    except ValueError:
        words = ()
    if not words:
        raise ValueError("a command, its words quoted as for a shell")
    return words


def _weave_project(value: object) -> str:
    if value == "":  # nowhere, whatever a place of less weight says
        return ""
    entity, slash, project = value.strip().partition("/") if isinstance(value, str) else ("", "", "")
    if not slash or not entity or not project or "/" in project or any(sign.isspace() for sign in entity + project):
        raise ValueError("ENTITY/PROJECT")
    return f"{entity}/{project}"


def _rules(value: object) -> tuple[CustomRule, ...]:
    import re  # noqa: PLC0415 - only projects with rules of their own need it

    allowed = "tables with category, owner (" + ", ".join(OWNERS) + ") and at least one pattern of " + ", ".join(PATTERNS)
    if not isinstance(value, list):
        raise ValueError(allowed)
    rules = []
    for item in value:
        if (
            not isinstance(item, dict)
            or not all(isinstance(text, str) and text for text in item.values())
            or not {"category", "owner"} <= item.keys() <= {"category", "owner", *PATTERNS}
            or item["owner"] not in OWNERS
            or not any(key in item for key in PATTERNS)
        ):
            raise ValueError(allowed)
        for key in PATTERNS:
            try:
                re.compile(item.get(key, ""))
            except re.error as error:
                raise ValueError(f"a regular expression as {key} ({error})") from None
        rules.append(CustomRule(**item))
    return tuple(rules)


OPTIONS = (
    Option("dir", ".tracetriage", _text, "folder for runs and policy, relative to the root of the project"),
    Option("keep_runs", 20, _count, "how many runs are kept"),
    Option(
        "traceback",
        "auto",
        _choice("auto", "exemplar", "all"),
        "which tracebacks pytest renders: auto (the first of each signature, unless asked for more), exemplar, all",
    ),
    Option("plugins", (), _names("module names"), "modules with pytest_tracetriage_* hooks that the tracetriage command loads"),
    Option(
        "history",
        "",
        _text,
        "where the history of runs lies: a folder, git:BRANCH, or a URL that fsspec opens; the default is history/ in `dir`",
    ),
    Option("history_after_run", False, _switch, "whether each run is added to the history when it ends"),
    Option("leg", "", _text, "what tells this job from the others of its matrix"),
    Option(
        "weave_project",
        "",
        _weave_project,
        "where Weave's cloud keeps a copy of the traces: ENTITY/PROJECT; the default is nowhere",
    ),
    Option("no_content", False, _switch, "whether spans keep shapes only of what went in and came out, and no text"),
    Option("components", COMPONENTS, _names("names"), "what components of an agent are called; spans of theirs carry the name"),
    Option(
        "pytest",
        (),
        _command,
        "how tests are run again: a command that takes pytest's arguments; the default is python -m pytest",
        ini=False,
    ),
    Option(
        "prepare",
        (),
        _command,
        "a command that builds what git ignores, run once in a worktree before tests are run there",
        ini=False,
    ),
    Option("coverage", False, _switch, "whether a recorded run keeps which lines each test ran"),
    Option("pattern_window", 7, _count, "days that patterns, cost sinks and the like are told of", ini=False),
    Option(
        "pattern_min_frequency", 0.005, _share, "share of attempts below which what fails is not told as a pattern", ini=False
    ),
    Option("pattern_top", 10, _count, "how many patterns, cost sinks and the like of each kind are told", ini=False),
    Option("model", "", _text, "which model of OpenAI words hypotheses from the evidence; the default is none", ini=False),
    Option("model_tokens", 50_000, _count, "how many tokens one command may spend on that model", ini=False),
    Option("rules", (), _rules, "category rules of the project: [[tool.tracetriage.rules]] tables", ini=False),
)
INI_OPTIONS = tuple(option for option in OPTIONS if option.ini)


def load(
    rootdir: Path,
    *,
    overrides: Mapping[str, str] | None = None,
    ini: Mapping[str, str] | None = None,
    ini_file: str = "pytest's ini",
    environ: Mapping[str, str] | None = None,
) -> Settings:
    """Return the settings of the project at `rootdir`.

    `overrides` are what the command line gave, `ini` what pytest's ini file holds, both by option name without prefix.
    Raises ConfigError.
    """
    environ = os.environ if environ is None else environ
    overrides, ini = overrides or {}, ini or {}
    table, table_file = tool_table(rootdir)
    values: dict[str, Any] = {}
    for option in OPTIONS:
        variable = f"TRACETRIAGE_{option.name.upper()}"
        if option.name in overrides:
            where, key, raw = "command line", f"tracetriage_{option.name}", overrides[option.name]
        elif environ.get(variable) and option.name != "rules":
            where, key, raw = "environment", variable, environ[variable]
        elif option.name in ini:
            where, key, raw = ini_file, f"tracetriage_{option.name}", ini[option.name]
        elif option.name in table:
            where, key, raw = str(table_file), f"tool.tracetriage.{option.name}", table[option.name]
        else:
            values[option.name] = option.default
            continue
        try:
            values[option.name] = option.parse(raw)
        except ValueError as error:
            raise ConfigError(f"{where}: {key} = {raw!r}: expected {error}") from None
    folder = rootdir / Path(values.pop("dir")).expanduser()
    return Settings(rootdir=rootdir, folder=folder, **values)


def tool_table(rootdir: Path) -> tuple[dict[str, Any], Path]:
    """Return the `[tool.tracetriage]` table of the project and the file it stands in. Raises ConfigError."""
    path = rootdir / "pyproject.toml"
    try:
        raw = path.read_bytes()
    except OSError:
        return {}, path
    if b"tracetriage" not in raw:
        return {}, path
    table = _parse_toml(raw, path).get("tool", {}).get("tracetriage", {})
    if not isinstance(table, dict):
        raise ConfigError(f"{path}: tool.tracetriage = {table!r}: expected a table")
    known = {option.name for option in OPTIONS}
    for key in table:
        if key not in known:
            raise ConfigError(f"{path}: tool.tracetriage.{key}: no such setting; there are {', '.join(sorted(known))}")
    return table, path


def read_pyproject(folder: Path) -> dict[str, Any]:
    """Return what pyproject.toml in `folder` holds, empty where there is none. Raises ConfigError."""
    path = folder / "pyproject.toml"
    try:
        raw = path.read_bytes()
    except OSError:
        return {}
    return _parse_toml(raw, path)


def _parse_toml(raw: bytes, path: Path) -> dict[str, Any]:
    if sys.version_info >= (3, 11):
        import tomllib  # noqa: PLC0415
    else:
        import tomli as tomllib  # noqa: PLC0415 - pytest brings it there
    try:
        parsed: dict[str, Any] = tomllib.loads(raw.decode("utf-8-sig"))
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{path}: not valid TOML: {error}") from None
    return parsed


def find_rootdir(start: Path) -> Path:
    """Return the root of the project that holds `start`: the nearest folder upwards that carries a sign of one."""
    signs = (
        ".pytest.toml",
        ".tracetriage",
        "pytest.ini",
        "pytest.toml",
        ".pytest.ini",
        "pyproject.toml",
        "tox.ini",
        "setup.cfg",
        "setup.py",
        ".git",
    )
    for folder in (start, *start.parents):
        if any((folder / sign).exists() for sign in signs):
            return folder
    return start


def pytest_ini(rootdir: Path) -> tuple[dict[str, str], str]:
    """Return the `tracetriage_*` entries of pytest's ini file without their prefix, and that file's name.

    For the command, which runs outside pytest; the first file in pytest's own order that has a section counts.
    """
    import iniconfig  # noqa: PLC0415

    for name, sections in (("pytest.toml", ("pytest",)), (".pytest.toml", ("pytest",)), ("pytest.ini", ("pytest",)), (".pytest.ini", ("pytest",)),
                           ("pyproject.toml", ("tool", "pytest")), ("tox.ini", ("pytest",)), ("setup.cfg", ("tool:pytest",))):  # fmt: skip
        path = rootdir / name
        if not path.is_file():
            continue
        if name.endswith(".toml"):
            table: Any = _parse_toml(path.read_bytes(), path)
            for section in sections:
                table = table.get(section, {}) if isinstance(table, dict) else {}
            if isinstance(table, dict) and isinstance(table.get("ini_options"), dict):
                table = table["ini_options"]
        else:
            try:
                table = dict(iniconfig.IniConfig(str(path)).sections.get(sections[0], {}))
            except (iniconfig.ParseError, UnicodeDecodeError) as error:
                raise ConfigError(f"{path}: {error}") from None
        if table or name in {"pytest.ini", ".pytest.ini", "pytest.toml", ".pytest.toml"}:
            prefix = "tracetriage_"
            return {key[len(prefix) :]: value for key, value in table.items() if key.startswith(prefix)}, str(path)
    return {}, ""
