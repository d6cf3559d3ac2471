"""Is B better than A? Fold scores, their difference with its interval, and the odds, for two candidates.

A and B are out-of-fold predictions of the same rows, so everything is paired:

- The interval resamples rows (bootstrap): it shows the uncertainty from the choice of drawings.
- The odds are those of the Bayesian correlated t-test over folds (Corani and Benavoli, 2015,
  https://doi.org/10.1007/s10994-015-5486-z; by baycomp), which accounts for the training rows that folds share.
  Differences within the region of practical equivalence (`rope`) count as equal.
- McNemar's test (exact) compares the first guesses where only one candidate is right.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy.stats import binomtest

from pipeline.comparison.candidates import Candidate
from pipeline.foundation.errors import SketchstackError
from pipeline.predictions.bootstrap import interval, resampled_means
from pipeline.predictions.metrics import precision_at_3
from pipeline.raw.columns import written_id

ROPE = 0.005  # region of practical equivalence, in MAP@3
SAMPLES = 10_000  # bootstrap samples
PAIR = ("a", "b")  # the candidates, as the command line and the JSON call them


@dataclass(frozen=True)
class Odds:
    """The Bayesian correlated t-test over folds.

    Attributes:
        mean: of the differences per fold, B minus A.
        scale: of the posterior, a Student distribution.
        freedom: degrees of freedom of the posterior.
        a, equal, b: the probabilities that A is better by more than the rope, that neither is, that B is.
    """

    mean: float
    scale: float
    freedom: int
    a: float
    equal: float
    b: float


@dataclass(frozen=True)
class Word:
    """The scores of a word.

    Attributes:
        word: its name.
        rows: number of rows with this word.
        a, b: MAP@3 of A and of B over these rows.
    """

    word: str
    rows: int
    a: float
    b: float


@dataclass(frozen=True)
class Comparison:
    """Scores of two candidates, A and B. Differences are B minus A.

    Attributes:
        a, b: their names.
        rows: number of rows compared.
        folds: fold → rows and MAP@3 of A and B.
        map3: of A and B over all rows.
        difference, low, high: of MAP@3, with the 95% interval paired over rows.
        rope: differences up to this size count as equal.
        odds: None with fewer than two folds.
        first_guess: rows whose first guess is right in `both`, `only_a`, `only_b`, `neither`.
        among_three: the same for rows whose true word is among the three guesses.
        p_value: of McNemar's test on the first guess.
        words: each word, the largest gain first.
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


def check_comparable(a: Candidate, b: Candidate) -> None:
    """Refuse candidates that do not predict the same rows and words.

    Raises:
        SketchstackError: says what differs.
    """
    if a.words.hash != b.words.hash:
        other = next(
            (pair for pair in zip(a.words.names, b.words.names, strict=False) if pair[0] != pair[1]),
            (f"{len(a.words)} words", f"{len(b.words)}"),
        )
        raise SketchstackError(
            f"{a.name} and {b.name} have different words, or the same words in another order: {other[0]} against "
            f"{other[1]}. Only runs with the same words can be compared."
        )
    if not np.array_equal(np.sort(a.key_ids), np.sort(b.key_ids)):
        only = np.setdiff1d(a.key_ids, b.key_ids), np.setdiff1d(b.key_ids, a.key_ids)
        raise SketchstackError(
            f"{a.name} and {b.name} predict different rows: {len(only[0])} of {len(a.key_ids)} are only in the first, "
            f"{len(only[1])} of {len(b.key_ids)} only in the second"
            f"{_first(only)}. Their scores would differ because of the drawings, not the models; run both with the "
            f"same data, oof.max_rows and folds."
        )


def _first(only: tuple[np.ndarray, np.ndarray]) -> str:
    found = next((ids for ids in only if len(ids)), None)
    return "" if found is None else f" (first key_id {written_id(found[0])})"


def aligned(a: Candidate, b: Candidate) -> Candidate:
    """B with its rows in the order of A's rows.

    Raises:
        SketchstackError: a row has another fold or another label in B than in A.
    """
    by_key = np.argsort(b.key_ids, kind="stable")
    order = by_key[np.searchsorted(b.key_ids, a.key_ids, sorter=by_key)]
    same = Candidate(b.name, b.guesses[order], b.key_ids[order], b.labels[order], b.folds[order], b.words)
    for of, ours, theirs in (("labels", a.labels, same.labels), ("folds", a.folds, same.folds)):
        differ = np.flatnonzero(ours != theirs)
        if len(differ):
            raise SketchstackError(
                f"{a.name} and {b.name} have different {of} for {len(differ)} of {len(ours)} rows, first key_id "
                f"{written_id(a.key_ids[differ[0]])}: {ours[differ[0]]} and {theirs[differ[0]]}. Only runs on the "
                f"same folds can be compared."
            )
    return same


def compare(a: Candidate, b: Candidate, rope: float = ROPE, seed: int = 0) -> Comparison:
    """Compare two candidates that predict the same rows.

    Args:
        a: candidate A.
        b: candidate B.
        rope: differences of MAP@3 up to this size count as equal; above 0.
        seed: of the bootstrap.

    Raises:
        SketchstackError: they cannot be compared, or have the same predictions.
    """
    check_comparable(a, b)
    b = aligned(a, b)
    if np.array_equal(a.guesses, b.guesses):
        raise SketchstackError(
            f"{a.name} and {b.name} have the same guesses for all {len(a.key_ids)} rows, so there is nothing to "
            f"compare. Name two that differ."
        )
    scores = [precision_at_3(each.guesses, each.labels) for each in (a, b)]
    folds = {
        int(fold): {"rows": int(at.sum())}
        | {name: float(score[at].mean()) for name, score in zip(PAIR, scores, strict=True)}
        for fold in np.unique(a.folds)
        for at in [a.folds == fold]
    }
    difference = scores[1] - scores[0]
    low, high = interval(resampled_means(difference, SAMPLES, np.random.default_rng(seed)), least=-1.0)
    first = agreement(*(each.guesses[:, 0] == each.labels for each in (a, b)))
    discordant = first["only_a"] + first["only_b"]
    return Comparison(
        a=a.name,
        b=b.name,
        rows=len(a.key_ids),
        folds=folds,
        map3={name: float(score.mean()) for name, score in zip(PAIR, scores, strict=True)},
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
    """The number of rows that are right in both candidates, only in A, only in B, in neither; a and b: (N,) bool."""
    return {
        "both": int((a & b).sum()),
        "only_a": int((a & ~b).sum()),
        "only_b": int((~a & b).sum()),
        "neither": int((~a & ~b).sum()),
    }


def odds_of(folds: Mapping[int, Mapping[str, float]], rope: float) -> Odds:
    """The probability that either candidate is better by more than the rope, from the scores of folds."""
    from baycomp import CorrelatedTTest

    a, b = (np.array([fold[name] for fold in folds.values()]) for name in PAIR)
    posterior = CorrelatedTTest(a, b, rope)
    left, equal, right = (float(share) for share in posterior.probs())
    return Odds(float(posterior.mean), float(np.sqrt(posterior.var)), int(posterior.df), left, equal, right)


def by_word(a: Candidate, scores: list[np.ndarray]) -> list[Word]:
    """The scores of each word that has rows, the largest gain first."""
    counts = np.bincount(a.labels, minlength=len(a.words))
    means = [np.bincount(a.labels, score, len(a.words)) / np.maximum(counts, 1) for score in scores]
    order = np.argsort(means[0] - means[1], kind="stable")
    return [
        Word(a.words.names[label], int(counts[label]), *(float(mean[label]) for mean in means))
        for label in order
        if counts[label]
    ]
