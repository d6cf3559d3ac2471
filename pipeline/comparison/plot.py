"""The picture of a comparison: each fold's scores, and the odds that either candidate is better."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.stats import t

if TYPE_CHECKING:
    from pipeline.comparison.statistics import Comparison

A, B, EQUAL, INK = "#b3541e", "#1f6f8b", "#b9b4a8", "#2b2b2b"  # distinct for colour-blind readers
WIDTH, HEIGHT, DPI = 10.0, 4.2, 150  # inches
FOLD = 0.22  # inches: the least height of a fold's line
TAIL = 0.01  # probability left out at each end of the posterior
LONGEST = 24  # characters of a name


def draw(found: Comparison, path: Path) -> None:
    """Write the picture as PNG."""
    picture(found).savefig(path, dpi=DPI, format="png", metadata={"Software": None})


def picture(found: Comparison) -> Any:
    """The picture as a matplotlib figure; all texts stand in legends, axis labels and ticks, so that none overlap."""
    from matplotlib.figure import Figure

    figure = Figure((WIDTH, max(HEIGHT, FOLD * len(found.folds) + 1.8)), layout="constrained", dpi=DPI)
    folds, odds = figure.subplots(1, 2, width_ratios=[1, 1.25])
    _folds(folds, found)
    _odds(odds, found)
    for axes in (folds, odds):
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.tick_params(colors=INK, length=0)
    return figure


def shortened(name: str) -> str:
    """A name without its middle if it is long; its start and its end tell it from others."""
    half = LONGEST // 2 - 1
    return name if len(name) <= LONGEST else f"{name[:half]}…{name[-half:]}"


def _folds(axes: Any, found: Comparison) -> None:
    """A line per fold from A's score to B's."""
    names = [*map(str, found.folds), "all"]
    scores = [(of["a"], of["b"]) for of in found.folds.values()] + [(found.map3["a"], found.map3["b"])]
    heights = np.arange(len(names))[::-1]
    for height, (a, b) in zip(heights, scores, strict=True):
        axes.plot([a, b], [height, height], color=EQUAL, linewidth=3 if height == 0 else 1.5, zorder=1)
    for color, name, values in ((A, found.a, [a for a, _ in scores]), (B, found.b, [b for _, b in scores])):
        sizes = [42.0] * (len(names) - 1) + [90.0]
        axes.scatter(values, heights, color=color, s=sizes, label=shortened(name), zorder=2)
    axes.set_yticks(heights, [f"fold {name}" if name != "all" else "all rows" for name in names])
    axes.set_xlabel("MAP@3 out of fold")
    axes.xaxis.get_major_locator().set_params(nbins=5)
    axes.margins(y=0.15)
    axes.grid(axis="x", color="#e7e3da")
    axes.set_axisbelow(True)
    axes.legend(frameon=False, labelcolor=INK, loc="lower left", bbox_to_anchor=(0, 1.0), borderaxespad=0)


def _odds(axes: Any, found: Comparison) -> None:
    """The posterior of the difference, divided by the region of practical equivalence, and the interval over rows."""
    a, b = shortened(found.a), shortened(found.b)
    axes.set_yticks([])
    axes.set_xlabel(f"MAP@3 of {b}\nless MAP@3 of {a}")
    axes.xaxis.get_major_locator().set_params(nbins=5)
    axes.axvspan(-found.rope, found.rope, color="#f2efe7", zorder=0)
    axes.axvline(0, ymin=0.12, color=INK, linewidth=0.8, zorder=1)
    top = 1.0
    if found.odds is not None and found.odds.scale > 0:
        posterior = t(found.odds.freedom, found.odds.mean, found.odds.scale)
        low = min(posterior.ppf(TAIL), -2 * found.rope, found.low)
        high = max(posterior.ppf(1 - TAIL), 2 * found.rope, found.high)
        xs = np.linspace(low, high, 800)
        ys = posterior.pdf(xs)
        top = float(ys.max())
        parts = ((xs <= -found.rope, A), (abs(xs) <= found.rope, EQUAL), (xs >= found.rope, B))
        for part, color in parts:
            axes.fill_between(xs, ys, where=part, color=color, alpha=0.75, linewidth=0)
        axes.set_xlim(low, high)
    interval = axes.plot([found.low, found.high], [-0.06 * top] * 2, color=INK, linewidth=2.5, solid_capstyle="butt")
    axes.plot([found.difference], [-0.06 * top], "o", color=INK, markersize=6)
    axes.set_ylim(-0.12 * top, 1.08 * top)
    _legend(axes, found, a, b, interval[0])


def _legend(axes: Any, found: Comparison, a: str, b: str, interval: Any) -> None:
    """The odds, a line each, and the interval, above the plot."""
    from matplotlib.patches import Patch

    handles, texts, colors = [interval], [f"{found.low:+.4f} to {found.high:+.4f}: 95% interval over rows"], [INK]
    if found.odds is not None:
        of = ((f"{a} is better", found.odds.a, A), (f"equal within {found.rope:g}", found.odds.equal, EQUAL))
        for said, share, color in (*of, (f"{b} is better", found.odds.b, B)):
            handles.append(Patch(color=color, alpha=0.75))
            texts.append(f"{share:.1%}: {said}")
            colors.append(INK if color == EQUAL else color)
    legend = axes.legend(handles, texts, frameon=False, loc="lower left", bbox_to_anchor=(0, 1.0), borderaxespad=0)
    for text, color in zip(legend.get_texts(), colors, strict=True):
        text.set_color(color)
