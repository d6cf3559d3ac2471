"""Convex weights that differ between groups of words."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from pydantic import Field
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.optimize import minimize

from pipeline.predictions.metrics import FLOOR
from pipeline.stacking.metalearners._base import (
    BaseMetaLearner,
    Probabilities,
    chunks,
    evenly_spread,
    of_true_word,
    simplex_weights,
)


class MetaLearner(BaseMetaLearner):
    """A weight for each learner and group of words: a learner can be good at round objects but not at animals.

    Words with similar differences between learners form a group (Ward's clustering of the mean log probability that
    each learner gives to the true word, minus its mean over learners). A word's score is the mixture with its group's
    weights; scores are normalised to sum 1, and all weights together minimise the log loss, starting from the convex
    weights of all words.

    Args:
        num_words: columns per learner.
        groups: the most groups of words.
        max_rows: the most rows to fit on, evenly spread.
    """

    def __init__(
        self, num_words: int, *, groups: Annotated[int, Field(ge=1)], max_rows: Annotated[int, Field(ge=1)]
    ) -> None:
        super().__init__(num_words)
        self.groups = groups
        self.max_rows = max_rows

    @property
    def learner_weights(self) -> np.ndarray:
        """(num_learners,) the mean over words of the weights, normalised to sum 1 per word."""
        weights = self.weights_["weights"]
        return (weights / weights.sum(axis=1, keepdims=True)).mean(axis=0)

    def solve(self, P: Probabilities, labels: np.ndarray, facts: np.ndarray) -> dict[str, np.ndarray]:
        """See BaseMetaLearner. `weights` is (num_words, num_learners)."""
        rows = evenly_spread(len(P), self.max_rows)
        true, labels = np.maximum(of_true_word(P, labels, rows), FLOOR).astype(np.float64), labels[rows]
        group = _groups(true, labels, self.num_words, self.groups)
        start = np.tile(simplex_weights(true), (group.max() + 1, 1))
        return {"weights": _fitted(true, group[labels], _sums(P, rows, group), start)[group]}

    def combine(self, P: np.ndarray, facts: np.ndarray) -> np.ndarray:
        """See BaseMetaLearner."""
        scores = np.einsum("nlw,wl->nw", P, self.weights_["weights"].astype(np.float32)) + np.float32(FLOOR)
        return scores / scores.sum(axis=1, keepdims=True)


def _groups(true: np.ndarray, labels: np.ndarray, num_words: int, most: int) -> np.ndarray:
    """The group of each word, (num_words,) int64 from 0; words without rows are treated as the average word."""
    counts = np.maximum(np.bincount(labels, minlength=num_words), 1)[:, None]
    sums = np.stack([np.bincount(labels, column, num_words) for column in np.log(true).T], axis=1)
    profiles = sums / counts
    profiles -= profiles.mean(axis=1, keepdims=True)
    if num_words < 2 or most < 2:
        return np.zeros(num_words, np.int64)
    return fcluster(linkage(profiles, "ward"), most, "maxclust").astype(np.int64) - 1


def _sums(P: Probabilities, rows: np.ndarray, group: np.ndarray) -> np.ndarray:
    """Total probability per group of words and learner for some rows: (n, num_groups * num_learners) float64."""
    members = np.eye(group.max() + 1, dtype=np.float32)[group]  # (num_words, num_groups)
    found = np.empty((len(rows), members.shape[1], P.shape[1]))
    for chunk in chunks(len(rows)):
        found[chunk] = (P[rows[chunk]] @ members).transpose(0, 2, 1)
    return found.reshape(len(rows), -1)


def _fitted(true: np.ndarray, group: np.ndarray, sums: np.ndarray, start: np.ndarray) -> np.ndarray:
    """The non-negative weights (num_groups, num_learners) that minimise the log loss.

    Args:
        true: (N, num_learners) probability of the true word by each learner.
        group: (N,) the group of the true word.
        sums: (N, num_groups * num_learners) of `_sums`.
        start: (num_groups, num_learners).
    """
    rows = len(true)

    def objective(flat: np.ndarray) -> tuple[float, np.ndarray]:
        weights = flat.reshape(start.shape)
        score = np.maximum(np.einsum("nl,nl->n", true, weights[group]), 1e-30)
        whole = np.maximum(sums @ flat, 1e-30)  # sum over all words, by which a score is divided
        scale = weights.sum() / len(weights) - 1  # multiples of the weights are equivalent: keep their sums near 1
        by_true = np.stack([np.bincount(group, column / score, len(weights)) for column in true.T], axis=1)
        gradient = (sums.T @ (1 / whole)).reshape(start.shape) / rows - by_true / rows + scale / len(weights)
        return float(np.log(whole).mean() - np.log(score).mean() + scale**2 / 2), gradient.ravel()

    found = minimize(
        objective, start.ravel(), jac=True, method="L-BFGS-B", bounds=[(0, None)] * start.size,
        options={"ftol": 1e-12, "gtol": 1e-7, "maxiter": 500},
    ).x  # fmt: skip
    found = found.reshape(start.shape)
    unused = ~found.any(axis=1)  # groups of words without rows, which can only take from the others
    found[unused] = start[unused]
    return found
