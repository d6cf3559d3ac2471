"""The section about the data: numbers of rows, their origin, rejected rows, and whether train and test differ."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import ks_2samp

from pipeline.drawings.shards import TEST
from pipeline.foundation.errors import SketchstackError
from pipeline.foundation.places import places
from pipeline.predictions.metrics import precision_at_3
from pipeline.report.blocks import Block, Chart, Palette, Paragraph, Table
from pipeline.report.charts import figure
from pipeline.report.run import Run, columns
from pipeline.report.statistics import LEAST_COMPARED, STATISTICS, UNITS, statistics_of, two_sample_test
from pipeline.stacking.scoreboard import SUPER

COUNTRIES = 12  # shown; all other countries are one row
MOST_ROWS = 200_000  # most training rows whose strokes are measured
SIZES = 2  # the last two statistics, width and height: one of them equals the canvas in nearly all drawings
LEAST_BINS, MOST_BINS = 5, 40  # of a histogram
DIFFER = 0.01  # train and test differ if the p-value is below this


def data(run: Run) -> list[Block]:
    """Rows, rejects, words, countries, recognised share, strokes; whether train and test differ."""
    summary = json.loads(run.made(places().folds / "summary.json", "shuffle").read_text())
    counts = np.array(list(summary["rows_a_word"].values()))
    parts = [[part, f"{rows:,}"] for part, rows in summary["rows_out"].items()]
    rejected = [[reason, f"{rows:,}"] for reason, rows in summary["rejected"].items()] or [["none", "0"]]
    named = (("fewest", counts.min()), ("median", np.median(counts)), ("most", counts.max()))
    blocks: list[Block] = [
        Table(f"Rows of each part, from {summary['rows_in']:,} raw rows", ["part", "rows"], parts),
        Table(f"Rejected rows by reason; {places().folds}/rejects.csv lists them all", ["reason", "rows"], rejected),
        Table("Training rows per word", ["word with", "rows"], [[name, f"{rows:,.0f}"] for name, rows in named]),
    ]
    precision = _precision(run)
    blocks += _recognised(run, precision)
    blocks += _countries(run, precision)
    blocks += _strokes(run)
    return blocks


def _precision(run: Run) -> pd.Series | None:
    """The SuperLearner's precision on each OOF row, if it is available and has the rows of the folds."""
    try:
        side, _ = run.guesses(SUPER), run.shards
    except SketchstackError:
        return None
    return pd.Series(precision_at_3(side.guesses, side.labels))


def _recognised(run: Run, precision: pd.Series | None) -> Iterator[Block]:
    counts: Counter[bool | None] = Counter()
    for fold in run.params.folds:
        for part in columns(places().folds / f"fold{fold}", "recognized"):
            counts.update({each["values"].as_py(): each["counts"].as_py() for each in part.value_counts()})
    total = sum(counts.values())
    scored = {} if precision is None else dict(precision.groupby(_filled(run.column("recognized"))).mean())
    names = ((True, "recognised"), (False, "not recognised"), (None, "not known"))
    rows = [
        [name, f"{counts[value]:,}", f"{counts[value] / total:.1%}", _score(scored.get(str(value)))]
        for value, name in names
        if counts[value]
    ]
    caption = "Training drawings by whether the game recognised them, and the SuperLearner's MAP@3 on them"
    yield Table(caption, ["in the game", "rows", "share", "MAP@3"], rows)


def _countries(run: Run, precision: pd.Series | None) -> Iterator[Block]:
    train, test = (_counted(folders) for folders in ([f"fold{fold}" for fold in run.params.folds], [TEST]))
    unknown, of_test = train.pop(None, 0), test.total() - test.pop(None, 0)
    if not train:
        return
    scored = {} if precision is None else dict(precision.groupby(_filled(run.column("countrycode"))).mean())
    most = [country for country, _ in train.most_common(COUNTRIES)]
    rows = []
    for country in most:
        shares = [f"{train[country] / train.total():.1%}", f"{test[country] / max(of_test, 1):.1%}"]
        rows.append([str(country), f"{train[country]:,}", *shares, _score(scored.get(country))])
    rest, rest_of_test = (counts.total() - sum(counts[country] for country in most) for counts in (train, test))
    if rest:
        shares = [f"{rest / train.total():.1%}", f"{rest_of_test / max(of_test, 1):.1%}"]
        rows.append([f"{len(train) - len(most)} other countries", f"{rest:,}", *shares, ""])
    caption = "Countries of the training drawings, their share in the test set, and the SuperLearner's MAP@3"
    missing = f"; not known for {unknown:,} rows" if unknown else ""
    yield Table(f"{caption}{missing}", ["country", "rows", "share", "test share", "MAP@3"], rows)


def _counted(folders: list[str]) -> Counter[str | None]:
    counts: Counter[str | None] = Counter()
    for folder in folders:
        for part in columns(places().folds / folder, "countrycode"):
            counts.update({each["values"].as_py(): each["counts"].as_py() for each in part.value_counts()})
    return counts


def _filled(column: pd.Series) -> pd.Series:
    """Values as text; missing values become the text `None`, which is its own group."""
    return column.astype(object).where(column.notna(), None).map(str)


def _score(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


def _strokes(run: Run) -> Iterator[Block]:
    """Statistics of the strokes of train and test, side by side."""
    share = -(-MOST_ROWS // len(run.folds))
    train = np.concatenate([statistics_of(each.first(share)) for each in run.folds])
    test = statistics_of(run.test_shards)
    seen = [column for column in range(len(STATISTICS)) if train[:, column].any()]
    if min(len(train), len(test)) >= LEAST_COMPARED:
        statistic, p_value = two_sample_test(train, test, run.params.seed)
        found = f"p = {p_value:.2g} (statistic {statistic:.0f})"
        yield Paragraph(
            f"Train and test differ in their strokes: the two-sample test of their mean embeddings has {found}. See "
            "the table for the differences."
            if p_value < DIFFER
            else f"Train and test do not differ measurably in their strokes: the two-sample test of their mean "
            f"embeddings has {found}."
        )
    rows = []
    for column in seen:
        gap = ks_2samp(train[:, column], test[:, column], method="asymp")
        medians = [f"{np.median(side[:, column]):,.0f}" for side in (train, test)]
        rows.append([UNITS[STATISTICS[column]], *medians, f"{gap.statistic:.3f}", f"{gap.pvalue:.2g}"])
    caption = (
        f"Test drawings and {len(train):,} training drawings: the largest gap between their distributions, its p-value"
    )
    yield Table(caption, ["statistic", "median, train", "median, test", "gap", "p"], rows)
    for column in seen[:-SIZES]:
        yield _histogram(train[:, column], test[:, column], STATISTICS[column])


def bin_edges(low: float, top: float) -> np.ndarray:
    """Edges of a histogram's bins from low to top; wide ranges have bins of equally many integers, centred on them."""
    if top - low < LEAST_BINS:
        return np.linspace(low, max(top, low + 1), LEAST_BINS + 1)
    step = -(-(top - low) // MOST_BINS)
    return np.arange(np.floor(low) - 0.5, top + step, step)


def _histogram(train: np.ndarray, test: np.ndarray, name: str) -> Chart:
    top = float(np.quantile(train, 0.99))
    low = float(min(train.min(), test.min()))
    bins = bin_edges(low, top)

    def draw(palette: Palette) -> Any:
        made, axes = figure(palette, 2.2)
        for values, colour, label, how in ((train, 0, "train", "stepfilled"), (test, 1, "test", "step")):
            weights = np.full(len(values), 100 / max(len(values), 1))
            color = palette.series[colour]
            axes.hist(values, bins=bins, weights=weights, histtype=how, color=color, alpha=0.9, label=label)
        axes.set_xlabel(UNITS[name])
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.set_ylabel("% of the drawings")
        axes.legend(frameon=False, labelcolor=palette.ink)
        return made

    said = f"median {np.median(train):,.0f}, 99% have at most {top:,.0f}"
    caption = f"{UNITS[name].capitalize()}, per drawing: {said}"
    return Chart(f"data-{name}", f"Histograms of train and test: {caption}.", caption, draw)
