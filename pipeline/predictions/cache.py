"""The prediction cache: predictions of each fitted learner for rows that it never saw, checked on reading.

models/<profile>/base/<learner>/fold<k>/
                              oof.npy      float16 (rows of fold k, num_words), memory-mappable
                              test.npy     float16 (test rows, num_words)
                              rows.npy     int64, the key_ids of oof.npy's rows
                              metrics.json MAP@3, top-1, log loss, the digest of the rows that the model was
                                           trained on, and the hashes that reading checks
                              contents.json the hash of each file of the folder, the model's too
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.drawings.words import Words
from pipeline.foundation.contents import check_sealed, intact, seal
from pipeline.foundation.errors import SketchstackError
from pipeline.foundation.params import Params
from pipeline.foundation.places import places
from pipeline.predictions import metrics

FILES = ("oof.npy", "test.npy", "rows.npy", "metrics.json")


def model_folder(learner: str, held_out: int, base: Path | None = None) -> Path:
    """The folder of a learner's model with held-out fold `held_out`, and of its predictions."""
    return (base or places().base) / learner / f"fold{held_out}"


def rows_digest(key_ids: np.ndarray) -> int:
    """A 64-bit digest of key_ids in any order; the digest of a union is the sum of both digests modulo 2**64.

    Each key_id is first hashed by the finaliser of SplitMix64, so that different rows do not have the same sum.
    """
    mixed = np.ascontiguousarray(key_ids, np.int64).view(np.uint64).copy()
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
    return int((mixed ^ (mixed >> np.uint64(31))).sum(dtype=np.uint64))


def rows_hash(key_ids: np.ndarray) -> str:
    """SHA-256 of key_ids in their order."""
    return hashlib.sha256(np.ascontiguousarray(key_ids, np.int64).tobytes()).hexdigest()


@dataclass(frozen=True)
class FoldPredictions:
    """One model's cached predictions.

    Attributes:
        oof: (rows, num_words) float16, memory-mapped; NaN if the prediction failed.
        test: (test rows, num_words) float16, memory-mapped.
        rows: (rows,) int64 key_ids of `oof`'s rows, in shard order, memory-mapped.
        metrics: the content of metrics.json.
    """

    oof: np.ndarray
    test: np.ndarray
    rows: np.ndarray
    metrics: dict[str, Any]


def write_predictions(
    folder: Path,
    *,
    oof: np.ndarray,
    test: np.ndarray,
    rows: np.ndarray,
    test_rows: np.ndarray,
    labels: np.ndarray,
    words: Words,
    learner_hash: str,
    trained_on: np.ndarray,
) -> dict[str, Any]:
    """Cache a model's predictions in its folder, seal the folder, and return the metrics.

    Args:
        folder: the existing folder of the model.
        oof: (rows, num_words) probabilities of the held-out rows.
        test: (test rows, num_words) probabilities.
        rows: (rows,) key_ids of `oof`'s rows.
        test_rows: (test rows,) key_ids of `test`'s rows.
        labels: (rows,) true labels of `oof`'s rows.
        words: of the columns.
        learner_hash: fingerprint of all params of the model.
        trained_on: (M,) key_ids, in any order, of the training rows with true words.
    """
    oof, test = oof.astype(np.float16), test.astype(np.float16)
    np.save(folder / "oof.npy", oof)
    np.save(folder / "test.npy", test)
    np.save(folder / "rows.npy", rows.astype(np.int64))
    found = metrics.scores(oof, labels)
    hashes = {"words": words.hash, "rows": rows_hash(rows), "test_rows": rows_hash(test_rows), "learner": learner_hash}
    written = {**found, "rows": len(rows), "trained_on": f"{rows_digest(trained_on):016x}", "hashes": hashes}
    (folder / "metrics.json").write_text(json.dumps(written, indent=2) + "\n")
    seal(folder)
    return written


def open_predictions(folder: Path) -> FoldPredictions:
    """Open a model's cached predictions, memory-mapped and without checks; see `read_predictions`."""
    oof = np.load(folder / "oof.npy", mmap_mode="r")
    test = np.load(folder / "test.npy", mmap_mode="r")
    rows = np.load(folder / "rows.npy", mmap_mode="r")
    return FoldPredictions(oof, test, rows, json.loads((folder / "metrics.json").read_text()))


def read_predictions(folder: Path, *, words: Words, learner_hash: str) -> FoldPredictions:
    """Open a model's cached predictions, memory-mapped, after checking their bytes, words and params.

    Raises:
        SketchstackError: a file is missing or damaged, or a hash or a shape is wrong.
    """
    remedy = f"run `dvc repro` to predict again; if that fails, remove {folder} first."
    try:
        opened = open_predictions(folder)
        oof, test, rows, hashes = opened.oof, opened.test, opened.rows, opened.metrics["hashes"]
        int(opened.metrics["trained_on"], 16)
    except (OSError, EOFError, ValueError, KeyError, TypeError) as error:
        raise SketchstackError(f"{folder} holds no complete predictions ({error}); {remedy}") from None
    check_sealed(folder)
    for name in FILES:
        intact(folder / name)
    for name, expected in {"words": words.hash, "learner": learner_hash, "rows": rows_hash(rows)}.items():
        if hashes.get(name) != expected:
            raise SketchstackError(f"{folder} was made from other {name}: its hash is not the one in force; {remedy}")
    if oof.shape != (len(rows), len(words)) or test.ndim != 2 or test.shape[1] != len(words):
        raise SketchstackError(
            f"{folder}: oof.npy is {oof.shape} and test.npy {test.shape}, but rows.npy has {len(rows)} rows and "
            f"words.json {len(words)} words; {remedy}"
        )
    return opened


@dataclass(frozen=True)
class LearnerPredictions:
    """All fold models' predictions of one learner; OOF rows are numbered fold by fold, each fold in shard order.

    Attributes:
        name: of the learner.
        folds: predictions of the model with held-out fold 0, 1, ...
    """

    name: str
    folds: tuple[FoldPredictions, ...]

    @property
    def rows(self) -> np.ndarray:
        """(rows,) int64 key_ids of the OOF rows."""
        return np.concatenate([fold.rows for fold in self.folds])

    @property
    def fold_sizes(self) -> list[int]:
        """OOF rows of each fold."""
        return [len(fold.rows) for fold in self.folds]

    def oof(self, positions: np.ndarray) -> np.ndarray:
        """OOF probabilities of some rows.

        Args:
            positions: (N,) OOF row numbers, in any order.

        Returns:
            (N, num_words) float32.
        """
        ends = np.cumsum(self.fold_sizes)
        homes = np.searchsorted(ends, positions, side="right")
        found = np.empty((len(positions), self.folds[0].oof.shape[1]), np.float32)
        for home in np.unique(homes):
            at = np.flatnonzero(homes == home)
            found[at] = self.folds[home].oof[positions[at] - (ends[home] - len(self.folds[home].rows))]
        return found

    def test(self, positions: np.ndarray | slice = slice(None)) -> np.ndarray:
        """Arithmetic mean over the fold models of the test probabilities of some rows, (N, num_words) float32."""
        total = np.zeros_like(self.folds[0].test[positions], np.float32)
        for fold in self.folds:
            total += fold.test[positions]
        return total / len(self.folds)


def read_learner(name: str, params: Params, words: Words, base: Path | None = None) -> LearnerPredictions:
    """Open the cached predictions of all fold models of a learner, checked against the params in force.

    Raises:
        SketchstackError: a fold's predictions are missing, stale or of another shape.
    """
    learner_hash = params.learner_hash(name)
    folds = [
        read_predictions(model_folder(name, held_out, base), words=words, learner_hash=learner_hash)
        for held_out in params.folds
    ]
    return LearnerPredictions(name, tuple(folds))


def check_cached_words(labels: np.ndarray, folds: np.ndarray, words: Words) -> None:
    """Refuse cached rows of which a word's are all in one fold: nothing could be fitted without this fold.

    Args:
        labels: (N,) of the rows that learners cache.
        folds: (N,) their folds.
        words: of the labels.

    Raises:
        SketchstackError: names the word and the fold.
    """
    for held_out in np.unique(folds):
        missing = np.setdiff1d(np.arange(len(words)), labels[folds != held_out])
        if len(missing):
            more = f" (and of {len(missing) - 1} more words)" if len(missing) > 1 else ""
            raise SketchstackError(
                f"{places().folds}: the cached rows of {words.names[missing[0]]!r}{more} are all in fold {held_out}, "
                f"so nothing can be fitted without it. Raise oof.max_rows in params.yaml, or add drawings of the word "
                f"and run `dvc repro`."
            )


def cached_share(fold_rows: int, params: Params) -> int:
    """The number of rows of a fold (the first in shard order) to cache: an equal share of `oof.max_rows` per fold."""
    return min(fold_rows, params.oof.max_rows // len(params.folds))
