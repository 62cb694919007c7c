"""Writes patches: asks a model, which may read files first, and tries what it answers."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

import openai
import weave
from pytest_tracetriage import metric

from qa_agent.models import FIX, FIX_AGAIN
from qa_agent.tools import PatchError, apply_patch, read_file, run_tests

if TYPE_CHECKING:
    from qa_agent.models import Models
    from qa_agent.project import Bug, Project

_FIXING = """You mend bugs in small Python projects. You are told which test fails, how, and in which file the fault is likely
to be. Read what you need with the tool `read_file`, then answer with one patch and nothing else. A patch is the path of a
file, and the lines that are to be replaced with those that replace them:

path/of/the/file.py
<<<<<<< SEARCH
the lines as they are
=======
the lines as they should be
>>>>>>> REPLACE

The lines under SEARCH have to be in the file exactly as you write them, with their indentation. Change as little as you can:
a patch that changes one line is better than one that rewrites a function. Do not touch the tests, do not weaken them, and do
not catch an exception only to hide it. Keep the style of the file. If the fault is in a file of data, mend the data. If you
cannot mend the bug in one place, mend the place where the wrong value is made, not the one where it is seen. Do not explain
what you did: the patch is applied by a program, and the test is run again at once."""
_READ_FILE = {
    "type": "function",
    "function": {
        "name": "read_file",
        "description": "The text of a file of the project.",
        "parameters": {"type": "object", "properties": {"path": {"type": "string"}}, "required": ["path"]},
    },
}
TURNS = 6


class WrongFix(Exception):
    """A patch after which the test fails as before."""


class NoPatch(Exception):
    """The model only ever called tools."""


class Fixer:
    """Mends bugs."""

    def __init__(self, models: Models) -> None:
        self._models = models

    def __repr__(self) -> str:
        return "Fixer()"

    @weave.op
    def mend(self, project: Project, bug: Bug, place: str) -> str:
        """Patch a project, at the second try with a model that thinks for longer; return the patch."""
        began = time.monotonic()
        try:
            patch = self.fix(project, bug, place, FIX)
        except (PatchError, WrongFix):
            patch = self.fix(project, bug, place, FIX_AGAIN)
        metric("fix_time_seconds", time.monotonic() - began, "s")
        return patch

    @weave.op
    def fix(self, project: Project, bug: Bug, place: str, model: str) -> str:
        """Try one patch, which is taken back where the test fails as before."""
        metric("iterations_total", 1)
        patch = self.propose(project, bug, place, model)
        metric("patches_generated", 1)
        before = {path: project.read(path) for path in project.files()}
        apply_patch(project, patch)
        if failures := run_tests(project, bug["test"]):
            for path, text in before.items():
                project.write(path, text)
            raise WrongFix(f"the patch does not fix {bug['test']}: {failures[0]['error']}")
        return patch

    @weave.op
    def propose(self, project: Project, bug: Bug, place: str, model: str) -> str:
        """Return what the model answers when it has read what it wants to."""
        messages = [
            {"role": "system", "content": _FIXING},
            {"role": "user", "content": f"{bug['test']} fails: {bug['error']}\nThe fault seems to be in {place}"},
        ]
        for _ in range(TURNS):
            message = self._ask(messages, model)
            if not message.tool_calls:
                return message.content or ""
            messages.append(message.model_dump(exclude_none=True))
            for call in message.tool_calls:
                text = read_file(project, json.loads(call.function.arguments)["path"])
                messages.append({"role": "tool", "tool_call_id": call.id, "content": text})
        raise NoPatch(f"no answer after the maximum of {TURNS} turns")

    def _ask(self, messages: list[dict], model: str):
        try:
            answer = self._models.client.chat.completions.create(model=model, messages=messages, tools=[_READ_FILE])
        except openai.BadRequestError as error:
            if error.code != "context_length_exceeded":
                raise
            last = messages[-1]
            messages[-1] = {**last, "content": last["content"][:2_000]}
            answer = self._models.client.chat.completions.create(model=model, messages=messages, tools=[_READ_FILE])
        return answer.choices[0].message
