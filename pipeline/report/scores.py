"""The sections about scores: the leaderboard, folds, learning curves, errors in common, weights, calibration."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from pipeline.foundation.errors import SketchstackError
from pipeline.foundation.places import places
from pipeline.predictions.bootstrap import interval, resampled_means
from pipeline.predictions.metrics import precision_at_3
from pipeline.report.blocks import Block, Chart, Missing, Palette, Paragraph, Table, filled
from pipeline.report.charts import figure
from pipeline.report.run import Run
from pipeline.stacking.calibration import BINS, bins_of, calibration_error, scaled
from pipeline.stacking.metalearners._base import evenly_spread
from pipeline.stacking.scoreboard import SUPER
from pipeline.submissions import ledger
from pipeline.submissions.files import read_manifests

SAMPLES = 2000  # bootstrap samples of an interval
MOST_ROWS = 20_000  # most rows of a reliability diagram
MARKERS = ("D", "s", "o")  # of the kinds, in order
KIND = {"super": "SuperLearner", "meta": "meta-learner", "base": "learner"}
# Columns, those that a phone should show first.
LEADERBOARD = (
    "name", "MAP@3", "test MAP@3", "top-1", "95% interval", "kind", "weight", "log loss", "calibration error",
    "seconds", "drawings/s",
)  # fmt: skip
SUBMISSIONS = ("submission", "MAP@3", "test MAP@3", "public", "private", "95% interval", "rank")
FEW = 30  # bins of a reliability diagram with fewer rows are hollow


def leaderboard(run: Run) -> list[Block]:
    """Every learner, meta-learner and the SuperLearner, best first; then the submissions, by rank."""
    order = sorted(run.scores, key=lambda name: -run.scores[name]["map3"])
    caption = (
        f"Out of fold, {len(run.labels):,} rows of {len(run.words)} words. The interval is over rows; the weight is "
        f"in the SuperLearner"
    )
    if run.test_scores:
        caption += "; test MAP@3 is that of the submission of the same name"
    if any(run.seconds(name) for name in order):
        caption += (
            "; seconds are for fitting and predicting all folds, drawings/s for predicting, from the last run in logs/"
        )
    columns, rows = filled(LEADERBOARD, [_line(run, name) for name in order])
    left = frozenset({columns.index("kind")})
    table = Table(f"{caption}.", columns, rows, frozenset({order.index(SUPER)}), wide=True, left=left)
    return [table, *missing(run, order), *submissions(run)]


def submissions(run: Run) -> list[Block]:
    """The submissions by rank, with their scores on the test set and on leaderboards where these are known."""
    try:
        ranked = read_manifests()
    except SketchstackError as error:
        return [Missing(str(error))]
    received = {entry.sha256: entry for entry in ledger.read_ledger()}
    rows, strong = [], set()
    for number, each in enumerate(ranked):
        oof, sent = each["oof"], received.get(each["sha256"])
        if each["best_three"]:
            strong.add(number)
        scores = f"{oof['map3']:.4f}", _score(run.test_scores.get(each["name"]))
        public, private = (sent.public, sent.private) if sent else ("", "")
        rows.append([each["name"], *scores, public, private, f"{oof['low']:.4f}–{oof['high']:.4f}", f"{each['rank']}"])
    columns, rows = filled(SUBMISSIONS, rows)
    known = "" if run.params.labels_path else "; the labels of the test set are not known"
    caption = f"Submissions by rank; the three to send are bold{known}."
    return [Table(caption, columns, rows, frozenset(strong), wide=True)]


def _score(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


def _line(run: Run, name: str) -> list[str]:
    """A line of the leaderboard; if the predictions are not available, with the scores that the stack wrote."""
    score, spent, weight = run.scores[name], run.seconds(name), run.weights[SUPER].get(name)
    spread, error = "", ""
    if run.readable([name]):
        side, random = run.guesses(name), np.random.default_rng([run.params.seed, 95])
        low, high = interval(resampled_means(precision_at_3(side.guesses, side.labels), SAMPLES, random))
        spread, error = f"{low:.4f}–{high:.4f}", f"{calibration_error_of(run, name):.3f}"
    return [
        name,
        f"{score['map3']:.4f}",
        _score(run.test_scores.get(name)),
        f"{score['top1']:.4f}",
        spread,
        KIND[run.kinds[name]],
        "" if weight is None else f"{weight:.3f}",
        f"{score['log_loss']:.4f}",
        error,
        f"{sum(spent.values()):,.0f}" if spent else "",
        f"{_predicted(run) / spent['predict']:,.0f}" if spent and spent["predict"] else "",
    ]


def _predicted(run: Run) -> int:
    """The number of rows that all fold models of a learner predict: each fold once, the test set by every model."""
    return len(run.labels) + len(run.params.folds) * len(np.load(run.made(places().meta / "test_rows.npy", "stack")))


def missing(run: Run, names: Iterable[str]) -> Iterator[Missing]:
    """Why some of the names cannot be shown."""
    for name in names:
        try:
            run.guesses(name)
        except SketchstackError as error:
            yield Missing(str(error))


def calibration_error_of(run: Run, name: str) -> float:
    """The expected calibration error of a name over its OOF rows of all folds."""
    sure, right = run.first_guess(name)
    return calibration_error(sure[:, None], np.where(right, 0, -1))


def folds(run: Run) -> list[Block]:
    """The spread of the scores over folds."""
    table = run.fold_scores
    order = table.groupby("name")["map3"].mean().sort_values().index

    def draw(palette: Palette) -> Any:
        made, axes = figure(palette, 0.27 * len(order) + 0.9)
        for height, name in enumerate(order):
            of = table[table["name"] == name]
            place = list(KIND).index(of["kind"].iloc[0])
            axes.plot([of["map3"].min(), of["map3"].max()], [height] * 2, color=palette.faint, linewidth=2, zorder=1)
            axes.scatter(
                of["map3"], [height] * len(of), color=palette.series[place], s=18, marker=MARKERS[place], zorder=2
            )
        for place, kind in enumerate(KIND.values()):
            axes.scatter([], [], color=palette.series[place], s=18, marker=MARKERS[place], label=kind)
        made.legend(frameon=False, labelcolor=palette.ink, loc="outside upper center", ncols=3, handletextpad=0.1)
        axes.set_yticks(range(len(order)), order)
        axes.set_xlabel("MAP@3 out of fold")
        axes.grid(axis="x", color=palette.faint, linewidth=0.6)
        axes.spines["left"].set_visible(False)
        return made

    best, worst = order[-1], order[0]
    alt = f"MAP@3 of each fold, one line per name: {best} is best, {worst} is last. The table has the numbers."
    by_fold = table.pivot(index="name", columns="fold", values="map3").loc[order[::-1]]
    rows = [[str(name), *(f"{score:.4f}" for score in scores)] for name, scores in by_fold.iterrows()]
    return [
        Chart("folds", alt, "One point per fold.", draw),
        Table("MAP@3 of each fold", ["name", *(f"fold {fold}" for fold in by_fold.columns)], rows),
    ]


def curves(run: Run) -> list[Block]:
    """Loss by epoch, a plot per learner; of held-out rows also MAP@3 and top-1, if the learning curves have them."""
    blocks: list[Block] = []
    for name in run.params.base_learners:
        found = run.curves(name)
        if not found:
            blocks.append(Missing(f"{name} has no learning curve yet: `dvc repro` trains it."))
            continue
        panels = panels_of(found)

        def draw(palette: Palette, found: dict[int, pd.DataFrame] = found, panels: Any = panels) -> Any:
            return by_epoch(palette, found, panels)

        ends = "; ".join(f"{line.said} {_last(found, line.column)}" for panel in panels for line in panel)
        blocks.append(Chart(f"curve-{name}", f"{name} by epoch, a line per fold. It ends at: {ends}.", name, draw))
    return blocks


class Line(NamedTuple):
    """A line of a plot by epoch.

    Attributes:
        column: of a learning curve.
        said: what the column is.
        style: of the line, as matplotlib names it.
    """

    column: str
    said: str
    style: str


PANELS = (
    (Line("loss", "training loss", "-"), Line("held_out_loss", "held-out loss", ":")),
    (Line("held_out_map3", "held-out MAP@3", "-"), Line("held_out_top1", "held-out top-1", ":")),
)


def panels_of(curves: Mapping[int, pd.DataFrame]) -> list[list[Line]]:
    """The PANELS with the lines whose column any of the curves has, without panels that have none."""
    known = {column for curve in curves.values() for column in curve}
    found = ([line for line in panel if line.column in known] for panel in PANELS)
    return [lines for lines in found if lines]


def by_epoch(palette: Palette, curves: Mapping[int, pd.DataFrame], panels: Sequence[Sequence[Line]]) -> Any:
    """A plot of learning curves, a panel below the other, a colour per fold; columns that a curve lacks are left out.

    Args:
        palette: colours.
        curves: the learning curve of each fold.
        panels: the lines of each; at least one.
    """
    made, axes = figure(palette, 0.7 + 1.8 * len(panels), panels=len(panels))
    axes = np.atleast_1d(axes)
    colours = [palette.series[number % len(palette.series)] for number in range(len(curves))]
    for place, lines in zip(axes, panels, strict=True):
        for line in lines:
            for colour, curve in zip(colours, curves.values(), strict=True):
                if line.column in curve:
                    of = curve[["epoch", line.column]].dropna()
                    place.plot(of["epoch"], of[line.column], color=colour, linewidth=1.6, linestyle=line.style)
        if len(lines) > 1:
            handles = [
                place.plot([], [], color=palette.ink, linestyle=line.style, label=line.said)[0] for line in lines
            ]
            place.legend(handles=handles, frameon=False, labelcolor=palette.ink, borderaxespad=0)
        else:
            place.set_ylabel(lines[0].said)
        place.xaxis.get_major_locator().set_params(integer=True)
        place.grid(axis="y", color=palette.faint, linewidth=0.6)
    axes[-1].set_xlabel("epoch")
    folds = [axes[0].plot([], [], color=colour)[0] for colour in colours]
    made.legend(
        folds, list(map(str, curves)), frameon=False, labelcolor=palette.ink, loc="outside upper center",
        title="fold held out", ncols=min(len(folds), 6), handlelength=1.2, columnspacing=1.2,
    ).get_title().set_color(palette.ink)  # fmt: skip
    return made


def _last(curves: Mapping[int, pd.DataFrame], column: str) -> str:
    """The last value of a column in each fold, as text."""
    values = [curve[column].dropna() for curve in curves.values() if column in curve]
    return ", ".join(f"{of.iloc[-1]:.3f}" for of in values if len(of)) or "not measured"


def errors_in_common(run: Run) -> list[Block]:
    """The correlation of the learners' errors as a heatmap: learners with similar errors add little to each other."""
    names = run.readable(run.learners)
    if len(names) < 2:
        return [*missing(run, run.learners), Missing("Errors in common need two learners.")]
    wrong = np.stack([run.guesses(name).guesses[:, 0] != run.labels for name in names]).astype(np.float64)
    with np.errstate(invalid="ignore"):  # a learner without a wrong guess has no correlation
        alike: np.ndarray = np.atleast_2d(np.corrcoef(wrong))
    below = zip(*np.tril_indices(len(names), -1), strict=True)
    pairs = [(float(alike[pair]), *(names[at] for at in pair)) for pair in below if np.isfinite(alike[pair])]
    said = "Correlation of first-guess errors over rows. Learners with different errors are worth stacking."
    if len(pairs) > 1:
        high, low = max(pairs), min(pairs)
        said += f" Most alike are {high[1]} and {high[2]} ({high[0]:.2f}), least {low[1]} and {low[2]} ({low[0]:.2f})."
    return [heatmap(said, names, alike), *missing(run, run.learners)]


def heatmap(caption: str, names: Sequence[str], values: np.ndarray) -> Table:
    """A symmetric matrix below its diagonal, the larger the value the stronger the colour.

    Args:
        caption: a description of the values.
        names: of the n rows and columns, at least two.
        values: (n, n); a value that is not finite is shown as a dash.
    """
    below = values[np.tril_indices(len(names), -1)]
    known = below[np.isfinite(below)]
    low, span = (known.min(), max(float(np.ptp(known)), 1e-9)) if len(known) else (0.0, 1.0)
    rows, shades = [], []
    for row in range(1, len(names)):
        of = [values[row, column] if column < row else None for column in range(len(names) - 1)]
        rows.append([names[row], *("" if each is None else _two_digits(each) for each in of)])
        shades.append([None if each is None or not np.isfinite(each) else (each - low) / span for each in of])
    return Table(caption, ["learner", *names[:-1]], rows, wide=True, shades=shades)


def _two_digits(value: float) -> str:
    return f"{value:.2f}" if np.isfinite(value) else "–"


def weights(run: Run) -> list[Block]:
    """The weights of members in the SuperLearner and in the meta-learners that have weights."""
    blocks: list[Block] = []
    for name, members in run.weights.items():
        rows = [[member, f"{weight:.3f}"] for member, weight in sorted(members.items(), key=lambda item: -item[1])]
        blocks.append(Table(f"Weights in {name}", ["member", "weight"], rows))
    return blocks


def calibration(run: Run) -> list[Block]:
    """Reliability before and after temperature scaling, one diagram per learner."""
    blocks: list[Block] = [
        Paragraph(
            "Of guesses with probability 0.8, 80% should be right. Points on the diagonal are calibrated; guesses "
            "at points above it are right more often than their probability. Bars are the rows of each bin after "
            f"scaling, on a logarithmic scale; points of bins with fewer than {FEW} rows are hollow, and uncertain."
        )
    ]
    for name in run.readable(run.learners):
        known = run.calibration.get(name)
        probabilities, labels = spread_rows(run, name)
        lines = [("unscaled", 1, reliability(probabilities, labels))]
        said = "temperatures are off"
        if known:
            lines.append(("scaled", 0, reliability(scaled(probabilities, known["temperature"]), labels)))
            said = (
                f"temperature {known['temperature']:.2f}, calibration error {known['ece']['before']:.3f} before and "
                f"{known['ece']['after']:.3f} after{'' if known['used'] else '; not used: no lower log loss'}"
            )

        def draw(palette: Palette, lines: Any = lines) -> Any:
            return reliability_diagram(palette, lines)

        first = lines[-1][2]
        counts = f"its first bin, at {first.sure[0]:.2f}, has {first.rows[0]:,} of {first.rows.sum():,} rows"
        alt = f"Reliability of {name}: {said}; {counts}."
        blocks.append(Chart(f"reliability-{name}", alt, f"{name}: {said}", draw))
    return [*blocks, *missing(run, run.learners)]


class Reliability(NamedTuple):
    """The bins of probability that hold rows.

    Attributes:
        sure: mean probability of the first guess, (n,) float64.
        right: share of right first guesses, (n,) float64.
        rows: number of rows, (n,) int64.
        bins: number of each bin, (n,) int64.
    """

    sure: np.ndarray
    right: np.ndarray
    rows: np.ndarray
    bins: np.ndarray


def reliability_diagram(palette: Palette, lines: Sequence[tuple[str, int, Reliability]]) -> Any:
    """A reliability diagram, and below it the number of rows in each bin of the last line.

    Args:
        palette: colours.
        lines: the label, the number of the colour and the bins of each line.
    """
    made, (axes, below) = figure(palette, 4.0, panels=2, heights=(3, 1))
    axes.plot([0, 1], [0, 1], color=palette.faint, linewidth=1)
    for label, number, line in lines:
        colour = palette.series[number]
        axes.plot(line.sure, line.right, "o-", color=colour, markersize=4, linewidth=1.2, label=label, clip_on=False)
        few = line.rows < FEW
        if few.any():
            hollow = {"markersize": 4, "markerfacecolor": palette.paper, "clip_on": False}
            axes.plot(line.sure[few], line.right[few], "o", color=colour, **hollow)
    axes.set_ylabel("share of right guesses")
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    axes.tick_params(labelbottom=False)
    made.legend(frameon=False, labelcolor=palette.ink, loc="outside upper center", ncols=len(lines))
    _, number, line = lines[-1]
    places = (line.bins + 0.5) / BINS
    below.bar(places, line.rows, width=0.8 / BINS, color=palette.series[number], alpha=0.55, log=True)
    for place, rows in zip(places, line.rows, strict=True):
        below.annotate(
            f"{rows:,}", (place, rows), (0, 2), textcoords="offset points", color=palette.ink, fontsize=7, rotation=90,
            ha="center", va="bottom",
        )  # fmt: skip
    below.set_ylim(0.7, line.rows.max() ** 2)  # room for the numbers above the bars
    below.minorticks_off()
    below.set_yticks([])
    below.set_ylabel("rows")
    below.set_xlabel("probability of the first guess")
    below.spines["left"].set_visible(False)
    return made


def spread_rows(run: Run, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities and labels of about MOST_ROWS OOF rows of a name, equally many of each part."""
    taken, labels, at = [], [], 0
    for part in run.oof(name):
        rows = evenly_spread(len(part), MOST_ROWS // len(run.params.folds))
        taken.append(np.asarray(part[rows], np.float32))
        labels.append(run.labels[at : at + len(part)][rows])
        at += len(part)
    return np.concatenate(taken), np.concatenate(labels)


def reliability(probabilities: np.ndarray, labels: np.ndarray) -> Reliability:
    """The bins that hold rows; probabilities: (N, words), labels: (N,)."""
    sure, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    bins = bins_of(sure)
    counts = np.bincount(bins, minlength=BINS)
    held = np.flatnonzero(counts)
    means = (np.bincount(bins, of, BINS)[held] / counts[held] for of in (sure, right))
    return Reliability(next(means), next(means), counts[held], held)
