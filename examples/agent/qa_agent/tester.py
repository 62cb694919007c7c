"""Finds bugs: runs the suite, and walks through pages as a customer would."""

from __future__ import annotations

from typing import TYPE_CHECKING

import weave

from qa_agent.browser import Session
from qa_agent.models import PLAN
from qa_agent.tools import suite

if TYPE_CHECKING:
    from qa_agent.cache import Cache
    from qa_agent.models import Models
    from qa_agent.project import Bug, Project

_PLANNING = """You are a customer of a web shop. You are shown a page. Say how you would use it: one action a line, either
`fill FIELD VALUE` or `press BUTTON`, in the order in which they are to be done, and nothing else."""


class Tester:
    """Says what does not work."""

    def __init__(self, models: Models, cache: Cache) -> None:
        self._models = models
        self._cache = cache

    def __repr__(self) -> str:
        return "Tester()"

    @weave.op
    def find_bugs(self, project: Project) -> list[Bug]:
        """Return the tests that fail."""
        return suite(project, self._cache)

    @weave.op
    def plan(self, html: str) -> list[str]:
        """Return what a customer would do on a page, as it is streamed."""
        pieces = self._models.client.chat.completions.create(
            model=PLAN,
            messages=[{"role": "system", "content": _PLANNING}, {"role": "user", "content": html}],
            stream=True,
            stream_options={"include_usage": True},
        )
        text = "".join(piece.choices[0].delta.content or "" for piece in pieces if piece.choices)
        return [line for line in text.splitlines() if line.strip()]

    @weave.op
    def walk_through(self, project: Project, page: str) -> list[str]:
        """Do on a page what a customer would, in one session; return the buttons that were pressed."""
        html = project.read(page)
        session = Session(html)
        for action in self.plan(html):
            self.act(session, action)
        return session.pressed

    @weave.op
    def act(self, session: Session, action: str) -> None:
        """Do one action."""
        verb, _, rest = action.partition(" ")
        if verb == "fill":
            field, _, value = rest.partition(" ")
            session.fill(field, value)
        else:
            session.press(rest)
