"""Out-of-fold scores of base learners, meta-learners and the SuperLearner, as tables for files and the terminal."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from rich.console import Console
from rich.table import Table
from sklearn.metrics import confusion_matrix

from pipeline.drawings.words import Words
from pipeline.predictions import metrics
from pipeline.predictions.cache import LearnerPredictions
from pipeline.stacking.calibration import Calibrated
from pipeline.stacking.combination import SUPER
from pipeline.stacking.metalearners._base import BaseMetaLearner
from pipeline.stacking.rows import Rows

STYLES = {"base": "", "meta": "", "super": "bold"}
SCORES = ["map3", "top1", "log_loss"]
CONFUSED = 24  # words that fit into a readable plot of confusions


def score_table(learners: Sequence[LearnerPredictions], oof: Mapping[str, np.ndarray], rows: Rows) -> pd.DataFrame:
    """MAP@3, top-1 and log loss of every base learner, meta-learner and the SuperLearner, a row per name and fold."""
    records = []
    for learner in learners:
        records += fold_scores(learner.name, "base", [fold.oof for fold in learner.folds], rows)
    for name, probabilities in oof.items():
        ends = np.cumsum([0, *(len(rows.of_fold(fold)) for fold in rows.fold_numbers)])
        by_fold = [probabilities[start:end] for start, end in itertools.pairwise(ends)]
        records += fold_scores(name, "super" if name == SUPER else "meta", by_fold, rows)
    return pd.DataFrame(records, columns=["name", "kind", "fold", *SCORES])


def fold_scores(name: str, kind: str, by_fold: Sequence[np.ndarray], rows: Rows) -> list[dict[str, Any]]:
    """The scores of each fold's OOF probabilities, a record per fold."""
    return [
        {"name": name, "kind": kind, "fold": fold, **metrics.scores(oof, rows.labels[rows.of_fold(fold)])}
        for fold, oof in zip(rows.fold_numbers, by_fold, strict=True)
    ]


def pooled_scores(table: pd.DataFrame, rows: Rows) -> dict[str, dict[str, float]]:
    """Each name's scores over all OOF rows, the SuperLearner first: the mean over folds weighted by their rows."""
    sizes = table["fold"].map(lambda fold: len(rows.of_fold(fold)))
    sums = table[SCORES].mul(sizes, axis=0).groupby(table["name"], sort=False).sum() / len(rows)
    ordered = sums.loc[[SUPER, *(name for name in sums.index if name != SUPER)]]
    return {str(name): {score: round(float(row[score]), 6) for score in SCORES} for name, row in ordered.iterrows()}


def weights_by_name(models: Mapping[str, BaseMetaLearner], learners: Sequence[str]) -> dict[str, dict[str, float]]:
    """The weight of each member in the SuperLearner, and in each meta-learner that has weights."""
    members = {name: sorted(models.keys() - {SUPER}) if name == SUPER else learners for name in models}
    return {
        name: {member: round(float(w), 6) for member, w in zip(members[name], model.learner_weights, strict=True)}
        for name, model in sorted(models.items(), key=lambda item: item[0] != SUPER)
        if model.learner_weights is not None
    }


def mistakes(first: np.ndarray, labels: np.ndarray, num_words: int) -> np.ndarray:
    """How often each word is taken for each other, (num_words, num_words) int64; 0 where a word is taken for itself.

    Args:
        first: (N,) labels of first guesses.
        labels: (N,) true labels.
        num_words: how many words there are.
    """
    taken: np.ndarray = confusion_matrix(labels, first, labels=range(num_words))
    np.fill_diagonal(taken, 0)
    return taken


def confusions(probabilities: np.ndarray, labels: np.ndarray, words: Words) -> pd.DataFrame:
    """How often one word is the first guess for another: word, guess, rows, of the CONFUSED words with most mistakes.

    Args:
        probabilities: (N, num_words), any float type.
        labels: (N,) true labels.
        words: that labels stand for.
    """
    taken = mistakes(probabilities.argmax(axis=1), labels, len(words))
    shown = np.sort(np.argsort(-(taken.sum(axis=0) + taken.sum(axis=1)), kind="stable")[:CONFUSED])
    pairs = itertools.product(shown.tolist(), repeat=2)
    found = [(words.names[label], words.names[guess], int(taken[label, guess])) for label, guess in pairs]
    return pd.DataFrame(found, columns=["word", "guess", "rows"])


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """A row per name, best first: `kind`, `map3` and `top1` as means over folds, and `std`, the deviation of MAP@3."""
    found = table.groupby("name").agg(
        kind=("kind", "first"), map3=("map3", "mean"), std=("map3", "std"), top1=("top1", "mean")
    )
    return found.sort_values("map3", ascending=False, kind="stable")


def print_table(table: pd.DataFrame, weights: Mapping[str, float], console: Console) -> None:
    """Show the scores, best MAP@3 first, and say so if the SuperLearner is not at least the best learner.

    Args:
        table: of `score_table`.
        weights: of each meta-learner in the SuperLearner; 0 if it does not help.
        console: to show it on.
    """
    by_fold = table.pivot(index="name", columns="fold", values="map3")
    shown = Table(title="Out of fold: every base learner, meta-learner and the SuperLearner", title_justify="left")
    for heading in ("name", "kind"):
        shown.add_column(heading, no_wrap=True)
    for heading in ("MAP@3, mean ± std", *(f"fold {fold}" for fold in by_fold.columns), "top-1", "weight"):
        shown.add_column(heading, justify="right", no_wrap=True)
    means = summary(table)
    for name, kind, map3, std, top1 in means.itertuples():
        folds = [f"{score:.4f}" for score in by_fold.loc[name]]
        weight = f"{weights[name]:.3f}" if name in weights else ""
        shown.add_row(name, kind, f"{map3:.4f} ± {std:.4f}", *folds, f"{top1:.4f}", weight, style=STYLES[kind])
    console.print(shown)
    best, reached = means[means["kind"] == "base"].iloc[0], means[means["kind"] == "super"].iloc[0]
    if reached["map3"] < best["map3"]:
        console.print(
            f"The SuperLearner's MAP@3 ({reached['map3']:.4f}) is below its best learner's "
            f"({best.name}, {best['map3']:.4f}): stacking does not pay here."
        )


def print_calibration(calibration: Mapping[str, Calibrated], console: Console) -> None:
    """Show what temperature scaling does to each learner."""
    if not calibration:
        return
    shown = Table(title="Temperature of each learner, log loss and calibration error out of fold", title_justify="left")
    shown.add_column("name", no_wrap=True)
    for heading in ("temperature", "log loss before", "after", "error before", "after", "used"):
        shown.add_column(heading, justify="right", no_wrap=True)
    for name, found in calibration.items():
        (loss, scaled_loss), (error, scaled_error) = found.log_loss, found.ece
        used = "yes" if found.used else "no"
        shown.add_row(
            name, f"{found.temperature:.3f}", f"{loss:.4f}", f"{scaled_loss:.4f}", f"{error:.4f}",
            f"{scaled_error:.4f}", used,
        )  # fmt: skip
    console.print(shown)
