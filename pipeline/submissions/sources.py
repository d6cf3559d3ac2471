"""Sources of submissions: the probabilities of every base learner, of their mean, and of the SuperLearner."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from pipeline.drawings.words import Words
from pipeline.foundation.artefacts import file_hash
from pipeline.foundation.contents import check_sealed, intact
from pipeline.foundation.errors import SketchstackError
from pipeline.foundation.params import Params
from pipeline.foundation.places import places
from pipeline.predictions.cache import model_folder, read_learner

MEAN = "arithmetic_mean"
BALANCED = "_balanced"  # suffix of balanced submissions, which have the same OOF predictions
COMBINATIONS = (MEAN, "super_learner")  # of the stack: the baseline, and the result
ROWS = ("rows", "labels", "test_rows")  # files of the stack that say which rows its probabilities are of


@dataclass(frozen=True)
class StackedRows:
    """The rows of all probabilities, in order.

    Attributes:
        oof: (N,) int64 key_ids of the out-of-fold rows.
        labels: (N,) int64 true labels.
        test: (T,) int64 key_ids of the test rows.
    """

    oof: np.ndarray
    labels: np.ndarray
    test: np.ndarray


@dataclass(frozen=True)
class Source:
    """A base learner or a combination, with access to its probabilities; failed predictions are refused.

    Attributes:
        name: as in every table.
        files: the files of its probabilities.
        learners: learners whose params it depends on.
        oof: row numbers (N,) → probabilities (N, num_words).
        test: → probabilities (T, num_words).
    """

    name: str
    files: tuple[Path, ...]
    learners: tuple[str, ...]
    oof: Callable[[np.ndarray], np.ndarray]
    test: Callable[[], np.ndarray]

    @cached_property
    def hashes(self) -> dict[str, str]:
        """SHA-256 of each file."""
        return {str(file): file_hash(file) for file in self.files}


def mapped(path: Path) -> np.ndarray:
    """An array of the stack, memory-mapped.

    Raises:
        SketchstackError: the file is missing, damaged, or not an array.
    """
    try:
        return np.load(intact(path), mmap_mode="r")
    except (OSError, ValueError) as error:
        raise SketchstackError(f"{path} cannot be read ({error}); run `dvc repro stack` to write it.") from None


def read_stacked_rows(folder: Path | None = None) -> StackedRows:
    """The rows of the stacked predictions.

    Raises:
        SketchstackError: a file is missing or damaged, or the numbers of labels and rows differ.
    """
    folder = folder or places().meta
    check_sealed(folder)
    oof, labels, test = (np.asarray(mapped(folder / f"{name}.npy")) for name in ROWS)
    if len(oof) != len(labels):
        raise SketchstackError(
            f"{folder}: rows.npy has {len(oof)} rows, labels.npy {len(labels)}; run `dvc repro -f stack`."
        )
    return StackedRows(oof, labels.astype(np.int64), test)


def open_sources(params: Params, words: Words, rows: StackedRows) -> Iterator[Source]:
    """Every base learner, then the combinations.

    Raises:
        SketchstackError: predictions are missing, stale, or not of the rows of the stack.
    """
    for name in (*params.base_learners, *COMBINATIONS):
        yield open_source(name, params, words, rows)


def open_source(name: str, params: Params, words: Words, rows: StackedRows) -> Source:
    """A base learner, or a meta-learner or combination of the stack.

    Raises:
        SketchstackError: its predictions are missing, stale, or not of the rows of the stack.
    """
    if name not in params.base_learners:
        return _combination(name, params, words, rows)
    predictions = read_learner(name, params, words)
    tests = {len(fold.test) for fold in predictions.folds}
    if not np.array_equal(predictions.rows, rows.oof) or tests != {len(rows.test)}:
        raise SketchstackError(
            f"{places().base / name} does not have the rows of {places().meta}; run `dvc repro -f stack`."
        )
    folders = [model_folder(name, held_out) for held_out in params.folds]
    files = [folder / f"{of}.npy" for folder in folders for of in ("oof", "test", "rows")]
    return _source(name, files, [name], predictions.oof, predictions.test)


def _source(
    name: str,
    files: list[Path],
    learners: list[str],
    oof: Callable[[np.ndarray], np.ndarray],
    test: Callable[[], np.ndarray],
) -> Source:
    remedy = f"remove {places().base / name if learners == [name] else places().meta} and run `dvc repro`"

    def finite(probabilities: np.ndarray) -> np.ndarray:
        if not np.isfinite(probabilities).all():  # NaN sorts last and would pass for a guess
            raise SketchstackError(f"{name} has probabilities that are not numbers, so a prediction failed; {remedy}.")
        return probabilities

    return Source(name, tuple(files), tuple(learners), lambda rows: finite(oof(rows)), lambda: finite(test()))


def check_combinations(params: Params) -> None:
    """Refuse params without the combination that stacking is compared with.

    Raises:
        SketchstackError: `stack.metalearners` does not name it.
    """
    if MEAN not in params.stack.metalearners:
        raise SketchstackError(f"params.yaml, stack.metalearners must name {MEAN}: stacking is compared with it.")


def _combination(name: str, params: Params, words: Words, rows: StackedRows) -> Source:
    check_combinations(params)
    paths = places().meta / name / "oof.npy", places().meta / name / "test.npy"
    oof, test = (mapped(path) for path in paths)
    if oof.shape != (len(rows.oof), len(words)) or test.shape != (len(rows.test), len(words)):
        raise SketchstackError(
            f"{places().meta / name}: oof.npy is {oof.shape} and test.npy {test.shape}, but there are {len(rows.oof)} "
            f"out-of-fold rows, {len(rows.test)} test rows and {len(words)} words; run `dvc repro -f stack`."
        )
    return _source(
        name,
        [*paths, *(places().meta / f"{which}.npy" for which in ROWS)],
        params.base_learners,
        lambda positions: np.asarray(oof[positions], np.float32),
        lambda: np.asarray(test, np.float32),
    )
