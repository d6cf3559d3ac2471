"""A ranker of candidate words: gradient-boosted trees on the learners' predictions for each word, by LightGBM."""

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

CURVATURE = 1.0  # least curvature of a leaf, and added to it: near 0 for sure learners, which would give huge steps


class MetaLearner(BaseMetaLearner):
    """Score the likeliest words of every learner for each drawing by trees, one row per drawing and word.

    - Candidates are the union of the learners' `candidates` best words. The features of a candidate are, per learner,
      its log probability, its rank (`candidates` if it is not among these words) and its margin to that learner's best
      word; over the learners, the mean log probability, the mean rank and the number of learners that rank it first;
      and the drawing's facts.
    - The trees start from the logits of the geometric mean and add to them. The loss is -log softmax(score of the true
      word) over a drawing's candidates: the conditional logit of McFadden (1974), also the listwise loss of ListNet
      (Cao et al., 2007, https://doi.org/10.1145/1273496.1273513).
    - Without a feature that can split the candidates into leaves of `min_rows`, nothing is fitted: the prediction is
      the geometric mean.
    - The total probability of the candidates is that of the geometric mean; other words keep their probabilities.

    Args:
        num_words: columns per learner.
        candidates: best words taken from each learner.
        trees: boosting rounds.
        leaves: per tree.
        learning_rate: of a boosting round.
        min_rows: the fewest candidates per leaf.
        max_rows: the most drawings to fit on, evenly spread.
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
        """See BaseMetaLearner. `trees` is the model in LightGBM's text format, as bytes."""
        lightgbm = _lightgbm()
        rows = evenly_spread(len(P), self.max_rows)
        some = [rows[chunk] for chunk in chunks(len(rows))]
        choices = Choices(
            *map(np.concatenate, zip(*(self._choices(P[at], labels[at], facts[at]) for at in some), strict=True))
        )
        settings = {
            "learning_rate": self.learning_rate, "num_leaves": self.leaves,
            "min_data_in_leaf": self.min_rows, "min_sum_hessian_in_leaf": CURVATURE, "lambda_l2": CURVATURE,
            "deterministic": True, "force_row_wise": True, "seed": 0, "verbosity": -1, "num_threads": _threads(),
        }  # fmt: skip
        data = lightgbm.Dataset(choices.features, choices.true, init_score=choices.logits, params=dict(settings))
        if not len(choices.true) or not _splits(data):
            return {"trees": np.empty(0, np.uint8)}
        settings["objective"] = _objective(choices.true, choices.sizes)
        booster = lightgbm.train(settings, data, num_boost_round=self.trees)
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
        """The candidates of drawings whose true word is a candidate: other drawings have no gradient."""
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
        rows: (C,) int64 number of the drawing of each candidate, ascending.
        words: (C,) int64 labels.
        logits: (C,) float32 the mean of the learners' log probabilities.
        features: (C, F) float32.
    """

    rows: np.ndarray
    words: np.ndarray
    logits: np.ndarray
    features: np.ndarray


class Choices(NamedTuple):
    """Candidates of drawings whose true word is a candidate, drawing by drawing.

    Attributes:
        true: (C,) bool, exactly one candidate per drawing.
        sizes: (N,) number of candidates of each drawing.
        logits, features: as in `Candidates`.
    """

    true: np.ndarray
    sizes: np.ndarray
    logits: np.ndarray
    features: np.ndarray


@numba.njit(parallel=True, cache=True, nogil=True)
def _ranks(P, most):  # type: ignore[no-untyped-def]
    """The rank of each word by each learner, from 0, or `most` if it is not among the first `most`; float32, as P."""
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
        true: (C,) bool, exactly one candidate per drawing.
        sizes: (N,) number of candidates of each drawing; they are consecutive.
    """
    starts = np.cumsum(sizes) - sizes

    def objective(scores: np.ndarray, _: Any) -> tuple[np.ndarray, np.ndarray]:
        exponentials = np.exp(scores - np.repeat(np.maximum.reduceat(scores, starts), sizes))
        share = exponentials / np.repeat(np.add.reduceat(exponentials, starts), sizes)
        return share - true, np.maximum(share * (1 - share), 1e-6)

    return objective


def _splits(data: Any) -> bool:
    """Whether some feature can split LightGBM's rows into two leaves: it stops with an error where none can."""
    data.construct()
    return any(data.feature_num_bin(feature) > 1 for feature in range(data.num_feature()))


def _lightgbm() -> Any:
    """Import LightGBM. It needs libgomp.so.1; if the system has none, torch's copy of this file is loaded."""
    try:
        import lightgbm
    except OSError:
        torch = importlib.util.find_spec("torch")
        ctypes.CDLL(str(Path(str(torch and torch.origin)).parent / "lib" / "libgomp.so.1"), ctypes.RTLD_GLOBAL)
        import lightgbm
    return lightgbm


def _threads() -> int:
    """The number of threads of the stack's arithmetic."""
    return int(os.environ.get("OMP_NUM_THREADS", "0"))  # 0: LightGBM's choice
