"""The parts of the mlens ensemble: cached base learners, wrapped meta-learners, and the base folds as its folds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Self

import numpy as np
import xxhash
from sklearn.base import BaseEstimator, ClassifierMixin, clone

from pipeline.foundation.params import Params
from pipeline.predictions.cache import LearnerPredictions, model_folder, open_predictions
from pipeline.stacking.calibration import scaled
from pipeline.stacking.metalearners._base import FACTS, BaseMetaLearner, chunks
from pipeline.stacking.mlens_compat import mlens_imports

with mlens_imports():
    from mlens.index import BaseIndex

FACT_COLUMNS = list(range(len(FACTS)))  # columns of the facts in the input of all layers after the first


class CachedLearner(ClassifierMixin, BaseEstimator):
    """A learner whose predictions are on disk. It holds paths, because `clone` would copy memory maps into RAM.

    Args:
        name: of the learner.
        folders: its model folders, fold by fold.
        temperatures: a file of the temperature of each row, (OOF rows + test rows,) float32; None to not scale.
    """

    def __init__(self, name: str, folders: tuple[str, ...], temperatures: str | None = None) -> None:
        self.name = name
        self.folders = folders
        self.temperatures = temperatures

    def fit(self, X: np.ndarray, y: np.ndarray) -> Self:
        """Do nothing: the model of each fold is already fitted on the other folds."""
        return self

    def predict_proba(self, X: np.ndarray) -> np.ndarray:
        """Look up rows by the positions in the first column of X, which floats hold exactly: (N, num_words) float32."""
        return self.at(X[:, 0].astype(np.int64))

    def at(self, positions: np.ndarray) -> np.ndarray:
        """The probabilities of the rows at these positions (N,), OOF or of the test set: (N, num_words) float32."""
        cached = self.opened()
        rows = sum(cached.fold_sizes)
        found = np.empty((len(positions), cached.folds[0].oof.shape[1]), np.float32)
        is_oof = positions < rows
        found[is_oof] = cached.oof(positions[is_oof])
        found[~is_oof] = cached.test(positions[~is_oof] - rows)
        return found if self.temperatures is None else scaled(found, self.temperatures_at(positions)[:, None])

    def temperatures_at(self, positions: np.ndarray) -> np.ndarray:
        """The temperatures of the rows at these positions, (N,) float32."""
        if self.temperatures is None:
            return np.ones(len(positions), np.float32)
        return np.load(self.temperatures, mmap_mode="r")[positions]

    def opened(self) -> LearnerPredictions:
        """The cached predictions, memory-mapped."""
        return LearnerPredictions(self.name, tuple(open_predictions(Path(folder)) for folder in self.folders))


class CachedProbabilities:
    """Probabilities of cached learners for the rows at some positions, read lazily; see `Probabilities`.

    Args:
        learners: in the order of the columns.
        positions: (N,) int64.
    """

    def __init__(self, learners: Sequence[CachedLearner], positions: np.ndarray) -> None:
        self.learners, self.positions = learners, positions
        self.shape = (len(positions), len(learners), learners[0].opened().folds[0].oof.shape[1])

    def __len__(self) -> int:
        return len(self.positions)

    def __getitem__(self, rows: slice | np.ndarray) -> np.ndarray:
        """(n, num_learners, num_words) float32."""
        positions = self.positions[rows]
        found = np.empty((len(positions), *self.shape[1:]), np.float32)
        for number, learner in enumerate(self.learners):
            for part in chunks(len(positions)):
                found[part, number] = learner.at(positions[part])
        return found


class StackedMetaLearner(ClassifierMixin, BaseEstimator):
    """A meta-learner as mlens sees it: it loads its weights from disk if the same fit was done before.

    With three folds mlens asks for 13 fits of a meta-learner, of which 7 have different rows; with five folds for 31
    and 16. If temperatures are used in some sets of folds only, a few more fits differ.

    Args:
        metalearner: unfitted.
        folder: for the weights, one file per meta-learner, its params and the features that it was fitted on.
        learners: whose cached predictions it combines; X then has positions and facts. If empty, X has facts and the
            learners' predictions.
    """

    def __init__(self, metalearner: BaseMetaLearner, folder: str, learners: tuple[CachedLearner, ...]) -> None:
        self.metalearner = metalearner
        self.folder = folder
        self.learners = learners

    def fit(self, X: np.ndarray, y: np.ndarray) -> Self:
        """Fit or load."""
        self.fitted_ = clone(self.metalearner)
        rows = xxhash.xxh3_128(np.ascontiguousarray(X).data)
        rows.update(np.ascontiguousarray(y).data)
        rows.update(f"{type(self.metalearner).__module__} {self.metalearner.get_params()}".encode())
        for learner in self.learners:  # if empty, X holds the probabilities
            rows.update(f"{learner.name} {learner.folders}".encode())
            rows.update(np.ascontiguousarray(learner.temperatures_at(X[:, 0].astype(np.int64))).data)
        weights = Path(self.folder, f"{rows.hexdigest()}.npz")
        if weights.exists():
            self.fitted_.load(weights)
        else:
            weights.parent.mkdir(parents=True, exist_ok=True)
            self.fitted_.fit_on(*self._parted(X), y).save(weights)
        return self

    def predict_proba(self, X: np.ndarray) -> np.ndarray:
        """See BaseMetaLearner."""
        return self.fitted_.predict_on(*self._parted(X))

    def _parted(self, X: np.ndarray) -> tuple[np.ndarray | CachedProbabilities, np.ndarray]:
        if self.learners:
            return CachedProbabilities(self.learners, X[:, 0].astype(np.int64)), X[:, 1:].astype(np.float32)
        return self.metalearner.parted(X)


class BaseFolds(BaseIndex):
    """Splits rows at the ends of the base folds, so that duplicates, which share a fold, are never in both parts.

    Args:
        sizes: rows of each fold, in the order of the rows.
    """

    def __init__(self, sizes: tuple[int, ...]) -> None:
        super().__init__()
        self.sizes = sizes
        self.folds = len(sizes)

    def fit(self, X: np.ndarray, y: np.ndarray | None = None, job: str | None = None) -> Self:
        """Store the number of rows; when predicting, any number is allowed.

        Raises:
            ValueError: the number of rows to fit on is not that of the folds.
        """
        if job == "fit" and len(X) != sum(self.sizes):
            raise ValueError(f"{len(X)} rows do not make folds of {self.sizes} rows")
        self.n_samples = self.n_test_samples = len(X)
        self.__fitted__ = True
        return self

    def _gen_indices(self) -> Iterator[tuple[tuple[tuple[int, int], ...], tuple[int, int]]]:
        """For each fold the ranges (start, stop) before and after it for training, and its range for testing."""
        ends = [int(end) for end in np.cumsum(self.sizes)]
        for start, end in zip([0, *ends[:-1]], ends, strict=True):
            yield tuple(piece for piece in ((0, start), (end, ends[-1])) if piece[0] < piece[1]), (start, end)


def cached(name: str, params: Params, base: Path | None = None) -> CachedLearner:
    """A learner as mlens sees it."""
    return CachedLearner(name, tuple(str(model_folder(name, fold, base)) for fold in params.folds))
