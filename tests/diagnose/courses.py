"""Courses of events as text, a character a commit.

`.` passed, `F` failed, `x` both, `X` failed twice, `-` nothing ran; `|` begins a new line.
"""

from __future__ import annotations

from pytest_tracetriage.diagnose.changepoints import Point
from pytest_tracetriage.model.diagnosis import Place, Trail, Trails

_ATTEMPTS = {".": (1, 0), "F": (0, 1), "x": (1, 1), "X": (0, 2), "2": (2, 0)}


def points(text):
    """Return the points of one course."""
    found, first = [], True
    for sign in text:
        if sign == "|":
            first = True
        elif sign != "-":
            found.append(Point(*_ATTEMPTS[sign], first))
            first = False
    return found


def trails(tests=None, clusters=None, untouched=300, causes=None):
    """Return a past of tests and clusters, by name. Commits are days apart, `c0` first; all courses have the same lines."""
    tests, clusters = tests or {}, clusters or {}
    longest = max((*tests.values(), *clusters.values()), key=len, default="")
    line, places = 0, []
    for number, sign in enumerate(longest):
        if sign == "|":
            line += 1
        else:
            places.append(Place(line, f"run-{number}", f"c{number}", float(len(places))))
    made = [_trail(name, text, causes=(causes or {}).get(name)) for name, text in tests.items()]
    shown = [_trail(name, text, name=f"KeyError {name}") for name, text in clusters.items()]
    most = max((sum(trail.passed) + sum(trail.failed) for trail in made), default=len(places))
    return Trails(tuple(places), tuple(made), tuple(shown), untouched, most)


def _trail(subject, text, name="", causes=None):
    signs = [(place, sign) for place, sign in enumerate(text.replace("|", "")) if sign != "-"]
    told = tuple(place for place, _ in signs)
    passed, failed = (tuple(_ATTEMPTS[sign][side] for _, sign in signs) for side in (0, 1))
    reds = iter(causes or ())
    named = tuple(next(reds) if count else "" for count in failed) if causes else ()
    return Trail(subject, told, passed, failed, named, name, frozenset())
