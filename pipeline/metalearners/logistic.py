"""Multinomial logistic regression on the log probabilities of all learners, shrunk towards their weighted pool."""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np
from pydantic import Field

from pipeline.metalearners._base import CHUNK, BaseMetaLearner
from pipeline.metrics import FLOOR


class MetaLearner(BaseMetaLearner):
    """logits = sum_l t[l] * log P[l]  +  log P @ D  +  b, by softmax.

    - The first term alone is a geometric mean with a weight a learner, which also sets the temperature. `t` starts at
      1 / num_learners and is not penalised: with nothing else to go by, the model is the best weighted pool.
    - `D` (every learner's opinion of every word moves every word) learns confusions: who says `cello` where it is a
      violin. It holds num_learners * num_words**2 numbers, half a million for 4 learners of 340 words, against some
      220 rows a word: hence the ridge on it, the Gaussian prior that the pool is right. This is Dirichlet calibration
      (Kull et al., 2019, https://arxiv.org/abs/1910.12656) of several learners at once; there too a penalty on all but
      the diagonal makes it work.
    - Full batches and L-BFGS from the pool: no learning rate, no random numbers, the same bytes on each run, and
      stopping at `iterations` shrinks further, as the pool is where it starts. A step costs two products of (rows,
      num_learners * num_words) with (..., num_words): a second for 76,000 rows, 4 learners and 340 words on two cores.

    Args:
        num_words: columns a learner.
        ridge: precision of the prior of D and b; larger stays nearer to the pool.
        iterations: L-BFGS steps, at most.
        max_rows: rows fitted on, at most, evenly spread.
    """

    def __init__(
        self,
        num_words: int,
        *,
        ridge: Annotated[float, Field(gt=0)],
        iterations: Annotated[int, Field(ge=1)],
        max_rows: Annotated[int, Field(ge=1)],
    ) -> None:
        super().__init__(num_words)
        self.ridge = ridge
        self.iterations = iterations
        self.max_rows = max_rows

    @property
    def learner_weights(self) -> np.ndarray:
        """(num_learners,) `t`: each learner's exponent in the pool."""
        return self.weights_["pool"]

    def solve(self, P: np.ndarray, labels: np.ndarray) -> dict[str, np.ndarray]:
        """See BaseMetaLearner."""
        rows = np.unique(np.linspace(0, len(P) - 1, min(len(P), self.max_rows)).round().astype(np.int64))
        features = np.maximum(P[rows], np.float32(FLOOR)).reshape(len(rows), -1)
        np.log(features, out=features)
        means = features.mean(axis=0, dtype=np.float64).astype(np.float32)
        features -= means  # so that D and b are about different things
        return _fitted(features, means, labels[rows], P.shape[1], ridge=self.ridge, iterations=self.iterations)

    def combine(self, P: np.ndarray) -> np.ndarray:
        """See BaseMetaLearner."""
        logits = np.log(np.maximum(P, np.float32(FLOOR))).reshape(len(P), -1) @ self.weights_["weights"]
        logits += self.weights_["bias"]
        exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
        return exponentials / exponentials.sum(axis=1, keepdims=True)


def _fitted(
    features: np.ndarray, means: np.ndarray, labels: np.ndarray, num_learners: int, *, ridge: float, iterations: int
) -> dict[str, np.ndarray]:
    """Minimise the log loss plus the ridge by L-BFGS.

    Args:
        features: (N, num_learners * num_words) float32 log probabilities less `means`.
        means: (num_learners * num_words,) float32.
        labels: (N,) int64.
        num_learners: how many learners the features come from.
        ridge: see MetaLearner.
        iterations: see MetaLearner.

    Returns:
        `weights` (num_learners * num_words, num_words) and `bias` (num_words,) that turn log probabilities into
        logits, and `pool` (num_learners,), all float32.
    """
    import torch

    X, y, mean = torch.from_numpy(features), torch.from_numpy(labels), torch.from_numpy(means)
    num_words = len(means) // num_learners
    # Each of t, D and b in the unit that brings its curvature to about 1, or L-BFGS creeps: a word's probability
    # varies by about 1 / num_words, and the prior adds ridge / N.
    variance, prior = float((X**2).mean()), ridge / len(y)
    unit_t, unit_D, unit_b = variance**-0.5, (variance / num_words + prior) ** -0.5, (1 / num_words + prior) ** -0.5
    t = torch.full((num_learners,), 1 / num_learners / unit_t, requires_grad=True)
    D = torch.zeros(len(means), num_words, requires_grad=True)
    b = torch.zeros(num_words, requires_grad=True)
    own = torch.eye(num_words).repeat(num_learners, 1)  # (num_learners * num_words, num_words)

    def step() -> Any:
        optimizer.zero_grad()
        spread = unit_t * t.repeat_interleave(num_words)
        weights = unit_D * D + own * spread[:, None]
        bias = unit_b * b + (spread * mean).view(num_learners, num_words).sum(0)
        loss, by_weights, by_bias = _loss_and_gradients(X, y, weights.detach(), bias.detach())
        penalty = prior / 2 * ((unit_D * D).square().sum() + (unit_b * b).square().sum())
        torch.autograd.backward([penalty, weights, bias], [None, by_weights, by_bias])
        return loss + penalty.detach()

    optimizer = torch.optim.LBFGS(
        [t, D, b], max_iter=iterations, tolerance_grad=1e-7, tolerance_change=1e-10, line_search_fn="strong_wolfe"
    )
    optimizer.step(step)
    with torch.no_grad():
        weights = unit_D * D + unit_t * own * t.repeat_interleave(num_words)[:, None]
        bias = unit_b * b - unit_D * mean @ D
        return {"weights": weights.numpy(), "bias": bias.numpy(), "pool": (unit_t * t).numpy()}


def _loss_and_gradients(X: Any, y: Any, weights: Any, bias: Any) -> tuple[Any, Any, Any]:
    """Mean log loss of softmax(X @ weights + bias), and its gradients, a chunk of rows at a time."""
    import torch

    loss, by_weights, by_bias = torch.zeros(()), torch.zeros_like(weights), torch.zeros_like(bias)
    for start in range(0, len(y), CHUNK):
        chunk, labels = X[start : start + CHUNK], y[start : start + CHUNK, None]
        logs = torch.log_softmax(torch.addmm(bias, chunk, weights), dim=1)
        loss -= logs.gather(1, labels).sum()
        errors = logs.exp_().scatter_add_(1, labels, torch.full_like(labels, -1, dtype=torch.float32))
        by_weights.addmm_(chunk.T, errors)
        by_bias += errors.sum(0)
    return loss / len(y), by_weights / len(y), by_bias / len(y)
