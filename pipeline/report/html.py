"""A report as one self-contained HTML file: no network, no script, light or dark as the reader's system."""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipeline.report.blocks import Block, Section, Table

HERE = Path(__file__).parent
SCROLLS, CHART = 16, 9  # lines of a table: from which on it scrolls, as tall as a chart


def page(title: str, summary: str, sections: Sequence[Section]) -> str:
    """The whole page.

    Args:
        title: the heading.
        summary: a sentence below the heading.
        sections: in order, their charts drawn as SVG.
    """
    from jinja2 import Environment, FileSystemLoader

    environment = Environment(loader=FileSystemLoader(HERE), autoescape=True, trim_blocks=True)
    environment.filters |= {"with_code": with_code, "breakable": breakable}
    return environment.get_template("page.html.jinja").render(
        title=title, summary=summary, sections=sections, style=(HERE / "page.css").read_text(), kind=kind,
        columns=columns, base64=lambda data: base64.b64encode(data).decode(),
    )  # fmt: skip


def with_code(text: str) -> Any:
    """Escaped HTML of a text, with parts in backticks as code."""
    from markupsafe import Markup, escape

    parts = [escape(part) for part in text.split("`")]
    return Markup("").join(
        Markup("<code>{}</code>").format(part) if odd % 2 else part for odd, part in enumerate(parts)
    )


def breakable(text: str) -> Any:
    """Escaped HTML of a text that may be broken into lines after `_`, `.`, `/` and `-`, not within a number."""
    from markupsafe import Markup, escape

    return Markup("<wbr>").join(escape(part) for part in re.split(r"(?<=[^\W\d][_./-])(?=\w)", text))


def columns(blocks: Sequence[Block]) -> int:
    """The most columns in which blocks stand side by side: the number that leaves the fewest holes."""
    heights = sorted(map(_height, blocks))
    if len(blocks) == 4 or (len(blocks) > 1 and heights[-1] > 0.8 * sum(heights[:-1])):
        return 2
    return min(len(blocks), 3)


def _height(block: Block) -> int:
    """About how many lines of a table a block is tall."""
    return min(len(block.rows), SCROLLS) + 2 if isinstance(block, Table) else CHART


def kind(block: Block) -> str:
    """The name of a block's kind, for the template."""
    return type(block).__name__
