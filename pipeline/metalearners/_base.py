"""What all meta-learners share: the layout of their features, their weights on disk, convex weights."""

from __future__ import annotations

from pathlib import Path
from typing import Self

import numpy as np
from scipy.optimize import minimize
from sklearn.base import BaseEstimator, ClassifierMixin

from pipeline.metrics import FLOOR

CHUNK = 8192  # rows combined at a time: the intermediates of a chunk fit in the processor's cache


class BaseMetaLearner(ClassifierMixin, BaseEstimator):
    """A scikit-learn classifier whose features are the probabilities of several learners, side by side.

    Args:
        num_words: columns a learner; features are (N, num_learners * num_words), learner by learner.

    Attributes:
        weights_: all that fitting found, by name. Together with the constructor's arguments it is the whole model.
        classes_: (num_words,) int64 labels, whichever of them the training rows held.
    """

    weights_: dict[str, np.ndarray]

    def __init__(self, num_words: int) -> None:
        self.num_words = num_words

    @property
    def classes_(self) -> np.ndarray:
        return np.arange(self.num_words)

    @property
    def learner_weights(self) -> np.ndarray | None:
        """(num_learners,) how much each learner counts, for people to read; None where there is no such number."""
        return None

    def fit(self, X: np.ndarray, y: np.ndarray) -> Self:
        """Find the weights.

        Args:
            X: (N, num_learners * num_words) probabilities.
            y: (N,) integer labels.
        """
        self.weights_ = self.solve(self.by_learner(X), np.asarray(y, np.int64))
        return self

    def predict_proba(self, X: np.ndarray) -> np.ndarray:
        """Combine the learners' probabilities (N, num_learners * num_words) into (N, num_words) float32."""
        combined = np.empty((len(X), self.num_words), np.float32)
        for start in range(0, len(X), CHUNK):
            combined[start : start + CHUNK] = self.combine(self.by_learner(X[start : start + CHUNK]))
        return combined

    def predict(self, X: np.ndarray) -> np.ndarray:
        """The likeliest label of each row, (N,) int64."""
        return self.predict_proba(X).argmax(axis=1)

    def solve(self, P: np.ndarray, labels: np.ndarray) -> dict[str, np.ndarray]:
        """Weights from probabilities P (N, num_learners, num_words) float32 and labels (N,) int64."""
        return {}

    def combine(self, P: np.ndarray) -> np.ndarray:
        """Probabilities (N, num_words) from P (N, num_learners, num_words) float32, once there are weights."""
        raise NotImplementedError

    def by_learner(self, X: np.ndarray) -> np.ndarray:
        """View features (N, num_learners * num_words) as (N, num_learners, num_words) float32."""
        return np.asarray(X, np.float32).reshape(len(X), -1, self.num_words)

    def save(self, path: Path) -> None:
        """Write the weights as npz."""
        with path.open("wb") as file:
            np.savez(file, **self.weights_)  # type: ignore[arg-type]

    def load(self, path: Path) -> Self:
        """Take the weights that `save` wrote."""
        with np.load(path) as stored:
            self.weights_ = dict(stored)
        return self


class ConvexCombination(BaseMetaLearner):
    """A mixture of the learners: weights on the simplex that minimise the mixture's log loss.

    The Super Learner's own combination (van der Laan, Polley and Hubbard, 2007, https://doi.org/10.2202/1544-6115.1309)
    with log loss in place of squared error.
    """

    @property
    def learner_weights(self) -> np.ndarray:
        return self.weights_["weights"]

    def solve(self, P: np.ndarray, labels: np.ndarray) -> dict[str, np.ndarray]:
        return {"weights": simplex_weights(P[np.arange(len(labels)), :, labels])}

    def combine(self, P: np.ndarray) -> np.ndarray:
        return np.einsum("nlw,l->nw", P, self.weights_["weights"].astype(np.float32))


def simplex_weights(true: np.ndarray) -> np.ndarray:
    """The weights that minimise the log loss of a mixture; a member that does not help gets exactly 0.

    Minimises -mean(log(true @ w)) + sum(w) over w >= 0. Scaling w by t adds -log(t) + (t - 1) * sum(w), so the minimum
    sums to 1 by itself: bounds are all the constraint that is left, and L-BFGS-B holds weights at a bound exactly.

    Args:
        true: (N, M) the probability that each member gave to the true word.

    Returns:
        (M,) float64, not negative, of sum 1.
    """
    true = np.maximum(true.astype(np.float64), FLOOR)

    def objective(weights: np.ndarray) -> tuple[float, np.ndarray]:
        mixture = np.maximum(true @ weights, 1e-30)  # finite where the line search tries w = 0
        return weights.sum() - np.log(mixture).mean(), 1 - true.T @ (1 / mixture) / len(true)

    start = np.full(true.shape[1], 1 / true.shape[1])
    found = minimize(
        objective, start, jac=True, method="L-BFGS-B", bounds=[(0, None)] * len(start),
        options={"ftol": 1e-13, "gtol": 1e-8, "maxiter": 1000},
    ).x  # fmt: skip
    return found / found.sum()
