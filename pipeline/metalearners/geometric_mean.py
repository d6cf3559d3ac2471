"""The mean of the learners' log probabilities."""

from __future__ import annotations

import numpy as np

from pipeline.metalearners._base import BaseMetaLearner
from pipeline.metrics import FLOOR


class MetaLearner(BaseMetaLearner):
    """Geometric mean, made to sum to 1: any learner alone can rule a word out. Nothing is fitted."""

    def combine(self, P: np.ndarray) -> np.ndarray:
        """See BaseMetaLearner."""
        mean = np.log(np.maximum(P, FLOOR)).mean(axis=1)  # (N, num_words)
        exponentials = np.exp(mean - mean.max(axis=1, keepdims=True))
        return exponentials / exponentials.sum(axis=1, keepdims=True)
