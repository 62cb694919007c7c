"""A loopback server that speaks OpenAI's wire format: chat completions, Responses, embeddings, and their errors.

    with OpenAIServer() as server:
        client = openai.OpenAI(api_key="x", base_url=server.url, max_retries=0)

`python openai_server.py PORT_FILE LOG_FILE` serves in a process of its own: the file gets its address, the log one JSON
line a request. What it answers depends on the last message alone:

    rate limit, auth, context length, server error   the error of that name (429, 401, 400, 500)
    refuse       a refusal             cut        an answer that ends for its length
    tool NAME    a call of that tool   json       an object instead of words
    cached N     N of the prompt's tokens came from a cache
    reason N     N of the answer's tokens are reasoning
    say TEXT     TEXT
    slow         half a second passes first

Its tokens are words: each word of the messages is one of the input, each word of the answer one of the output.
"""

from __future__ import annotations

import json
import re
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

ERRORS = {
    "rate limit": (429, "rate_limit_exceeded", "requests", "Rate limit reached for requests. Please try again in 20s."),
    "quota": (429, "insufficient_quota", "insufficient_quota", "You exceeded your current quota, please check your plan."),
    "auth": (401, "invalid_api_key", "invalid_request_error", "Incorrect API key provided: x."),
    "context length": (
        400,
        "context_length_exceeded",
        "invalid_request_error",
        "This model's maximum context length is 128000 tokens. However, your messages resulted in 300000 tokens.",
    ),
    "server error": (500, "server_error", "server_error", "The server had an error while processing your request."),
}


class OpenAIServer:
    """The server, its address and the log of what it was asked: `path`, `model`, `prompt`, `status`, `usage`."""

    def __init__(self, log_file: Path | None = None) -> None:
        self.log: list[dict[str, Any]] = []
        self.log_file = log_file
        self._lock = threading.Lock()
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._http.server_port}/v1"

    def __enter__(self) -> OpenAIServer:  # noqa: PYI034 - Self is 3.11
        threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._http.shutdown()
        self._http.server_close()

    def note(self, entry: dict[str, Any]) -> None:
        with self._lock:
            self.log.append(entry)
            if self.log_file is not None:
                with self.log_file.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(entry) + "\n")


def _handler(server: OpenAIServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def log_message(self, *args: object) -> None:
            pass

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers.get("content-length") or 0)))
            path, prompt = self.path.removeprefix("/v1"), last_prompt(body)
            entry = {"path": path, "model": body.get("model", ""), "prompt": prompt, "status": 200, "usage": None}
            if "slow" in prompt:
                time.sleep(0.5)
            for words, (status, code, kind, message) in ERRORS.items():
                if words in prompt:
                    server.note({**entry, "status": status})
                    self._json({"error": {"message": message, "type": kind, "param": None, "code": code}}, status)
                    return
            answer = {"/chat/completions": chat, "/responses": response, "/embeddings": embedding}.get(path)
            if answer is None:
                self._json({"error": {"message": f"no such path {path}", "type": "not_found", "code": None}}, 404)
                return
            made = answer(body, prompt)
            server.note({**entry, "usage": made["usage"]})
            if body.get("stream"):
                self._events(chat_events(made, body) if path == "/chat/completions" else response_events(made))
            else:
                self._json(made)

        def _json(self, value: object, status: int = 200) -> None:
            data = json.dumps(value).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def _events(self, events: list[dict[str, Any]]) -> None:
            named = (
                (f"event: {event['type']}\n" if "type" in event else "") + f"data: {json.dumps(event)}\n\n" for event in events
            )
            data = ("".join(named) + "data: [DONE]\n\n").encode()
            self.send_response(200)
            self.send_header("content-type", "text/event-stream")
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

    return Handler


def last_prompt(body: dict[str, Any]) -> str:
    """Return the text that decides about the answer."""
    said = body.get("messages") or body.get("input") or ""
    if isinstance(said, list):
        said = said[-1] if said else ""
    text = said.get("content", said.get("output", "")) if isinstance(said, dict) else said
    return text if isinstance(text, str) else json.dumps(text)


def _words(text: object) -> int:
    return len(re.findall(r"\w+", text if isinstance(text, str) else json.dumps(text)))


def _number(prompt: str, word: str) -> int:
    found = re.search(rf"{word} (\d+)", prompt)
    return int(found[1]) if found else 0


def _answer(prompt: str) -> tuple[str, str, str]:
    """Return what is said, which tool is called, and why it ended."""
    if found := re.search(r"tool (\w+)", prompt):
        return "", found[1], "tool_calls"
    if found := re.search(r"say (.+)", prompt, re.DOTALL):
        return found[1], "", "stop"
    if "json" in prompt:
        return '{"ok": true}', "", "stop"
    return f"echo {prompt}", "", "length" if "cut" in prompt else "stop"


def chat(body: dict[str, Any], prompt: str) -> dict[str, Any]:
    said, tool, reason = _answer(prompt)
    message: dict[str, Any] = {"role": "assistant", "content": said or None, "refusal": None}
    if "refuse" in prompt:
        message |= {"content": None, "refusal": "I can't help with that."}
    if tool:
        message["tool_calls"] = [{"id": "call_1", "type": "function", "function": {"name": tool, "arguments": '{"q": "x"}'}}]
    given, made, reasoning = (
        sum(_words(m.get("content") or "") for m in body["messages"]),
        _words(said) or 1,
        _number(prompt, "reason"),
    )
    cached = _number(prompt, "cached")
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1_700_000_000,
        "model": body["model"],
        "choices": [{"index": 0, "message": message, "finish_reason": reason, "logprobs": None}],
        "usage": {
            "prompt_tokens": given + cached,
            "completion_tokens": made + reasoning,
            "total_tokens": given + cached + made + reasoning,
            "prompt_tokens_details": {"cached_tokens": cached, "audio_tokens": 0},
            "completion_tokens_details": {"reasoning_tokens": reasoning, "audio_tokens": 0},
        },
    }


def chat_events(made: dict[str, Any], body: dict[str, Any]) -> list[dict[str, Any]]:
    base = {key: made[key] for key in ("id", "created", "model")} | {"object": "chat.completion.chunk"}
    message, usage = made["choices"][0]["message"], (body.get("stream_options") or {}).get("include_usage")
    parts = re.findall(r"\S+\s*", message["content"] or "")
    deltas = [{"role": "assistant", "content": ""}, *({"content": part} for part in parts)]
    if "tool_calls" in message:
        deltas.append({"tool_calls": [{"index": 0, **message["tool_calls"][0]}]})
    events = [{**base, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]} for delta in deltas]
    events.append({**base, "choices": [{"index": 0, "delta": {}, "finish_reason": made["choices"][0]["finish_reason"]}]})
    return [*events, {**base, "choices": [], "usage": made["usage"]}] if usage else events


def response(body: dict[str, Any], prompt: str) -> dict[str, Any]:
    said, tool, _ = _answer(prompt)
    given = (
        _words(body["input"]) if isinstance(body["input"], str) else sum(_words(m.get("content") or "") for m in body["input"])
    )
    made, cached, reasoning = _words(said) or 1, _number(prompt, "cached"), _number(prompt, "reason")
    text = {"type": "output_text", "text": said, "annotations": []}
    output: dict[str, Any] = {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed", "content": [text]}
    if tool:
        output = {
            "type": "function_call",
            "id": "fc_1",
            "call_id": "call_1",
            "name": tool,
            "arguments": '{"q": "x"}',
            "status": "completed",
        }
    return {
        "id": "resp_1", "object": "response", "created_at": 1_700_000_000, "model": body["model"], "status": "completed",
        "error": None, "incomplete_details": None, "instructions": None, "metadata": {}, "output": [output],
        "parallel_tool_calls": True, "temperature": 1.0, "tool_choice": "auto", "tools": [], "top_p": 1.0,
        "usage": {
            "input_tokens": given + cached, "input_tokens_details": {"cached_tokens": cached},
            "output_tokens": made + reasoning, "output_tokens_details": {"reasoning_tokens": reasoning},
            "total_tokens": given + cached + made + reasoning,
        },
    }  # fmt: skip


def response_events(made: dict[str, Any]) -> list[dict[str, Any]]:
    started = {**made, "status": "in_progress", "output": [], "usage": None}
    said = made["output"][0].get("content", [{"text": ""}])[0]["text"]
    place = {"item_id": "msg_1", "output_index": 0, "content_index": 0}
    parts = re.findall(r"\S+\s*", said)
    return [
        {"type": "response.created", "sequence_number": 0, "response": started},
        {"type": "response.output_item.added", "sequence_number": 1, "output_index": 0,
         "item": {"type": "message", "id": "msg_1", "role": "assistant", "status": "in_progress", "content": []}},
        {"type": "response.content_part.added", "sequence_number": 2, **place,
         "part": {"type": "output_text", "text": "", "annotations": []}},
        *({"type": "response.output_text.delta", "sequence_number": 3 + n, **place, "delta": part, "logprobs": []}
          for n, part in enumerate(parts)),
        {"type": "response.completed", "sequence_number": 3 + len(parts), "response": made},
    ]  # fmt: skip


def embedding(body: dict[str, Any], prompt: str) -> dict[str, Any]:
    texts = body["input"] if isinstance(body["input"], list) else [body["input"]]
    tokens = sum(map(_words, texts))
    vector: Any = "AACAPwAAAAA=" if body.get("encoding_format") == "base64" else [1.0, 0.0]
    return {
        "object": "list",
        "model": body["model"],
        "data": [{"object": "embedding", "index": index, "embedding": vector} for index in range(len(texts))],
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    }


def main(port_file: str, log_file: str) -> None:
    with OpenAIServer(Path(log_file)) as server:
        part = Path(f"{port_file}.part")
        part.write_text(server.url, encoding="utf-8")
        part.replace(port_file)
        sys.stdin.read()  # until whoever started it is gone


if __name__ == "__main__":
    main(*sys.argv[1:])
