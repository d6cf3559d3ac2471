"""A weighted mean of the learners' probabilities."""

from __future__ import annotations

from pipeline.stacking.metalearners._base import ConvexCombination


class MetaLearner(ConvexCombination):
    """One weight per learner, on the simplex, that minimise the log loss of the mixture."""
