"""The blocks of a report, before they become HTML or Markdown."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any, NamedTuple


class Palette(NamedTuple):
    """Colours of a chart, in matplotlib's format.

    Attributes:
        ink: text and axes.
        faint: grids and secondary marks.
        paper: background.
        series: data series, distinct for colour-blind readers.
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
        caption: a description of the table.
        columns: headings, the most important first: a phone shows the first few, the others by scrolling. The first
            column is text, the other columns are numbers.
        rows: cells as text.
        strong: numbers of the rows to emphasise.
        wide: whether it takes the full width.
        text: whether all cells are text.
        left: numbers of other columns that are text.
        shades: of a heatmap: for each row, the strength of each cell's colour, 0 to 1, without the first column; None
            is a cell without colour.
    """

    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    strong: frozenset[int] = frozenset()
    wide: bool = False
    text: bool = False
    left: frozenset[int] = frozenset()
    shades: Sequence[Sequence[float | None]] | None = None

    def shade(self, row: int, column: int) -> float | None:
        """The strength of a cell's colour; None if it has none."""
        return None if self.shades is None or not column else self.shades[row][column - 1]


@dataclass(frozen=True)
class Chart:
    """A plot.

    Attributes:
        name: of its file; unique in the report.
        alt: text alternative.
        caption: the text below the chart.
        draw: palette → matplotlib figure.
        wide: whether it takes the full width.
        drawn: the result of `draw` as SVG or PNG.
    """

    name: str
    alt: str
    caption: str
    draw: Callable[[Palette], Any]
    wide: bool = False
    drawn: str | bytes = ""


@dataclass(frozen=True)
class Missing:
    """A note on a missing part of an unfinished run, and how to make it."""

    text: str


class Picture(NamedTuple):
    """A drawing.

    Attributes:
        png: the bytes of its picture.
        alt: text alternative.
        lines: of text below the picture.
    """

    png: bytes
    alt: str
    lines: Sequence[str]


@dataclass(frozen=True)
class Pictures:
    """Drawings side by side.

    Attributes:
        name: prefix of their file names; unique in the report.
        caption: the text above the pictures.
        pictures: in order.
    """

    name: str
    caption: str
    pictures: Sequence[Picture]


def filled(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> tuple[list[str], list[list[str]]]:
    """Columns and rows of a table without the columns that are empty in all rows."""
    kept = [number for number in range(len(columns)) if any(row[number] for row in rows)]
    return [columns[number] for number in kept], [[row[number] for number in kept] for row in rows]


Block = Paragraph | Table | Chart | Pictures | Missing


def _side_by_side(block: Block) -> bool:
    return isinstance(block, Table | Chart) and not block.wide


@dataclass(frozen=True)
class Section:
    """Blocks under a heading."""

    title: str
    blocks: Sequence[Block] = field(default_factory=list)

    @property
    def runs(self) -> Iterator[tuple[bool, list[Block]]]:
        """Consecutive blocks that take the full width, or that stand side by side; whether they do, and the blocks."""
        for side_by_side, run in groupby(self.blocks, _side_by_side):
            yield side_by_side, list(run)

    @property
    def anchor(self) -> str:
        """The target of links to this section."""
        return "".join(letter if letter.isalnum() else "-" for letter in self.title.lower())
