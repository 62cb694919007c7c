"""A copy of the traces in Weave's cloud, only where the setting `weave_project` names a project.

Each test is a parent call, what it calls nests below it, and what TraceTriage found is written beside the calls of the
tests that failed. The run is one more call, with its figures as output. Everything stands in this process's own records
too, so a cloud that goes away takes nothing along.
"""

from __future__ import annotations

import os
import threading
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from pytest_tracetriage.capture.spans import content
from pytest_tracetriage.capture.spans.manual import cloud_metrics
from pytest_tracetriage.capture.spans.weave_adapter import Weave
from pytest_tracetriage.capture.spans.weave_calls import Naming
from pytest_tracetriage.capture.spans.weave_server import LocalServer

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Mapping
    from pathlib import Path

    from pytest_tracetriage.model.analysis import Analysis
    from pytest_tracetriage.model.run import Run
    from pytest_tracetriage.redact import Redactor

CONNECT_TIMEOUT = 15.0
"""Seconds that a start waits for the cloud at most."""
FLUSH_TIMEOUT = 10.0
"""Seconds that the end of a run waits for what has not been sent yet."""
MAX_FEEDBACK = 1_000
TEST, RUN = "pytest.test", "pytest.run"


class CloudWeave:
    """Hooks that make each test a call, and the client's calls spans.

    `calls` is the folder in which each process notes the calls of its tests; `attributes` are put on each of those.
    """

    def __init__(
        self,
        project: str,
        components: tuple[str, ...],
        redactor: Redactor,
        name_of: Callable[[pytest.Item], str],
        calls: Path,
        worker: str,
        attributes: Mapping[str, str],
        trouble: Callable[[str], None],
        *,
        content: bool = True,
    ) -> None:
        self._trouble = trouble
        self._project = project
        self._redactor = redactor
        self._name_of = name_of
        self._notes = calls / f"weave-{worker}.jsonl"
        self._attributes = dict(attributes)
        self._content = content
        self._naming = Naming(components)
        self._pid = os.getpid()
        self._weave: Weave | None = None
        self._client: Any = None
        self._op: Any = None
        self._tap: LocalServer | None = None
        self._create: Callable[..., Any] | None = None
        self._finish: Callable[..., None] | None = None
        self._figures: dict[str, float] = {}
        self._open: dict[str, Any] = {}
        self._test: Any = None
        self._raised: BaseException | None = None

    def connect(self) -> str:
        """Return "" where the cloud answers, else why it does not."""
        try:
            self._weave = weave = Weave()
        except ImportError as error:
            return f"{error} (pip install 'pytest-tracetriage[weave]')"
        except Exception as error:
            return _words(error)
        answer = _within(CONNECT_TIMEOUT, lambda: weave.connect_cloud(self._project, self._told))
        if isinstance(answer, BaseException):
            weave.disconnect()
            return _words(answer)
        self._client = answer
        self._op = weave.parent_op(TEST)
        self._tap = LocalServer(self._naming, self._current)
        self._wrap(answer, answer.create_call, answer.finish_call)
        return ""

    # -- calls -------------------------------------------------------------------------------------------------------

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, object, object]:
        """Make the test the call that all others of it stand below."""
        self._raised = None
        self._guard(self._begin, item)
        try:
            return (yield)
        finally:
            self._guard(self._end)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, call: pytest.CallInfo[None]) -> Generator[None, Any, Any]:
        """Note why the test failed."""
        report = yield
        if report.failed and call.excinfo is not None:
            self._raised = self._raised or call.excinfo.value
        return report

    def _begin(self, item: pytest.Item) -> None:
        nodeid = self._name_of(item)
        attributes = {"tracetriage": {**self._attributes, "nodeid": nodeid}}
        self._test = self._client.create_call(self._op, {"nodeid": nodeid}, None, attributes, nodeid)
        if self._test.id:
            fd = os.open(self._notes, os.O_WRONLY | os.O_CREAT | os.O_APPEND | getattr(os, "O_CLOEXEC", 0), 0o644)
            try:
                os.write(fd, msgspec.json.encode({"nodeid": nodeid, "call": self._test.id}) + b"\n")
            finally:
                os.close(fd)

    def _end(self) -> None:
        test, self._test = self._test, None
        if test is not None and os.getpid() == self._pid:
            self._client.finish_call(test, exception=self._raised, op=self._op)

    def _current(self) -> str:
        """Return the call that runs, "" where that is the test itself."""
        current = self._weave.current_call() if self._weave is not None else ""
        return "" if self._test is not None and current == self._test.id else current

    def _wrap(self, client: Any, create: Callable[..., Any], finish: Callable[..., None]) -> None:
        def create_call(op: Any, inputs: dict[str, Any], parent: Any = None, *args: Any, **options: Any) -> Any:
            if parent is None and self._test is not None and self._weave is not None and not self._weave.current_call():
                parent = self._test  # a plain thread knows no parent
            around = self._current()
            call = create(op, inputs, parent, *args, **options)
            if op is not self._op:
                self._guard(self._started, call, op, around)
            return call

        def finish_call(call: Any, output: Any = None, exception: BaseException | None = None, **options: Any) -> None:
            self._open.pop(call.id, None)
            finish(call, output, exception, **options)
            self._guard(self._finished, call, output, exception)

        # Weave waits for a server that has gone away as long as it takes; a test that flushes must not.
        flush, end = client.flush, client.finish
        client.flush = lambda: self._told(_within(FLUSH_TIMEOUT, flush))
        client.finish = lambda *args, **options: self._told(_within(FLUSH_TIMEOUT, lambda: end(*args, **options)))
        self._keep_private(client)
        self._create, self._finish = create, finish
        client.create_call, client.finish_call = create_call, finish_call

    def _started(self, call: Any, op: Any, around: str) -> None:
        if self._tap is None or not call.id:
            return
        self._open[call.id] = call
        inside = call.parent_id and (self._test is None or call.parent_id != self._test.id)
        start = {
            "id": call.id,
            "op_name": op if isinstance(op, str) else op.name,
            "parent_id": call.parent_id if inside else None,
            "display_name": call.display_name,
            "started_at": call.started_at,
            "attributes": dict(call.attributes or {}),
            "inputs": call.inputs,
        }
        self._tap.begin(start, around)

    def _finished(self, call: Any, output: Any, exception: BaseException | None) -> None:
        if self._tap is not None:
            told = {"type": type(exception).__name__, "message": str(exception)} if exception is not None else None
            end = {"id": call.id, "ended_at": call.ended_at, "exception": told, "output": output, "summary": call.summary}
            self._tap.call_end({"end": end})

    def _keep_private(self, client: Any) -> None:
        """Have redacted what goes to the cloud, as what is written here is; without content it is shapes."""
        given, came = client.postprocess_inputs, client.postprocess_output

        def inputs(values: dict[str, Any]) -> dict[str, Any]:
            private: dict[str, Any] = self._private(given(values) if given else values)
            return private

        client.postprocess_inputs = inputs
        client.postprocess_output = lambda value: self._private(came(value) if came else value)

    def _private(self, value: Any) -> Any:
        if value is None or value is self._figures:  # which are numbers, under names that were redacted when they were logged
            return value
        if not self._content:
            return msgspec.json.decode(content.shape(msgspec.json.decode(content.encoded(value))))
        data = content.encoded(value)
        return (
            value if self._redactor.is_clean(data.decode()) else msgspec.json.decode(content.kept(self._redactor, value, data))
        )

    # -- the end -----------------------------------------------------------------------------------------------------

    def stop(self) -> None:
        """End the calls that are still open: the client would wait for them. Never raises."""
        if self._tap is None or os.getpid() != self._pid:
            return
        self._guard(self._tap.close)
        while self._open and self._finish is not None:
            self._guard(self._finish, self._open.popitem()[1])

    def tell_run(self, run: Run) -> None:
        """Make the finished run a call: what it has logged and spent is its output. Never raises."""
        self._figures = cloud_metrics(run)
        if self._figures and self._weave is not None and os.getpid() == self._pid:
            self._guard(self._send_run, run)

    def _send_run(self, run: Run) -> None:
        if self._create is None or self._finish is None:
            return
        attributes = {"tracetriage": {key: text for key, text in self._attributes.items() if key != "worker"}}
        began = datetime.fromtimestamp(run.started, timezone.utc)
        call = self._create(RUN, {}, None, attributes, run.id, use_stack=False, started_at=began)
        self._finish(call, self._figures)

    def pytest_tracetriage_notify(self, analysis: Analysis) -> None:
        """Write category, cluster and rule beside the calls of the tests that failed."""
        calls = {note["nodeid"]: note["call"] for note in _notes(self._notes.parent.glob("weave-*.jsonl"))}
        words = [
            (calls[test], {"cluster": cluster.id, "name": cluster.name, "category": cluster.category,
                           "owner": cluster.owner, "rule": cluster.classified})
            for cluster in analysis.clusters
            for test in cluster.tests
            if test in calls
        ]  # fmt: skip

        def send() -> None:
            for call, payload in words[:MAX_FEEDBACK]:
                if self._weave is not None:
                    self._weave.add_feedback(self._client, call, payload)

        self._told(_within(FLUSH_TIMEOUT, send))
        self.close()

    def close(self) -> None:
        """Send what is left, for FLUSH_TIMEOUT at most, and let go of weave. Never raises."""
        weave, self._weave = self._weave, None
        if weave is None or self._client is None or os.getpid() != self._pid:
            return
        self._guard(self._client.flush)
        self._guard(weave.hurry, self._client)
        self._guard(weave.disconnect)

    def _told(self, answer: object) -> None:
        if isinstance(answer, BaseException):
            self._trouble(f"weave's cloud did not get everything: {_words(answer)}")

    def _guard(self, function: Callable[..., None], *args: Any) -> None:
        try:
            function(*args)
        except Exception as error:
            self._told(error)


def _within(seconds: float, function: Callable[[], Any]) -> Any:
    """Return what a function returned or raised; TimeoutError where it takes too long, and is left to itself."""
    answers: list[Any] = []

    def run() -> None:
        try:
            answers.append(function())
        except BaseException as error:
            answers.append(error)

    thread = threading.Thread(target=run, name="tracetriage-weave", daemon=True)
    thread.start()
    thread.join(seconds)
    return answers[0] if answers else TimeoutError(f"no answer within {seconds:.0f} s")


def _notes(paths: Iterable[Path]) -> list[dict[str, str]]:
    found = []
    for path in sorted(paths):
        for line in path.read_bytes().splitlines():
            try:
                found.append(msgspec.json.decode(line, type=dict[str, str]))
            except msgspec.DecodeError:
                continue
    return found


def _words(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0][:300]
