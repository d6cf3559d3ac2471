"""The unweighted mean of the learners' probabilities."""

from __future__ import annotations

import numpy as np

from pipeline.stacking.metalearners._base import BaseMetaLearner


class MetaLearner(BaseMetaLearner):
    """Arithmetic mean: a high probability of one learner is enough to raise a word. Nothing is fitted."""

    def combine(self, P: np.ndarray, facts: np.ndarray) -> np.ndarray:
        """See BaseMetaLearner."""
        return P.mean(axis=1)
