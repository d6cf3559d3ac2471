"""A ranker of candidate words: gradient-boosted trees on how the learners see each, by LightGBM."""

from __future__ import annotations

import ctypes
import importlib.util
import os
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numba
import numpy as np
from pydantic import Field

from pipeline.stacking.metalearners._base import (
    BaseMetaLearner,
    Probabilities,
    chunks,
    evenly_spread,
    log_probabilities,
    softmax,
)

CURVATURE = 1.0  # of a leaf at least, and added: where the learners are sure it is next to 0, and a step would be huge


class MetaLearner(BaseMetaLearner):
    """For each drawing the likeliest words of every learner, a row each, scored by trees.

    - Candidates are the union of the learners' `candidates` best words. A candidate's features are, by each learner,
      its log probability, its rank (`candidates` where it is not among them) and its margin to that learner's best
      word; over the learners, the mean log probability, the mean rank and how many have it first; and the drawing's
      facts.
    - The trees start from the geometric mean and add to its logits. Their loss is that of a choice among a drawing's
      candidates, -log softmax(score of the true word): the conditional logit of McFadden (1974), as a listwise loss
      ListNet's (Cao et al., 2007, https://doi.org/10.1145/1273496.1273513).
    - The candidates share the probability that the geometric mean gives to them together; other words keep theirs.

    Args:
        num_words: columns per learner.
        candidates: of a learner.
        trees: rounds of boosting.
        leaves: of a tree.
        learning_rate: of a round.
        min_rows: candidates in a leaf, at least.
        max_rows: drawings fitted on, at most, evenly spread.
    """

    def __init__(
        self,
        num_words: int,
        *,
        candidates: Annotated[int, Field(ge=2)],
        trees: Annotated[int, Field(ge=1)],
        leaves: Annotated[int, Field(ge=2)],
        learning_rate: Annotated[float, Field(gt=0)],
        min_rows: Annotated[int, Field(ge=1)],
        max_rows: Annotated[int, Field(ge=1)],
    ) -> None:
        super().__init__(num_words)
        self.candidates = candidates
        self.trees = trees
        self.leaves = leaves
        self.learning_rate = learning_rate
        self.min_rows = min_rows
        self.max_rows = max_rows

    def solve(self, P: Probabilities, labels: np.ndarray, facts: np.ndarray) -> dict[str, np.ndarray]:
        """See BaseMetaLearner. `trees` is LightGBM's own text, as bytes."""
        lightgbm = _lightgbm()
        rows = evenly_spread(len(P), self.max_rows)
        some = [rows[chunk] for chunk in chunks(len(rows))]
        choices = Choices(
            *map(np.concatenate, zip(*(self._choices(P[at], labels[at], facts[at]) for at in some), strict=True))
        )
        if not len(choices.true):
            return {"trees": np.empty(0, np.uint8)}
        data = lightgbm.Dataset(choices.features, choices.true, init_score=choices.logits)
        objective = _objective(choices.true, choices.sizes)
        booster = lightgbm.train(
            {
                "objective": objective, "learning_rate": self.learning_rate, "num_leaves": self.leaves,
                "min_data_in_leaf": self.min_rows, "min_sum_hessian_in_leaf": CURVATURE, "lambda_l2": CURVATURE,
                "deterministic": True, "force_row_wise": True, "seed": 0, "verbosity": -1, "num_threads": _threads(),
            },
            data, num_boost_round=self.trees,
        )  # fmt: skip
        return {"trees": np.frombuffer(booster.model_to_string().encode(), np.uint8)}

    def combine(self, P: np.ndarray, facts: np.ndarray) -> np.ndarray:
        """See BaseMetaLearner."""
        pool = softmax(log_probabilities(P).mean(axis=1))
        if not len(self.weights_["trees"]):
            return pool
        lightgbm = _lightgbm()
        found = self._candidates(P, facts)
        booster = lightgbm.Booster(model_str=self.weights_["trees"].tobytes().decode())
        added = booster.predict(found.features, raw_score=True, num_threads=_threads())
        logits = np.full_like(pool, -np.inf)
        logits[found.rows, found.words] = found.logits + np.asarray(added, np.float32)
        chosen = np.isfinite(logits)
        shared = np.where(chosen, pool, 0).sum(axis=1, keepdims=True)
        return np.where(chosen, softmax(logits) * shared, pool)

    def _choices(self, P: np.ndarray, labels: np.ndarray, facts: np.ndarray) -> Choices:
        """The candidates of those drawings whose word is among them: of the others nothing can be learnt."""
        found = self._candidates(P, facts)
        true, sizes = found.words == labels[found.rows], np.bincount(found.rows, minlength=len(labels))
        known = np.logical_or.reduceat(true, np.cumsum(sizes) - sizes)
        kept = np.repeat(known, sizes)
        return Choices(true[kept], sizes[known], found.logits[kept], found.features[kept])

    def _candidates(self, P: np.ndarray, facts: np.ndarray) -> Candidates:
        """The candidates of some drawings, from P (n, num_learners, num_words) and facts (n, len(FACTS))."""
        most = min(self.candidates, self.num_words)
        ranks = _ranks(np.ascontiguousarray(P), most)
        rows, words = np.nonzero((ranks < most).any(axis=1))
        logs = log_probabilities(P)
        of_each, rank, top = logs[rows, :, words], ranks[rows, :, words], logs.max(axis=2)[rows]
        mean = of_each.mean(axis=1, keepdims=True)
        firsts = (rank == 0).sum(axis=1, keepdims=True, dtype=np.float32)
        over_all = [mean, rank.mean(axis=1, keepdims=True), firsts]
        features = np.hstack([of_each, rank, top - of_each, *over_all, facts[rows]], dtype=np.float32)
        return Candidates(rows, words, mean[:, 0], features)


class Candidates(NamedTuple):
    """The candidates of some drawings, drawing by drawing.

    Attributes:
        rows: (C,) int64 the drawing of each, rising.
        words: (C,) int64.
        logits: (C,) float32 the mean of the learners' log probabilities.
        features: (C, F) float32.
    """

    rows: np.ndarray
    words: np.ndarray
    logits: np.ndarray
    features: np.ndarray


class Choices(NamedTuple):
    """Candidates of drawings whose word is one of them, drawing by drawing.

    Attributes:
        true: (C,) bool, one of each drawing's candidates.
        sizes: (N,) candidates of each drawing.
        logits, features: as of `Candidates`.
    """

    true: np.ndarray
    sizes: np.ndarray
    logits: np.ndarray
    features: np.ndarray


@numba.njit(parallel=True, cache=True, nogil=True)
def _ranks(P, most):  # type: ignore[no-untyped-def]
    """The place of each word among a learner's likeliest, `most` if it is not in the first `most`; float32, as P."""
    rows, learners, words = P.shape
    ranks = np.full(P.shape, np.float32(most))
    for row in numba.prange(rows):
        best = np.empty(most, np.int64)
        for learner in range(learners):
            held = 0
            for word in range(words):
                value = P[row, learner, word]
                if held == most and value <= P[row, learner, best[held - 1]]:
                    continue  # ties go to label order
                place = held if held < most else held - 1
                while place > 0 and P[row, learner, best[place - 1]] < value:
                    best[place] = best[place - 1]
                    place -= 1
                best[place] = word
                held = min(held + 1, most)
            for place in range(held):
                ranks[row, learner, best[place]] = place
    return ranks


def _objective(true: np.ndarray, sizes: np.ndarray) -> Any:
    """LightGBM's objective: gradient and curvature of -log softmax within each drawing.

    Args:
        true: (C,) bool, one of each drawing's candidates.
        sizes: (N,) candidates of each drawing, which stand together.
    """
    starts = np.cumsum(sizes) - sizes

    def objective(scores: np.ndarray, _: Any) -> tuple[np.ndarray, np.ndarray]:
        exponentials = np.exp(scores - np.repeat(np.maximum.reduceat(scores, starts), sizes))
        share = exponentials / np.repeat(np.add.reduceat(exponentials, starts), sizes)
        return share - true, np.maximum(share * (1 - share), 1e-6)

    return objective


def _lightgbm() -> Any:
    """LightGBM. It asks for the system's libgomp.so.1; torch brings the same file where the system has none."""
    try:
        import lightgbm
    except OSError:
        torch = importlib.util.find_spec("torch")
        ctypes.CDLL(str(Path(str(torch and torch.origin)).parent / "lib" / "libgomp.so.1"), ctypes.RTLD_GLOBAL)
        import lightgbm
    return lightgbm


def _threads() -> int:
    """As many as the arithmetic of the stack may take."""
    return int(os.environ.get("OMP_NUM_THREADS", "0"))  # 0: LightGBM's choice
