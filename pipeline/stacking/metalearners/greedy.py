"""Greedy selection of learners, with replacement, by MAP@3."""

from __future__ import annotations

from typing import Annotated

import numba
import numpy as np
from pydantic import Field

from pipeline.predictions.metrics import FLOOR
from pipeline.stacking.metalearners._base import BaseMetaLearner, Probabilities, evenly_spread


class MetaLearner(BaseMetaLearner):
    """A mean of chosen learners: each round adds the learner that raises MAP@3 most; a learner can be chosen again.

    Ensemble selection with replacement (Caruana, Niculescu-Mizil, Crew and Ksikes, 2004,
    https://doi.org/10.1145/1015330.1015432). It is the only meta-learner fitted to MAP@3 itself, which has no gradient.
    Ties are broken by log loss, then by order. The round with the highest MAP@3 gives the weights.

    Args:
        num_words: columns per learner.
        rounds: the most learners to choose.
        max_rows: the most rows scored per round, evenly spread.
    """

    def __init__(
        self, num_words: int, *, rounds: Annotated[int, Field(ge=1)], max_rows: Annotated[int, Field(ge=1)]
    ) -> None:
        super().__init__(num_words)
        self.rounds = rounds
        self.max_rows = max_rows

    @property
    def learner_weights(self) -> np.ndarray:
        """(num_learners,) how often each learner was chosen, as a share."""
        return self.weights_["weights"]

    def solve(self, P: Probabilities, labels: np.ndarray, facts: np.ndarray) -> dict[str, np.ndarray]:
        """See BaseMetaLearner."""
        rows = evenly_spread(len(P), self.max_rows)
        given, true = np.ascontiguousarray(P[rows]), labels[rows]
        total, counts = np.zeros((len(rows), self.num_words), np.float32), np.zeros(given.shape[1])
        reached, weights = -1.0, counts
        for _ in range(self.rounds):
            precisions, logs = (each.sum(axis=0) for each in _scores(total, given, true, FLOOR))
            best = int(np.lexsort((-logs, -precisions))[0])
            total += given[:, best]
            counts[best] += 1
            if precisions[best] > reached:
                reached, weights = precisions[best], counts / counts.sum()
        return {"weights": weights}

    def combine(self, P: np.ndarray, facts: np.ndarray) -> np.ndarray:
        """See BaseMetaLearner."""
        return np.einsum("nlw,l->nw", P, self.weights_["weights"].astype(np.float32))


@numba.njit(parallel=True, cache=True, nogil=True)
def _scores(total, given, labels, floor):  # type: ignore[no-untyped-def]
    """Average precision at 3 of each row if a learner is added to the total (N, num_words), and log(true word's sum).

    Both are (N, num_learners).
    """
    rows, learners, words = given.shape
    precisions, logs = np.zeros((rows, learners)), np.empty((rows, learners))
    for row in numba.prange(rows):
        label = labels[row]
        for learner in range(learners):
            true = total[row, label] + given[row, learner, label]
            above = 0
            for word in range(words):
                value = total[row, word] + given[row, learner, word]
                above += value > true or (value == true and word < label)  # ties go to label order
            if above < 3:
                precisions[row, learner] = 1 / (above + 1)
            logs[row, learner] = np.log(max(true, floor))
    return precisions, logs
