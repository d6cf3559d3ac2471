"""The picture of a comparison: each fold's scores, and the odds that either candidate is better."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.stats import t

if TYPE_CHECKING:
    from pipeline.comparison.statistics import Comparison

A, B, EQUAL, INK = "#b3541e", "#1f6f8b", "#b9b4a8", "#2b2b2b"  # distinct for colour-blind readers
SIZE, DPI = (10.0, 4.2), 150  # SIZE in inches
TAIL = 0.01  # probability left out at each end of the posterior


def draw(found: Comparison, path: Path) -> None:
    """Write the picture as PNG."""
    from matplotlib.figure import Figure

    figure = Figure(SIZE, layout="constrained")
    folds, odds = figure.subplots(1, 2, width_ratios=[1, 1.25])
    _folds(folds, found)
    _odds(odds, found)
    for axes in (folds, odds):
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.tick_params(colors=INK, length=0)
    figure.savefig(path, dpi=DPI, format="png", metadata={"Software": None})


def _folds(axes: Any, found: Comparison) -> None:
    """A line per fold from A's score to B's."""
    names = [*map(str, found.folds), "all"]
    scores = [(of["a"], of["b"]) for of in found.folds.values()] + [(found.map3["a"], found.map3["b"])]
    heights = np.arange(len(names))[::-1]
    for height, (a, b) in zip(heights, scores, strict=True):
        axes.plot([a, b], [height, height], color=EQUAL, linewidth=3 if height == 0 else 1.5, zorder=1)
    for color, name, values in ((A, found.a, [a for a, _ in scores]), (B, found.b, [b for _, b in scores])):
        axes.scatter(values, heights, color=color, s=[42.0] * (len(names) - 1) + [90.0], label=name, zorder=2)
    axes.set_yticks(heights, [f"fold {name}" if name != "all" else "all rows" for name in names])
    axes.set_xlabel("MAP@3 out of fold")
    axes.margins(y=0.15)
    axes.grid(axis="x", color="#e7e3da")
    axes.set_axisbelow(True)
    axes.legend(frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)


def _odds(axes: Any, found: Comparison) -> None:
    """The posterior of the difference, divided by the region of practical equivalence, and the interval over rows."""
    axes.set_yticks([])
    axes.set_xlabel(f"difference of MAP@3 ({found.b} less {found.a})")
    axes.axvspan(-found.rope, found.rope, color="#f2efe7", zorder=0)
    axes.axvline(0, ymin=0.16, color=INK, linewidth=0.8, zorder=1)
    top = 1.0
    if found.odds is not None and found.odds.scale > 0:
        posterior = t(found.odds.freedom, found.odds.mean, found.odds.scale)
        low, high = min(posterior.ppf(TAIL), -2 * found.rope), max(posterior.ppf(1 - TAIL), 2 * found.rope)
        xs = np.linspace(low, high, 800)
        ys = posterior.pdf(xs)
        top = float(ys.max())
        parts = ((xs <= -found.rope, A), (abs(xs) <= found.rope, EQUAL), (xs >= found.rope, B))
        for part, color in parts:
            axes.fill_between(xs, ys, where=part, color=color, alpha=0.75, linewidth=0)
        axes.set_xlim(low, high)
    if found.odds is not None:
        shares = ((found.a, found.odds.a, A), ("equal", found.odds.equal, INK), (found.b, found.odds.b, B))
        for place, (name, share, color) in zip((0.02, 0.5, 0.98), shares, strict=True):
            side = {0.02: "left", 0.5: "center", 0.98: "right"}[place]
            said = f"{name}\n{share:.1%}" if name == "equal" else f"{name} better\n{share:.1%}"
            axes.text(place, 1.02, said, color=color, ha=side, va="bottom", transform=axes.transAxes, weight="bold")
    axes.plot([found.low, found.high], [-0.06 * top] * 2, color=INK, linewidth=2.5, solid_capstyle="butt")
    axes.plot([found.difference], [-0.06 * top], "o", color=INK, markersize=6)
    axes.text(found.difference, -0.1 * top, "95% interval over rows", color=INK, ha="center", va="top", fontsize=9)
    axes.set_ylim(-0.2 * top, 1.08 * top)
