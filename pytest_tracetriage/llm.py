"""One bounded, budgeted, redacted, structured call to a model of OpenAI, made only where the setting `model` names one.

What tests printed goes in as data, as JSON in the user's message, never among the instructions; what comes out is taken only as
JSON of the schema that was asked for, and is data too.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec

from pytest_tracetriage.model.trace import Usage

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

TIMEOUT = 60.0
"""Seconds that a call takes at most."""
MAX_ANSWER = 2_000
"""Tokens of an answer, reasoning included."""
BYTES_A_TOKEN = 2
"""Fewer than any text has on average: what is sent never takes more tokens than are reckoned with."""


class ModelError(Exception):
    """No answer that can be used. The text says why, in one line."""


@dataclass
class Model:
    """A model by its name, with the tokens that may still be spent on it. `redact` goes over all that is sent.

    `used` counts what its answers took. The key and the address come from where OpenAI's own client takes them:
    OPENAI_API_KEY and OPENAI_BASE_URL.
    """

    name: str
    tokens: int
    redact: Callable[[str], str]
    used: Usage = field(default_factory=lambda: Usage(model=""))
    silent: str = ""
    """Why it cannot be reached, once it could not be: nobody waits for it again."""

    def ask(self, instructions: str, data: Mapping[str, Any], name: str, schema: Mapping[str, Any]) -> Any:
        """Return an answer as plain JSON values. `schema` is strict: all properties required, no others.

        Raises ModelError: no SDK, no key, no budget left, no connection, a refusal, an answer that was cut off or is no JSON.
        """
        if self.silent:
            raise ModelError(self.silent)
        try:
            import openai  # noqa: PLC0415 - an extra, and slow to import
        except ImportError:
            raise ModelError("the setting `model` needs the OpenAI SDK: pip install 'pytest-tracetriage[openai]'") from None
        if not os.environ.get("OPENAI_API_KEY"):
            raise ModelError("the setting `model` is on, but OPENAI_API_KEY is not set")
        text = msgspec.json.encode(_redacted(data, self.redact)).decode()
        needed = (len(instructions) + len(text.encode())) // BYTES_A_TOKEN + MAX_ANSWER
        if needed > self.tokens:
            raise ModelError(f"{needed:,} tokens might be needed, {self.tokens:,} are left of the setting `model_tokens`")
        try:
            client = openai.OpenAI(timeout=TIMEOUT, max_retries=1)
            answer = client.chat.completions.create(
                model=self.name,
                messages=[{"role": "developer", "content": instructions}, {"role": "user", "content": text}],
                max_completion_tokens=MAX_ANSWER,
                response_format={
                    "type": "json_schema",
                    "json_schema": {"name": name, "strict": True, "schema": dict(schema)},
                },
            )
        except openai.OpenAIError as error:
            why = f"{self.name}: {type(error).__name__}: {self.redact(str(error))}"[:300]
            if isinstance(error, openai.APIConnectionError):
                self.silent = why
            raise ModelError(why) from None
        self._count(answer.usage)
        choice = answer.choices[0] if answer.choices else None
        if choice is None or choice.message.refusal or not choice.message.content:
            why = choice.message.refusal if choice is not None and choice.message.refusal else "it said nothing"
            raise ModelError(f"{self.name} gave no answer: {self.redact(why)}"[:300])
        if choice.finish_reason != "stop":
            raise ModelError(f"{self.name}: the answer was cut off ({choice.finish_reason})")
        try:
            return _redacted(msgspec.json.decode(choice.message.content), self.redact)
        except (msgspec.DecodeError, RecursionError):
            raise ModelError(f"{self.name}: the answer is no JSON") from None

    def _count(self, usage: Any) -> None:
        if usage is None:
            self.tokens = 0  # what cannot be counted cannot be bounded
            return
        given, spoken = usage.prompt_tokens_details, usage.completion_tokens_details
        self.used = Usage(
            model=self.name,
            provider="openai",
            input=self.used.input + usage.prompt_tokens,
            output=self.used.output + usage.completion_tokens,
            cache_read=self.used.cache_read + (getattr(given, "cached_tokens", None) or 0),
            reasoning=self.used.reasoning + (getattr(spoken, "reasoning_tokens", None) or 0),
            requests=self.used.requests + 1 if self.used.model else 1,
        )
        self.tokens -= usage.prompt_tokens + usage.completion_tokens


def _redacted(value: Any, redact: Callable[[str], str]) -> Any:
    """Return JSON values with every text in them redacted: within JSON, a secret beside a quotation mark is not seen."""
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, dict):
        return {redact(name): _redacted(item, redact) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_redacted(item, redact) for item in value]
    return value
