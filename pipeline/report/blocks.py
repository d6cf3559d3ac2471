"""What a report is made of, before it becomes HTML or Markdown."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple


class Palette(NamedTuple):
    """Colours of a chart, as matplotlib takes them.

    Attributes:
        ink: of text and axes.
        faint: of grids and what is beside the point.
        paper: behind it all.
        series: of what is told apart, without red beside green.
    """

    ink: str
    faint: str
    paper: str
    series: tuple[str, ...]


LIGHT = Palette("#26241f", "#d9d4c7", "#ffffff", ("#1f6f8b", "#b3541e", "#6a4c93", "#8a7a1f", "#3f7d58", "#a23b72"))


@dataclass(frozen=True)
class Paragraph:
    """A paragraph of plain text."""

    text: str


@dataclass(frozen=True)
class Table:
    """A table.

    Attributes:
        caption: what it shows.
        columns: headings; the first column is text, the others are numbers.
        rows: cells as text.
        strong: numbers of the rows to bring out.
        wide: it takes a line of its own.
        text: all its cells are text.
    """

    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    strong: frozenset[int] = frozenset()
    wide: bool = False
    text: bool = False


@dataclass(frozen=True)
class Chart:
    """A plot.

    Attributes:
        name: of its file, and unique in the report.
        alt: what it says, for those who do not see it.
        caption: below it.
        draw: palette → matplotlib figure.
        wide: it takes a line of its own.
        drawn: what `draw` came to, as the page takes it: SVG or PNG.
    """

    name: str
    alt: str
    caption: str
    draw: Callable[[Palette], Any]
    wide: bool = False
    drawn: str | bytes = ""


@dataclass(frozen=True)
class Missing:
    """What a run that is not finished cannot show, and what to do about it."""

    text: str


class Picture(NamedTuple):
    """A drawing.

    Attributes:
        png: its picture.
        alt: what it says, for those who do not see it.
        lines: below it.
    """

    png: bytes
    alt: str
    lines: Sequence[str]


@dataclass(frozen=True)
class Pictures:
    """Drawings side by side.

    Attributes:
        name: the beginning of their files' names, unique in the report.
        caption: above them.
        pictures: in their order.
    """

    name: str
    caption: str
    pictures: Sequence[Picture]


Block = Paragraph | Table | Chart | Pictures | Missing


@dataclass(frozen=True)
class Section:
    """Blocks under a heading."""

    title: str
    blocks: Sequence[Block] = field(default_factory=list)

    @property
    def anchor(self) -> str:
        """Where links lead."""
        return "".join(letter if letter.isalnum() else "-" for letter in self.title.lower())
