"""The sections about rows that may be wrong: drawings labelled with another's word, and drawings unlike the others."""

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
    """OOF rows whose word is probably another, the surest first, (n,) int64.

    As many rows as confident learning counts to be of another word (their own word below the average of its rows,
    another above its), and of those with the least probability for their own word, as cleanlab picks them in batches.
    The largest margin between the likeliest other word and their own comes first. Source: Northcutt et al., Confident
    Learning, arXiv:1911.00068.
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
    """How far each OOF row lies from the others of its word, (N,) float64: high is far.

    Strokes, points, length and sizes, each as its distance from the word's median in the word's median absolute
    deviations, with the entropy of the SuperLearner's probabilities and the surprise at the row's word; together by
    ECOD, which has no parameters. Source: Li et al., ECOD, arXiv:2201.00382 (pyod).
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
    """Rows whose word is probably another."""
    rows = mislabelled(run)
    if not len(rows):
        return [Missing("No row is suspected to bear another's word.")]
    blocks: list[Block] = [
        Paragraph(
            f"{len(rows):,} of {len(run.labels):,} rows ({len(rows) / len(run.labels):.1%}) are suspected by confident "
            "learning (cleanlab). `sketchstack relabel` exports them with pictures and takes corrections back."
        ),
        Pictures("mislabel", "The surest: the word that each bears, then three guesses.", _shown(run, rows)),
    ]
    return blocks


def outliers(run: Run) -> list[Block]:
    """Rows unlike the others of their word."""
    rows = np.argsort(-outlying(run), kind="stable")
    caption = "Drawings unlike the others of their word: by strokes, points, sizes and the SuperLearner's doubt (ECOD)."
    return [Pictures("outlier", caption, _shown(run, rows))]


def _shown(run: Run, rows: np.ndarray) -> Any:
    return pictures(run, rows[:SHOWN].tolist())
