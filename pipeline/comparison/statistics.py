"""Is B better than A? Fold scores, their difference with its interval, and the odds, of any two that predict alike.

A and B are out-of-fold predictions of the same rows, so everything is paired:

- The interval resamples rows (bootstrap): the chance of having met these drawings and not others.
- The odds are those of the Bayesian correlated t-test over folds (Corani and Benavoli, 2015,
  https://doi.org/10.1007/s10994-015-5486-z; by baycomp), which counts the training rows that folds share. Differences
  within the region of practical equivalence (`rope`) are no difference.
- McNemar's test (exact) compares the first guesses where only one candidate is right.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy.stats import binomtest

from pipeline.comparison.contenders import Contender
from pipeline.foundation.errors import SketchstackError
from pipeline.predictions.bootstrap import interval, resampled_means
from pipeline.predictions.metrics import precision_at_3

ROPE = 0.005  # of MAP@3
SAMPLES = 10_000  # bootstrap samples
SIDES = ("a", "b")


@dataclass(frozen=True)
class Odds:
    """The Bayesian correlated t-test over folds.

    Attributes:
        mean: of the folds' differences, B less A.
        scale: of the posterior, a Student distribution.
        freedom: its degrees of freedom.
        a, equal, b: the probabilities that A is better by more than the rope, neither is, B is.
    """

    mean: float
    scale: float
    freedom: int
    a: float
    equal: float
    b: float


@dataclass(frozen=True)
class Word:
    """What a word gained.

    Attributes:
        word: its name.
        rows: of it.
        a, b: its MAP@3.
    """

    word: str
    rows: int
    a: float
    b: float


@dataclass(frozen=True)
class Comparison:
    """Two candidates, A and B. Differences are B less A.

    Attributes:
        a, b: their names.
        rows: compared.
        folds: fold → rows and MAP@3 of A and B.
        map3: of A and B over all rows.
        difference, low, high: of MAP@3, with the 95% interval paired over rows.
        rope: the difference that counts as none.
        odds: None with fewer than two folds.
        first_guess: rows whose first guess is right in `both`, `only_a`, `only_b`, `neither`.
        among_three: the same of the three guesses.
        p_value: of McNemar's test on the first guess.
        words: each word, that which gained most first.
    """

    a: str
    b: str
    rows: int
    folds: dict[int, dict[str, float]]
    map3: dict[str, float]
    difference: float
    low: float
    high: float
    rope: float
    odds: Odds | None
    first_guess: dict[str, int]
    among_three: dict[str, int]
    p_value: float
    words: list[Word]


def check_comparable(a: Contender, b: Contender) -> None:
    """Refuse candidates that do not predict the same rows, or are the same.

    Raises:
        SketchstackError: says what differs.
    """
    if a.words.hash != b.words.hash:
        other = next(
            (pair for pair in zip(a.words.names, b.words.names, strict=False) if pair[0] != pair[1]),
            (f"{len(a.words)} words", f"{len(b.words)}"),
        )
        raise SketchstackError(
            f"{a.name} and {b.name} are of other words, or of the same in another order: {other[0]} against "
            f"{other[1]}. Only runs of the same words can be compared."
        )
    if not np.array_equal(np.sort(a.key_ids), np.sort(b.key_ids)):
        only = np.setdiff1d(a.key_ids, b.key_ids), np.setdiff1d(b.key_ids, a.key_ids)
        raise SketchstackError(
            f"{a.name} and {b.name} are of other rows: {len(only[0])} of {len(a.key_ids)} are in the first alone, "
            f"{len(only[1])} of {len(b.key_ids)} in the second"
            f"{_first(only)}. Differences would be of drawings, not of models; run both on the same data, oof.max_rows "
            f"and folds."
        )


def _first(only: tuple[np.ndarray, np.ndarray]) -> str:
    found = next((ids for ids in only if len(ids)), None)
    return "" if found is None else f" (first key_id {found[0]})"


def aligned(a: Contender, b: Contender) -> Contender:
    """B with its rows in the order of A's.

    Raises:
        SketchstackError: they cut the rows into other folds or give them other labels.
    """
    by_key = np.argsort(b.key_ids, kind="stable")
    order = by_key[np.searchsorted(b.key_ids, a.key_ids, sorter=by_key)]
    same = Contender(b.name, b.guesses[order], b.key_ids[order], b.labels[order], b.folds[order], b.words)
    for of, ours, theirs in (("labels", a.labels, same.labels), ("folds", a.folds, same.folds)):
        differ = np.flatnonzero(ours != theirs)
        if len(differ):
            raise SketchstackError(
                f"{a.name} and {b.name} have other {of} for {len(differ)} of {len(ours)} rows, first key_id "
                f"{a.key_ids[differ[0]]}: {ours[differ[0]]} and {theirs[differ[0]]}. Only runs on the same folds can "
                f"be compared."
            )
    return same


def compare(a: Contender, b: Contender, rope: float = ROPE, seed: int = 0) -> Comparison:
    """Compare two candidates that predict the same rows.

    Args:
        a: candidate A.
        b: candidate B.
        rope: the difference of MAP@3 that counts as none, positive.
        seed: of the bootstrap.

    Raises:
        SketchstackError: they cannot be compared, or are the same prediction.
    """
    check_comparable(a, b)
    b = aligned(a, b)
    if np.array_equal(a.guesses, b.guesses):
        raise SketchstackError(
            f"{a.name} and {b.name} guess the same for all {len(a.key_ids)} rows: this is a comparison of a thing with "
            f"itself. Name two that differ."
        )
    scores = [precision_at_3(side.guesses, side.labels) for side in (a, b)]
    folds = {
        int(fold): {"rows": int(at.sum())}
        | {side: float(score[at].mean()) for side, score in zip(SIDES, scores, strict=True)}
        for fold in np.unique(a.folds)
        for at in [a.folds == fold]
    }
    difference = scores[1] - scores[0]
    low, high = interval(resampled_means(difference, SAMPLES, np.random.default_rng(seed)))
    first = agreement(*(side.guesses[:, 0] == side.labels for side in (a, b)))
    discordant = first["only_a"] + first["only_b"]
    return Comparison(
        a=a.name,
        b=b.name,
        rows=len(a.key_ids),
        folds=folds,
        map3={side: float(score.mean()) for side, score in zip(SIDES, scores, strict=True)},
        difference=float(difference.mean()),
        low=low,
        high=high,
        rope=rope,
        odds=odds_of(folds, rope) if len(folds) > 1 else None,
        first_guess=first,
        among_three=agreement(*(score > 0 for score in scores)),
        p_value=float(binomtest(first["only_b"], discordant).pvalue) if discordant else 1.0,
        words=by_word(a, scores),
    )


def agreement(a: np.ndarray, b: np.ndarray) -> dict[str, int]:
    """How many rows are right in both candidates, in one alone, in neither; from booleans (N,) each."""
    return {
        "both": int((a & b).sum()),
        "only_a": int((a & ~b).sum()),
        "only_b": int((~a & b).sum()),
        "neither": int((~a & ~b).sum()),
    }


def odds_of(folds: Mapping[int, Mapping[str, float]], rope: float) -> Odds:
    """The probability that either candidate is better by more than the rope, from the scores of folds."""
    from baycomp import CorrelatedTTest

    a, b = (np.array([fold[side] for fold in folds.values()]) for side in SIDES)
    posterior = CorrelatedTTest(a, b, rope)
    left, equal, right = (float(share) for share in posterior.probs())
    return Odds(float(posterior.mean), float(np.sqrt(posterior.var)), int(posterior.df), left, equal, right)


def by_word(a: Contender, scores: list[np.ndarray]) -> list[Word]:
    """Each word that has rows, that which gained most first."""
    counts = np.bincount(a.labels, minlength=len(a.words))
    means = [np.bincount(a.labels, score, len(a.words)) / np.maximum(counts, 1) for score in scores]
    order = np.argsort(means[0] - means[1], kind="stable")
    return [
        Word(a.words.names[label], int(counts[label]), *(float(mean[label]) for mean in means))
        for label in order
        if counts[label]
    ]
