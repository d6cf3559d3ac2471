"""Uncertainty of a score: bootstrap samples of the rows, and their interval."""

from __future__ import annotations

import numpy as np


def resampled_means(values: np.ndarray, samples: int, rng: np.random.Generator) -> np.ndarray:
    """Means of bootstrap samples of some values, (samples,) float64.

    The counts of the distinct values have a multinomial distribution. A precision has four values, so a sample of a
    million rows needs only four random numbers.
    """
    distinct, counts = np.unique(values, return_counts=True)
    return rng.multinomial(len(values), counts / len(values), size=samples) @ distinct / len(values)


def interval(means: np.ndarray, least: float = 0.0, most: float = 1.0) -> tuple[float, float]:
    """The 95% percentile interval of the means (samples,) of bootstrap samples, cut to the range of the score.

    Args:
        means: (samples,) float64.
        least: the lowest possible score; -1 for a difference of scores.
        most: the highest possible score.
    """
    low, high = np.quantile(means, [0.025, 0.975]).clip(least, most)
    return float(low), float(high)
