"""The project a command works on: settings, extensions, what history and people know."""

from __future__ import annotations

import importlib
import sys
from dataclasses import dataclass
from datetime import date
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pluggy

from pytest_tracetriage import config, hookspecs
from pytest_tracetriage.config import ConfigError
from pytest_tracetriage.report.text import short_ids
from pytest_tracetriage.store.runs import StoreError, read_aliases, read_analysis, read_run, run_folders
from pytest_tracetriage.triage.analyze import Given, KnownCluster
from pytest_tracetriage.triage.suspects import CODEOWNERS_PLACES, OwnerRules, parse_codeowners
from pytest_tracetriage.triage.taxonomy import of_steps, project_rules

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from pytest_tracetriage.config import Settings
    from pytest_tracetriage.model.analysis import Analysis, Cluster


ENTRY_POINTS = "tracetriage"


def open_project(start: Path | None = None) -> Settings:
    """Return the settings of the project that holds `start` (the current folder). Raises ConfigError."""
    rootdir = config.find_rootdir((start or Path.cwd()).resolve())
    ini, ini_file = config.pytest_ini(rootdir)
    return config.load(rootdir, ini=ini, ini_file=ini_file)


class _Hooks(pluggy.PluginManager):
    """Finds hooks as pytest does: by their name, with or without a marker."""

    def parse_hookimpl_opts(self, plugin: Any, name: str) -> Any:
        if not name.startswith("pytest_tracetriage_"):
            return None
        return super().parse_hookimpl_opts(plugin, name) or {}


def load_extensions(settings: Settings) -> pluggy.HookRelay:
    """Return the hooks of the configured plugins and entry points. Raises ConfigError naming what cannot be imported."""
    manager = _Hooks("pytest")
    manager.add_hookspecs(hookspecs)
    if settings.plugins and str(settings.rootdir) not in sys.path:
        sys.path.insert(0, str(settings.rootdir))
    for name in settings.plugins:
        try:
            manager.register(importlib.import_module(name), name)
        except Exception as error:
            raise config.ConfigError(
                f"tool.tracetriage.plugins: {name!r} cannot be imported: {type(error).__name__}: {error}"
            ) from None
    for entry in entry_points(group=ENTRY_POINTS):
        try:
            manager.register(entry.load(), entry.name)
        except Exception as error:
            raise config.ConfigError(f"entry point {entry.name} = {entry.value}: {type(error).__name__}: {error}") from None
    return manager.hook


@dataclass(frozen=True)
class History:
    """Earlier analyses, oldest first, as (run id, what to call it, analysis)."""

    analyses: tuple[tuple[str, str, Analysis], ...]

    def known(self) -> tuple[KnownCluster, ...] | None:
        """Return the clusters that these runs had, oldest first; None where there was no run."""
        if not self.analyses:
            return None
        found: dict[str, KnownCluster] = {}
        for _, label, analysis in self.analyses:
            for cluster in analysis.clusters:
                found[cluster.id] = _grown(found.get(cluster.id), cluster, label)
        return tuple(found.values())

    def watch(self) -> frozenset[str]:
        """Return the tests of clusters that were open at the end: when they pass now, that is worth knowing."""
        known = self.known() or ()
        return frozenset(test for cluster in known if cluster.open for test in cluster.tests)


def _grown(before: KnownCluster | None, cluster: Cluster, label: str) -> KnownCluster:
    signatures = frozenset(signature.id for signature in cluster.signatures)
    tests = frozenset(cluster.tests + cluster.waiting)
    red = int(cluster.seen != "fixed")
    if before is None:
        return KnownCluster(cluster.id, cluster.name, signatures, tests, label, red, cluster)
    return KnownCluster(
        cluster.id,
        cluster.name,
        before.signatures | signatures,
        tests or before.tests,
        before.since,
        before.runs + red,
        cluster,
        before.episodes + (red and not before.open),
    )


def read_history(folder: Path, *, before: str = "", without: frozenset[str] = frozenset()) -> History:
    """Return the analyses of the kept runs earlier than run id `before` ("" for all), except those of `without`."""
    found = []
    for path in run_folders(folder):
        if path.name in without or (before and path.name >= before):
            continue
        try:
            analysis = read_analysis(path)
        except StoreError:
            continue  # a run that was killed, or of a newer version: it knows nothing for us
        try:
            commit = read_run(path).context.git.commit[:8]
        except StoreError:
            commit = ""
        found.append((path.name, commit or _day(path.name), analysis))
    return History(tuple(found))


def _day(run_id: str) -> str:
    return f"{run_id[:4]}-{run_id[4:6]}-{run_id[6:8]}"


def given(settings: Settings, known: tuple[KnownCluster, ...] | None, hooks: Any, problems: list[str]) -> Given:
    """Return what triage is told beside the traces; what cannot be read is added to `problems`."""
    try:
        aliases = read_aliases(settings.folder)
    except StoreError as error:
        problems.append(str(error))
        from pytest_tracetriage.model.analysis import Aliases  # noqa: PLC0415

        aliases = Aliases()
    classifiers: list[Any] = []
    if hooks.pytest_tracetriage_classify.get_hookimpls():
        classifiers.append(
            _guarded(lambda failure: hooks.pytest_tracetriage_classify(failure=failure), None, "classify", problems)
        )
    if settings.rules:
        classifiers.append(project_rules(settings.rules))
    rules, prefix = _codeowners(settings.rootdir)
    joiners: list[Any] = []
    if hooks.pytest_tracetriage_join.get_hookimpls():
        joiners.append(
            _guarded(lambda signatures: _flat(hooks.pytest_tracetriage_join(signatures=signatures)), [], "join", problems)
        )
    return Given(
        known=known,
        aliases=aliases,
        classifiers=tuple(classifiers),
        joiners=tuple(joiners),
        components=settings.components,
        step_rules=tuple(rule for rule in settings.rules if of_steps(rule)),
        codeowners=rules,
        prefix=prefix,
        today=date.today().isoformat(),  # noqa: DTZ011 - a person's expiry date means their own day
    )


def _guarded(ask: Callable[[Any], Any], nothing: Any, name: str, problems: list[str]) -> Callable[[Any], Any]:
    """Return `ask` with what it raises told once, and answered by `nothing`: a plugin's fault costs its own word only."""

    def asked(value: Any) -> Any:
        try:
            return ask(value)
        except Exception as error:
            line = f"pytest_tracetriage_{name} raised {type(error).__name__}: {error}"
            if line not in problems:
                problems.append(line)
            return nothing

    return asked


def _flat(answers: Iterable[Iterable[tuple[str, str, str]] | None]) -> list[tuple[str, str, str]]:
    return [link for answer in answers for link in answer or ()]


def _codeowners(rootdir: Path) -> tuple[OwnerRules, str]:
    """Return the rules of the repository, else of the project, and where the project lies in what they are about."""
    top = next((folder for folder in (rootdir, *rootdir.parents) if (folder / ".git").exists()), rootdir)
    prefix = "" if top == rootdir else f"{rootdir.relative_to(top).as_posix()}/"
    for folder, below in ((top, prefix), (rootdir, "")):
        for name in CODEOWNERS_PLACES:
            try:
                return parse_codeowners((folder / name).read_text(encoding="utf-8", errors="replace")), below
            except OSError:
                continue
    return (), ""


def find_cluster(analyses: Sequence[Analysis], prefix: str) -> list[Cluster]:
    """Return the clusters whose id begins with `prefix` (any case), newest analysis first, each id once."""
    wanted = prefix.upper()
    found: dict[str, Cluster] = {}
    for analysis in analyses:
        for cluster in analysis.clusters:
            if cluster.id.startswith(wanted) and cluster.id not in found:
                found[cluster.id] = cluster
    return list(found.values())


def recent_analyses(folder: Path) -> list[tuple[Path, Analysis]]:
    """Return the kept runs that have an analysis, newest first."""
    found = []
    for path in reversed(run_folders(folder)):
        try:
            found.append((path, read_analysis(path)))
        except StoreError:
            continue
    return found


def cluster_of(settings: Settings, prefix: str) -> Cluster:
    """Return the cluster that a prefix names in the kept runs. Raises ConfigError when none or several do."""
    analyses = [analysis for _, analysis in recent_analyses(settings.folder)]
    if not analyses:
        raise ConfigError(f"{settings.folder}: no run with an analysis; run `pytest --tracetriage` first")
    return only(find_cluster(analyses, prefix), prefix, analyses)


def only(found: Sequence[Cluster], prefix: str, analyses: Sequence[Analysis]) -> Cluster:
    """Return the one cluster found. Raises ConfigError that names the choices."""
    if len(found) == 1:
        return found[0]
    if found:
        names = short_ids(cluster.id for cluster in found)
        choices = "; ".join(f"{names[cluster.id]} {cluster.name}" for cluster in found[:5])
        raise ConfigError(f"cluster {prefix!r} is ambiguous: {choices}")
    latest = analyses[0].clusters
    names = short_ids(cluster.id for cluster in latest)
    choices = ", ".join(names[cluster.id] for cluster in latest[:10]) or "none"
    raise ConfigError(f"no cluster {prefix!r} in the kept runs; the latest has: {choices}")


def tests_of(settings: Settings, prefix: str) -> tuple[str, ...]:
    """Return the node ids of a cluster's tests, those included that the newest run with it left out. Raises ConfigError."""
    cluster = cluster_of(settings, prefix)
    return cluster.tests + cluster.waiting
