"""Leak detectors that run before stacking: each one stops the run and names what it found.

same_drawing_in_two_folds   a model would be scored on drawings that it was trained on
key_id_in_two_folds         the same row twice
key_id_in_train_and_test    a test row has its word
model_saw_its_rows          a model was trained on the fold that it predicts out of fold, or on rows of no fold
other_labels                a learner's columns have the words in another order
other_rows                  a learner has other rows, or the rows in another order
fold_stands_out             a fold's score differs from the other folds more than chance explains
constant                    every row has the same prediction
not_a_number                a prediction failed
not_probabilities           a row is negative somewhere, or does not sum to 1
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from scipy.optimize import linear_sum_assignment

from pipeline.drawings.copies import point_hashes
from pipeline.drawings.shards import TEST, open_shards
from pipeline.drawings.words import Words
from pipeline.foundation.errors import SketchstackError
from pipeline.foundation.places import places
from pipeline.predictions.cache import FoldPredictions, LearnerPredictions, rows_digest, rows_hash
from pipeline.predictions.metrics import CHUNK, precision_at_3, top3
from pipeline.raw.columns import written_id
from pipeline.stacking.rows import Rows

STANDARD_ERRORS = 6.0  # a larger difference happens by chance once in a thousand million
# Times the deviation of few rows by chance, by Bernstein's inequality: 2/3 ln(2 / p) of a share of 1 / rows.
FEW_ROWS = 14.0
FEW_ALIKE = 20  # rows: a network that was hardly trained may predict the same for fewer drawings
# Standard deviation of MAP@3 between the fold models of a learner, which have different training rows: 0.0001 to 0.0047
# in bench/results/mini.md. It does not shrink with the number of scored rows.
BETWEEN_MODELS = 0.004
ROUNDING = 4e-3  # of a row's sum: float16 rounds each of its probabilities by up to 2**-11 of it, tiny ones by 3e-8


class LeakError(SketchstackError):
    """A leak or fault that would make scores wrong; the run stops.

    Args:
        name: of the detector.
        what: the finding, its place, and the remedy.
    """

    def __init__(self, name: str, what: str) -> None:
        super().__init__(f"leak, {name}: {what}")
        self.name = name


def check_folds(numbers: Sequence[int], folds: Path | None = None) -> list[int]:
    """Refuse folds that share a drawing or a row with each other or with the test set.

    Args:
        numbers: the folds.
        folds: their folder.

    Returns:
        The digest of each fold's rows (see `rows_digest`).

    Raises:
        LeakError: same_drawing_in_two_folds, key_id_in_two_folds, key_id_in_train_and_test.
    """
    folds = folds or places().folds
    shards = [open_shards([folds / f"fold{number}"]) for number in numbers]
    home = np.repeat(np.array(numbers, np.int16), [len(each) for each in shards])
    key_ids = np.concatenate([each.key_id for each in shards])
    if found := _in_two(key_ids, home):
        first, second = found
        raise LeakError(
            "key_id_in_two_folds",
            f"{folds}: key_id {written_id(key_ids[first])} is in fold {home[first]} and in fold {home[second]}. "
            f"{_SHUFFLE}",
        )
    test = open_shards([folds / TEST]).key_id
    if len(both := np.flatnonzero(np.isin(key_ids, test))):
        raise LeakError(
            "key_id_in_train_and_test",
            f"{folds}: key_id {written_id(key_ids[both[0]])} of fold {home[both[0]]} is also in the test set "
            f"({len(both)} such rows). {_SHUFFLE}",
        )
    if found := _in_two(np.concatenate([point_hashes(each) for each in shards]), home):
        first, second = found
        raise LeakError(
            "same_drawing_in_two_folds",
            f"{folds}: key_id {written_id(key_ids[first])} in fold {home[first]} and key_id "
            f"{written_id(key_ids[second])} in fold {home[second]} are the same drawing. {_SHUFFLE}",
        )
    return [rows_digest(each.key_id) for each in shards]


_SHUFFLE = "Make the folds again with `dvc repro -f shuffle`; nothing else may write to them."


def _in_two(values: np.ndarray, home: np.ndarray) -> tuple[int, int] | None:
    """Two rows with the same value in different places (folds or the test set), if there are any."""
    order = np.lexsort((home, values))
    same = (values[order[1:]] == values[order[:-1]]) & (home[order[1:]] != home[order[:-1]])
    place = int(same.argmax()) if same.any() else None
    return None if place is None else (int(order[place]), int(order[place + 1]))


def check_learner(learner: LearnerPredictions, rows: Rows, words: Words, digests: Sequence[int]) -> None:
    """Refuse predictions of other rows or labels, of a model that saw its rows, or that are not probabilities.

    Args:
        learner: its cached predictions.
        rows: the rows to stack.
        words: the expected words of the columns.
        digests: of each fold's rows, as `check_folds` returns them.

    Raises:
        LeakError: names the learner, the fold and the row.
    """
    precisions, confusions = [], np.zeros((2, len(words), len(words)))
    for number, (fold, predictions) in enumerate(zip(rows.fold_numbers, learner.folds, strict=True)):
        at, where = rows.of_fold(fold), f"{learner.name}, fold {fold}"
        remedy = f"Remove {places().base / learner.name / f'fold{fold}'} and run `dvc repro` to train it again."
        _check_rows(where, predictions, rows.key_ids[at], rows.test_key_ids, remedy)
        _check_training(where, predictions, number, digests, remedy)
        for file, found, key_ids, folder in (
            ("oof.npy", predictions.oof, rows.key_ids[at], f"fold{fold}"),
            ("test.npy", predictions.test, rows.test_key_ids, TEST),
        ):
            _check_numbers(
                f"{where}, {file}", found, key_ids, partial(_different_drawings, folder, len(key_ids)), remedy
            )
        guesses, labels = top3(predictions.oof), rows.labels[at].astype(np.int64)
        precisions.append(precision_at_3(guesses, labels))
        for half, counts in enumerate(confusions):
            np.add.at(counts, (labels[half::2], guesses[half::2, 0]), 1)
    _check_labels(learner.name, confusions, words)
    _check_scores(learner.name, rows.fold_numbers, precisions)


def _different_drawings(folder: str, rows: int) -> int:
    """The number of different drawings among the first rows of a folder of the folds."""
    return len(np.unique(point_hashes(open_shards([places().folds / folder]).first(rows))))


def _check_rows(
    where: str, found: FoldPredictions, expected: np.ndarray, test_key_ids: np.ndarray, remedy: str
) -> None:
    shared = min(len(found.rows), len(expected))
    different = np.flatnonzero(found.rows[:shared] != expected[:shared])
    if len(different) or len(found.rows) != len(expected):
        row = int(different[0]) if len(different) else shared
        have, want = (
            f"key_id {written_id(ids[row])}" if row < len(ids) else "nothing" for ids in (found.rows, expected)
        )
        raise LeakError(
            "other_rows",
            f"{where}: row {row} of rows.npy is {have} where the shards have {want} ({len(found.rows)} and "
            f"{len(expected)} rows): the predictions are of other rows or in another order. {remedy}",
        )
    if found.metrics["hashes"]["test_rows"] != rows_hash(test_key_ids) or len(found.test) != len(test_key_ids):
        raise LeakError(
            "other_rows",
            f"{where}: the {len(found.test)} rows of test.npy are not the {len(test_key_ids)} rows of the test shards. "
            f"{remedy}",
        )


def _check_training(where: str, found: FoldPredictions, held_out: int, digests: Sequence[int], remedy: str) -> None:
    others = sum(digest for number, digest in enumerate(digests) if number != held_out) % 2**64
    trained_on = int(found.metrics["trained_on"], 16)
    if trained_on != others:
        which = "all folds, also the held-out one" if trained_on == sum(digests) % 2**64 else "other rows"
        raise LeakError(
            "model_saw_its_rows",
            f"{where}: a model must be trained on all folds except the one that it predicts, but by metrics.json this "
            f"model was trained on {which}. {remedy}",
        )


def _check_numbers(
    where: str, probabilities: np.ndarray, key_ids: np.ndarray, drawings: Callable[[], int], remedy: str
) -> None:
    """Refuse what is no probabilities, or the same for all rows.

    Args:
        where: the learner, the fold and the file.
        probabilities: (N, num_words).
        key_ids: (N,) of the rows.
        drawings: gives the number of different drawings of the rows.
        remedy: what to do.
    """
    same = True
    for start in range(0, len(key_ids), CHUNK):
        chunk = np.asarray(probabilities[start : start + CHUNK], np.float32)
        same = same and bool((chunk == probabilities[0]).all())
        for name, bad in (
            ("not_a_number", ~np.isfinite(chunk).all(axis=1)),
            ("not_probabilities", (chunk.min(axis=1) < 0) | (np.abs(chunk.sum(axis=1) - 1) > ROUNDING)),
        ):
            if bad.any():
                row = start + int(bad.argmax())
                what = {
                    "not_a_number": "is not a number, so it failed",
                    "not_probabilities": f"is negative or does not sum to 1, but to {chunk[row - start].sum():.4f}",
                }[name]
                raise LeakError(
                    name, f"{where}: the prediction of row {row} (key_id {written_id(key_ids[row])}) {what}. {remedy}"
                )
    if same and drawings() > FEW_ALIKE:
        raise LeakError(
            "constant",
            f"{where}: all {len(key_ids)} rows have the same prediction. {remedy} If it comes out the same, the "
            f"learner learned nothing: give it more steps, by a smaller training.batch_size or more training.epochs.",
        )


def _check_labels(name: str, confusions: np.ndarray, words: Words) -> None:
    """Refuse columns whose words have another order: a permutation of them would make far more guesses right.

    The best permutation is found on one half of the rows and tested on the other half, so that chance does not favour
    it for a poor learner. The agreement expected from word frequencies alone is subtracted.

    Args:
        name: of the learner.
        confusions: (2, num_words, num_words) number of rows by true word and guess, for each half.
        words: in the expected order of the columns.
    """
    sums = np.maximum(confusions.sum(axis=(1, 2), keepdims=True), 1)
    excess = confusions - confusions.sum(axis=2, keepdims=True) * confusions.sum(axis=1, keepdims=True) / sums
    _, best = linear_sum_assignment(-excess[0])
    own = np.arange(len(words))
    moved = np.flatnonzero(best != own)
    gain = (excess[1][own, best] - excess[1][own, own])[moved].sum()
    counted = (confusions[1][own, best] + confusions[1][own, own])[moved].sum()
    if gain > STANDARD_ERRORS * np.sqrt(counted + 1):
        first = moved[np.argmax((excess[1][own, best] - excess[1][own, own])[moved])]
        raise LeakError(
            "other_labels",
            f"{name}: its columns have the words in another order than words.json: it guesses "
            f"{words.names[best[first]]!r} where {words.names[first]!r} is right ({len(moved)} columns fit other words "
            f"better). Make it use the order of words.json, and run `dvc repro`.",
        )


def _check_scores(name: str, folds: Sequence[int], precisions: Sequence[np.ndarray]) -> None:
    """Refuse a fold whose score differs from that of the other folds by more than chance explains.

    Of few rows the variance is not known and the mean is not normally distributed, so the limit is wider by FEW_ROWS:
    a fold of 13 rows never stands out.
    """
    found = []  # (difference in standard errors, fold, its score, score of the other folds, standard error)
    for number, (fold, own) in enumerate(zip(folds, precisions, strict=True)):
        rest = np.concatenate([other for place, other in enumerate(precisions) if place != number])
        error = np.sqrt(own.var() / len(own) + rest.var() / len(rest) + BETWEEN_MODELS**2)
        apart = abs(own.mean() - rest.mean()) - FEW_ROWS * (1 / len(own) + 1 / len(rest))
        found.append((apart / error, fold, own.mean(), rest.mean(), error))
    far, fold, score, others, error = max(found)
    if far > STANDARD_ERRORS:
        raise LeakError(
            "fold_stands_out",
            f"{name}, fold {fold}: MAP@3 {score:.4f} out of fold is more than {STANDARD_ERRORS:.0f} standard errors "
            f"({error:.4f}) from the {others:.4f} of the other folds. Check if its model saw these rows, or failed: "
            f"remove {places().base / name / f'fold{fold}'} and run `dvc repro` to train it again.",
        )
