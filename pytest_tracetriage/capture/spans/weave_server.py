"""A trace server for Weave inside this process: calls that end become spans at once, nothing goes anywhere else.

It is shaped like `TraceServerClientInterface` as far as a client uses it that traces, publishes and reads back its own
calls. Requests are pydantic models in some versions of weave, dicts in others. What can be read back is the newest only, of
calls those of the running test: memory does not grow with their number.
"""

from __future__ import annotations

import base64
import hashlib
import os
import threading
import uuid
from collections import OrderedDict
from datetime import datetime, timezone
from types import SimpleNamespace as Answer
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import UNSET

from pytest_tracetriage.capture.spans.sink import Places, connected
from pytest_tracetriage.capture.spans.weave_calls import Call, Naming, inputs_of, open_span, span_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pytest_tracetriage.capture.spans.sink import Place, SpanSink

MAX_OPEN = 20_000
"""Calls that may be running at one time; of more, the oldest are given up."""
MAX_KEPT = 500
"""Ended calls, objects, tables and files (each) that can be read back."""
MAX_OBJECT = 1 << 20
"""Bytes of one object, table or file that can be read back."""


class LocalServer:
    """Hands ended calls to the sink that is connected at the time. `current` gives the id of the running call, or ""."""

    def __init__(self, naming: Naming, current: Callable[[], str]) -> None:
        self._naming = naming
        self._current = current
        self._known: SpanSink | None = None
        self._trace = ""
        self._places = Places()
        self._open: OrderedDict[str, Call] = OrderedDict()
        self._ended: OrderedDict[str, dict[str, Any]] = OrderedDict()
        self._objects: OrderedDict[Any, Any] = OrderedDict()

    # -- the service -------------------------------------------------------------------------------------------------

    def server_info(self) -> Any:
        """Return what a client checks first: every version of it will do."""
        return Answer(min_required_weave_python_version="0.0.0", trace_server_version=None)

    def ensure_project_exists(self, entity: str, project: str) -> Any:
        """Return the project as it was asked for."""
        return Answer(project_name=project)

    def projects_info(self, req: Any) -> list[Any]:
        """Return nothing: no project has an internal id here."""
        return []

    # -- calls -------------------------------------------------------------------------------------------------------

    def call_start(self, req: Any) -> Any:
        """Note a call that begins, with the test that runs now."""
        return self.begin(_plain(req)["start"], self._current())

    def begin(self, start: dict[str, Any], around: str) -> Any:
        """Note a call that begins inside the call `around`, "" for none. Another parent is one that the program has named."""
        call_id = start.get("id") or str(uuid.uuid4())
        sink = connected()
        if sink is not None:
            if sink is not self._known:
                self._known = sink
                sink.ask(self._running)
            trace, parent = sink.trace(), start.get("parent_id") or ""
            outer, above = self._open.get(parent), self._places.find(parent)
            if above is not None and above.trace != trace:
                if threading.current_thread() is threading.main_thread():
                    outer, parent = None, ""  # left open by an earlier test, or around several tests
                else:
                    trace = above.trace  # of a test that has ended: its thread goes on
            named = parent and parent != around
            inside = parent if named else sink.innermost(trace, self._places.find(around)) or parent
            self._places.add(call_id, sink.place(trace, call_id, inside))
            self._open[call_id] = Call(call_id, start["op_name"], trace, inside, outer, start, pid=os.getpid())
            if len(self._open) > MAX_OPEN:
                self._open.popitem(last=False)
        return Answer(id=call_id, trace_id=start.get("trace_id") or call_id)

    def _running(self) -> Place | None:
        return self._places.find(self._current())

    def call_end(self, req: Any) -> Any:
        """Write a call that has ended."""
        end = _plain(req)["end"]
        call = self._open.pop(end["id"], None)
        sink = connected()
        if call is not None and sink is not None and call.pid == os.getpid():  # a fork's parent ends its own calls
            span = span_of(call, end, self._naming)
            output = end.get("output")
            sink.write(span, inputs=inputs_of(call), output=UNSET if span.error and output is None else output)
            if call.trace != self._trace:
                self._trace = call.trace
                self._ended.clear()
            _keep(self._ended, call.id, {**call.start, **end})
        return {}

    def calls_complete(self, req: Any) -> Any:
        """Write calls of which beginning and end come together."""
        for both in _plain(req)["batch"]:
            self.call_start({"start": both})
            self.call_end({"end": both})
        return {}

    def close(self) -> None:
        """Write what has begun and not ended, as far as it is known: the run is over."""
        sink = connected()
        while self._open:
            call = self._open.popitem(last=False)[1]
            if sink is not None and call.pid == os.getpid():
                sink.write(open_span(call, self._naming), inputs=inputs_of(call))

    def call_update(self, req: Any) -> Any:
        """Rename a call that is still running."""
        plain = _plain(req)
        call = self._open.get(plain.get("call_id", ""))
        if call is not None:
            call.start["display_name"] = plain.get("display_name")
        return {}

    def calls_delete(self, req: Any) -> Any:
        """Forget calls; what was written stays."""
        found = [self._ended.pop(name, None) for name in _plain(req).get("call_ids") or ()]
        return Answer(num_deleted=sum(call is not None for call in found))

    def calls_query_stream(self, req: Any) -> Iterator[Any]:
        """Return the newest ended calls that a filter asks for. Of a query's expressions none is understood."""
        asked = _plain(req)
        found = [call for call in self._ended.values() if _wanted(call, asked.get("filter") or {})]
        first = asked.get("offset") or 0
        for call in found[first : None if asked.get("limit") is None else first + asked["limit"]]:
            yield Answer(**{**_CALL, **call})

    def calls_query_stats(self, req: Any) -> Any:
        """Return how many calls a query would find."""
        return Answer(count=sum(1 for _ in self.calls_query_stream(req)))

    # -- objects, files, tables, feedback: what `weave.publish` and evaluations need -----------------------------------

    def obj_create(self, req: Any) -> Any:
        """Keep an object and return its digest."""
        made = _plain(req)["obj"]
        data = _encode(made.get("val"))
        digest = _digest(data)
        if len(data) <= MAX_OBJECT:
            key = made["project_id"], made["object_id"]
            _keep(self._objects, (key[0], key[1], digest), made.get("val"))
            _keep(self._objects, key, digest)
        return Answer(digest=digest, object_id=made["object_id"])

    def obj_read(self, req: Any) -> Any:
        """Return an object that is still kept. Raises KeyError for another."""
        asked = _plain(req)
        key = asked["project_id"], asked["object_id"]
        digest = asked["digest"]
        if digest == "latest":
            digest = self._objects[key]
        value = self._objects[key[0], key[1], digest]
        return Answer(
            obj=Answer(
                project_id=key[0], object_id=key[1], digest=digest, val=value, version_index=0, is_latest=1, kind="object",
                created_at=_now(), deleted_at=None, tags=None, aliases=None,
                base_object_class=(value.get("_bases") or [None])[0] if isinstance(value, dict) else None,
            )
        )  # fmt: skip

    def file_create(self, req: Any) -> Any:
        """Keep a file and return its digest."""
        asked = _plain(req)
        data = asked.get("file", asked.get("content", b""))
        data = data[1] if isinstance(data, tuple) else data
        data = data.read() if hasattr(data, "read") else data
        digest = _digest(data)
        if len(data) <= MAX_OBJECT:
            _keep(self._objects, (asked.get("project_id"), digest), data)
        return Answer(digest=digest)

    def file_content_read(self, req: Any) -> Any:
        """Return a file that is still kept. Raises KeyError for another."""
        asked = _plain(req)
        return Answer(content=self._objects[asked["project_id"], asked["digest"]])

    def table_create(self, req: Any) -> Any:
        """Keep a table and return its digest and those of its rows."""
        table = _plain(req)["table"]
        rows = [_encode(row) for row in table["rows"]]
        digests = [_digest(row) for row in rows]
        digest = _digest("".join(digests).encode())
        if sum(map(len, rows)) <= MAX_OBJECT:
            _keep(self._objects, ("table", digest), list(zip(digests, table["rows"], strict=True)))
        return Answer(digest=digest, row_digests=digests)

    def table_query_stream(self, req: Any) -> Iterator[Any]:
        """Return the rows of a table that is still kept."""
        asked = _plain(req)
        rows = self._objects.get(("table", asked["digest"]), [])
        first = asked.get("offset") or 0
        for index, (digest, row) in list(enumerate(rows))[first : first + (asked.get("limit") or len(rows))]:
            yield Answer(digest=digest, val=row, original_index=index)

    def table_query(self, req: Any) -> Any:
        """Return the rows of a table that is still kept."""
        return Answer(rows=list(self.table_query_stream(req)))

    def table_query_stats(self, req: Any) -> Any:
        """Return how many rows a table has."""
        return Answer(count=len(self._objects.get(("table", _plain(req)["digest"]), [])))

    def feedback_create(self, req: Any) -> Any:
        """Take feedback, which nobody reads here."""
        return Answer(id=str(uuid.uuid4()), created_at=_now(), wb_user_id="local", payload=_plain(req).get("payload"))

    def feedback_query(self, req: Any) -> Any:
        """Return no feedback."""
        return Answer(result=[])

    def __getattr__(self, name: str) -> Any:
        """Say of the rest why it is not there; `hasattr` sees that it is not."""
        raise AttributeError(f"{name}: not answered without Weave's cloud, which the setting weave_project switches on")


_CALL = dict.fromkeys(
    ("display_name", "parent_id", "thread_id", "turn_id", "ended_at", "deleted_at", "exception", "output", "wb_user_id",
     "wb_username", "wb_run_id", "wb_run_step", "wb_run_step_end", "storage_size_bytes", "total_storage_size_bytes",
     "expire_at")
)  # fmt: skip


def _plain(req: Any) -> dict[str, Any]:
    plain: dict[str, Any] = req.model_dump(by_alias=True) if hasattr(req, "model_dump") else req
    return plain


def _wanted(call: dict[str, Any], wanted: dict[str, Any]) -> bool:
    for key in ("call_ids", "parent_ids", "trace_ids", "thread_ids"):
        field = "id" if key == "call_ids" else key[:-1]
        if wanted.get(key) and call.get(field) not in wanted[key]:
            return False
    op = call["op_name"]
    names = wanted.get("op_names")
    if names and not any(op == name or (name[-1:] == "*" and op.startswith(name[:-1])) for name in names):
        return False
    return not (wanted.get("trace_roots_only") and call.get("parent_id"))


def _keep(kept: OrderedDict[Any, Any], key: Any, value: Any) -> None:
    kept[key] = value
    if len(kept) > MAX_KEPT:
        kept.popitem(last=False)


def _encode(value: Any) -> bytes:
    return msgspec.json.encode(value, enc_hook=repr, order="deterministic")


def _digest(data: bytes) -> str:
    text = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).decode().rstrip("=")
    return text.replace("-", "X").replace("_", "Y")


def _now() -> datetime:
    return datetime.now(timezone.utc)
