"""A model that does what the last message says: `with ModelServer(obey) as server`.

rate limit, quota, auth, context length, server error   the error of that name
refuse       a refusal             cut        an answer that ends for its length
filtered     stopped by a filter   fail       a response (of Responses) that says under status 200 that it failed
tool NAME    a call of that tool   json       an object instead of words
cached N     N of the prompt's tokens came from a cache
reason N     N of the answer's tokens are reasoning
say TEXT     TEXT
slow         half a second passes first
"""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, Any

from model_server import ERRORS, Reply, last_message

if TYPE_CHECKING:
    from collections.abc import Mapping


FINISHES = {"cut": "length", "filtered": "content_filter", "fail": "failed"}


def obey(body: Mapping[str, Any]) -> Reply:
    """Return what was asked for, else an echo."""
    said = last_message(body)
    if "slow" in said:
        time.sleep(0.5)
    for error in ERRORS:
        if error.replace("_", " ") in said:
            return Reply(error=error)
    numbers = {"cached": _number(said, "cached"), "reasoning": _number(said, "reason")}
    if "refuse" in said:
        return Reply(refusal="I can't help with that.", **numbers)
    if found := re.search(r"tool (\w+)", said):
        return Reply(calls=((found[1], {"q": "x"}),), **numbers)
    if found := re.search(r"say (.+)", said, re.DOTALL):
        return Reply(found[1], **numbers)
    if "json" in said:
        return Reply('{"ok": true}', **numbers)
    finish = next((finish for word, finish in FINISHES.items() if word in said), "stop")
    return Reply(f"echo {said}", finish=finish, **numbers)


def _number(text: str, word: str) -> int:
    found = re.search(rf"{word} (\d+)", text)
    return int(found[1]) if found else 0
