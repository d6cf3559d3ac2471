"""The mean of the learners' log probabilities."""

from __future__ import annotations

import numpy as np

from pipeline.stacking.metalearners._base import BaseMetaLearner, log_probabilities, softmax


class MetaLearner(BaseMetaLearner):
    """Geometric mean, normalised to sum 1: a low probability of one learner is enough to exclude a word. Not fitted."""

    def combine(self, P: np.ndarray, facts: np.ndarray) -> np.ndarray:
        """See BaseMetaLearner."""
        return softmax(log_probabilities(P).mean(axis=1))
