"""Plots by matplotlib: as SVG that uses the page's light or dark colours, or as PNG."""

from __future__ import annotations

import io
import re
from typing import Any

from pipeline.report.blocks import LIGHT, Chart, Palette

WIDTH = 4.0  # inches: text stays readable in a column of 300 pixels
DPI = 200
# Placeholder colours, replaced by colours that the page's CSS sets for light and dark.
NAMES = ("ink", "faint", "paper", *(f"series-{number}" for number in range(len(LIGHT.series))))
STAND_INS = {name: f"#0{number:x}f1e{number:x}" for number, name in enumerate(NAMES)}
PAGE = Palette(STAND_INS["ink"], STAND_INS["faint"], STAND_INS["paper"], tuple(STAND_INS[name] for name in NAMES[3:]))
FONT: dict[Any, Any] = {
    "font.family": "sans-serif",
    "font.size": 9,
    "svg.fonttype": "none",
    "svg.hashsalt": "sketchstack",
}


def figure(palette: Palette, height: float, width: float = WIDTH) -> tuple[Any, Any]:
    """An empty figure and its axes, in the colours of a palette."""
    from matplotlib.figure import Figure

    made = Figure((width, height), layout="constrained", facecolor="none")
    axes = made.add_subplot(facecolor="none")
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(palette.faint)
    axes.tick_params(colors=palette.ink, length=0)
    axes.xaxis.label.set_color(palette.ink)
    axes.yaxis.label.set_color(palette.ink)
    axes.set_axisbelow(True)
    return made, axes


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
