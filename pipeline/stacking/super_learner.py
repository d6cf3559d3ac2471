"""Stage `stack`: the learners' cached predictions → an mlens SuperLearner, scored out of fold, applied to the test set.

The first layer holds the learners as caches: fitting does nothing and predicting looks up a row's cached prediction.
So mlens splits folds, propagates, scores and fits the layers above without refitting a network. The second layer
holds the meta-learners, the last layer the SuperLearner's combination of them.

mlens holds a layer's predictions in full, and gives each meta-learner a copy of its rows. Above `stack.dense_rows`
rows the first layer is the meta-learners themselves: their input is row numbers, they read the cache in chunks, and
their predictions are on disk.

Scores do not leak. A learner's OOF predictions come from a model that never saw the row. A meta-learner is fitted on
the OOF rows of the other folds and scored on the held-out fold. For each held-out fold, the SuperLearner is built again
from the other folds only, with its meta-learners and temperatures, and scored on the held-out fold. Rows for fitting
have the temperature of their own fold, whose model predicted them; rows for scoring have that of the other folds.
(So the labels of the rows for fitting have one influence on the weights beyond the fit: a temperature per learner and
fold.)

    models/<profile>/meta/
                scores.json      MAP@3, top-1 and log loss over all OOF rows, a block per name
                fold_scores.csv  the same per fold, with the kind: base, meta or super
                confusions.csv   rows per true word and wrong first guess of the SuperLearner, for the worst words
                weights.json     the weight of each learner or meta-learner
                calibration.json a block per learner: its temperature, log loss and calibration error before and after
                rows.npy         int64 key_ids of the OOF rows, in the order of folds and shards; folds.npy int8,
                labels.npy int16 beside it; test_rows.npy int64 key_ids of the test rows
                contents.json    the hash of each file
                <name>/          oof.npy and test.npy float16 (rows, num_words) of a meta-learner or of super_learner,
                                 weights.npz, fitted on all rows
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numba
import numpy as np
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from pipeline.foundation.artefacts import reserve
from pipeline.foundation.errors import SketchstackError
from pipeline.foundation.params import Params
from pipeline.foundation.progress import progress_bar
from pipeline.predictions import metrics
from pipeline.stacking.calibration import Calibrated, temperatures
from pipeline.stacking.metalearners import load_metalearner
from pipeline.stacking.metalearners._base import FACTS, BaseMetaLearner, ConvexCombination, chunks
from pipeline.stacking.mlens_compat import frozen_objects, mapped_predictions, mlens_imports
from pipeline.stacking.mlens_parts import FACT_COLUMNS, BaseFolds, CachedLearner, StackedMetaLearner
from pipeline.stacking.rows import Rows
from pipeline.stacking.scoreboard import (
    SUPER,
)

with mlens_imports():
    from mlens.ensemble import BaseEnsemble, SuperLearner


@dataclass(frozen=True)
class Stacked:
    """The results of stacking; predictions are float16 and memory-mapped.

    Attributes:
        oof: (N, num_words) of each meta-learner and of `super_learner`, by models that did not see the row.
        test: (T, num_words) of each meta-learner and of `super_learner`.
        models: the meta-learners and `super_learner`, fitted on all OOF rows.
        calibration: temperature of each learner on all OOF rows, by name; empty without calibration.
        seconds: for fitting on all rows and predicting the test set, and for scoring the SuperLearner.
    """

    oof: dict[str, np.ndarray]
    test: dict[str, np.ndarray]
    models: dict[str, BaseMetaLearner]
    calibration: dict[str, Calibrated]
    seconds: dict[str, float]


@dataclass(frozen=True)
class Stack:
    """The inputs and settings of a stack.

    Attributes:
        learners: the base learners, by name, in mlens's order: sorted, lower case.
        metalearners: unfitted, by name.
        rows: all rows.
        num_words: columns per learner.
        folder: an empty folder for all outputs.
        calibrate: scale each learner to its temperature first.
        dense: whether the first layer is the learners; otherwise it is the meta-learners.
        fits: folder that keeps fitted weights for later stacks; by default they are removed after this stack.
    """

    learners: Sequence[CachedLearner]
    metalearners: Mapping[str, BaseMetaLearner]
    rows: Rows
    num_words: int
    folder: Path
    calibrate: bool
    dense: bool
    fits: Path | None = None

    def __post_init__(self) -> None:
        names = [learner.name for learner in self.learners]
        if names != sorted(name.lower() for name in names):
            raise ValueError(f"learners must be sorted by name, in lower case: {names}")

    @property
    def names(self) -> list[str]:
        """The meta-learners, in mlens's order of columns."""
        return sorted(self.metalearners)

    @property
    def bytes_needed(self) -> int:
        """The least that stacking takes on disk: all predictions, and those of a layer that is kept in a file."""
        numbers = (len(self.rows) + len(self.rows.test_key_ids)) * self.num_words
        rows = len(self.rows) if not self.dense else 0
        return 2 * numbers * (len(self.names) + 1) + 4 * rows * self.num_words * len(self.names)

    @property
    def scratch(self) -> Path:
        """A folder for temporary files."""
        return self.folder / "scratch"

    def stacked(self) -> Stacked:
        """Fit the SuperLearner on all OOF rows; then for each fold, fit it on the other folds and predict the fold."""
        bar, begun = progress_bar("stack", total=1 + len(self.rows.fold_numbers), unit="fits"), time.monotonic()
        with bar:
            models, calibration, test = self.fit_all()
            bar.update()
            fitted = time.monotonic()
            oof = self._files("oof", len(self.rows))
            for held_out in self.rows.fold_numbers:
                self.predict_fold(held_out, oof)
                bar.update()
        for name, model in models.items():
            model.save(self.folder / name / "weights.npz")
        shutil.rmtree(self.scratch)
        seconds = {"fit": fitted - begun, "score": time.monotonic() - fitted}
        return Stacked(oof, test, models, calibration, seconds)

    def fit_all(self) -> tuple[dict[str, BaseMetaLearner], dict[str, Calibrated], dict[str, np.ndarray]]:
        """Fit on all OOF rows and predict the test set: `models`, `calibration` and `test` of `Stacked`."""
        test = self._files("test", len(self.rows.test_key_ids))
        with self._mlens():
            ensemble, calibration = self.fitted(np.arange(len(self.rows)))
            self.predict(ensemble, self.rows.test_positions, test)
        return models_of(ensemble, self._layers), calibration, test

    def predict_fold(self, held_out: int, oof: Mapping[str, np.ndarray]) -> None:
        """Fit on the other folds; write the predictions of the held-out fold into its rows of `oof` of `Stacked`."""
        at = self.rows.of_fold(held_out)
        with self._mlens():
            ensemble, _ = self.fitted(np.flatnonzero(self.rows.folds != held_out))
            self.predict(ensemble, at, {name: array[at[0] : at[-1] + 1] for name, array in oof.items()})

    @contextmanager
    def _mlens(self) -> Iterator[None]:
        """Context in which mlens does not copy its input, and keeps predictions on disk unless they are dense."""
        with frozen_objects(), mapped_predictions(None if self.dense else self.scratch):
            yield

    def _files(self, which: str, rows: int) -> dict[str, np.ndarray]:
        """Empty files <name>/<which>.npy, (rows, num_words) float16, of each meta-learner and of `super_learner`."""
        return {name: self._file(name, which, rows) for name in [*self.names, SUPER]}

    def _file(self, name: str, which: str, rows: int) -> np.ndarray:
        (self.folder / name).mkdir(exist_ok=True)
        place = self.folder / name / f"{which}.npy"
        array: np.ndarray = np.lib.format.open_memmap(place, "w+", np.float16, (rows, self.num_words))
        with place.open("rb+") as file:
            reserve(file, place.stat().st_size)
        return array

    def fitted(self, positions: np.ndarray) -> tuple[SuperLearner, dict[str, Calibrated]]:
        """Build a SuperLearner and fit it on some OOF rows.

        Args:
            positions: of the rows to fit on, whole folds, ascending.

        Returns:
            The ensemble, and each learner's calibration on these rows.
        """
        rows = self.rows
        self.scratch.mkdir(exist_ok=True)
        _, sizes = np.unique(rows.folds[positions], return_counts=True)
        index = {"indexer": BaseFolds(tuple(int(size) for size in sizes)), "proba": True}
        learners, calibration = self._calibrated(positions) if self.calibrate else (self.learners, {})
        fed = () if self.dense else tuple(learners)
        kept = {name: str((self.fits or self.scratch) / name) for name in self.names}
        once = [(name, StackedMetaLearner(self.metalearners[name], kept[name], fed)) for name in self.names]
        # One job at a time: the arithmetic of a fit uses all threads, and a second job would need another copy of rows.
        ensemble = SuperLearner(scorer=_log_loss, backend="threading", n_jobs=1)
        facts = [1 + column for column in FACT_COLUMNS]  # after the positions
        if self.dense:
            cached = [(learner.name, learner) for learner in learners]
            BaseEnsemble.add(ensemble, cached, propagate_features=facts, **index)
        BaseEnsemble.add(ensemble, once, propagate_features=FACT_COLUMNS if self.dense else facts, **index)
        ensemble.add_meta(ConvexCombination(self.num_words), proba=True)
        ensemble.fit(self._fed(positions), rows.labels[positions])
        return ensemble, calibration

    @property
    def _layers(self) -> list[str]:
        """mlens's names of the layer of the meta-learners and of the SuperLearner's own combination."""
        return ["layer-2", "layer-3"] if self.dense else ["layer-1", "layer-2"]

    def _calibrated(self, positions: np.ndarray) -> tuple[list[CachedLearner], dict[str, Calibrated]]:
        """The learners, scaled to temperatures that are fitted on the OOF rows at these positions."""
        kept, found, folds = [], {}, "_".join(map(str, np.unique(self.rows.folds[positions])))
        for learner in self.learners:
            place = self.scratch / f"{learner.name}.{folds}.npy"
            calibrated = temperatures(learner.at, positions, self.rows)
            np.save(place, calibrated.by_row)
            kept.append(CachedLearner(learner.name, learner.folders, str(place) if calibrated.used else None))
            found[learner.name] = calibrated
        return kept, found

    def predict(self, ensemble: SuperLearner, positions: np.ndarray, out: Mapping[str, np.ndarray]) -> None:
        """Write the predictions of a fitted ensemble for the rows at these positions.

        Args:
            ensemble: fitted.
            positions: (N,).
            out: arrays (N, num_words) by name: of each meta-learner and of `super_learner`.
        """
        for part in chunks(len(positions)):
            layers = ensemble.predict(self._fed(positions[part]), return_preds=self._layers)
            meta, last = (layer.reshape(part.stop - part.start, -1) for layer in layers)  # mlens squeezes a single row
            by_name = np.split(meta[:, len(FACTS) :], len(self.names), axis=1)  # facts are propagated in front of them
            for name, predicted in zip([*self.names, SUPER], [*by_name, last], strict=True):
                out[name][part] = predicted

    def _fed(self, positions: np.ndarray) -> np.ndarray:
        """The input of mlens, (N, 1 + len(FACTS)) floats: positions, exact below 2**53, and facts."""
        return np.column_stack([positions.astype(np.float64), self.rows.facts[positions]])


def models_of(ensemble: SuperLearner, layers: Sequence[str]) -> dict[str, BaseMetaLearner]:
    """The meta-learners and the combination of a fitted ensemble, as fitted on all its rows.

    Args:
        ensemble: fitted.
        layers: mlens's names of the layer of each.
    """
    metalearners, (combination,) = (getattr(ensemble, layer.replace("-", "_")).learners for layer in layers)
    found = {learner.name: next(learner.learner).estimator.fitted_ for learner in metalearners}
    return found | {SUPER: next(combination.learner).estimator}


def _log_loss(labels: np.ndarray, probabilities: np.ndarray) -> float:
    return metrics.log_loss(probabilities, labels)


def load_metalearners(params: Params, num_words: int) -> dict[str, BaseMetaLearner]:
    """The unfitted meta-learners that params.yaml names.

    Raises:
        SketchstackError: a name is unknown, already taken or has no block, or a block does not fit.
    """
    names, blocks = params.stack.metalearners, params.stack.params
    for block in blocks:  # unused blocks must fit too
        load_metalearner(block, num_words, blocks[block])
    for name in names:
        if name not in blocks:
            raise SketchstackError(
                f"params.yaml, stack.params: there is no block {name!r} for this meta-learner; the blocks are "
                f"{', '.join(sorted(blocks)) or 'none'}. Add `{name}: {{}}` with the params it takes."
            )
        if names.count(name) > 1 or name in params.base_learners or name == SUPER:
            raise SketchstackError(
                f"params.yaml, stack.metalearners: the name {name!r} is taken; each learner and meta-learner is named "
                f"once, and {SUPER} is the name of them all."
            )
    return {name: load_metalearner(name, num_words, blocks[name]) for name in names}


def limit_threads(threads: int) -> None:
    """Fix the number of threads: for NumPy, which is loaded, and for libraries that read OMP_NUM_THREADS on import."""
    os.environ.update({"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)})
    threadpool_limits(threads)
    numba.set_num_threads(min(threads, numba.config.NUMBA_NUM_THREADS))  # type: ignore[attr-defined]
