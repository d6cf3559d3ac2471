"""The sections about scores: the leaderboard, folds, learning curves, errors in common, weights, calibration."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from pipeline.foundation.errors import SketchstackError
from pipeline.foundation.places import places
from pipeline.predictions.bootstrap import interval, resampled_means
from pipeline.predictions.metrics import precision_at_3
from pipeline.report.blocks import Block, Chart, Missing, Palette, Paragraph, Table
from pipeline.report.charts import figure
from pipeline.report.run import Run
from pipeline.stacking.calibration import BINS, bins_of, calibration_error, scaled
from pipeline.stacking.metalearners._base import evenly_spread
from pipeline.stacking.scoreboard import SUPER

SAMPLES = 2000  # bootstrap samples of an interval
MOST_ROWS = 20_000  # most rows of a reliability diagram
MARKERS = ("D", "s", "o")  # of the kinds, in order
KIND = {"super": "SuperLearner", "meta": "meta-learner", "base": "learner"}


def leaderboard(run: Run) -> list[Block]:
    """Every learner, meta-learner and the SuperLearner, best first."""
    order = sorted(run.scores, key=lambda name: -run.scores[name]["map3"])
    columns = [
        "name", "MAP@3", "95% interval", "top-1", "log loss", "calibration error", "weight", "seconds", "drawings/s",
        "kind",
    ]  # fmt: skip
    caption = (
        f"Out of fold, {len(run.labels):,} rows of {len(run.words)} words. The interval is over rows; the weight is "
        f"in the SuperLearner; seconds are for fitting and predicting all folds, drawings/s for predicting, from the "
        f"last run in logs/."
    )
    rows = [_line(run, name) for name in order]
    table = Table(caption, columns, rows, frozenset({order.index(SUPER)}), wide=True)
    return [table, *missing(run, order)]


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
        spread,
        f"{score['top1']:.4f}",
        f"{score['log_loss']:.4f}",
        error,
        "" if weight is None else f"{weight:.3f}",
        f"{sum(spent.values()):,.0f}" if spent else "",
        f"{_predicted(run) / spent['predict']:,.0f}" if spent and spent["predict"] else "",
        KIND[run.kinds[name]],
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
    """Training loss by epoch, a plot per learner."""
    blocks: list[Block] = []
    for name in run.params.base_learners:
        found = run.curves(name)
        if not found:
            blocks.append(Missing(f"{name} has no learning curve yet: `dvc repro` trains it."))
            continue

        def draw(palette: Palette, found: dict[int, Any] = found) -> Any:
            made, axes = figure(palette, 2.4)
            for number, (fold, curve) in enumerate(found.items()):
                colour = palette.series[number % len(palette.series)]
                axes.plot(curve["epoch"], curve["loss"], color=colour, linewidth=1.6, label=f"fold {fold} held out")
            axes.set_xlabel("epoch")
            axes.set_ylabel("training loss")
            axes.grid(axis="y", color=palette.faint, linewidth=0.6)
            axes.legend(frameon=False, labelcolor=palette.ink)
            return made

        last = ", ".join(f"{curve['loss'].iloc[-1]:.3f}" for curve in found.values())
        blocks.append(Chart(f"curve-{name}", f"Training loss of {name} by epoch; it ends at {last}.", name, draw))
    return blocks


def errors_in_common(run: Run) -> list[Block]:
    """The correlation of the learners' errors: learners with similar errors add little to each other."""
    names = run.readable(run.learners)
    if len(names) < 2:
        return [*missing(run, run.learners), Missing("Errors in common need two learners.")]
    wrong = np.stack([run.guesses(name).guesses[:, 0] != run.labels for name in names]).astype(np.float64)
    alike = np.atleast_2d(np.corrcoef(wrong))

    def draw(palette: Palette) -> Any:
        made, axes = figure(palette, 0.45 * len(names) + 1.2)
        for row in range(len(names)):
            for column in range(row):
                share = float(alike[row, column])
                axes.scatter(column, row, s=900 * max(share, 0), color=palette.series[0], alpha=0.35, marker="s")
                axes.text(column, row, f"{share:.2f}", color=palette.ink, ha="center", va="center")
        axes.set_xticks(range(len(names) - 1), names[:-1], rotation=30, ha="right")
        axes.set_yticks(range(1, len(names)), names[1:])
        axes.set_xlim(-0.6, len(names) - 1.4)
        axes.set_ylim(len(names) - 0.4, 0.4)
        axes.spines[["left", "bottom"]].set_visible(False)
        return made

    below = zip(*np.tril_indices(len(names), -1), strict=True)
    pairs = [(float(alike[row, column]), names[row], names[column]) for row, column in below]
    high, low = max(pairs), min(pairs)
    alt = (
        f"Correlation of first-guess errors: highest for {high[1]} and {high[2]} ({high[0]:.2f}), lowest for {low[1]} "
        f"and {low[2]} ({low[0]:.2f})."
    )
    caption = "Correlation of first-guess errors over rows. Learners with different errors are worth stacking."
    return [Chart("errors", alt, caption, draw), *missing(run, run.learners)]


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
            "at points above it are right more often than their probability."
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
            made, axes = figure(palette, 3.0, 3.4)
            axes.plot([0, 1], [0, 1], color=palette.faint, linewidth=1)
            for label, colour, (sure, right) in lines:
                axes.plot(sure, right, "o-", color=palette.series[colour], markersize=3.5, linewidth=1.2, label=label)
            axes.set_xlabel("probability of the first guess")
            axes.set_ylabel("share of right guesses")
            axes.set_xlim(0, 1)
            axes.set_ylim(0, 1)
            axes.legend(frameon=False, labelcolor=palette.ink, loc="upper left")
            return made

        blocks.append(Chart(f"reliability-{name}", f"Reliability of {name}: {said}.", f"{name}: {said}", draw))
    return [*blocks, *missing(run, run.learners)]


Line = tuple[np.ndarray, np.ndarray]


def spread_rows(run: Run, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities and labels of about MOST_ROWS OOF rows of a name, equally many of each part."""
    taken, labels, at = [], [], 0
    for part in run.oof(name):
        rows = evenly_spread(len(part), MOST_ROWS // len(run.params.folds))
        taken.append(np.asarray(part[rows], np.float32))
        labels.append(run.labels[at : at + len(part)][rows])
        at += len(part)
    return np.concatenate(taken), np.concatenate(labels)


def reliability(probabilities: np.ndarray, labels: np.ndarray) -> Line:
    """For each bin with rows: the mean probability, and the share of right first guesses."""
    sure, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    bins = bins_of(sure)
    counts = np.bincount(bins, minlength=BINS)
    filled = counts > 0
    means = (np.bincount(bins, of, BINS)[filled] / counts[filled] for of in (sure, right))
    return next(means), next(means)
