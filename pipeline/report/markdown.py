"""A report as a Markdown file with pictures, for posting."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from pipeline.report.blocks import Chart, Missing, Pictures, Section, Table

PAGE = "report.md"


def write(title: str, summary: str, sections: Sequence[Section], folder: Path) -> None:
    """Write report.md and a PNG per plot and per drawing into a folder; the charts of the sections are drawn as PNG."""
    lines = [f"# {plain(title)}", summary]
    for section in sections:
        lines.append(f"## {plain(section.title)}")
        for block in section.blocks:
            if isinstance(block, Chart):
                assert isinstance(block.drawn, bytes)
                (folder / f"{block.name}.png").write_bytes(block.drawn)
                lines += [f"![{plain(block.alt)}]({block.name}.png)", plain(block.caption)]
            elif isinstance(block, Table):
                lines += [plain(block.caption), "\n".join(_table(block))]
            elif isinstance(block, Pictures):
                lines += [plain(block.caption), "\n".join(_pictures(block, folder))]
            else:
                lines.append(f"> {block.text}" if isinstance(block, Missing) else block.text)
    (folder / PAGE).write_text("\n\n".join(lines) + "\n", encoding="utf-8")


def plain(text: str) -> str:
    """Text with Markdown and HTML escaped."""
    return re.sub(r"([\\\[\]<>|*#])", r"\\\1", text)


def _pictures(block: Pictures, folder: Path) -> Iterator[str]:
    """Write the pictures; yields one line each."""
    for number, picture in enumerate(block.pictures):
        name = f"{block.name}-{number}.png"
        (folder / name).write_bytes(picture.png)
        yield f"- ![{plain(picture.alt)}]({name}) {plain('; '.join(picture.lines))}"


def _table(table: Table) -> Iterator[str]:
    yield f"| {' | '.join(map(plain, table.columns))} |"
    sides = (" --- |" if table.text or column in table.left else " ---: |" for column in range(1, len(table.columns)))
    yield f"| --- |{''.join(sides)}"
    for number, row in enumerate(table.rows):
        cells = [f"**{plain(cell)}**" if cell and number in table.strong else plain(cell) for cell in row]
        yield f"| {' | '.join(cells)} |"
