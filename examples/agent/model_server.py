"""Models that run on this machine: a loopback server that speaks OpenAI's wire format.

    with ModelServer(Script(RULES), key="any", log=Path("requests.jsonl")) as server:
        client = openai.OpenAI(base_url=server.url, api_key="any")

It knows chat completions and Responses, both streamed too, embeddings, tools, refusals, answers that were cut, and errors.
What is answered is told by a function from the body of a request to a `Reply`; a `Script` is one made of data. The same
request gets the same answer. Tokens are words: those of the request are its input, those of the answer its output. The log
gets one JSON line a request: path, model, asked, status, usage.
"""

from __future__ import annotations

import base64
import json
import re
import struct
import threading
from collections import Counter
from dataclasses import dataclass
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

ERRORS = {
    "rate_limit": (429, "rate_limit_exceeded", "requests", "Rate limit reached for requests. Please try again in 20s."),
    "quota": (429, "insufficient_quota", "insufficient_quota", "You exceeded your current quota, please check your plan."),
    "auth": (401, "invalid_api_key", "invalid_request_error", "Incorrect API key provided."),
    "context_length": (
        400, "context_length_exceeded", "invalid_request_error",
        "This model's maximum context length is exceeded. Please reduce the length of the messages.",
    ),
    "server_error": (500, "server_error", "server_error", "The server had an error while processing your request."),
    "no_such_path": (404, "unknown_url", "invalid_request_error", "Unknown request URL."),
}  # fmt: skip
"""Status, code, type and message by the name of the error."""


@dataclass(frozen=True)
class Reply:
    """What a model answers: a text, calls of tools, a refusal, or an error of `ERRORS`.

    `finish` is "length" for an answer that was cut, "content_filter" for one that a filter stopped, "failed" for a response (of
    Responses) that says so under status 200. `cached` tokens of the prompt are said to come from a cache; `reasoning`
    tokens are added to the output.
    """

    text: str = ""
    calls: tuple[tuple[str, Mapping[str, Any]], ...] = ()
    refusal: str = ""
    error: str = ""
    finish: str = "stop"
    cached: int = 0
    reasoning: int = 0


@dataclass(frozen=True)
class Rule:
    """`reply` answers a request whose last message holds `asked`, if it is for `model` ("" is any)."""

    asked: str
    reply: Reply
    model: str = ""


class Script:
    """What the models of one server do: the first rule that fits, within the limits of each model.

    `limits` are requests by model, after which its rate limit is reached; `windows` are the tokens that it can read.
    """

    def __init__(
        self, rules: Sequence[Rule], limits: Mapping[str, int] | None = None, windows: Mapping[str, int] | None = None
    ) -> None:
        self._rules = rules
        self._limits = limits or {}
        self._windows = windows or {}
        self._asked: Counter[str] = Counter()
        self._lock = threading.Lock()

    def __call__(self, body: Mapping[str, Any]) -> Reply:
        model, asked = body["model"], last_message(body)
        with self._lock:
            self._asked[model] += 1
            count = self._asked[model]
        if count > self._limits.get(model, count):
            return Reply(error="rate_limit")
        if (read := tokens_of(body)) > self._windows.get(model, read):
            return Reply(error="context_length")
        fitting = (rule.reply for rule in self._rules if rule.asked in asked and rule.model in {"", model})
        return next(fitting, Reply("I do not know."))


class ModelServer:
    """The server, its address, and what it was asked. With a `key`, no other is let in."""

    def __init__(self, model: Callable[[Mapping[str, Any]], Reply], key: str = "", log: Path | None = None) -> None:
        self.log: list[dict[str, Any]] = []
        self.model = model
        self.key = key
        self._file = log
        self._lock = threading.Lock()
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._http.server_port}/v1"

    def __enter__(self) -> ModelServer:
        threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._http.shutdown()
        self._http.server_close()

    def note(self, entry: dict[str, Any]) -> None:
        """Keep what was asked and what it took."""
        with self._lock:
            self.log.append(entry)
            if self._file is not None:
                with self._file.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(entry) + "\n")


def _handler(server: ModelServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def log_message(self, *args: object) -> None:
            pass

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers.get("content-length") or 0)))
            path = self.path.removeprefix("/v1")
            answer = {"/chat/completions": chat, "/responses": response, "/embeddings": embeddings}.get(path)
            if answer is None:
                reply = Reply(error="no_such_path")
            elif server.key and self.headers.get("authorization") != f"Bearer {server.key}":
                reply = Reply(error="auth")
            else:
                reply = server.model(body)
            entry = {"path": path, "model": body.get("model", ""), "asked": last_message(body)[:200]}
            if answer is None or reply.error:
                status, code, kind, message = ERRORS[reply.error]
                server.note({**entry, "status": status, "usage": None})
                self._json({"error": {"message": message, "type": kind, "param": None, "code": code}}, status)
                return
            made = answer(body, reply)
            server.note({**entry, "status": 200, "usage": made["usage"]})
            if not body.get("stream"):
                self._json(made)
            elif path == "/chat/completions":
                self._events(chat_events(made, body))
            else:
                self._events(response_events(made))

        def _json(self, value: object, status: int = 200) -> None:
            self._send(json.dumps(value), "application/json", status)

        def _events(self, events: list[dict[str, Any]]) -> None:
            named = (f"event: {event['type']}\n" if "type" in event else "" for event in events)
            lines = [f"{name}data: {json.dumps(event)}\n\n" for name, event in zip(named, events)]
            self._send("".join(lines) + "data: [DONE]\n\n", "text/event-stream")

        def _send(self, text: str, content_type: str, status: int = 200) -> None:
            data = text.encode()
            self.send_response(status)
            self.send_header("content-type", content_type)
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

    return Handler


def messages_of(body: Mapping[str, Any]) -> list[str]:
    """Return the texts of a request: of messages, of the input of Responses, or what is to be embedded."""
    said = body.get("messages") or body.get("input") or ""
    texts = [each.get("content", each.get("output")) if isinstance(each, dict) else each for each in _list(said)]
    return [text if isinstance(text, str) else json.dumps(text) for text in texts if text is not None]


def last_message(body: Mapping[str, Any]) -> str:
    """Return the text that the answer is about."""
    return (messages_of(body) or [""])[-1]


def tokens_of(body: Mapping[str, Any]) -> int:
    """Return how many tokens a request has."""
    return sum(map(words, messages_of(body)))


def words(text: str) -> int:
    """Return how many tokens a text has."""
    return len(re.findall(r"\w+", text))


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _id(prefix: str, body: Mapping[str, Any]) -> str:
    return prefix + sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()[:12]


def _counts(body: Mapping[str, Any], reply: Reply) -> tuple[int, int, int]:
    """Return the tokens of a request, those of them out of a cache, and those of the answer."""
    given = tokens_of(body)
    said = words(reply.text + reply.refusal) + sum(words(name + json.dumps(arguments)) for name, arguments in reply.calls)
    return given, min(reply.cached, given), max(1, said) + reply.reasoning


def chat(body: Mapping[str, Any], reply: Reply) -> dict[str, Any]:
    """Return a chat completion."""
    given, cached, made = _counts(body, reply)
    message: dict[str, Any] = {"role": "assistant", "content": reply.text or None, "refusal": reply.refusal or None}
    if reply.calls:
        message["tool_calls"] = [
            {"id": _id(f"call_{n}_", body), "type": "function", "function": {"name": name, "arguments": json.dumps(arguments)}}
            for n, (name, arguments) in enumerate(reply.calls)
        ]
    finish = "tool_calls" if reply.calls else reply.finish
    return {
        "id": _id("chatcmpl-", body),
        "object": "chat.completion",
        "created": 1_700_000_000,
        "model": body["model"],
        "choices": [{"index": 0, "message": message, "finish_reason": finish, "logprobs": None}],
        "usage": {
            "prompt_tokens": given,
            "completion_tokens": made,
            "total_tokens": given + made,
            "prompt_tokens_details": {"cached_tokens": cached, "audio_tokens": 0},
            "completion_tokens_details": {"reasoning_tokens": reply.reasoning, "audio_tokens": 0},
        },
    }


def chat_events(made: Mapping[str, Any], body: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return a chat completion in pieces, its usage in the last one if that was asked for."""
    base = {key: made[key] for key in ("id", "created", "model")} | {"object": "chat.completion.chunk"}
    choice = made["choices"][0]
    message = choice["message"]
    deltas: list[dict[str, Any]] = [{"role": "assistant", "content": ""}]
    deltas += [{"content": part} for part in re.findall(r"\s*\S+\s*", message["content"] or "")]
    deltas += [{"tool_calls": [{"index": n, **call}]} for n, call in enumerate(message.get("tool_calls", ()))]
    events = [{**base, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]} for delta in deltas]
    events.append({**base, "choices": [{"index": 0, "delta": {}, "finish_reason": choice["finish_reason"]}]})
    if (body.get("stream_options") or {}).get("include_usage"):
        events.append({**base, "choices": [], "usage": made["usage"]})
    return events


def response(body: Mapping[str, Any], reply: Reply) -> dict[str, Any]:
    """Return a response of the Responses API."""
    given, cached, made = _counts(body, reply)
    output: list[dict[str, Any]] = [
        {"type": "function_call", "id": _id(f"fc_{n}_", body), "call_id": _id(f"call_{n}_", body), "name": name,
         "arguments": json.dumps(arguments), "status": "completed"}
        for n, (name, arguments) in enumerate(reply.calls)
    ]  # fmt: skip
    if not output:
        said: dict[str, Any] = {"type": "output_text", "text": reply.text, "annotations": []}
        if reply.refusal:
            said = {"type": "refusal", "refusal": reply.refusal}
        output = [{"type": "message", "id": _id("msg_", body), "role": "assistant", "status": "completed", "content": [said]}]
    short = {"length": "max_output_tokens", "content_filter": "content_filter"}.get(reply.finish)
    status, failed = ("incomplete" if short else "completed"), None
    if reply.finish == "failed":
        status, failed = "failed", {"code": "rate_limit_exceeded", "message": ERRORS["rate_limit"][3]}
    return {
        "id": _id("resp_", body), "object": "response", "created_at": 1_700_000_000, "model": body["model"],
        "status": status, "error": failed, "incomplete_details": {"reason": short} if short else None,
        "instructions": None, "metadata": {}, "output": output,
        "parallel_tool_calls": True, "temperature": 1.0, "tool_choice": "auto", "tools": [], "top_p": 1.0,
        "usage": {
            "input_tokens": given, "input_tokens_details": {"cached_tokens": cached},
            "output_tokens": made, "output_tokens_details": {"reasoning_tokens": reply.reasoning},
            "total_tokens": given + made,
        },
    }  # fmt: skip


def response_events(made: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return a response in pieces."""
    events: list[dict[str, Any]] = [
        {"type": "response.created", "response": {**made, "status": "in_progress", "output": [], "usage": None}}
    ]
    for index, item in enumerate(made["output"]):
        place = {"item_id": item["id"], "output_index": index, "content_index": 0}
        begun = {**item, "status": "in_progress"} | ({"content": []} if "content" in item else {})
        events.append({"type": "response.output_item.added", "output_index": index, "item": begun})
        for content in item.get("content", ()):
            if content["type"] == "output_text":
                events.append({"type": "response.content_part.added", **place, "part": {**content, "text": ""}})
                for part in re.findall(r"\s*\S+\s*", content["text"]):
                    events.append({"type": "response.output_text.delta", **place, "delta": part, "logprobs": []})
        events.append({"type": "response.output_item.done", "output_index": index, "item": item})
    events.append({"type": f"response.{made['status']}", "response": made})
    return [{**event, "sequence_number": number} for number, event in enumerate(events)]


def embeddings(body: Mapping[str, Any], reply: Reply) -> dict[str, Any]:
    """Return a vector for each text: how many of its words fall into each of eight heaps."""
    data = []
    for index, text in enumerate(_list(body["input"])):
        heaps = Counter(sha256(word.encode()).digest()[0] % 8 for word in re.findall(r"\w+", text))
        vector: Any = [float(heaps[heap]) for heap in range(8)]
        if body.get("encoding_format") == "base64":
            vector = base64.b64encode(struct.pack("<8f", *vector)).decode()
        data.append({"object": "embedding", "index": index, "embedding": vector})
    given = tokens_of(body)
    usage = {"prompt_tokens": given, "total_tokens": given}
    return {"object": "list", "model": body["model"], "data": data, "usage": usage}
