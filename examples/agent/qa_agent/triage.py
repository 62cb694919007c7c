"""Says of a bug what kind of thing it is, and where."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import weave

from qa_agent.models import CLASSIFY, LOCATE

if TYPE_CHECKING:
    from qa_agent.cache import Cache
    from qa_agent.models import Models
    from qa_agent.project import Bug, Project

_SORTING = """You sort failures of tests. `logic` is a fault of the code, `data` one of a file that it reads, `environment`
something that is not there: a network, a server, a disk. Severity is `high` where customers lose money, else `low`."""
_ANSWER = {
    "type": "json_schema",
    "json_schema": {
        "name": "failure",
        "strict": True,
        "schema": {
            "type": "object",
            "properties": {
                "kind": {"type": "string", "enum": ["logic", "data", "environment"]},
                "severity": {"type": "string", "enum": ["high", "low"]},
            },
            "required": ["kind", "severity"],
            "additionalProperties": False,
        },
    },
}
_LOCATING = "Which file of the project is wrong? Answer with its path alone. The failure and its stack, the deepest call last:"


class UnknownPlace(Exception):
    """The model named a place that the project does not have."""


class Triage:
    """Sorts bugs."""

    def __init__(self, models: Models, cache: Cache) -> None:
        self._models = models
        self._cache = cache

    def __repr__(self) -> str:
        return "Triage()"

    @weave.op
    def classify(self, bug: Bug) -> dict[str, str]:
        """Return the kind and the severity of a bug."""
        said = bug["error"].splitlines()[-1]
        known = self._cache.get(f"kind:{said}")
        if known is not None:
            return known
        messages = [
            {"role": "system", "content": _SORTING},
            {"role": "user", "content": f"{bug['test']} fails: {said}"},
        ]
        choice = self._ask(messages)
        if choice.finish_reason == "length":
            choice = self._ask([*messages, {"role": "user", "content": "Shorter, please: only the JSON."}])
        found = json.loads(choice.message.content)
        self._cache.set(f"kind:{said}", found)
        return found

    def _ask(self, messages: list[dict[str, str]]):
        answer = self._models.client.chat.completions.create(model=CLASSIFY, messages=messages, response_format=_ANSWER)
        return answer.choices[0]

    @weave.op
    def classify_all(self, bugs: list[Bug]) -> list[str]:
        """Return the kinds of many bugs, several asked for at a time."""
        with weave.ThreadPoolExecutor(max_workers=3) as pool:
            return [found["kind"] for found in pool.map(self.classify, bugs)]

    @weave.op
    def locate(self, project: Project, bug: Bug) -> str:
        """Return the file that is wrong. Raises UnknownPlace where the model names another."""
        stack = "\n".join([_LOCATING, bug["error"], *bug["frames"]])
        place = self._models.client.responses.create(model=LOCATE, input=stack).output_text.strip()
        if place not in project.files():
            raise UnknownPlace(f"cannot locate the bug: the project has no file {place!r}")
        return place
