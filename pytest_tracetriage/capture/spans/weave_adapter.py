"""Every name inside weave that is not in its public face, for weave 0.52 to 0.54; nothing else imports any.

Locally a client of our own is put in the place that `weave.init` would fill, over a server inside this process, with no
threads: what has ended is written when `finish_call` returns. Whatever would reach the network is switched off first.
"""

from __future__ import annotations

import atexit
import os
import sys
import warnings
from contextlib import contextmanager, suppress
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

CLAIMED = ("0.52", "0.53", "0.54")
SDKS = frozenset(
    ("weave", "openai", "anthropic", "mistralai", "groq", "litellm", "cerebras", "cohere", "google.adk", "google.generativeai",
     "google.genai", "vertexai", "huggingface_hub", "instructor", "dspy", "gepa", "crewai", "crewai_tools", "notdiamond", "mcp",
     "langchain_nvidia_ai_endpoints", "smolagents", "typesafe_sdk", "claude_agent_sdk", "verifiers", "autogen", "langchain",
     "langchain_core", "llama_index")
)  # fmt: skip
"""weave, and what it patches, without names that are no sign of an LLM (`aiohttp`, `websockets`, `agents`, `verdict`)."""
QUIET = {"WANDB_ERROR_REPORTING": "false"}
_LOCAL = {"WEAVE_CLIENT_PARALLELISM": "0", "WEAVE_ENABLE_WAL": "false", "WEAVE_ENABLE_CLIENT_SIDE_DIGESTS": "false"}
_CLOUD = {"enable_disk_fallback": False, "enable_wal": False}


@contextmanager
def environment(values: dict[str, str]) -> Iterator[None]:
    """Have variables set for as long as the block runs: the program under test must not inherit them."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


class Weave:
    """weave, imported with its error reporting off. Raises ImportError and what else an unknown weave raises."""

    def __init__(self) -> None:
        with environment(QUIET), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self.module = import_module("weave")
            self._clients = import_module("weave.trace.context.weave_client_context")
            self._calls = import_module("weave.trace.context.call_context")
            self._init = import_module("weave.trace.weave_init")
            self._patch = import_module("weave.integrations.patch")
        self._undo: list[tuple[Any, str, Any]] = []
        # A conftest may have imported weave before anything could be switched off.
        sentry = import_module("weave.telemetry.trace_sentry").global_trace_sentry
        sentry._disabled = True  # noqa: SLF001

    def current_call(self) -> str:
        """Return the id of the call that runs in this context, "" outside one."""
        call = self._calls.get_current_call()
        return str(call.id) if call is not None and call.id else ""

    # -- local -------------------------------------------------------------------------------------------------------

    def connect_local(self, server: Any) -> None:
        """Make `server` what all ops of this process report to, whatever project the program names in `weave.init`."""
        client_module = import_module("weave.trace.weave_client")
        with environment(_LOCAL):
            client = client_module.WeaveClient("local", "tracetriage", server, ensure_project_exists=False)

        def init_weave(*_args: Any, **options: Any) -> Any:
            for name in ("postprocess_inputs", "postprocess_output", "attributes"):
                if options.get(name) and hasattr(client, name):
                    setattr(client, name, options[name])
            self._put(client)
            return client

        self._silence()
        self._replace(import_module("weave.trace.settings"), "should_capture_code", _no)
        self._replace(self._patch, "should_use_otel_v2", _no)
        self._replace(self._init, "init_weave", init_weave)
        self._replace(self._init, "finish", lambda: None)
        self._put(client)
        self._patch_sdks()

    def disconnect(self) -> None:
        """Take the client away and restore what was replaced."""
        while self._undo:
            target, name, value = self._undo.pop()
            setattr(target, name, value)
        self._put(None)
        with suppress(Exception):
            self._patch.unregister_import_hook()

    # -- the cloud ---------------------------------------------------------------------------------------------------

    def connect_cloud(self, project: str, dropped: Callable[[Exception], None]) -> Any:
        """Return the client of `weave.init(project)`; `dropped` is told why it gives up what it could not send.

        Raises what `weave.init` raises, and RuntimeError without an API key.
        """
        credentials = import_module("weave.wandb_interface.context")
        if (getattr(credentials, "get_wandb_auth_context", None) or credentials.get_wandb_api_context)() is None:
            raise RuntimeError("there is no API key of Weights & Biases (WANDB_API_KEY)")
        # Neither a question to PyPI nor a global tracer provider was asked for.
        self._replace(import_module("weave.trace.init_message"), "print_init_message", _no)
        self._replace(self._init, "_setup_conversation_tracing", _no)
        self._replace(self._init, "_setup_agents_tracing", _no)
        self._replace(self._init, "finish", lambda: None)
        self._silence()
        remote = import_module("weave.trace_server_bindings.remote_http_trace_server")
        for name in ("log_dropped_call_batch", "log_dropped_feedback_batch"):
            self._replace(remote, name, lambda _batch, error: dropped(error))
        self._let_log_in()
        client = self.module.init(project, settings=_CLOUD)
        if client.project == "DISABLED":
            raise RuntimeError("the server asks for a newer weave, or weave is disabled")
        self._replace(self._init, "init_weave", lambda *_args, **_options: client)
        return client

    def parent_op(self, name: str) -> Any:
        """Return an op whose calls are sent when they begin: a client that is flushed inside one would wait for its end."""

        def test(nodeid: str) -> None:
            """Stand for a test."""

        op = self.module.op(test, name=name)
        if hasattr(op, "eager_call_start"):
            op.eager_call_start = True
        return op

    def add_feedback(self, client: Any, call_id: str, payload: dict[str, Any]) -> None:
        """Write TraceTriage's word on a call beside it."""
        feedback = import_module("weave.trace.feedback")
        reference = f"weave:///{client.entity}/{client.project}/call/{call_id}"
        feedback.RefFeedbackQuery(reference).add("tracetriage", payload)

    def hurry(self, client: Any) -> None:
        """Let nothing of the client hold up the end of the process: what has not been sent by now is given up."""
        self._replace(import_module("weave.utils.retry"), "retry_max_attempts", lambda: 1)
        for executor in (client.future_executor, client.future_executor_fastlane):
            pool = getattr(executor, "_executor", None)
            atexit.unregister(getattr(executor, "_shutdown", _no))
            if pool is not None:
                pool.shutdown(wait=False, cancel_futures=True)
        server = getattr(client.server, "_next_trace_server", client.server)
        for name in ("call_processor", "feedback_processor"):
            processor = getattr(server, name, None)
            if processor is not None:
                atexit.unregister(processor.stop_accepting_new_work_and_flush_queue)
                processor.stop_accepting_work_event.set()

    # -- inside ------------------------------------------------------------------------------------------------------

    def _silence(self) -> None:
        """Have no links printed, and no warnings of weave's own: the output of a test is its own."""
        for name in ("weave.trace.settings", "weave.trace.weave_client"):
            self._replace(import_module(name), "should_print_call_link", _no)
        # 0.52 reads a field that it has deprecated itself, whenever it publishes an op.
        schema: Any = getattr(sys.modules.get("weave.trace_server.trace_server_interface"), "ObjSchemaForInsert", None)
        if schema is not None and "set_base_object_class" in vars(schema):
            self._undo.append((schema, "set_base_object_class", vars(schema)["set_base_object_class"]))
            del schema.set_base_object_class

    def _let_log_in(self) -> None:
        """Have the login of 0.52 use the httpx that gql uses: of gql 4.4 that is httpx2, which refuses httpx's credentials."""
        login = import_module("weave.compat.wandb.wandb_thin.internal_api")
        if hasattr(login, "httpx"):
            self._replace(login, "httpx", import_module("gql.transport.httpx").httpx)

    def _put(self, client: Any) -> None:
        self._clients.set_weave_client_global(None)
        if client is not None:
            self._clients.set_weave_client_global(client)

    def _patch_sdks(self) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self._patch.implicit_patch()
        self._patch.register_import_hook()

    def _replace(self, target: Any, name: str, value: Any) -> None:
        """Replace what a version of weave has; what it has not, it does not do."""
        if hasattr(target, name):
            self._undo.append((target, name, getattr(target, name)))
            setattr(target, name, value)


def _no(*_args: Any, **_options: Any) -> Any:
    return False
