"""The end of a pytest run: each exemplar once in FAILURES, then the root causes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

    from pytest_tracetriage.model.analysis import Analysis, Cluster
    from pytest_tracetriage.model.diagnosis import Pattern
    from pytest_tracetriage.report.text import Line

_REPEATED = "same failure as "
_STYLES = {"red", "green", "yellow", "cyan", "bold", "dim"}


class TerminalSummary:
    """Hooks around pytest's own summary, about a `session`'s `analysis`, `accounted` and `warning()`.

    `attribute` marks reports of which only a pointer was rendered; `patterns` returns what the history last said.
    """

    def __init__(self, session: Any, attribute: str, patterns: Callable[[], Sequence[Pattern]]) -> None:
        self._session = session
        self._attribute = attribute
        self._patterns = patterns
        self._seen: set[str] = set()
        self._kept: dict[str, list[Any]] = {}
        self._headline: Any = None

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_terminal_summary(self, terminalreporter: Any) -> Generator[None, None, None]:
        """Keep repeated failures out of FAILURES and ERRORS while pytest prints them."""
        try:
            self._leave_out_repeated(terminalreporter)
        except Exception as error:
            self._session.trouble = self._session.trouble or f"internal error: {error!r}"
        try:
            return (yield)
        finally:
            self._restore(terminalreporter)

    def _leave_out_repeated(self, reporter: Any) -> None:
        if not self._session.recorder.exemplars.saving():
            return
        clusters = self._by_test()
        for name in ("failed", "error"):
            reports = reporter.stats.get(name)
            if not reports:
                continue
            kept = [report for report in reports if not self._is_repeated(report)]
            if len(kept) < len(reports):
                self._kept[name] = list(reports)
                reports[:] = kept
        if self._kept and clusters:
            self._headline = reporter._getfailureheadline  # noqa: SLF001 - the only place where the title is made
            usual = self._headline
            reporter._getfailureheadline = lambda report: self._title(usual, report, clusters)  # noqa: SLF001

    def _is_repeated(self, report: Any) -> bool:
        signature = getattr(report, self._attribute, "")
        if not signature:
            return False
        pointer = str(report.longrepr).startswith(_REPEATED)
        # Every xdist worker renders its own first: the controller shows one of them.
        repeated = pointer or signature in self._seen
        self._seen.add(signature)
        return repeated

    def _by_test(self) -> dict[str, tuple[Cluster, str]]:
        analysis: Analysis | None = self._session.analysis
        if analysis is None:
            return {}
        from pytest_tracetriage.report.text import short_ids  # noqa: PLC0415 - the end of a run is early enough

        names = short_ids(cluster.id for cluster in analysis.clusters)
        return {test: (cluster, names[cluster.id]) for cluster in analysis.clusters for test in cluster.tests}

    @staticmethod
    def _title(usual: Any, report: Any, clusters: dict[str, tuple[Cluster, str]]) -> str:
        title = str(usual(report))
        found = clusters.get(report.nodeid)
        if found is None or found[0].count < 2:
            return title
        return f"{title} [{found[1]}, one of {found[0].count} alike]"

    def _restore(self, reporter: Any) -> None:
        for name, reports in self._kept.items():
            reporter.stats[name][:] = reports
        self._kept = {}
        if self._headline is not None:
            del reporter._getfailureheadline  # noqa: SLF001
            self._headline = None

    @pytest.hookimpl(specname="pytest_terminal_summary")
    def pytest_terminal_summary_causes(self, terminalreporter: Any, config: pytest.Config) -> None:
        """Print the root causes between FAILURES and pytest's short summary."""
        self._restore(terminalreporter)
        try:
            self._print(terminalreporter, config)
        except Exception as error:
            self._session.trouble = self._session.trouble or f"internal error: {type(error).__name__}: {error}"
        if warning := self._session.warning():
            terminalreporter.write_line(f"tracetriage: warning: {printable(warning)}", yellow=True)

    def _print(self, terminalreporter: Any, config: pytest.Config) -> None:
        analysis = self._session.analysis
        accounted = self._session.accounted
        quiet = getattr(config.option, "no_summary", False)
        writer = terminalreporter._tw  # noqa: SLF001 - TerminalReporter has no public way to styled segments
        if analysis is not None and not quiet:
            from pytest_tracetriage.report import terminal  # noqa: PLC0415

            verbosity = config.get_verbosity()
            title = terminal.headline(analysis)
            if analysis.totals.failures:
                style = {"red": True, "bold": True}
                if verbosity >= 0:
                    terminalreporter.write_sep("=", title, **style)
                else:
                    terminalreporter.write_line(title, **style)
            else:
                terminalreporter.write_line(title)
            if analysis.clusters:
                for line in terminal.body(analysis, writer.fullwidth, verbosity, patterns=self._patterns()):
                    _write(writer, line)
        if accounted is not None and accounted.spent and not quiet:
            from pytest_tracetriage.report.text import spent_text  # noqa: PLC0415

            terminalreporter.write_line(f"LLM: {spent_text(accounted.spent, accounted.note)}")


def printable(text: str) -> str:
    """Return `text` on one line, without control characters."""
    return "".join(character if character.isprintable() else " " for character in text)


def _write(writer: Any, line: Line) -> None:
    for text, style in line:
        writer.write(
            text,
            **{name: True for name in style.split() if name in _STYLES and name != "dim"},
            **({"light": True} if "dim" in style else {}),
        )
    writer.line()
