"""Verification: how well a probability answers "is this drawing of the word that it claims to be?".

Each drawing claims each word once. The claim of its own word is genuine, the claim of another word is an impostor's. A
claim is accepted if the drawing's probability of the claimed word is at least a threshold.

    FAR  false-accept rate, the share of impostor claims that are accepted
    FRR  false-reject rate, the share of genuine claims that are rejected
    EER  equal error rate, where both are the same

Of all words pooled, a rate is the mean of the words' rates at one threshold: each word counts the same, however many
rows it has, as in a test set with equally many drawings of each word.

The prediction cache holds float16, which has 15,361 values from 0 to 1. So scores are counted by value: the curves are
exact, no impostor is left out, and memory does not grow with the rows. Other floats are rounded to float16 first.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from pipeline.drawings.words import Words
from pipeline.foundation.errors import SketchstackError
from pipeline.predictions.bootstrap import interval
from pipeline.predictions.metrics import CHUNK

FALSE_ACCEPTS = (0.01, 0.001, 0.0001)  # the false-accept rates of operating points
LEAST_ACCEPTED = 30  # Doddington's rule of 30: a rate from 30 errors is within 30% of the true one, at 90% confidence
VALUES = int(np.float16(1).view(np.uint16)) + 1  # float16 values from 0 to 1; their bits are 0, 1, 2, ... in order
GRID = np.append(np.arange(VALUES, dtype=np.uint16).view(np.float16).astype(np.float64), np.inf)  # all thresholds
ABOVE_ONE = 1e-3  # a probability may exceed 1 by this much, from rounding
GROUPS = 200  # of rows, for the bootstrap
SAMPLES = 1000  # bootstrap samples of an interval
SAMPLES_OF_A_WORD = 200
AT_A_TIME = 100  # bootstrap samples in memory


@dataclass(frozen=True)
class ErrorRates:
    """Error rates at every threshold of GRID, from 0 (accept all) to infinity (reject all).

    Attributes:
        far: (..., VALUES + 1) float64 false-accept rates, falling.
        frr: (..., VALUES + 1) float64 false-reject rates, rising.
    """

    far: np.ndarray
    frr: np.ndarray

    @classmethod
    def from_counts(cls, genuine: np.ndarray, impostor: np.ndarray) -> ErrorRates:
        """The rates of score counts, or of sums of weights, by value: (..., VALUES) each; NaN where there is none."""
        accepted, every = _sums_from(impostor), _sums_from(genuine)
        with np.errstate(invalid="ignore"):  # 0 / 0 of a word without rows
            return cls(accepted / accepted[..., :1], 1 - every / every[..., :1])

    @property
    def eer(self) -> np.ndarray:
        """(...) float64 equal error rates; the curve is a straight line between two thresholds."""
        after = self._crossing
        before = after - 1
        far_before, far_after = _at(self.far, before), _at(self.far, after)
        gap_before, gap_after = far_before - _at(self.frr, before), far_after - _at(self.frr, after)
        return far_before + gap_before / (gap_before - gap_after) * (far_after - far_before)

    @property
    def eer_threshold(self) -> np.ndarray:
        """(...) float64 the lowest thresholds at which the FRR is not below the FAR."""
        return GRID[self._crossing]

    @property
    def _crossing(self) -> np.ndarray:
        """(...) the place of the first threshold at which the FRR is not below the FAR."""
        return np.maximum(np.argmax(self.frr >= self.far, axis=-1), 1)

    def place(self, false_accept: float) -> np.ndarray:
        """(...) the place in GRID of the lowest threshold with a FAR of at most `false_accept`."""
        return np.argmax(self.far <= false_accept * (1 + 1e-9), axis=-1)  # 1 / 100 of a sum of weights is not exact

    def threshold(self, false_accept: float) -> np.ndarray:
        """(...) float64 the lowest thresholds with a FAR of at most `false_accept`; infinite if only that rejects."""
        return GRID[self.place(false_accept)]

    def frr_at(self, false_accept: float) -> np.ndarray:
        """(...) float64 the FRR at `threshold(false_accept)`."""
        return _at(self.frr, self.place(false_accept))

    def at(self, threshold: float) -> tuple[float, float]:
        """FAR and FRR of one curve at a threshold."""
        place = int(np.searchsorted(GRID, threshold))
        return float(self.far[place]), float(self.frr[place])


def _sums_from(counts: np.ndarray) -> np.ndarray:
    """(..., VALUES + 1) float64: the sum of the counts from each value on, then 0."""
    summed = np.zeros((*counts.shape[:-1], counts.shape[-1] + 1))
    np.cumsum(counts[..., ::-1], axis=-1, dtype=np.float64, out=summed[..., -2::-1])
    return summed


def _at(values: np.ndarray, places: np.ndarray) -> np.ndarray:
    """(...) the value at a place of the last axis."""
    return np.take_along_axis(values, np.expand_dims(places, -1), axis=-1)[..., 0]


@dataclass(frozen=True)
class OperatingPoint:
    """A threshold of a claimed word for a stated false-accept rate.

    Attributes:
        false_accept: the stated rate.
        threshold: accept at this probability or above; infinite if not even probability 1 is enough.
        far: the word's (or, of all words, the mean) false-accept rate at the threshold.
        frr: the false-reject rate at the threshold.
        pooled: whether the threshold is that of all words pooled.
    """

    false_accept: float
    threshold: float
    far: float
    frr: float
    pooled: bool


@dataclass(frozen=True)
class Scores:
    """Genuine and impostor scores, counted by value.

    Attributes:
        genuine: (num_words, VALUES) int32 counts of each claimed word's genuine scores.
        impostor: (num_words, VALUES) int32 counts of its impostor scores.
        genuine_groups: (G, VALUES) float64 weights of the genuine scores of each group of rows, all words pooled.
        impostor_groups: (G, VALUES) float64 weights of the impostor scores, likewise.
    """

    genuine: np.ndarray
    impostor: np.ndarray
    genuine_groups: np.ndarray
    impostor_groups: np.ndarray

    @cached_property
    def rows(self) -> np.ndarray:
        """(num_words,) int64 rows of each word, which are its genuine claims."""
        return self.genuine.sum(axis=1, dtype=np.int64)

    @cached_property
    def impostors(self) -> np.ndarray:
        """(num_words,) int64 rows of other words, which are its impostor claims."""
        return self.impostor.sum(axis=1, dtype=np.int64)

    def of_word(self, label: int) -> ErrorRates:
        """The error rates of a claimed word; NaN where it has no rows."""
        return ErrorRates.from_counts(self.genuine[label], self.impostor[label])

    @cached_property
    def pooled(self) -> ErrorRates:
        """The error rates of all words that have rows, each of the same weight."""
        return ErrorRates.from_counts(self.genuine_groups.sum(axis=0), self.impostor_groups.sum(axis=0))

    @cached_property
    def eers(self) -> np.ndarray:
        """(num_words,) float64 the EER of each word; NaN where it has no rows."""
        return np.array([float(self.of_word(label).eer) for label in range(len(self.rows))])

    def hardest_first(self) -> list[int]:
        """The labels of words with rows, the highest EER first."""
        order = np.argsort(-self.eers, kind="stable")  # NaN last
        return [int(label) for label in order if self.rows[label]]

    def eer_interval(self, label: int, random: np.random.Generator) -> tuple[float, float]:
        """The 95% interval of a word's EER, by a bootstrap over rows; a row makes one claim of the word.

        Between two values that genuine scores have, the FRR is constant, so the EER does not depend on where the
        impostors are there: they are counted together.
        """
        counts = self.genuine[label], self.impostor[label]
        held = np.flatnonzero(counts[0])
        after = np.searchsorted(held, np.arange(VALUES), side="right")
        cells = 2 * after - np.isin(np.arange(VALUES), held)  # odd: a value of genuine scores; even: between two
        drawn = []
        for of in counts:
            merged = np.bincount(cells, of, 2 * len(held) + 1)
            drawn.append(random.multinomial(int(of.sum()), merged / of.sum(), size=SAMPLES_OF_A_WORD))
        return interval(ErrorRates.from_counts(*drawn).eer)

    def is_pooled(self, label: int, false_accept: float) -> bool:
        """Whether a word has too few claims for a threshold of its own: fewer than 30 accepted impostors, or no row."""
        return bool(self.rows[label] == 0 or self.impostors[label] * false_accept < LEAST_ACCEPTED)

    def is_rough(self, false_accept: float) -> bool:
        """Whether fewer than 30 accepted impostors stand behind the pooled threshold."""
        return bool(self.impostors[self.rows > 0].sum() * false_accept < LEAST_ACCEPTED)

    def points(self, label: int) -> list[OperatingPoint]:
        """The operating points of a word at FALSE_ACCEPTS."""
        rates = self.of_word(label)
        found = []
        for false_accept in FALSE_ACCEPTS:
            pooled = self.is_pooled(label, false_accept)
            threshold = float((self.pooled if pooled else rates).threshold(false_accept))
            found.append(OperatingPoint(false_accept, threshold, *rates.at(threshold), pooled))
        return found

    def pooled_points(self) -> list[OperatingPoint]:
        """The operating points of all words pooled at FALSE_ACCEPTS."""
        thresholds = [float(self.pooled.threshold(false_accept)) for false_accept in FALSE_ACCEPTS]
        return [
            OperatingPoint(false_accept, threshold, *self.pooled.at(threshold), True)
            for false_accept, threshold in zip(FALSE_ACCEPTS, thresholds, strict=True)
        ]

    def thresholds(self, false_accept: float) -> np.ndarray:
        """(num_words,) float64 the threshold of each word, as `thresholds`."""
        _check_rate(false_accept)
        pooled = float(self.pooled.threshold(false_accept))
        return np.array(
            [
                pooled if self.is_pooled(label, false_accept) else float(self.of_word(label).threshold(false_accept))
                for label in range(len(self.rows))
            ]
        )

    def intervals(self, random: np.random.Generator) -> dict[str, tuple[float, float]]:
        """95% intervals of the pooled EER ("eer") and of the pooled FRR at each of FALSE_ACCEPTS ("frr at 0.01").

        Bootstrap over rows: all claims of a row are drawn together, because they depend on each other. Rows are drawn
        in groups of every 200th row, which is enough for the spread and keeps memory bounded.
        """
        groups = len(self.genuine_groups)
        found: dict[str, list[np.ndarray]] = {}
        for _ in range(0, SAMPLES, AT_A_TIME):
            drawn = random.multinomial(groups, np.full(groups, 1 / groups), size=AT_A_TIME)  # (AT_A_TIME, G)
            rates = ErrorRates.from_counts(drawn @ self.genuine_groups, drawn @ self.impostor_groups)
            found.setdefault("eer", []).append(rates.eer)
            for false_accept in FALSE_ACCEPTS:
                found.setdefault(f"frr at {false_accept}", []).append(rates.frr_at(false_accept))
        return {name: interval(np.concatenate(samples)) for name, samples in found.items()}


def thresholds(probabilities: np.ndarray, labels: np.ndarray, words: Words, false_accept: float) -> np.ndarray:
    """The lowest probability at which to accept a drawing as the word that it claims to be, for each word.

    A word's threshold is that of its own impostors, where at least 30 of them are accepted at the stated rate (3,000
    rows of other words for 1 in 100). A word with fewer, or with no row, gets the threshold of all words pooled.

    Args:
        probabilities: (N, num_words), any float type, of rows that the model never saw; memory maps are read in chunks.
        labels: (N,) true labels.
        words: of the columns.
        false_accept: the share of impostor claims to accept, between 0 and 1.

    Returns:
        (num_words,) float64; accept where probability >= threshold. Infinite where not even probability 1 is enough.

    Raises:
        SketchstackError: as `count_scores`, or the rate is not between 0 and 1.
    """
    _check_rate(false_accept)
    return count_scores([probabilities], labels, words).thresholds(false_accept)


def accepted_claims(parts: Iterable[np.ndarray], labels: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """The number of accepted claims, by the drawing's true word and the claimed word.

    Args:
        parts: (n, num_words) probabilities of consecutive rows, any float type; read once, in chunks.
        labels: (N,) true labels of all rows.
        thresholds: (num_words,) of each claimed word.

    Returns:
        (num_words, num_words) int64; rows are true words, columns claimed words.
    """
    num_words, at = len(thresholds), 0
    found = np.zeros(num_words**2, np.int64)
    for chunk in _chunks(parts):
        row, claimed = np.nonzero(chunk >= thresholds)
        found += np.bincount(labels[at : at + len(chunk)][row] * num_words + claimed, minlength=num_words**2)
        at += len(chunk)
    return found.reshape(num_words, num_words)


def _check_rate(false_accept: float) -> None:
    if not 0 < false_accept < 1:
        raise SketchstackError(f"a false-accept rate of {false_accept:g} cannot be met: give one between 0 and 1.")


def count_scores(parts: Iterable[np.ndarray], labels: np.ndarray, words: Words) -> Scores:
    """Count the genuine and impostor scores of all rows.

    Args:
        parts: (n, num_words) probabilities of consecutive rows, any float type; read once, in chunks.
        labels: (N,) true labels of all rows.
        words: of the columns.

    Raises:
        SketchstackError: a probability is not between 0 and 1, the shapes differ, or fewer than two words have rows.
    """
    labels = np.asarray(labels, np.int64)
    rows = _rows_of_words(labels, words)
    groups = min(GROUPS, len(labels))
    counts = np.zeros((2, len(words) * VALUES), np.int32)  # impostor, genuine
    by_group = np.zeros((2, groups * VALUES))
    columns, at = np.arange(len(words)) * VALUES, 0
    # a mean over words of shares: a score weighs 1 / its word's number of such scores
    weight = np.divide(rows > 0, np.stack([len(labels) - rows, np.maximum(rows, 1)]))
    for chunk in _chunks(parts):
        own = labels[at : at + len(chunk)]
        if chunk.shape[1] != len(words) or len(own) != len(chunk):
            raise SketchstackError(
                f"probabilities of {at + len(chunk):,} rows and {chunk.shape[1]} words do not fit {len(labels):,} "
                f"labels of {len(words)} words; run `dvc repro -f stack`."
            )
        values = _values(chunk, at)
        each = np.arange(len(chunk))
        group = (np.arange(at, at + len(chunk)) % groups) * VALUES
        impostor_weights = np.broadcast_to(weight[0], values.shape).copy()
        impostor_weights[each, own] = 0
        true = values[each, own]
        of_own_words = np.bincount(columns[own] + true, minlength=counts.shape[1])
        of_all_words = np.bincount((columns + values).ravel(), minlength=counts.shape[1])
        counts += np.stack([of_all_words - of_own_words, of_own_words]).astype(np.int32)
        by_group[1] += np.bincount(group + true, weight[1][own], by_group.shape[1])
        by_group[0] += np.bincount((group[:, None] + values).ravel(), impostor_weights.ravel(), by_group.shape[1])
        at += len(chunk)
    if at != len(labels):
        raise SketchstackError(
            f"probabilities of {at:,} rows do not fit {len(labels):,} labels; run `dvc repro -f stack`."
        )
    impostor, genuine = (of.reshape(-1, VALUES) for of in counts)
    impostor_groups, genuine_groups = (of.reshape(-1, VALUES) for of in by_group)
    return Scores(genuine, impostor, genuine_groups, impostor_groups)


def _rows_of_words(labels: np.ndarray, words: Words) -> np.ndarray:
    """(num_words,) int64 rows of each word; labels of no word, and rows without impostors, are refused."""
    strange = labels[(labels < 0) | (labels >= len(words))]
    if len(strange):
        raise SketchstackError(f"label {strange[0]} is of none of the {len(words)} words; run `dvc repro -f stack`.")
    rows = np.bincount(labels, minlength=len(words))
    if (rows > 0).sum() < 2:
        there = f"all {len(labels):,} rows are of {words.names[labels[0]]!r}" if len(labels) else "there are no rows"
        raise SketchstackError(
            f"Verification needs rows of two words or more, to claim each other's word, and {there}. Add drawings of "
            f"other words and run `dvc repro`."
        )
    return rows


def _chunks(parts: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    for part in parts:
        for start in range(0, len(part), CHUNK):
            yield np.asarray(part[start : start + CHUNK], np.float32)


def _values(chunk: np.ndarray, first: int) -> np.ndarray:
    """(n, num_words) int64 places in GRID of probabilities, rounded to float16.

    Args:
        chunk: (n, num_words) float32.
        first: the number of its first row.
    """
    good = (chunk >= 0) & (chunk <= 1 + ABOVE_ONE)  # False for NaN
    if not good.all():
        row, label = np.argwhere(~good)[0]
        raise SketchstackError(
            f"row {first + row:,} has the probability {chunk[row, label]:g}, which is not between 0 and 1: its "
            f"prediction failed. Remove the folder of its predictions below models/ and run `dvc repro`."
        )
    return np.minimum(np.abs(chunk), 1).astype(np.float16).view(np.uint16).astype(np.int64)  # abs: -0.0 has other bits
