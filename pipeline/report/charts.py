"""Plots by matplotlib: as SVG that uses the page's light or dark colours, or as PNG."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from pipeline.report.blocks import LIGHT, Chart, Palette

WIDTH = 3.6  # inches: text stays readable in a column of 300 pixels
DPI = 200
# Placeholder colours, replaced by colours that the page's CSS sets for light and dark.
NAMES = ("ink", "faint", "paper", *(f"series-{number}" for number in range(len(LIGHT.series))))
STAND_INS = {name: f"#0{number:x}f1e{number:x}" for number, name in enumerate(NAMES)}
PAGE = Palette(STAND_INS["ink"], STAND_INS["faint"], STAND_INS["paper"], tuple(STAND_INS[name] for name in NAMES[3:]))
# Places of a name beside its point: offset in points, alignment.
BESIDE = tuple(
    ((side * 5, height), {"ha": "left" if side > 0 else "right", "va": "center"})
    for height in (0, 7, -7)
    for side in (1, -1)
)
FONT: dict[Any, Any] = {
    "font.family": "sans-serif",
    "font.size": 9,
    "svg.fonttype": "none",
    "svg.hashsalt": "sketchstack",
}


def figure(
    palette: Palette, height: float, width: float = WIDTH, panels: int = 1, heights: Sequence[float] | None = None
) -> tuple[Any, Any]:
    """An empty figure and its axes, in the colours of a palette.

    Args:
        palette: colours.
        height, width: of the figure, in inches.
        panels: number of axes below each other that share their x axis; more than one are returned as an array.
        heights: relative heights of the panels; equal if not given.
    """
    from matplotlib.figure import Figure

    made = Figure((width, height), layout="constrained", facecolor="none")
    axes = made.subplots(panels, sharex=True, height_ratios=heights, subplot_kw={"facecolor": "none"})
    for each in np.atleast_1d(axes):
        each.spines[["top", "right"]].set_visible(False)
        each.spines[["left", "bottom"]].set_color(palette.faint)
        each.tick_params(colors=palette.ink, length=0)
        each.xaxis.label.set_color(palette.ink)
        each.yaxis.label.set_color(palette.ink)
        each.set_axisbelow(True)
    return made, axes


def label_points(axes: Any, points: Sequence[tuple[str, float, float]], palette: Palette) -> None:
    """Name points of a scatter plot, the first ones first; a name that has no free place beside its point is left out.

    Call it last, when the figure has its limits and labels.

    Args:
        axes: the plot.
        points: name, x and y of each point.
        palette: colours.
    """
    from matplotlib.transforms import Bbox

    made = axes.get_figure()
    made.draw_without_rendering()  # which lays the figure out
    marks = [axes.transData.transform((x, y)) for _, x, y in points]
    taken = [Bbox.from_extents(x - 4, y - 4, x + 4, y + 4) for x, y in marks]
    for name, x, y in points:
        for offset, beside in BESIDE:
            text = axes.annotate(
                name, (x, y), offset, textcoords="offset points", color=palette.ink, fontsize=7.5, **beside
            )
            box = text.get_window_extent()
            inside = axes.bbox.contains(*box.min) and axes.bbox.contains(*box.max)
            if inside and not any(box.overlaps(other) for other in taken):
                text.set_in_layout(False)
                taken.append(box)
                break
            text.remove()


def svg(chart: Chart) -> str:
    """The plot as an SVG element for a page that sets --ink, --faint, --paper and --series-0, ..."""
    import matplotlib

    with matplotlib.rc_context(FONT):
        out = io.StringIO()
        chart.draw(PAGE).savefig(out, format="svg", metadata={"Date": None, "Creator": None})
    text = out.getvalue()
    for name, colour in STAND_INS.items():
        text = re.sub(colour, f"var(--{name})", text, flags=re.IGNORECASE)
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'(<svg [^>]*?) (?:width|height)="[^"]*"', r"\1", text)
    text = re.sub(r'(<svg [^>]*?) (?:width|height)="[^"]*"', r"\1", text)
    text = re.sub(r'\b(id="|href="#|url\(#)', rf"\g<1>{chart.name}-", text)  # ids must be unique in the page
    return text.replace("<svg ", '<svg aria-hidden="true" focusable="false" ', 1)


def png(chart: Chart) -> bytes:
    """The plot as PNG on white."""
    import matplotlib

    with matplotlib.rc_context(FONT):
        out = io.BytesIO()
        chart.draw(LIGHT).savefig(out, format="png", dpi=DPI, facecolor=LIGHT.paper, metadata={"Software": None})
    return out.getvalue()
