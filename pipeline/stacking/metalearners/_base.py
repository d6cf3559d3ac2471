"""Code that all meta-learners share: input features, saved weights, convex weights."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, Protocol, Self

import numpy as np
from scipy.optimize import minimize
from sklearn.base import BaseEstimator, ClassifierMixin

from pipeline.predictions.metrics import FLOOR

CHUNK = 8192  # rows combined at a time: the intermediate arrays of a chunk fit into the processor cache
FACTS = ("strokes", "points", "seconds")  # of each drawing, float32; seconds are 0 where the shards hold no timing


class Probabilities(Protocol):
    """Predicted probabilities of each learner for each row, (N, num_learners, num_words): an array, or read lazily.

    Indexing with a slice or an array of row numbers gives a float32 array.
    """

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, num_learners, num_words)."""

    def __len__(self) -> int:
        """N."""

    def __getitem__(self, rows: Any) -> np.ndarray:
        """(n, num_learners, num_words) float32."""


class BaseMetaLearner(ClassifierMixin, BaseEstimator):
    """A scikit-learn classifier over the probabilities of several learners, and over simple facts of each drawing.

    Features X are (N, len(FACTS) + num_learners * num_words): the facts, then the probabilities learner by learner. A
    subclass gets both separately; P may be larger than memory, so it reads P one slice at a time.

    Args:
        num_words: columns per learner.

    Attributes:
        weights_: all fitted arrays, by name. With the constructor's arguments they are the whole model.
        classes_: (num_words,) int64 all labels, even those without training rows.
    """

    weights_: dict[str, np.ndarray]

    def __init__(self, num_words: int) -> None:
        self.num_words = num_words

    @property
    def classes_(self) -> np.ndarray:
        return np.arange(self.num_words)

    @property
    def learner_weights(self) -> np.ndarray | None:
        """(num_learners,) a readable weight of each learner; None if the meta-learner has no such weights."""
        return None

    def fit(self, X: np.ndarray, y: np.ndarray) -> Self:
        """Find the weights.

        Args:
            X: (N, len(FACTS) + num_learners * num_words) facts and probabilities.
            y: (N,) integer labels.
        """
        return self.fit_on(*self.parted(X), y)

    def fit_on(self, P: Probabilities, facts: np.ndarray, y: np.ndarray) -> Self:
        """Find the weights from probabilities (N, num_learners, num_words), facts (N, len(FACTS)) and labels (N,)."""
        self.weights_ = self.solve(P, np.asarray(y, np.int64), facts)
        return self

    def predict_proba(self, X: np.ndarray) -> np.ndarray:
        """Combine facts and probabilities as in `fit` into (N, num_words) float32."""
        return self.predict_on(*self.parted(X))

    def predict_on(self, P: Probabilities, facts: np.ndarray) -> np.ndarray:
        """Combine probabilities and facts as in `fit_on` into (N, num_words) float32."""
        combined = np.empty((len(P), self.num_words), np.float32)
        for rows in chunks(len(P)):
            combined[rows] = self.combine(P[rows], facts[rows])
        return combined

    def predict(self, X: np.ndarray) -> np.ndarray:
        """The likeliest label of each row, (N,) int64."""
        return self.predict_proba(X).argmax(axis=1)

    def solve(self, P: Probabilities, labels: np.ndarray, facts: np.ndarray) -> dict[str, np.ndarray]:
        """Weights from probabilities P (N, num_learners, num_words), labels (N,) int64 and facts (N, len(FACTS))."""
        return {}

    def combine(self, P: np.ndarray, facts: np.ndarray) -> np.ndarray:
        """Probabilities (N, num_words) from some rows' P (N, num_learners, num_words) float32 and facts."""
        raise NotImplementedError

    def parted(self, X: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """View features as P (N, num_learners, num_words) float32 and facts (N, len(FACTS))."""
        X = np.asarray(X, np.float32)
        return X[:, len(FACTS) :].reshape(len(X), -1, self.num_words), X[:, : len(FACTS)]

    def save(self, path: Path) -> None:
        """Write the weights as npz."""
        with path.open("wb") as file:
            np.savez(file, **self.weights_)  # type: ignore[arg-type]

    def load(self, file: Path | IO[bytes]) -> Self:
        """Load the weights that `save` wrote."""
        with np.load(file) as stored:
            self.weights_ = dict(stored)
        return self


def chunks(rows: int) -> Iterator[slice]:
    """Slices of at most CHUNK rows that cover all rows in order."""
    return (slice(start, min(start + CHUNK, rows)) for start in range(0, rows, CHUNK))


def of_true_word(P: Probabilities, labels: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """The probability that each learner gave to the true word of some rows, (n, num_learners) float32."""
    found = np.empty((len(rows), P.shape[1]), np.float32)
    for chunk in chunks(len(rows)):
        at = rows[chunk]
        found[chunk] = P[at][np.arange(len(at)), :, labels[at]]
    return found


def evenly_spread(rows: int, most: int) -> np.ndarray:
    """Row numbers, at most `most`, evenly spread over all, (n,) int64."""
    return np.unique(np.linspace(0, rows - 1, min(rows, most)).round().astype(np.int64))


def log_probabilities(P: np.ndarray) -> np.ndarray:
    """Logarithms, finite where float16 has 0; float32 of the same shape."""
    return np.log(np.maximum(P, np.float32(FLOOR)))


def softmax(logits: np.ndarray) -> np.ndarray:
    """Rows of logits (N, num_words) as probabilities."""
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    return exponentials / exponentials.sum(axis=1, keepdims=True)


class ConvexCombination(BaseMetaLearner):
    """A mixture of the learners, with the weights on the simplex that minimise its log loss.

    The combination of the original Super Learner (van der Laan, Polley and Hubbard, 2007,
    https://doi.org/10.2202/1544-6115.1309), with log loss instead of squared error.
    """

    @property
    def learner_weights(self) -> np.ndarray:
        return self.weights_["weights"]

    def solve(self, P: Probabilities, labels: np.ndarray, facts: np.ndarray) -> dict[str, np.ndarray]:
        return {"weights": simplex_weights(of_true_word(P, labels, np.arange(len(P))))}

    def combine(self, P: np.ndarray, facts: np.ndarray) -> np.ndarray:
        return np.einsum("nlw,l->nw", P, self.weights_["weights"].astype(np.float32))


def simplex_weights(true: np.ndarray) -> np.ndarray:
    """The weights that minimise the log loss of a mixture; a member that does not help gets exactly 0.

    Minimises -mean(log(true @ w)) + sum(w) over w >= 0. Scaling w by t adds -log(t) + (t - 1) * sum(w), so the weights
    at the minimum sum to 1: the bounds are the only constraint, and L-BFGS-B keeps weights at a bound exactly.

    Args:
        true: (N, M) the probability that each member gave to the true word.

    Returns:
        (M,) float64, not negative, sum 1.
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
