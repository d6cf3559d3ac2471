"""Scores of probabilities or of ranked guesses: MAP@3 (the competition's), top-1 and log loss."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

GUESSES = 3
FLOOR = 1e-7  # float16 probabilities below 6e-8 are 0, and log loss must stay finite
CHUNK = 8192  # rows scored at a time, so that a memory-mapped matrix is never read into memory as a whole


def guesses_a_row(num_words: int) -> int:
    """The number of guesses in each row of a submission: three, but no more than there are words."""
    return min(GUESSES, num_words)


def top3(probabilities: np.ndarray) -> np.ndarray:
    """The labels of the three likeliest words, best first, ties in label order; of two words, both.

    Args:
        probabilities: (N, num_words), any float type; memory maps are read in chunks.

    Returns:
        (N, min(3, num_words)) int64.
    """
    guesses = np.empty((len(probabilities), guesses_a_row(probabilities.shape[1])), np.int64)
    for start in range(0, len(probabilities), CHUNK):
        chunk = np.asarray(probabilities[start : start + CHUNK], np.float32)
        guesses[start : start + CHUNK] = np.argsort(-chunk, axis=1, kind="stable")[:, :GUESSES]
    return guesses


def precision_at_3(guesses: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Average precision of each row: 1 if the first guess is right, 1/2 for the second, 1/3 for the third, else 0.

    Args:
        guesses: (N, 3) labels, best first; (N, 2) where there are two words.
        labels: (N,) true labels.

    Returns:
        (N,) float64.
    """
    return ((guesses == np.asarray(labels)[:, None]) / np.arange(1, guesses.shape[1] + 1)).max(axis=1)


def map_at_3(top3: Sequence[Sequence[object]] | np.ndarray, words: Sequence[object] | np.ndarray) -> float:
    """Mean average precision at 3 of ranked guesses against the one true word of each row.

    https://www.kaggle.com/competitions/quickdraw-doodle-recognition/overview/evaluation

    Args:
        top3: (N, 3) guesses, best first, or (N, 2); words or labels.
        words: (N,) true words or labels.
    """
    return float(precision_at_3(np.asarray(top3), np.asarray(words)).mean())


def log_loss(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Mean negative natural logarithm of the probability (floored at 1e-7) of the true word."""
    true = np.asarray(probabilities[np.arange(len(labels)), labels], np.float64)
    return float(-np.log(np.maximum(true, FLOOR)).mean())


def scores(probabilities: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """`map3`, `top1` and `log_loss` of probabilities (N, num_words) against labels (N,)."""
    guesses = top3(probabilities)
    return {
        "map3": map_at_3(guesses, labels),
        "top1": float((guesses[:, 0] == labels).mean()),
        "log_loss": log_loss(probabilities, labels),
    }
