"""Jinja2 templates: the project's own first, then those that came with the package."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jinja2
from jinja2.sandbox import SandboxedEnvironment

from pytest_tracetriage.report import text

if TYPE_CHECKING:
    from collections.abc import Mapping

_PACKAGE = Path(__file__).resolve().parent.parent
SHIPPED = (_PACKAGE / "templates", _PACKAGE.parent / "templates")
"""In an installed wheel, and in a checkout."""


def render(name: str, values: Mapping[str, Any], overrides: Path | None = None) -> str:
    """Return template `name` with `values`; a file of that name in `overrides` replaces the shipped one.

    Nothing is escaped by itself: templates pass what came from a test through `md`, `code`, `block`,
    `cell` (code in a table) or `html` (code in HTML).
    """
    rendered = _environment(overrides).get_template(name).render(values)
    return rendered.strip("\n") + "\n"


@cache
def _environment(overrides: Path | None) -> SandboxedEnvironment:
    folders = [str(folder) for folder in ((overrides,) if overrides is not None else ()) + SHIPPED]
    environment = SandboxedEnvironment(
        loader=jinja2.FileSystemLoader(folders),
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
        autoescape=False,
    )
    environment.filters |= {
        "md": text.markdown,
        "code": text.code_span,
        "cell": text.code_cell,
        "html": text.code_html,
        "block": text.code_block,
        "plain": text.printable,
    }
    environment.globals |= {"plural": text.plural}
    return environment
