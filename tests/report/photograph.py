"""Renders Markdown as GitHub does, and photographs it: `python tests/report/photograph.py docs/images`.

cmarkgfm is GitHub's own parser; what GitHub does to its output afterwards (emails, people, issues, emoji, formulas, what
it does not let through) is imitated by `github_html`. The style is our own, in the measures of a comment on GitHub.
"""

from __future__ import annotations

import html
import json
import os
import re
import shutil
import struct
import subprocess
import sys
import tempfile
import zlib
from html.parser import HTMLParser
from pathlib import Path

import cmarkgfm
from cmarkgfm.cmark import Options

WIDTHS = (1200, 400)
SCREEN = 900
LIMIT = 200_000
ALLOWED = frozenset(
    [
        *("a", "b", "br", "blockquote", "code", "dd", "del", "details", "div", "dl", "dt", "em", "h1", "h2", "h3", "h4", "h5"),
        *(
            "h6",
            "hr",
            "i",
            "img",
            "input",
            "ins",
            "kbd",
            "li",
            "ol",
            "p",
            "pre",
            "q",
            "s",
            "section",
            "small",
            "span",
            "strong",
        ),
        *("sub", "summary", "sup", "table", "tbody", "td", "th", "thead", "tr", "ul"),
    ]
)
VOID = frozenset({"br", "hr", "img", "input"})
UNEXPANDED = frozenset({"code", "pre", "a"})
EXPANDED = (
    ("mention", re.compile(r"(?<![\w/.`-])@[A-Za-z0-9][\w-]*(?:/[\w.-]+)?")),
    ("issue", re.compile(r"(?<!\w)(?:[\w.-]+/[\w.-]+|[\w-]+)?#\d+|(?<!\w)gh-\d+", re.IGNORECASE)),
    ("commit", re.compile(r"(?<!\w)(?:[\w./-]+@)?[0-9a-f]{7,64}(?!\w)", re.IGNORECASE)),
    ("emoji", re.compile(r":(?:[\w+-]*[a-z_][\w+-]*|[+-]1|100|1234):", re.IGNORECASE)),
    ("formula", re.compile(r"(?:^|(?<=[\s(\[{\"'*_-]))\$+[^\s$][^$]*\$")),
)
ALERT = re.compile(r"\[!(?:NOTE|TIP|IMPORTANT|WARNING|CAUTION)\][ \t]*(?:\n|$)")
STYLE = """
* { box-sizing: border-box; }
body { margin: 0; background: #fff; color: #1f2328; font: 14px/1.5 "Liberation Sans", Arial, sans-serif; }
.page { max-width: 900px; margin: 0 auto; padding: 16px; }
.comment { border: 1px solid #d1d9e0; border-radius: 6px; overflow: hidden; }
.head { background: #f6f8fa; border-bottom: 1px solid #d1d9e0; color: #59636e; padding: 8px 16px; }
.head b { color: #1f2328; }
.body { padding: 16px; overflow-wrap: break-word; }
.body > :first-child { margin-top: 0; }
h1, h2, h3, h4 { margin: 24px 0 16px; font-weight: 600; line-height: 1.25; }
h3 { font-size: 1.25em; }
p, ul, ol, table, pre, details { margin: 0 0 16px; }
ul { padding-left: 2em; }
a { color: #0969da; text-decoration: underline; }
code { background: #818b981f; border-radius: 6px; font: 85% "DejaVu Sans Mono", monospace; padding: .2em .4em; }
code { white-space: break-spaces; }
pre { background: #f6f8fa; border-radius: 6px; line-height: 1.45; overflow: auto; padding: 16px; }
pre code { background: none; padding: 0; white-space: pre; }
table { border-collapse: collapse; display: block; max-width: 100%; overflow: auto; width: max-content; }
th, td { border: 1px solid #d1d9e0; padding: 6px 13px; }
tr:nth-child(2n) { background: #f6f8fa; }
summary { cursor: pointer; }
"""


class Page(HTMLParser):
    """HTML as GitHub shows it: only allowed elements, and what text outside code expands to."""

    def __init__(self):
        super().__init__(convert_charrefs=True)
        self.out = []
        self.open = []
        self.text = ""

    def handle_starttag(self, tag, attrs):
        self.flush()
        if tag not in ALLOWED:
            return
        kept = [
            (name, value or "") for name, value in attrs if name in {"href", "src", "align", "open", "alt", "class", "type"}
        ]
        self.out.append("<" + tag + "".join(f' {name}="{html.escape(value)}"' for name, value in kept) + ">")
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        self.flush()
        if tag in ALLOWED and tag not in VOID:
            self.out.append(f"</{tag}>")
            if tag in self.open:
                del self.open[len(self.open) - 1 - self.open[::-1].index(tag) :]

    def handle_data(self, data):
        self.text += data

    def flush(self):
        if self.text:
            self.out.append(html.escape(self.text) if UNEXPANDED & set(self.open) else expanded(self.text, self.open))
        self.text = ""


def expanded(text, within):
    """Text outside code, with everything marked that GitHub would make of it."""
    if "blockquote" in within and ALERT.match(text):
        return f'<span class="alert">{html.escape(text)}</span>'
    found = sorted((match.start(), match.end(), kind) for kind, pattern in EXPANDED for match in pattern.finditer(text))
    out, position = [], 0
    for start, end, kind in found:
        if start >= position:
            out += [html.escape(text[position:start]), f'<span class="{kind}">{html.escape(text[start:end])}</span>']
            position = end
    return "".join([*out, html.escape(text[position:])])


def github_html(markdown):
    """The HTML that a reader of this Markdown would get from GitHub."""
    raw = cmarkgfm.github_flavored_markdown_to_html(markdown, Options.CMARK_OPT_UNSAFE | Options.CMARK_OPT_FOOTNOTES)
    page = Page()
    page.feed(raw)
    page.close()
    page.flush()
    return "".join(page.out)


def document(markdown, head):
    """A page with one comment on it. Its title tells where things stand, once it is loaded."""
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>x</title><style>{STYLE}</style>'
        f'<div class="page"><div class="comment"><div class="head">{head}</div>'
        f'<div class="body">{github_html(markdown)}</div></div></div>'
        "<script>const bottom = q => "
        "Array.from(document.querySelectorAll(q), e => Math.round(e.getBoundingClientRect().bottom));"
        "document.title = JSON.stringify({heading: bottom('h3'), rows: bottom('.body > table:first-of-type tbody tr'),"
        "next: bottom('.body > h3 + p'), details: bottom('.body > details'),"
        "cells: Array.from(document.querySelectorAll('.body > table:first-of-type tbody tr:first-child td'),"
        " e => Math.round(e.getBoundingClientRect().right)), wide: document.documentElement.scrollWidth});</script>"
    )


def browser():
    """The Chromium of this machine, or nothing."""
    names = (os.environ.get("CHROMIUM", ""), "chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    return next((found for name in names if name and (found := shutil.which(name))), "")


def chromium(profile, *arguments):
    command = [
        browser(),
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--disable-dev-shm-usage",
        "--hide-scrollbars",
        "--force-device-scale-factor=1",
        f"--user-data-dir={profile}",
        *arguments,
    ]
    return subprocess.run(command, check=True, capture_output=True, timeout=120).stdout.decode()


def photograph(markdown, head, picture, width, height=SCREEN):
    """Write a picture of the first screen, and return where its parts end, in pixels from the top."""
    with tempfile.TemporaryDirectory() as folder:
        # A window has at least 500 px: what is narrower is shown in a frame.
        page = Path(folder, "page.html")
        page.write_text(
            "<!doctype html><title></title><style>body{margin:0;overflow:hidden}iframe{border:0}</style>"
            f'<iframe width="{width}" height="{height}" srcdoc="{html.escape(document(markdown, head))}" '
            'onload="document.title = this.contentDocument.title"></iframe>',
            encoding="utf-8",
        )
        raw = Path(folder, "raw.png")
        window = f"--window-size={width},{height}"
        dumped = chromium(Path(folder, "first"), window, "--dump-dom", page.as_uri())
        chromium(Path(folder, "second"), window, f"--screenshot={raw}", page.as_uri())
        shutil.copyfile(raw, picture)
    return json.loads(html.unescape(re.search("<title>(.*?)</title>", dumped)[1]))


def pixels(picture):
    """Width, height, and how many different rows of pixels an 8-bit PNG of Chromium has."""
    data = Path(picture).read_bytes()
    assert data.startswith(b"\x89PNG\r\n\x1a\n")
    width, height, depth, colour = struct.unpack(">IIBB", data[16:26])
    assert depth == 8
    packed, position = b"", 8
    while position < len(data):
        (length,) = struct.unpack(">I", data[position : position + 4])
        if data[position + 4 : position + 8] == b"IDAT":
            packed += data[position + 8 : position + 8 + length]
        position += length + 12
    lines = zlib.decompress(packed)
    stride = 1 + width * {2: 3, 6: 4}[colour]
    return width, height, len({lines[start : start + stride] for start in range(0, len(lines), stride)})


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))
    from reviews import target

    from pytest_tracetriage.report.github.bodies import comment, summary

    target_folder = Path(sys.argv[1])
    for name, text, head in (
        ("comment", comment(target(), "tests"), "<b>github-actions</b> bot commented 2 minutes ago"),
        ("job-summary", summary(target()), "<b>tests (1)</b> summary"),
    ):
        for width in WIDTHS:
            print(name, width, photograph(text, head, target_folder / f"{name}-{width}.png", width))  # noqa: T201
