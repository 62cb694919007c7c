"""Text from tests, made safe to print, and the words that every report shares: plurals, proportions, tokens and cost."""

from __future__ import annotations

import html
import math
import re
from math import sqrt
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pytest_tracetriage.model.run import Figure, Spent
    from pytest_tracetriage.model.trace import Usage


Segment = tuple[str, str]
"""Text and its style: "", or names such as "red", "bold" joined by a space."""
Line = tuple[Segment, ...]

MIN_ID = 5
# What means something to Markdown where it stands; the same character elsewhere is left alone, so that the text stays legible.
_ACTIVE = re.compile(
    r"""
    ^(?P<number>\d{1,9})(?P<list>[.)])        # a numbered list
    # people, issues, emoji: looked for in what was rendered, entities or not
    | (?P<ref>@(?=\S) | \#(?=\d) | [Gg][Hh]-(?=\d) | :(?=(?:[\w+\-]*[A-Za-z][\w+\-]*|[+\-]1|100|1234):))
    | (?P<math>\$)
    | ^[ \#+\-=>:\[]                          # headings, lists, quotes, rules, definitions, indented code
    | [`|~@]
    | (?<![ ])\* | \*(?![ ])
    | _+(?![^\W_]) | (?<![^\W_])_+            # inside a word it is no emphasis
    | <(?=[A-Za-z/!?]|$)
    | \](?=[(\[:]|$)                          # neither link nor image without it
    | \[(?=\^)                               # a footnote
    | &(?=\#?\w+;)
    | \\(?=[!-/:-@\[-`{-~]|$)
    | (?<=\w):(?=//) | (?<=mailto): | (?<=xmpp):
    | (?<=[wW]{3})\.
    | \#+$                                    # would close a heading
    """,
    re.VERBOSE,
)
_BREAK = "&#8203;"
"""A space of no width: what makes a name after an `@` or a number after a `#` a mention is that they touch."""
# What Unicode calls letters, marks or symbols though nothing is seen of it: fillers, variation selectors can carry hidden text.
_UNSEEN = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180d\u180f\u2800\u3164\ufe00-\ufe0f\uffa0"
    "\U00013441\U00013442\U00016fe4\U0001d159\U000e0100-\U000e01ef]"
)


def printable(text: str) -> str:
    """Return `text` on one line, spaces for control characters and for what is not seen: neither steers nor hides anything."""
    if not text.isprintable():
        text = "".join(character if character.isprintable() else " " for character in text)
    return _UNSEEN.sub(" ", text)


def printable_lines(text: str) -> list[str]:
    """Return the lines of `text` without control characters, tabs kept as spaces."""
    return [printable(line.expandtabs(4)) for line in text.splitlines()]


def markdown(text: str) -> str:
    """Return `text` so that Markdown shows it as it is: no mention, link, image, HTML, emoji, formula or formatting.

    It may stand anywhere in a line, a table's cell included. What it breaks up is not seen, but is copied along: what
    people may want to copy stands better in a code span.
    """
    return _ACTIVE.sub(_inactive, printable(text))


def _inactive(found: re.Match[str]) -> str:
    if found["number"]:
        return found["number"] + _entities(found["list"])
    if ref := found["ref"]:
        return (_entities(ref) if ref == "@" else ref) + _BREAK
    if found["math"]:
        return _BREAK + _entities("$")
    return _entities(found[0])


def _entities(text: str) -> str:
    return "".join(f"&#{ord(character)};" for character in text)


def code_span(text: str) -> str:
    """Return `text` as a Markdown code span that its own backticks cannot leave. Not for table cells: pipes stay."""
    text = printable(text)
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * (longest + 1)
    pad = " " if text.startswith("`") or text.endswith("`") or not text.strip() else ""
    return f"{fence}{pad}{text}{pad}{fence}"


def code_cell(text: str) -> str:
    """Return `text` as a code span for a cell of a table, where a pipe is a pipe only behind a backslash."""
    return code_span(text).replace("|", "\\|")


def code_html(text: str) -> str:
    """Return `text` as code where HTML stands and Markdown means nothing, such as in the summary of a `<details>`."""
    return f"<code>{html.escape(printable(text))}</code>"


def code_block(text: str, language: str = "") -> str:
    """Return `text` as a fenced Markdown block that its own fences cannot leave."""
    body = "\n".join(printable_lines(text))
    longest = max((len(run) for run in re.findall(r"`{3,}", body)), default=2)
    fence = "`" * (longest + 1)
    return f"{fence}{language}\n{body}\n{fence}"


def short_ids(ids: Iterable[str]) -> dict[str, str]:
    """Return the shortest unique prefix, of at least 5 characters, of each id: as git does."""
    ordered = sorted(set(ids))
    short = {}
    for index, identity in enumerate(ordered):
        neighbours = ordered[max(0, index - 1) : index] + ordered[index + 1 : index + 2]
        length = max([MIN_ID, *(_common(identity, other) + 1 for other in neighbours)])
        short[identity] = identity[:length]
    return short


def _common(left: str, right: str) -> int:
    length = 0
    for one, other in zip(left, right, strict=False):
        if one != other:
            break
        length += 1
    return length


def plural(count: int, word: str, many: str = "") -> str:
    """Return `1 test`, `2 tests`."""
    return f"{count:,} {word if count == 1 else many or word + 's'}"


def unit(tests: Sequence[str]) -> str:
    """Return `test`, or what stands for the tests that could not be collected: `module` or `file`."""
    if not tests or any("::" in test for test in tests):
        return "test"
    return "module" if all(test.endswith(".py") for test in tests) else "file"


def shorten(text: str, width: int) -> str:
    """Return `text` in at most `width` characters, an ellipsis at its end where something is missing."""
    return text if len(text) <= width else text[: max(0, width - 1)].rstrip() + "…"


def width_of(line: Sequence[Segment]) -> int:
    """Return how many characters a line has."""
    return sum(len(text) for text, _ in line)


Z95 = 1.959964
"""The normal quantile of a two-sided 95 % interval."""


def wilson(hits: int, trials: int, z: float = Z95) -> tuple[float, float]:
    """Return the Wilson score interval of a proportion, both ends in [0, 1]; (0, 1) without a trial.

    E. B. Wilson, Probable inference, the law of succession, and statistical inference, JASA 22 (1927): unlike the normal
    approximation it is right for few trials and for proportions near 0 and 1.
    """
    if trials <= 0:
        return 0.0, 1.0
    share = min(max(hits / trials, 0.0), 1.0)
    scale = 1 + z * z / trials
    middle = (share + z * z / (2 * trials)) / scale
    half = z / scale * sqrt(share * (1 - share) / trials + z * z / (4 * trials * trials))
    return max(0.0, middle - half), min(1.0, middle + half)


def percent(part: int, whole: int) -> str:
    """Return `96.2 %`; `100 %` and `0 %` only where it is all or nothing, `-` of nothing."""
    if whole <= 0:
        return "-"
    if part >= whole:
        return "100 %"
    if part <= 0:
        return "0 %"
    return f"{min(max(100 * part / whole, 0.1), 99.9):.1f} %"


_NAMED = 3


def spent_text(spent: Sequence[Spent], note: str = "") -> str:
    """Return `42 calls, 31,204 tokens, $0.18`, with the models that have no price. `note` says why none has one."""
    calls = sum(each.usage.requests for each in spent)
    parts = [plural(calls, "call"), plural(sum(tokens(each.usage) for each in spent), "token")]
    priced = [each.cost for each in spent if each.cost is not None]
    if priced:
        parts.append(money(math.fsum(priced)))
    unknown = sorted({printable(each.usage.model) or "a nameless model" for each in spent if each.cost is None})
    if note and not priced:
        return f"{', '.join(parts)} ({note})"
    if unknown:
        more = f" and {len(unknown) - _NAMED} more" if len(unknown) > _NAMED else ""
        parts[-1] += f" (no price for {', '.join(shorten(name, 60) for name in unknown[:_NAMED])}{more})"
    return ", ".join(parts)


def tokens(usage: Usage) -> int:
    """Return how many tokens went in and out; what a cache gave, and the reasoning, are among them."""
    return usage.input + usage.output


def money(dollars: float) -> str:
    """Return US dollars to the cent, and below ten cents to two digits more: `$0.18`, `$0.0042`, `$0.00`."""
    if 0 < abs(dollars) < 0.1:
        text = f"${dollars:,.4f}"
        return text if text.strip("$-0.") else "<$0.0001"
    return f"${dollars:,.2f}"


def figure_text(figure: Figure) -> str:
    """Return a figure with its unit: `0.83`, `1,204 ms`, `12.5 s`."""
    return f"{number_text(figure.value)} {printable(figure.unit)}".rstrip()


def number_text(value: float) -> str:
    """Return a number as people read it: `1,204`, `0.8333`, `1.2e+18`."""
    return f"{value:,.0f}" if value.is_integer() and abs(value) < 1e15 else f"{value:,.4g}"
