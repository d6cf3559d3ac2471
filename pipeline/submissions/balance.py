"""Class balancing: adjust predictions to a known frequency of each word in the test set.

`scaling` makes the expected count of each word agree, `assignment` the exact count of its first guesses.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from pipeline.drawings.words import Words
from pipeline.foundation.errors import SketchstackError
from pipeline.foundation.places import places
from pipeline.predictions.metrics import FLOOR, precision_at_3, top3

TOLERANCE = 1e-3  # the largest relative error of a word's expected count that still counts as equal
ROUNDS = 1000  # near-certain predictions against the prior converge slowly, without further gain
CANDIDATES = 40  # likeliest words that a row can be assigned; a row that gets none of them takes a left-over word
COST = 1e6  # integer cost of 1 nat: the flow needs integers

Method = Literal["scaling", "assignment"]


@dataclass(frozen=True)
class Balanced:
    """Probabilities balanced to a prior.

    Attributes:
        probabilities: (N, num_words) float64, rows sum to 1.
        rounds: number of scaling rounds.
        error: the largest remaining relative error of a word's expected count.
    """

    probabilities: np.ndarray
    rounds: int
    error: float


def uniform(num_words: int) -> np.ndarray:
    """The uniform prior over words: (num_words,) float64."""
    return np.full(num_words, 1 / num_words)


def balance(probabilities: np.ndarray, prior: np.ndarray) -> Balanced:
    """Scale the columns until the expected count of each word is its share of the rows.

    Columns are scaled to the prior and rows to 1 alternately (iterative proportional fitting, Deming and Stephan 1940;
    Sinkhorn and Knopp 1967): of all matrices with these sums, the limit has the least Kullback-Leibler divergence from
    the given matrix. Only two vectors are iterated, so a round costs two passes over the matrix.

    Args:
        probabilities: (N, num_words), any float type; floored at 1e-7, because a zero cannot be scaled.
        prior: (num_words,) positive, sums to 1.
    """
    given = np.maximum(probabilities, FLOOR, dtype=np.float64)
    wanted = prior * len(given)  # (num_words,) counts
    scale, rounds, error = np.ones_like(prior), 0, np.inf
    # einsum and not @: the order of additions in BLAS depends on its threads, and a submission must not.
    while error > TOLERANCE and rounds < ROUNDS:
        rows = 1 / np.einsum("nw,w->n", given, scale)
        counts = scale * np.einsum("nw,n->w", given, rows)
        error = float(np.abs(counts / wanted - 1).max())
        scale *= wanted / counts
        rounds += 1
    scaled = given * scale
    return Balanced(scaled / scaled.sum(axis=1, keepdims=True), rounds, error)


@dataclass(frozen=True)
class Guesses:
    """Guesses that agree with a prior.

    Attributes:
        best: (N, 3) labels, best first.
        done: method and its results, for the manifest.
    """

    best: np.ndarray
    done: dict[str, Any]


def balanced_guesses(probabilities: np.ndarray, prior: np.ndarray, method: Method) -> Guesses:
    """Three guesses per row that agree with a prior.

    Args:
        probabilities: (N, num_words).
        prior: (num_words,) positive, sums to 1.
        method: `scaling`: the likeliest three by the balanced probabilities. `assignment`: the first guesses are the
            likeliest ones in which each word has exactly the count of the prior; the other two are the likeliest
            remaining words by the balanced probabilities.
    """
    balanced = balance(probabilities, prior)
    done = {"method": method, "rounds": balanced.rounds, "count_error": float(f"{balanced.error:.3g}")}
    if method == "scaling":
        return Guesses(top3(balanced.probabilities), done)
    first = assign(balanced.probabilities, prior)
    balanced.probabilities[np.arange(len(first)), first] = 2  # above any probability
    return Guesses(top3(balanced.probabilities), done)


def assign(probabilities: np.ndarray, prior: np.ndarray) -> np.ndarray:
    """The labels (N,) of all rows that are jointly likeliest and have the word counts of a prior.

    A minimum-cost flow from rows to words by OR-Tools; the cost of an arc is the negative logarithm of a probability. A
    row has arcs to its likeliest words, and one arc to a common node that leads to every word, at the cost of the least
    probability, so that a solution always exists.

    Args:
        probabilities: (N, num_words), positive.
        prior: (num_words,) sums to 1; counts are its shares of N, rounded so that they sum to N.
    """
    from ortools.graph.python import min_cost_flow

    rows, words = probabilities.shape
    most, common = min(CANDIDATES, words), rows + words
    likeliest = np.argpartition(-probabilities, most - 1, axis=1)[:, :most]
    costs = -np.log(np.maximum(np.take_along_axis(probabilities, likeliest, axis=1), FLOOR)) * COST
    tails = [np.repeat(np.arange(rows), most), np.arange(rows), np.full(words, common)]
    heads = [rows + likeliest.ravel(), np.full(rows, common), rows + np.arange(words)]
    counts = whole_counts(prior, rows)
    capacities = [np.ones(rows * (most + 1), np.int64), counts]
    prices = [
        costs.round().astype(np.int64).ravel(),
        np.full(rows, int(-np.log(FLOOR) * COST)),
        np.zeros(words, np.int64),
    ]
    flow = min_cost_flow.SimpleMinCostFlow()
    arcs = flow.add_arcs_with_capacity_and_unit_cost(*map(np.concatenate, (tails, heads, capacities, prices)))
    flow.set_nodes_supplies(np.arange(rows + words), np.concatenate([np.ones(rows, np.int64), -counts]))
    if (status := flow.solve()) != flow.OPTIMAL:
        raise SketchstackError(
            f"the assignment of words to rows has no solution ({status}); set submit.balance: scaling."
        )
    taken = flow.flows(arcs)[: rows * most].reshape(rows, most).astype(bool)
    found = np.full(rows, -1, np.int64)
    found[taken.any(axis=1)] = likeliest[taken]
    left = np.repeat(np.arange(words), counts - np.bincount(found[found >= 0], minlength=words))
    found[found < 0] = left
    return found


def whole_counts(prior: np.ndarray, rows: int) -> np.ndarray:
    """The number of rows of each word, (num_words,) int64, with sum `rows`: the largest remainders are rounded up."""
    exact = prior * rows
    counts = np.floor(exact + 1e-9).astype(np.int64)
    up = np.argsort(-(exact - counts), kind="stable")[: rows - counts.sum()]
    counts[up] += 1
    return counts


def draw_evenly(labels: np.ndarray, num_words: int, most: int, rng: np.random.Generator) -> np.ndarray:
    """Draw rows without replacement so that each word is equally frequent.

    Args:
        labels: (N,) integers below num_words.
        num_words: number of words.
        most: the most rows per word; the rarest word may have fewer.
        rng: random generator.

    Returns:
        (words × rows per word,) sorted row numbers; empty if a word has no rows.
    """
    counts = np.bincount(labels, minlength=num_words)
    each = min(most, counts.min())
    shuffled = rng.permutation(len(labels))
    by_word = shuffled[np.argsort(labels[shuffled], kind="stable")]
    place_in_word = np.arange(len(labels)) - np.repeat(np.cumsum(counts) - counts, counts)
    return np.sort(by_word[place_in_word < each])


def check_drawable(labels: np.ndarray, words: Words) -> None:
    """Refuse out-of-fold rows without any row of some word: they cannot be drawn with the prior of the test set.

    Raises:
        SketchstackError: a word has no rows.
    """
    absent = np.flatnonzero(np.bincount(labels, minlength=len(words)) == 0)
    if len(absent):
        raise SketchstackError(
            f"{places().meta}/labels.npy: no out-of-fold row shows {words.names[absent[0]]!r}, so the gain of "
            f"balancing cannot be measured; raise oof.max_rows in params.yaml, or set submit.prior to null."
        )


def gains(probabilities: np.ndarray, labels: np.ndarray, method: Method) -> np.ndarray:
    """The gain of balancing to the uniform prior in each row's precision, for rows with equally frequent words.

    Args:
        probabilities: (N, num_words) of rows that `draw_evenly` drew.
        labels: (N,) their labels.
        method: see `balanced_guesses`.

    Returns:
        (N,) float64, each in -1..1.
    """
    balanced = balanced_guesses(probabilities, uniform(probabilities.shape[1]), method).best
    return precision_at_3(balanced, labels) - precision_at_3(top3(probabilities), labels)
