"""The sections about suspect rows: suspected mislabels, and outliers among the drawings of a word."""

from __future__ import annotations

from typing import Any

import numpy as np

from pipeline.predictions.metrics import CHUNK
from pipeline.report.blocks import Block, Missing, Paragraph, Pictures
from pipeline.report.run import Run
from pipeline.report.statistics import statistics_of
from pipeline.report.words import entropy, pictures
from pipeline.stacking.scoreboard import SUPER

SHOWN = 24
LEAST = np.float32(1e-6)  # a probability, before its logarithm


def mislabelled(run: Run) -> np.ndarray:
    """OOF rows with a probably wrong label, the most certain first, (n,) int64.

    Confident learning counts the rows of each word that look like another word (probability of the own word below the
    average of its rows, of the other word above its average); so many rows with the least probability of their own word
    are picked, as cleanlab does in batches. The largest margin between the likeliest other word and the own word comes
    first. Source: Northcutt et al., Confident Learning, arXiv:1911.00068.
    """
    from cleanlab.experimental.label_issues_batched import find_label_issues_batched
    from cleanlab.rank import get_label_quality_scores

    (probabilities,) = run.oof(SUPER)
    issues = find_label_issues_batched(run.labels, probabilities, n_jobs=1, verbose=False)
    if not len(issues):
        return np.empty(0, np.int64)
    found = np.asarray(probabilities[issues], np.float64)
    quality = get_label_quality_scores(run.labels[issues], found, method="normalized_margin")
    return np.asarray(issues)[np.argsort(quality, kind="stable")]


def outlying(run: Run) -> np.ndarray:
    """Outlier score of each OOF row among the rows of its word, (N,) float64; higher is more unusual.

    Features: strokes, points, length and sizes, each as the distance from the word's median in units of the word's
    median absolute deviation; the entropy of the SuperLearner's probabilities; the negative log probability of the true
    word. ECOD, which has no parameters, combines them. Source: Li et al., ECOD, arXiv:2201.00382 (pyod).
    """
    from pyod.models.ecod import ECOD

    statistics = np.log1p(statistics_of(run.shards))
    apart = np.empty_like(statistics)
    for label in np.unique(run.labels):
        own = run.labels == label
        centre = np.median(statistics[own], axis=0)
        spread = np.median(np.abs(statistics[own] - centre), axis=0)
        apart[own] = (statistics[own] - centre) / np.where(spread > 0, spread, 1)
    (probabilities,) = run.oof(SUPER)
    starts = range(0, len(probabilities), CHUNK)
    unsure = [entropy(np.asarray(probabilities[at : at + CHUNK], np.float32)) for at in starts]
    surprise = -np.log(np.maximum(run.of_true_word(SUPER), LEAST))
    features = np.column_stack([apart, np.concatenate(unsure), surprise]).astype(np.float64)
    scores: np.ndarray = ECOD().fit(features[:, features.std(axis=0) > 0]).decision_scores_
    return scores


def suspected_mislabels(run: Run) -> list[Block]:
    """Rows with a probably wrong label."""
    rows = mislabelled(run)
    if not len(rows):
        return [Missing("No row is suspected to be mislabelled.")]
    blocks: list[Block] = [
        Paragraph(
            f"{len(rows):,} of {len(run.labels):,} rows ({len(rows) / len(run.labels):.1%}) are suspected by confident "
            "learning (cleanlab). `sketchstack relabel` exports them with pictures and takes corrections back."
        ),
        Pictures("mislabel", "The most certain: the label of each, then three guesses.", _shown(run, rows)),
    ]
    return blocks


def outliers(run: Run) -> list[Block]:
    """Outliers among the drawings of a word."""
    rows = np.argsort(-outlying(run), kind="stable")
    caption = "Outliers among the drawings of a word: by strokes, points, sizes and the SuperLearner's doubt (ECOD)."
    return [Pictures("outlier", caption, _shown(run, rows))]


def _shown(run: Run, rows: np.ndarray) -> Any:
    return pictures(run, rows[:SHOWN].tolist())
