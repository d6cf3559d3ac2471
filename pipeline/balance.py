"""Class balancing: where it is known how often each word occurs in the test set, the predictions are made to agree."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pipeline.errors import SketchstackError
from pipeline.metrics import FLOOR, precision_at_3, top3
from pipeline.words import Words

TOLERANCE = 1e-3  # the largest relative error of a word's expected count that still counts as equal
ROUNDS = 1000  # near-certain predictions that contradict the prior converge slowly, and no further gain is in them


@dataclass(frozen=True)
class Balanced:
    """Probabilities brought to a prior.

    Attributes:
        probabilities: (N, num_words) float64, rows sum to 1.
        rounds: how many rounds of scaling it took.
        error: the largest relative error of a word's expected count that is left.
    """

    probabilities: np.ndarray
    rounds: int
    error: float


def uniform(num_words: int) -> np.ndarray:
    """The prior of equally many drawings of each word: (num_words,) float64."""
    return np.full(num_words, 1 / num_words)


def balance(probabilities: np.ndarray, prior: np.ndarray) -> Balanced:
    """Scale the columns until the expected count of each word is its share of the rows.

    Columns are scaled to the prior and rows to 1 in turn (iterative proportional fitting, Deming and Stephan 1940;
    Sinkhorn and Knopp 1967): of all matrices with these sums, the limit is the nearest to the given one in
    Kullback-Leibler divergence. Only two vectors are iterated, so a round costs two passes over the matrix.

    Args:
        probabilities: (N, num_words), any float type; floored at 1e-7, since nothing scales a zero.
        prior: (num_words,) positive, sums to 1.
    """
    given = np.maximum(probabilities, FLOOR, dtype=np.float64)
    wanted = prior * len(given)  # (num_words,) counts
    scale, rounds, error = np.ones_like(prior), 0, np.inf
    # einsum and not @: BLAS adds in an order that depends on its threads, and a submission must not.
    while error > TOLERANCE and rounds < ROUNDS:
        rows = 1 / np.einsum("nw,w->n", given, scale)
        counts = scale * np.einsum("nw,n->w", given, rows)
        error = float(np.abs(counts / wanted - 1).max())
        scale *= wanted / counts
        rounds += 1
    scaled = given * scale
    return Balanced(scaled / scaled.sum(axis=1, keepdims=True), rounds, error)


def draw_evenly(labels: np.ndarray, num_words: int, most: int, rng: np.random.Generator) -> np.ndarray:
    """Draw rows without replacement such that each word is equally frequent.

    Args:
        labels: (N,) integers below num_words.
        num_words: words there are.
        most: drawings a word at most; the rarest word may allow fewer.
        rng: the source of chance.

    Returns:
        (words × drawings a word,) sorted row numbers; empty if a word has no rows.
    """
    counts = np.bincount(labels, minlength=num_words)
    each = min(most, counts.min())
    shuffled = rng.permutation(len(labels))
    by_word = shuffled[np.argsort(labels[shuffled], kind="stable")]
    place_in_word = np.arange(len(labels)) - np.repeat(np.cumsum(counts) - counts, counts)
    return np.sort(by_word[place_in_word < each])


def check_drawable(labels: np.ndarray, words: Words) -> None:
    """Refuse out-of-fold rows in which a word does not occur: no draw of them has the prior of the test set.

    Raises:
        SketchstackError: a word has no rows.
    """
    absent = np.flatnonzero(np.bincount(labels, minlength=len(words)) == 0)
    if len(absent):
        raise SketchstackError(
            f"models/meta/labels.npy: no out-of-fold row shows {words.names[absent[0]]!r}, so what balancing gains "
            f"cannot be measured; raise oof.max_rows in params.yaml, or set submit.prior to null."
        )


def gains(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """What balancing to the uniform prior adds to each row's precision, where each word is equally frequent.

    Args:
        probabilities: (N, num_words) of rows that `draw_evenly` drew.
        labels: (N,) their labels.

    Returns:
        (N,) float64, each in -1..1.
    """
    balanced = balance(probabilities, uniform(probabilities.shape[1])).probabilities
    return precision_at_3(top3(balanced), labels) - precision_at_3(top3(probabilities), labels)
