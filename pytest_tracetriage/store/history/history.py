"""The history of runs: added to, compacted, pruned, and asked."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct

from pytest_tracetriage.store.history import HistoryError, clusters, maps, queries
from pytest_tracetriage.store.history import compact as packing
from pytest_tracetriage.store.history.pieces import pieces_of
from pytest_tracetriage.store.history.reading import Reader, session
from pytest_tracetriage.store.history.tables import encode, run_key
from pytest_tracetriage.store.history.trails import trails
from pytest_tracetriage.store.runs import StoreError

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from pytest_tracetriage.model.analysis import Frequency
    from pytest_tracetriage.model.diagnosis import Costs, Trails
    from pytest_tracetriage.model.execution import CoverageMap
    from pytest_tracetriage.model.history import (
        Baseline,
        ClusterHistory,
        Condensed,
        Evidence,
        FlakyTest,
        Location,
        Rate,
        RunRecord,
        Seen,
        SlowTest,
    )
    from pytest_tracetriage.store.history.reading import View


class Added(Struct, frozen=True):
    """What an add did, by run id, in the order given. `bytes` is what the added runs take before they are packed."""

    added: tuple[str, ...]
    present: tuple[str, ...]
    """Those that were there already; the history keeps them as they were."""
    bytes: int


def open_history(location: Location) -> History:
    """Return the history at a location. Nothing is read yet."""
    return History(location)


class History:
    """One history. Every question reads what is there at that moment; all raise HistoryError.

    `branch` None asks about all runs; a branch leaves out runs of pull requests, which are on their way to it. `since` is
    seconds since the epoch. Answers come in the same order every time.
    """

    def __init__(self, location: Location) -> None:
        self._location = location
        self._reader = Reader(location)

    @property
    def problems(self) -> list[str]:
        """What was left out so far, because it could not be read or written, and what the location has to say: a line each."""
        return [*self._reader.problems, *getattr(self._location, "notes", ())]

    def add(self, items: Sequence[Condensed]) -> Added:
        """Add runs that are not there yet. A run is added once: the first word stays, and is never rewritten.

        Each run becomes a piece under its own name, so writers do not meet. Where more than 100 pieces lie loose, they are
        packed right away; if that fails, the runs are added nevertheless, and `problems` says so.
        """
        wanted = {item.run.id: item for item in items}
        for identity in wanted:
            run_key(identity)
        if not wanted:
            return Added((), (), 0)
        names, present = self._reader.ask(lambda view: (view.names, _present(view, wanted)))
        fresh = [item for identity, item in wanted.items() if identity not in present]
        files: dict[str, bytes] = {}
        if fresh:
            with session() as (sql, scratch):
                for identity, piece in encode(sql, fresh, scratch).items():
                    files |= {f"{identity}.{kind}.parquet": data for kind, data in piece.items()}
            self._location.put(files, message=f"Add {len(fresh)} runs" if len(fresh) > 1 else f"Add run {fresh[0].run.id}")
        if sum(piece.loose for piece in pieces_of(names | files.keys())) > packing.LOOSE:
            try:
                self.compact()
            except HistoryError as error:
                self._reader.problems.append(f"the runs were added, but not packed: {error}")
        added = tuple(item.run.id for item in fresh)
        return Added(added, tuple(one for one in wanted if one in present), sum(map(len, files.values())))

    def compact(self) -> packing.Compacted:
        """Pack what lies loose into few files, and merge small packs."""
        return self._reader.ask(lambda view: packing.compact(view, self._location))

    def prune(self, before: float) -> packing.Pruned:
        """Forget the runs that started before a time, in seconds since the epoch."""
        return self._reader.ask(lambda view: packing.prune(view, self._location, before))

    def add_maps(self, items: Sequence[tuple[RunRecord, CoverageMap]]) -> int:
        """Keep the maps of green runs in place of older ones of their lines; return how many bytes were written.

        A run whose map is not kept is passed over: see `maps.file_of`. On a git branch a line gets one map a day.
        """
        from pytest_tracetriage.store.coverage import encode as encode_map  # noqa: PLC0415 - few runs have one

        held = maps.map_files(self._reader.ask(lambda view: view.names))
        rare = bool(getattr(self._location, "keeps_past", False))
        files: dict[str, bytes] = {}
        for run, coverage in items:
            file = maps.file_of(run)
            if file is not None and file not in held and not (rare and not maps.is_due(file, held)):
                files[file.name] = encode_map(coverage)
        if files:
            gone = maps.superseded(maps.map_files({file.name for file in held} | files.keys()))
            files = {name: data for name, data in files.items() if name not in gone}
        if files:
            self._location.put(files, gone, f"Add {len(files)} coverage maps")
        return sum(map(len, files.values()))

    def maps(self, commits: Sequence[str] | None = None) -> list[CoverageMap]:
        """Return the newest green map of each line (branch, workflow, job, leg), for `merge_maps`.

        `commits`, the nearest first, are those that count, as the ancestors of one; None takes the newest of all.
        """
        from pytest_tracetriage.store.coverage import decode as decode_map  # noqa: PLC0415

        files = self._reader.ask(lambda view: maps.newest(maps.map_files(view.names), commits))
        paths = self._reader.ask(lambda view: view.fetch(frozenset(file.name for file in files) & view.names))
        found = []
        for name, path in sorted(paths.items()):
            try:
                with open(path, "rb") as file:
                    found.append(decode_map(file.read()))
            except (OSError, StoreError) as error:
                self._reader.problems.append(f"{self._location.name}: {name}: {error}; it is left out")
        return found

    def runs(self, branch: str | None = None, limit: int = 20, since: float = 0.0) -> list[RunRecord]:
        """Return the newest runs, newest first."""
        return self._reader.ask(lambda view: queries.runs(view, branch, limit, since))

    def seen(self, branch: str | None = None, before_run: str = "", since: float = 0.0, exclude: str = "") -> list[Seen]:
        """Return the clusters that these runs showed, oldest first; one with `runs` 0 only showed in attempts run again.

        `before_run` leaves out that run and all that started after it, `exclude` the groups whose names begin so
        (a run without a group is one of its own, named by its id).
        """
        return self._reader.ask(lambda view: clusters.seen(view, branch, before_run, since, exclude))

    def cluster_history(self, prefix: str, branch: str | None = None, since: float = 0.0) -> ClusterHistory | None:
        """Return the runs of the cluster whose id begins so; None where no run here said anything of one."""
        return self._reader.ask(lambda view: clusters.cluster_history(view, prefix, branch, since))

    def frequencies(
        self, asked: Mapping[str, Collection[str]], branch: str | None = None, groups: int = 100
    ) -> dict[str, Frequency]:
        """Return for each cluster, given with its tests, in how many of the last groups that ran one of them it ended red."""
        return self._reader.ask(lambda view: queries.frequencies(view, asked, branch, groups))

    def evidence(self, asked: Mapping[str, Collection[str]], current: Sequence[Condensed] = ()) -> list[Evidence]:
        """Return which tests of clusters, given with these tests, failed and passed by turns where nothing had changed.

        `current` are runs that are not added yet; they count too.
        """
        return self._reader.ask(lambda view: clusters.evidence(view, asked, current))

    def baseline(self, branch: str, before_group: str = "", workflow: str = "", exclude: str = "") -> Baseline | None:
        """Return the newest group of a branch that ran to its end, None without any.

        `before_group` leaves out what began no earlier than that group, `exclude` the groups whose names begin so.
        """
        return self._reader.ask(lambda view: queries.baseline(view, branch, before_group, workflow, exclude))

    def passing(self, tests: Collection[str], branch: str, workflow: str = "", exclude: str = "") -> set[str]:
        """Return which of these tests passed in all legs that ran them in the newest group of a branch that ran to its end."""
        return self._reader.ask(lambda view: queries.passing(view, tests, branch, workflow, exclude))

    def pass_rate(self, branch: str | None = None, since: float = 0.0) -> list[Rate]:
        """Return how each group ended, oldest first."""
        return self._reader.ask(lambda view: queries.pass_rate(view, branch, since))

    def slow_tests(self, limit: int = 10, since: float = 0.0, branch: str | None = None) -> list[SlowTest]:
        """Return the tests with the longest median, longest first."""
        return self._reader.ask(lambda view: queries.slow_tests(view, limit, since, branch))

    def flaky_tests(self, limit: int = 10, since: float = 0.0) -> list[FlakyTest]:
        """Return tests that failed and passed on one clean commit and environment; those on the most commits first."""
        return self._reader.ask(lambda view: queries.flaky_tests(view, limit, since))

    def trails(self, branch: str | None = None, since: float = 0.0) -> Trails:
        """Return what became of each test that ever failed, and of each cluster, commit by commit."""
        return self._reader.ask(lambda view: trails(view, branch, since))

    def costs(self, branch: str | None = None, since: float = 0.0, limit: int = 10) -> Costs:
        """Return what tests took (time, attempts, tokens, money) and how they failed, at most `limit` of each."""
        return self._reader.ask(lambda view: queries.costs(view, branch, since, limit))


def _present(view: View, wanted: Collection[str]) -> set[str]:
    """Return which of these runs are there. Only the packs that could hold them are looked into."""
    loose = {piece.stem for piece in view.pieces if piece.loose}
    stems = {piece.stem for piece in view.pieces if not piece.loose and any(piece.first <= one <= piece.last for one in wanted)}
    packed = {entry.run.id for entries in view.held_by(stems).values() for entry in entries}
    return {identity for identity in wanted if identity in loose or identity in packed}
