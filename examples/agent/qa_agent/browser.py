"""As much of a browser as forms need: a page of HTML, its fields and its buttons, in a session."""

from __future__ import annotations

from html.parser import HTMLParser


class SessionExpired(Exception):
    """The session has ended; what is done in it is lost."""


class NoSuchElement(Exception):
    """The page has no such field or button."""


class Session:
    """A page that somebody who is logged in looks at. The shop ends a session after `life` actions."""

    def __init__(self, html: str, life: int = 5) -> None:
        self.values: dict[str, str] = {}
        self.pressed: list[str] = []
        self._page = _Page()
        self._page.feed(html)
        self._life = life
        self._left = life

    def __repr__(self) -> str:
        return f"Session({self._page.title!r})"

    def fill(self, field: str, value: str) -> None:
        """Type into a field."""
        self._act(field, self._page.fields, "field")
        self.values[field] = value

    def press(self, button: str) -> None:
        """Press a button."""
        self._act(button, self._page.buttons, "button")
        self.pressed.append(button)

    def _act(self, name: str, names: list[str], kind: str) -> None:
        if not self._left:
            raise SessionExpired(f"the session expired after {self._life} actions")
        self._left -= 1
        if name not in names:
            raise NoSuchElement(f"no {kind} {name!r} on the page: it has {', '.join(names)}")


class _Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.title = ""
        self.fields: list[str] = []
        self.buttons: list[str] = []
        self._inside = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._inside = tag
        if tag in {"input", "select", "textarea"}:
            self.fields.append(dict(attrs).get("name") or "")

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""

    def handle_data(self, data: str) -> None:
        if self._inside == "button":
            self.buttons.append(data.strip())
        elif self._inside == "title":
            self.title = data.strip()
